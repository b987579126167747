"""Tests of rankings made from rankings, and of untrained models."""

import base64
import dataclasses
import random
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tiny_study import CLASSES, COUNTS, SHAPE

import roar_tf
from roar_tf import engine, errors
from roar_tf.engine import markers
from roar_tf.estimators import registry
from roar_tf.models import factories, stateless
from roar_tf.study import cleaning, masked_on_demand, paths, scoring
from roar_tf.training import loop

SHUFFLES = ('shuffle_sobel', 'shuffle_same_sobel', 'shuffle_other_sobel')


def _study(names, *more):
  return (f'Study.estimators = {tuple(names)!r}', *more)


@pytest.fixture
def root(finished, tmp_path):
  """A workspace with a source and its model."""
  for part in ('tfds/roar_tiny/original', 'models'):
    shutil.copytree(finished / part, tmp_path / 'w' / part)
  return tmp_path / 'w'


@pytest.fixture
def source(finished, tmp_path):
  """A workspace with a source alone."""
  part = 'tfds/roar_tiny/original'
  shutil.copytree(finished / part, tmp_path / 's' / part)
  return tmp_path / 's'


def _maps(pipeline, name, split, granularity='pixel'):
  """Returns ids [N] and levels [N, H, W, D] of a ranking."""
  (stages,) = pipeline.stages
  ranking = stages.rank.ranking(name, granularity)
  batches = [
    batch
    for part in stages.context.all_shards(split)
    for batch in stages.context.batches(
      ranking.config, ranking.layout, *part, 100
    )
  ]
  return tuple(
    np.concatenate([batch[column].numpy() for batch in batches])
    for column in ('id', 'levels')
  )


def _ranked(root) -> dict[str, bytes]:
  """Returns all files of rankings."""
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in root.rglob('ranking_*/**/*')
    if path.is_file()
  }


# --- shuffled ----------------------------------------------------------------


@pytest.mark.parametrize('granularity', ['pixel', 'element'])
def test_every_image_gets_the_map_of_another_one(
  granularity, tiny, source, make, raw
):
  names = _study(SHUFFLES, f"Study.granularities = ('{granularity}',)")
  pipeline = tiny.pipeline(source, *names)
  make(pipeline, 'rank')
  for split in COUNTS:
    ids, maps = _maps(pipeline, 'sobel', split, granularity)
    holders = {levels.tobytes(): i for i, levels in enumerate(maps)}
    assert len(holders) == len(ids)
    labels = raw[split]['label']
    for name in SHUFFLES:
      own, shuffled = _maps(pipeline, name, split, granularity)
      assert (own == ids).all()
      donors = np.array([holders[levels.tobytes()] for levels in shuffled])
      assert (donors != np.arange(len(ids))).all()
      assert sorted(donors) == list(range(len(ids)))  # Every map once.
      same = labels[donors] == labels
      if name == 'shuffle_sobel':
        assert 0.1 < same.mean() < 0.6
      else:
        assert same.all() if 'same' in name else not same.any()


def test_the_ranking_behind_is_made_although_the_study_does_not_list_it(
  tiny, source, make
):
  pipeline = tiny.pipeline(source, *_study(['shuffle_blur_sobel']))
  assert make(pipeline, 'rank').made == {'rank': 12}
  assert (source / 'tfds/roar_tiny/ranking_blur_sobel_pixel').is_dir()
  assert make(pipeline, 'rank').made == {}


def test_bytes_do_not_depend_on_workers_or_interruptions(
  tiny, source, tmp_path, make, assert_same
):
  names = _study(['shuffle_oracle_30'])
  roots = {n: shutil.copytree(source, tmp_path / n) for n in 'abc'}
  make(tiny.pipeline(roots['a'], *names), 'rank')
  make(tiny.pipeline(roots['b'], *names), 'rank', parallel=3)
  # Workers of an array: the last one does what waits for all of them.
  for worker in (1, 0):
    share, pipeline = engine.Share(worker, 2), tiny.pipeline(roots['c'], *names)
    make(pipeline, 'rank', share=share)
  expected = _ranked(roots['a'])
  assert_same(_ranked(roots['b']), expected)
  assert_same(_ranked(roots['c']), expected)
  # Killed half way.
  for name in ('oracle_30', 'shuffle_oracle_30'):
    (whole,) = roots['b'].glob(f'tfds/roar_tiny/ranking_{name}_pixel/*')
    for path in whole.glob('*train.tfrecord-00001*'):
      path.unlink()
    (whole / 'DONE').unlink()
  assert make(tiny.pipeline(roots['b'], *names), 'rank').made == {'rank': 4}
  assert_same(_ranked(roots['b']), expected)


def test_other_seeds_have_other_donors(tiny, source, tmp_path, make):
  other = shutil.copytree(source, tmp_path / 'other')
  names = _study(['shuffle_sobel'])
  found = []
  for seed, root in enumerate((source, other)):
    pipeline = tiny.pipeline(root, *names, seed=seed)
    make(pipeline, 'rank')
    found.append(_maps(pipeline, 'shuffle_sobel', 'test')[1])
  assert (found[0] != found[1]).any((1, 2, 3)).mean() > 0.8


def test_a_ranking_made_anew_with_other_content_is_refused(tiny, source, make):
  names = _study(['shuffle_max_sobel'])
  make(tiny.pipeline(source, *names), 'rank')
  shutil.rmtree(source / 'tfds/roar_tiny/ranking_max_sobel_pixel')
  wider = tiny.pipeline(source, *names, 'Attribution.max_size = 5')
  words = 'ranking_shuffle_max_sobel.*its input ranking has changed.*--remake='
  with pytest.raises(errors.UsageError, match=words):
    make(wider, 'rank')


@pytest.mark.parametrize('listed', [('sobel', 'shuffle_sobel'), SHUFFLES[:1]])
def test_remaking_a_ranking_removes_what_is_made_from_it(
  listed, tiny, source, make
):
  names = _study([*listed, 'random'], 'Study.thresholds = (30,)')
  pipeline = tiny.pipeline(source, *names)
  make(pipeline, 'shards', upstream=True)
  text = cleaning.remake(pipeline, ['sobel'])
  for name in ('ranking_sobel_pixel', 'ranking_shuffle_sobel_pixel'):
    assert f'roar_tiny/{name}/' in text
    assert not list(source.glob(f'tfds/roar_tiny/{name}/*/DONE'))
  assert 'shuffle_sobel_pixel_remove_30' in text
  assert 'random' not in text
  # Not the other way round.
  make(pipeline, 'rank')
  text = cleaning.remake(pipeline, ['shuffle_sobel'])
  assert 'ranking_shuffle_sobel' in text and 'ranking_sobel' not in text


def test_a_users_own_estimator_stands_for_what_is_shuffled_of_it(
  tiny, source, make, monkeypatch
):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  registry.register('mine', needs_model=False)(
    lambda model, images, targets, keys: images
  )
  pipeline = tiny.pipeline(source, *_study(['shuffle_mine']))
  make(pipeline, 'rank')
  assert 'ranking_shuffle_mine_pixel' in cleaning.remake(pipeline, ['mine'])


@pytest.fixture
def unequal(tmp_path, store_dataset):
  """Function that stores images with some labels; returns bindings for it."""
  import tensorflow_datasets as tfds

  def write(**labels):
    features = {
      'image': tfds.features.Image(shape=SHAPE, encoding_format='png'),
      'label': tfds.features.ClassLabel(names=['cat', 'dog', 'owl']),
      'id': tfds.features.Text(),
    }
    splits = {
      split: {
        'image': np.random.default_rng(0).integers(
          0, 256, (len(values), *SHAPE), np.uint8
        ),
        'label': np.array(values),
        'id': np.array([f'{split}_{i}' for i in range(len(values))]),
      }
      for split, values in labels.items()
    }
    store_dataset(tmp_path / 'data', 'unequal', '1.0.0', splits, features)
    return (
      "Source.tfds_name = 'unequal'",
      'Source.truth = False',
      f'Source.train_images = {len(labels["train"])}',
      f'Source.test_images = {len(labels["test"])}',
      'Source.images_per_shard = 20',
    )

  return write


def _of(tiny, tmp_path, bindings):
  there = dataclasses.replace(tiny, data_dir=str(tmp_path / 'data'))
  return there.pipeline(tmp_path / 'u', *bindings)


def test_images_sorted_by_class_get_maps_of_all_classes(
  tiny, tmp_path, unequal, make
):
  labels = {'train': np.repeat([0, 1, 2], 20), 'test': [0, 1, 2] * 2}
  names = _study(SHUFFLES)
  pipeline = _of(tiny, tmp_path, (*unequal(**labels), *names))
  make(pipeline, 'rank', upstream=True)
  classes = labels['train']  # A shard each.
  _, maps = _maps(pipeline, 'sobel', 'train')
  holders = {levels.tobytes(): i for i, levels in enumerate(maps)}
  for name, pairs in zip(SHUFFLES, (9, 3, 6), strict=True):
    _, shuffled = _maps(pipeline, name, 'train')
    donors = np.array([holders[levels.tobytes()] for levels in shuffled])
    assert sorted(donors) == list(range(60))
    assert len(set(zip(classes, classes[donors], strict=True))) == pairs


@pytest.mark.parametrize(
  ('name', 'train', 'test', 'words'),
  [
    ('shuffle_same', [0, 0, 1, 2, 1], [0, 0], 'train.*single .* class "owl"'),
    ('shuffle_same', [0, 0, 1, 1], [0, 1, 0], 'test.*single .* class "dog"'),
    ('shuffle', [0, 0, 1, 1], [0], 'test.*single image,'),
    ('shuffle_other', [0, 1], [1, 1, 1], 'test.*class "dog" alone'),
  ],
)
def test_an_image_that_can_take_no_other_map_is_told_in_a_sentence(
  name, train, test, words, tiny, tmp_path, unequal, make
):
  bindings = (*unequal(train=train, test=test), *_study([f'{name}_sobel']))
  with pytest.raises(errors.UsageError, match=words) as caught:
    make(_of(tiny, tmp_path, bindings), 'rank', upstream=True)
  assert f'"{name}_sobel"' in str(caught.value)
  assert len(str(caught.value).splitlines()) == 1


def test_a_class_of_most_images_shares_the_maps_of_the_others(
  tiny, tmp_path, unequal, make
):
  labels = np.array([0] * 9 + [1, 2])
  bindings = (*unequal(train=labels, test=[0, 1]), *_study(SHUFFLES[2:]))
  pipeline = _of(tiny, tmp_path, bindings)
  make(pipeline, 'rank', upstream=True)
  _, maps = _maps(pipeline, 'sobel', 'train')
  _, shuffled = _maps(pipeline, 'shuffle_other_sobel', 'train')
  holders = {levels.tobytes(): i for i, levels in enumerate(maps)}
  donors = np.array([holders[levels.tobytes()] for levels in shuffled])
  assert (labels[donors] != labels).all()
  assert np.bincount(donors)[9:].max() <= 6


def test_shards_without_a_single_readable_image(photographs, tmp_path, make):
  names = sorted(f'test/class_{n % 2}/{n:02d}.jpg' for n in range(8))
  random.Random('test').shuffle(names)  # As the folder's are.
  photographs.damage(*names[:4])
  pipeline = photographs.tiny.pipeline(
    tmp_path / 'w',
    *_study(['shuffle_sobel']),
    'Source.unreadable = "skip"',
    'Source.train_subset = 4',
    'Source.images_per_shard = 4',
  )
  make(pipeline, 'rank', upstream=True)
  ids, maps = _maps(pipeline, 'sobel', 'test')
  own, shuffled = _maps(pipeline, 'shuffle_sobel', 'test')
  assert [id_.decode() for id_ in ids] == names[4:]
  assert (own == ids).all()
  assert {m.tobytes() for m in maps} == {m.tobytes() for m in shuffled}
  assert (maps != shuffled).any((1, 2, 3)).all()


def test_shards_from_before_markers_had_classes_are_read(tiny, source, raw):
  (stages,) = tiny.pipeline(source).stages
  expected = stages.source.keys_and_labels('train')
  assert (expected[1] == raw['train']['label']).all()
  for path in source.rglob('*-train*.DONE'):
    marker = markers.read(str(path))
    content = base64.b64decode(marker.pop('classes_of_images'))
    assert set(np.frombuffer(content, np.int32)) == set(range(CLASSES))
    fingerprint = marker.pop('fingerprint')
    markers.write(str(path), fingerprint, marker)
  found = stages.source.keys_and_labels('train')
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_ranking_of_other_images_is_refused(tiny, source, make, shard_of):
  names = _study(['shuffle_sobel'])
  pipeline = tiny.pipeline(source, *names)
  make(pipeline, 'rank')
  shutil.rmtree(source / 'tfds/roar_tiny/ranking_shuffle_sobel_pixel')
  one, other = (
    shard_of(source, 'ranking_sobel_pixel', index=i) for i in (0, 1)
  )
  other.write_bytes(one.read_bytes())
  words = ['ranking_sobel_pixel', 'belongs to other images']
  make(tiny.pipeline(source, *names), 'rank', fails=words)


# --- an oracle of which a share is random ------------------------------------


@pytest.mark.parametrize('granularity', ['pixel', 'element'])
def test_a_share_of_each_map_is_swapped_and_counts_stay(
  granularity, tiny, source, make, raw
):
  shares = (1, 30, 70, 100)
  names = ['oracle', *(f'oracle_{share}' for share in shares)]
  pipeline = tiny.pipeline(
    source, *_study(names, f"Study.granularities = ('{granularity}',)")
  )
  make(pipeline, 'rank')
  ids, oracle = _maps(pipeline, 'oracle', 'test', granularity)
  size = oracle[0].size
  truth = np.broadcast_to(raw['test']['truth'], oracle.shape) == 1
  hits = [((oracle <= 14) & truth).mean()]
  before = np.zeros_like(oracle, bool)
  for share in shares:
    own, maps = _maps(pipeline, f'oracle_{share}', 'test', granularity)
    assert (own == ids).all()
    for one, other in zip(maps, oracle, strict=True):
      np.testing.assert_array_equal(np.sort(one, None), np.sort(other, None))
    changed = (maps != oracle).sum((1, 2, 3))
    assert changed.max() <= share * size // 100
    assert changed.mean() >= 0.8 * (share * size // 100) - 1
    if share < 100:
      before |= maps != oracle
    hits.append(((maps <= 14) & truth).mean())
  assert sorted(hits, reverse=True) == hits
  chance = 0.14 * truth.mean()
  assert abs(hits[-1] - chance) < 0.01 < hits[0] - chance


def test_shares_need_truth_and_are_whole_percentages(tiny, source):
  bindings = _study(['oracle_30'], 'Source.truth = False')
  with pytest.raises(errors.UsageError, match='"oracle_30" needs ground truth'):
    tiny.pipeline(source, *bindings)
  for name in ('oracle_0', 'oracle_101', 'oracle_030', 'inverse_oracle_30'):
    with pytest.raises(errors.UsageError, match=f'"{name}".*oracle_1 to'):
      tiny.pipeline(source, *_study([name]))


# --- untrained ---------------------------------------------------------------


def test_the_untrained_model_has_the_weights_that_its_training_starts_from(
  tiny, source, make, monkeypatch
):
  states, initial_state = [], loop.Trainer.initial_state

  def watched(self, *words):
    states.append(initial_state(self, *words))
    raise errors.DataError('seen')

  monkeypatch.setattr(loop.Trainer, 'initial_state', watched)
  make(tiny.pipeline(source, seed=3), 'model', fails='seen')
  monkeypatch.undo()
  (stages,) = tiny.pipeline(source, seed=3).stages
  model = stages.model.load_untrained()
  for variables, values in (
    (model.trainable_variables, states[0]['trainable']),
    (model.non_trainable_variables, states[0]['moving']),
  ):
    assert len(variables) == len(values) > 0
    for one, other in zip(variables, values, strict=True):
      np.testing.assert_array_equal(one, other)


def test_an_untrained_model_is_explained_as_any_other(tiny, root, make, raw):
  names = ('grad', 'untrained_grad', 'untrained_sg_sq_grad')
  settings = ('Attribution.samples = 2', *_study(names))
  pipeline = tiny.pipeline(root, *settings)
  make(pipeline, 'rank')
  (stages,) = pipeline.stages
  experiment = stages.context.experiment
  trainer = stages.model._training.trainer('explained')
  model = stateless.assign(
    factories.build(experiment.explained_model, SHAPE, CLASSES, 'float32'),
    trainer.initial_state('explained', 'tiny', 0),
  )
  ids = raw['test']['id'].astype(str)
  images = trainer.normalise(tf.cast(raw['test']['image'], tf.float32))
  scores = roar_tf.explain(
    model, images, ['grad', 'sg_sq_grad'], ids=ids, samples=2
  )
  for name, values in scores.items():
    levels = roar_tf.rank(values, ids=ids).numpy()
    _, found = _maps(pipeline, f'untrained_{name}', 'test')
    # Of other shapes of batches, the last bits of convolutions differ.
    assert np.abs(levels.astype(int) - found).mean() < 0.1
  _, trained = _maps(pipeline, 'grad', 'test')
  assert np.abs(trained.astype(int) - found).mean() > 10
  # The trained model is not what its variables were put into.
  weights = stages.model.load().trainable_variables[0]
  initial = stages.model.load_untrained().trainable_variables[0]
  assert np.abs(weights - initial).max() > 1e-3


def test_an_untrained_model_asks_for_no_training(tiny, source, make):
  names = _study(['untrained_grad', 'shuffle_untrained_grad'])
  pipeline = tiny.pipeline(source, *names)
  assert make(pipeline, 'rank', upstream=True).made == {'rank': 12}
  assert not (source / 'models').exists()
  for name in ('untrained_grad', 'shuffle_untrained_grad'):  # As TFDS asks.
    cell = f'{name}_pixel_remove_30'
    masked_on_demand.make(paths.Workspace(str(source)), 'tiny', cell)
    assert list(source.glob(f'tfds/roar_tiny/{cell}/*/DONE'))
  slower = tiny.pipeline(source, *names, 'Training.batch_size = 8')
  assert make(slower, 'rank').made == {}  # It decides no initial weight.
  wider = tiny.pipeline(source, *names, 'small_resnet.width = 6')
  with pytest.raises(errors.UsageError, match='small_resnet.width: 4 there'):
    make(wider, 'rank')


def test_a_pass_of_its_own_for_the_untrained_model(
  tiny, root, make, monkeypatch
):
  asked, pass_ = [], scoring.Scoring._pass

  def watched(self, names, *more):
    asked.append(names)
    return pass_(self, names, *more)

  monkeypatch.setattr(scoring.Scoring, '_pass', watched)
  names = ('grad', 'untrained_grad', 'gb', 'untrained_blur_gb', 'sobel')
  make(tiny.pipeline(root, *_study((*names, 'blur_untrained_gb'))), 'rank')
  untrained = ('untrained_grad', 'untrained_blur_gb', 'blur_untrained_gb')
  assert set(asked) == {('grad', 'gb'), untrained, ('sobel',)}
  pipeline = tiny.pipeline(root)
  ranks = [_maps(pipeline, name, 'test')[1] for name in untrained[1:]]
  np.testing.assert_array_equal(*ranks)


def test_a_users_own_estimator_of_the_untrained_model(
  tiny, source, make, monkeypatch
):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  seen = []

  def mine(model, images, targets, keys):
    seen.append(model)
    return tf.reduce_sum(model(images), -1)[:, None, None, None] + images

  registry.register('mine')(mine)
  pipeline = tiny.pipeline(source, *_study(['untrained_mine']))
  make(pipeline, 'rank')
  (stages,) = pipeline.stages
  assert {id(m) for m in seen} == {id(stages.model.load_untrained())}


@pytest.mark.parametrize(
  'name', ['untrained_grad', 'blur_untrained_ig', 'shuffle_untrained_sg_grad']
)
def test_a_model_from_a_file_has_no_initial_weights(name, tiny, tmp_path):
  bindings = (
    "ExplainedModel.file = 'm.keras'",
    "ExplainedModel.input = '0..1'",
  )
  words = f'"{name}" needs the weights.*ExplainedModel.file = \'m.keras\''
  with pytest.raises(errors.UsageError, match=words):
    tiny.pipeline(tmp_path / 'w', *bindings, *_study([name]))


# --- commands ----------------------------------------------------------------


def test_commands_take_the_names_as_any_others(tool, tiny, source):
  study = [f'--study={tiny.study}', *tiny.flags(source)]
  names = ('centre', 'shuffle_grad', 'untrained_grad', 'oracle_30')
  study.append(f'--gin_bindings=Study.estimators = {names!r}')
  listed = tool('roar_study', *study, '--list')
  assert listed.status == 0, listed.err
  assert '--cell=shuffle_grad_pixel_remove_30' in listed.out
  dry = tool('roar_study', *study, '--dry_run')
  assert dry.status == 0, dry.err
  (evaluations,) = [
    line.split()[-1] for line in dry.out.splitlines() if 'gradient ev' in line
  ]
  assert int(evaluations) == 2 * sum(COUNTS.values())  # Both networks, once.
  made = tool(
    'roar_rank',
    f'--dataset={tiny.dataset}',
    *tiny.flags(source),
    '--estimators=centre,shuffle_centre,oracle_30',
  )
  assert made.status == 0, made.err
  shards = tool('roar_shards', *tiny.flags(source), '--verify')
  assert shards.status == 0, shards.err
  cell = tool(
    'roar_shards',
    f'--dataset={tiny.dataset}',
    *tiny.flags(source),
    '--estimator=shuffle_other_centre',
    '--threshold=30',
  )
  assert cell.status == 0, cell.err
