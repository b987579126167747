"""Tests of ranking: settings, ties, cuts; a faulty estimator fails no other."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.engine import markers
from roar_tf.estimators import registry
from roar_tf.study import scoring

SOUND = ('random', 'grad', 'sg_sq_grad')
SHARDS = 5
IMAGES = (40, 40, 40, 30, 30)


# --- what a ranking depends on -----------------------------------------------

RANKING = {'estimator', 'granularity', 'seed', 'Ranking.cuts'}
OF_MODELS = ('Ranking.ties', 'target', 'jit_compile')


@pytest.mark.parametrize(
  'name, settings, inputs',
  [
    ('random_bernoulli', (), ()),  # Draws have no ties.
    ('sobel', ('Ranking.ties', 'sobel'), ()),
    ('grad', OF_MODELS, ('explained model',)),
    (
      'ig',
      (*OF_MODELS, 'steps', 'quadrature', 'precision'),
      ('explained model',),
    ),
    (
      'sg_sq_grad',
      (*OF_MODELS, 'samples', 'noise', 'precision'),
      ('explained model',),
    ),
    ('blur_grad', (*OF_MODELS, 'blur_sigma'), ('explained model',)),
    ('max_random', ('Ranking.ties', 'max_size'), ()),
  ],
)
def test_a_ranking_is_bound_to_what_it_depends_on(
  name, settings, inputs, tiny, tmp_path
):
  stages = tiny.pipeline(tmp_path, 'Attribution.max_size = 5').stages[0]
  ranking = stages.rank.ranking(name, 'pixel')
  names = {s if '.' in s else f'Attribution.{s}' for s in settings}
  assert set(ranking.settings) == RANKING | names
  assert set(ranking.inputs) == {'original', *inputs}
  assert ranking.settings.get('Attribution.max_size', 5) == 5


def test_other_samples_or_ties_are_refused_by_name(tiny, damaged, make):
  few = ("Study.estimators = ('var_grad',)", 'Attribution.samples = 2')
  make(tiny.pipeline(damaged, *few), 'rank')
  for changed, words in (
    ('Attribution.samples = 3', 'Attribution.samples: 2 there, 3 asked for'),
    ("Ranking.ties = 'index'", "Ranking.ties: 'random' there, 'index' asked"),
    ("Attribution.precision = 'bfloat16'", "precision: 'model' there, 'bf"),
    ('Attribution.jit_compile = True', 'jit_compile: False there, True asked'),
  ):
    with pytest.raises(errors.UsageError, match=words):
      make(tiny.pipeline(damaged, *few, changed), 'rank')


@pytest.fixture
def own(monkeypatch):
  """Function that registers estimators, which last as long as the test."""
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))

  def add(name, function, **settings):
    registry.register(name, **settings)(
      lambda model, images, targets, keys: function(images)
    )

  return add


def _levels(stages, estimator, granularity):
  """Returns the levels of the first test images."""
  ranking = stages.rank.ranking(estimator, granularity)
  (batch,) = stages.context.batches(
    ranking.config, ranking.layout, 'test', 0, 100
  )
  return batch['levels'].numpy()


def test_ties_and_counts_reach_the_levels(tiny, damaged, make, own):
  own('flat', tf.zeros_like, needs_model=False)
  pipeline = tiny.pipeline(
    damaged,
    "Ranking.ties = 'index'",
    *(
      "Study.estimators = ('flat', 'random_bernoulli')",
      "Study.granularities = ('element',)",
    ),
  )
  make(pipeline, 'rank')
  expected = -(-100 * np.arange(1, 193) // 192).reshape(8, 8, 3)
  (stages,) = pipeline.stages
  assert (_levels(stages, 'flat', 'element') == expected).all()
  counts = (_levels(stages, 'random_bernoulli', 'element') <= 50).sum((1, 2, 3))
  assert len(set(counts)) > 3
  assert abs(counts.mean() - 96) < 5 * 192**0.5 / 2 / len(counts) ** 0.5


def test_cuts_change_rankings_and_no_cell(
  tiny, finished, tmp_path, make, artefacts, assert_same
):
  for part in ('tfds/roar_tiny/original', 'models'):
    shutil.copytree(finished / part, tmp_path / part)
  pipeline = tiny.pipeline(tmp_path, 'Ranking.cuts = (30, 50, 70)')
  make(pipeline, 'shards', upstream=True)
  assert set(np.unique(_levels(pipeline.stages[0], 'grad', 'pixel'))) == {
    *(30, 50, 70, 100)
  }

  def cells(root):
    return {
      name: content
      for name, content in artefacts(root).items()
      if '_remove_' in name and name.startswith('tfds/') and 'DONE' not in name
    }

  assert_same(cells(tmp_path), cells(finished))


# --- faulty estimators -------------------------------------------------------


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


FAULTS = {
  'raising': (_raises, ['KeyError', 'layer_7', __file__]),
  'asserting': (_raises_while_running, ['assertion failed']),
  'calling': (_raises_in_python, ['no such file of mine']),
  'cutting': (lambda images: images[:, 1:], ['(16, 8, 8, 3)', '(16, 7, 8, 3)']),
  'lazy': (lambda images: None, ['(16, 8, 8, 3)', 'None']),
  'dividing': (lambda images: images / 0.0, ['NaN or infinite']),
}


@pytest.fixture
def ranked(tiny, make):
  """Function that ranks by some estimators, and returns failures."""

  def run(root, names, granularities=('pixel',), **how):
    pipeline = tiny.pipeline(
      root,
      'Attribution.samples = 2',
      'Attribution.batch_size = 16',  # Several batches a shard.
      f'Study.estimators = {names!r}',
      f'Study.granularities = {granularities!r}',
    )
    return make(pipeline, 'rank', **how)

  return run


@pytest.fixture
def root(finished, tmp_path):
  """A workspace with a source and its model."""
  for part in ('tfds/roar_tiny/original', 'models'):
    shutil.copytree(finished / part, tmp_path / 'w' / part)
  return tmp_path / 'w'


def test_faulty_estimators_are_named_and_the_others_finish(
  root, ranked, own, artefacts, assert_same, tmp_path
):
  sound = shutil.copytree(root, tmp_path / 'sound')
  ranked(sound, SOUND, ('pixel', 'element'))
  for name, (function, _) in FAULTS.items():
    own(name, function)
  own('control', FAULTS['dividing'][0], needs_model=False)
  # Prefixes of an estimator share its pass, and its fault.
  names = {**FAULTS, 'control': FAULTS['dividing'], 'sg_lazy': FAULTS['lazy']}
  counts = ranked(
    root, (*names, *SOUND), ('pixel', 'element'), fails='estimator "'
  )
  lines = [line.strip() for line in counts.error.splitlines()]
  for name, (_, words) in names.items():
    told = [line for line in lines if f'estimator "{name}"' in line]
    assert len(told) == SHARDS, name  # One sentence a shard.
    assert all(word in line for line in told for word in words), told
  assert_same(artefacts(root), artefacts(sound))
  assert not list(root.rglob('*.tmp-*'))


def test_a_fault_at_one_image_costs_one_shard_of_one_ranking(
  root, ranked, own, states, raw
):
  means = raw['train']['image'].mean(axis=(1, 2, 3))
  second, first = np.sort(means)[-2:]
  bound, nan = (first + second) / 2, [float('nan')]

  def not_finite_once(images):
    bright = tf.reduce_mean(images, [1, 2, 3], keepdims=True) > bound
    return tf.where(bright, tf.constant(nan[0]), images)

  own('mine', not_finite_once, needs_model=False)
  words = ['estimator "mine"', f'train_{np.argmax(means):03d}', 'NaN']
  counts = ranked(root, ('mine', 'random'), fails=words)
  assert counts.error.count('estimator "') == 1
  shards = list(root.glob('tfds/roar_tiny/ranking_mine_pixel/*/*DONE'))
  assert len(shards) == SHARDS - 1
  (whole,) = root.glob('tfds/roar_tiny/ranking_random_pixel/*/DONE')
  # Mended, the same command makes the rest and nothing else.
  before = states(root)
  nan[0] = 0.0
  assert ranked(root, ('mine', 'random')).made == {'rank': 2}
  after = states(root)
  assert {path: after[path] for path in before} == before
  record = markers.read(str(whole).replace('random', 'mine'))
  assert len(record['fingerprint']['inputs']) == 1 + SHARDS


def test_estimators_share_a_pass_and_each_of_a_users_own_has_one(
  root, ranked, own, monkeypatch
):
  asked, pass_ = [], scoring.Scoring._pass

  def watched(self, names, *more):
    asked.append(names)
    return pass_(self, names, *more)

  monkeypatch.setattr(scoring.Scoring, '_pass', watched)
  own('mine', tf.abs)
  ranked(root, (*SOUND, 'mine', 'sg_mine', 'sobel'))
  passes = {('random', 'sobel'), ('grad', 'sg_sq_grad'), ('mine', 'sg_mine')}
  assert set(asked) == passes
  assert len(asked) == 3 * sum(-(-n // 16) for n in IMAGES)


def test_what_fails_of_roar_tf_itself_is_no_estimators_fault(
  root, ranked, monkeypatch
):
  def short_of_memory(*_):
    raise MemoryError('too much at once')

  monkeypatch.setattr(scoring.Scoring, '_pass', short_of_memory)
  counts = ranked(root, SOUND, fails='too much at once')
  assert counts.error.count('too much at once') == SHARDS
  assert 'estimator "' not in counts.error
  assert not list(root.glob('tfds/roar_tiny/ranking_*/*/*-of-*'))


# --- damaged inputs ----------------------------------------------------------


def test_nothing_is_ranked_of_a_truncated_shard(root, ranked, shard_of):
  shard = shard_of(root, 'original', 'test', 1)
  shard.write_bytes(shard.read_bytes()[:-100])
  counts = ranked(root, ('random', 'sobel'), fails=str(shard))
  # Of the other shards everything is made, and no whole ranking.
  assert counts.made == {'rank': SHARDS - 1}
  made = list(root.glob('tfds/roar_tiny/ranking_*/*/*DONE'))
  assert len(made) == 2 * (SHARDS - 1)


def test_a_damaged_explained_model_is_named(root, ranked, flip):
  weights = root / 'models/tiny/weights.npz'
  flip(weights)
  advice = 'delete its directory and run the same command again'
  ranked(root, ('grad',), fails=[str(weights), advice])
