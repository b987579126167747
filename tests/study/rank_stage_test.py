"""Tests of ranking: a faulty estimator is named and fails no other."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.estimators import registry
from roar_tf.study import pipeline, rank_stage

SOUND = ('random', 'grad', 'sg_sq_grad')
FEW = 'Attribution.samples = 2'


@pytest.fixture
def own(monkeypatch):
  """Function that registers estimators, which last as long as the test."""
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))

  def add(name, function, **settings):
    registry.register(name, **settings)(
      lambda model, images, targets, keys: function(images)
    )

  return add


def _raises(images):
  raise KeyError('layer_7')


def _raises_while_running(images):
  with tf.control_dependencies([tf.debugging.assert_less(images, -9.0)]):
    return tf.identity(images)


def _raises_in_python(images):
  def function(images):
    raise ValueError('no such file of mine')

  scores = tf.py_function(function, [images], tf.float32)
  return tf.ensure_shape(scores, images.shape)


def _wrong_shape(images):
  return images[:, 1:]


def _nothing(images):
  return None


def _not_finite(images):
  return images / 0.0


def _rank(tiny, root, names, granularities=('pixel',)):
  """Returns the lines that tell of failures, none if all went well."""
  works = tiny.works(
    root,
    FEW,
    'Attribution.batch_size = 16',  # Several batches a shard.
    f'Study.estimators = {names!r}',
    f'Study.granularities = {granularities!r}',
  )
  try:
    pipeline.run(works, ['rank'])
  except errors.UnitsFailedError as e:
    assert e.exit_status == 1
    return [line.strip() for line in str(e).splitlines()[1:]]
  return []


@pytest.fixture(scope='module')
def explained(tiny, tmp_path_factory):
  """A workspace with a source and its model; do not touch."""
  root = tmp_path_factory.mktemp('explained') / 'workspace'
  pipeline.run(tiny.works(root, FEW), ['source', 'model'])
  return root


@pytest.fixture(scope='module')
def undisturbed(tiny, explained, tmp_path_factory):
  """The same with the rankings of sound estimators; do not touch."""
  root = tmp_path_factory.mktemp('undisturbed') / 'workspace'
  shutil.copytree(explained, root)
  assert not _rank(tiny, root, SOUND, ('pixel', 'element'))
  return root


@pytest.fixture
def root(explained, tmp_path):
  return shutil.copytree(explained, tmp_path / 'workspace')


def _rankings(artefacts, root, name=''):
  found = artefacts(root)
  return {n: v for n, v in found.items() if f'/ranking_{name}' in n}


@pytest.mark.parametrize(
  'function, words',
  [
    (_raises, ['KeyError', 'layer_7', __file__]),
    (_raises_while_running, ['assertion failed']),
    (_raises_in_python, ['no such file of mine']),
    (_wrong_shape, ['(16, 8, 8, 3)', '(16, 7, 8, 3)']),
    (_nothing, ['(16, 8, 8, 3)', 'None']),
    (_not_finite, ['NaN or infinite']),
  ],
)
def test_a_faulty_estimator_is_named_and_the_others_finish(
  function, words, tiny, undisturbed, root, artefacts, own
):
  own('of_mine', function)
  failures = _rank(
    tiny, root, ('of_mine', *SOUND, 'sg_of_mine'), ('pixel', 'element')
  )
  for name in ('of_mine', 'sg_of_mine'):
    said = [line for line in failures if f'estimator "{name}"' in line]
    assert len(said) == 5  # One sentence per shard.
    assert all(word in line for line in said for word in words), said
  found = _rankings(artefacts, root)
  assert found == _rankings(artefacts, undisturbed)
  assert not list(root.rglob('*.tmp-*'))


def test_several_faults_at_once_are_all_named(
  tiny, undisturbed, root, artefacts, own
):
  functions = (_raises, _raises_in_python, _wrong_shape, _not_finite)
  names = tuple(f'mine_{i}' for i in range(len(functions)))
  for name, function in zip(names, functions, strict=True):
    own(name, function)
  own('mine_control', _not_finite, needs_model=False)
  names += ('mine_control',)
  failures = _rank(tiny, root, (*names, *SOUND), ('pixel', 'element'))
  for name in names:
    assert sum(f'estimator "{name}"' in line for line in failures) == 5
  found = _rankings(artefacts, root)
  assert found == _rankings(artefacts, undisturbed)


def test_a_fault_at_one_image_costs_one_shard_of_one_ranking(
  tiny, undisturbed, root, artefacts, own, raw
):
  means = raw['train']['image'].mean(axis=(1, 2, 3))
  second, first = np.sort(means)[-2:]
  image = int(np.argmax(means))
  bound = (first + second) / 2
  nan = [float('nan')]

  def not_finite_once(images):
    bright = tf.reduce_mean(images, [1, 2, 3], keepdims=True) > bound
    return tf.where(bright, tf.constant(nan[0]), images)

  own('of_mine', not_finite_once, needs_model=False)
  names = ('of_mine', *SOUND)
  said = [n for n in _rank(tiny, root, names) if 'estimator "' in n]
  (line,) = said
  assert f'train_{image:03d}' in line and 'NaN' in line
  shards = list(root.glob('tfds/roar_tiny/ranking_of_mine_pixel/*/*DONE'))
  assert len(shards) == 4
  for name in SOUND:
    one, two = (
      _rankings(artefacts, r, f'{name}_pixel') for r in (root, undisturbed)
    )
    assert one == two
  # Mended, the same command makes the rest and nothing else.
  before = {p: p.stat().st_mtime_ns for p in root.rglob('*') if p.is_file()}
  nan[0] = 0.0
  assert not _rank(tiny, root, names)
  assert all(p.stat().st_mtime_ns == then for p, then in before.items())
  (done,) = root.glob('tfds/roar_tiny/ranking_of_mine_pixel/*/DONE')
  assert len(json.loads(done.read_text())['fingerprint']['inputs']) >= 5


def test_without_faults_there_is_one_pass(tiny, root, monkeypatch):
  asked, pass_ = [], rank_stage._pass

  def watched(context, names, batch, keys):
    asked.append(names)
    return pass_(context, names, batch, keys)

  monkeypatch.setattr(rank_stage, '_pass', watched)
  assert not _rank(tiny, root, SOUND)
  assert set(asked) == {('random',), ('grad', 'sg_sq_grad')}
  # Three batches in each of five shards of 40 or 30 images.
  batches = sum(-(-n // 16) for n in (40, 40, 40, 30, 30))
  assert len(asked) == 2 * batches


def test_fingerprints_name_the_filter_of_those_that_have_one(tiny, root):
  names = ('grad', 'blur_grad', 'max_grad', 'max_random')
  (work,) = tiny.works(root, 'Attribution.max_size = 5')
  first, *_ = rank_stage.units(work.context, [(n, 'pixel') for n in names])
  settings = {t.settings['estimator']: t.settings for t in first.targets}
  found = {
    name: {
      key.removeprefix('Attribution.'): value
      for key, value in settings[name].items()
      if key in ('Attribution.blur_sigma', 'Attribution.max_size')
    }
    for name in names
  }
  assert found == {
    'grad': {},
    'blur_grad': {'blur_sigma': 1.0},
    'max_grad': {'max_size': 5},
    'max_random': {'max_size': 5},
  }


def test_what_only_fails_together_is_no_estimators_fault(
  tiny, root, monkeypatch
):
  pass_ = rank_stage._pass

  def short_of_memory(context, names, batch, keys):
    if len(names) > 2:
      raise MemoryError('too much at once')
    return pass_(context, names, batch, keys)

  monkeypatch.setattr(rank_stage, '_pass', short_of_memory)
  failures = _rank(tiny, root, ('random', 'grad', 'sg_grad', 'ig'))
  assert sum('too much at once' in line for line in failures) == 5
  assert not any('estimator "' in line for line in failures)
  assert not list(root.glob('tfds/roar_tiny/ranking_*/*/*-of-*'))
