"""Tests of whole studies: resuming, sharing out, settings, damage."""

import itertools
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from roar_tf import cells, errors, fills, shards, workspace
from roar_tf.datasets.reader import Reader
from roar_tf.estimators import registry
from roar_tf.study import executor, integrity, pipeline, trainings
from roar_tf.training import order

BEFORE_TRAIN = ('source', 'model', 'rank', 'shards')


def _tallies(monkeypatch):
  """Returns a dict that collects the tally of every stage that runs."""
  tallies, execute = {}, executor.execute

  def watched(stage, *args, **kwargs):
    tallies[stage] = execute(stage, *args, **kwargs)
    return tallies[stage]

  monkeypatch.setattr(executor, 'execute', watched)
  return tallies


def _states(root):
  return {
    path: (path.stat().st_mtime_ns, path.read_bytes())
    for path in pathlib.Path(root).rglob('*')
    if path.is_file()
  }


def _run_directory(root, cell, seed, study='small'):
  return pathlib.Path(f'{root}/runs/{study}/tiny/{cell}/seed_{seed}')


def _predictions(directory):
  with np.load(directory / 'test_predictions.npz') as data:
    return dict(data)


def _shard(root, config, split, index):
  (path,) = pathlib.Path(root).glob(
    f'tfds/roar_tiny/{config}/*/*-{split}.tfrecord-{index:05d}-of-0000?'
  )
  return path


def _assert_equal_trees(found, expected):
  assert sorted(found) == sorted(expected)
  assert [n for n in found if found[n] != expected[n]] == []


def _assert_part_of(found, whole):
  """Like the above for a study of fewer runs, which its report and gin say."""
  found = {
    name: content
    for name, content in found.items()
    if not name.startswith('reports/') and not name.endswith('/config.gin')
  }
  _assert_equal_trees(found, {n: v for n, v in whole.items() if n in found})


# --- resuming ---------------------------------------------------------------


def test_every_artefact_is_committed(finished):
  done = {
    str(path.parent.relative_to(finished)) for path in finished.rglob('DONE')
  }
  configs = ['original', 'ranking_random_pixel', 'ranking_grad_pixel']
  names = [
    f'{e}_pixel_remove_{t}' for e in ('random', 'grad') for t in (30, 70)
  ]
  version = workspace.VERSION
  expected = {f'tfds/roar_tiny/{c}/{version}' for c in configs + names}
  expected |= {'models/tiny', 'reports/small'}
  expected |= {
    f'runs/small/tiny/{c}/seed_{s}'
    for c in ['original', *names]
    for s in (0, 1)
  }
  assert done == expected
  assert len(list(finished.rglob('*.DONE'))) == 7 * 5  # One per shard.
  assert not list(finished.rglob('*.tmp-*'))
  assert not list(finished.rglob('checkpoint*'))


def test_running_again_recomputes_nothing(tiny, finished, monkeypatch):
  tallies, before = _tallies(monkeypatch), _states(finished)
  pipeline.run(tiny.works(finished), pipeline.STAGES)
  assert _states(finished) == before
  assert {stage: (t.made, t.kept) for stage, t in tallies.items()} == {
    'source': (0, 6),
    'model': (0, 1),
    'rank': (0, 7),
    'shards': (0, 14),
    'train': (0, 10),
    'report': (0, 1),
  }


def test_only_what_is_missing_is_made_and_is_made_alike(
  tiny, finished, damaged, monkeypatch, artefacts
):
  shard = _shard(damaged, 'ranking_grad_pixel', 'train', 1)
  cell = _shard(damaged, 'random_pixel_remove_30', 'test', 0)
  run = _run_directory(damaged, 'grad_pixel_remove_70', 1)
  for path in (shard, cell, run):
    workspace.remove(str(path))
  for path in (shard, cell):
    workspace.remove(f'{path}.DONE')
  before, tallies = _states(damaged), _tallies(monkeypatch)
  pipeline.run(tiny.works(damaged), pipeline.STAGES)
  assert {stage: t.made for stage, t in tallies.items()} == {
    'source': 0,
    'model': 0,
    'rank': 1,
    'shards': 1,
    'train': 1,
    'report': 0,
  }
  _assert_equal_trees(artefacts(damaged), artefacts(finished))
  after = _states(damaged)
  assert {path: after[path] for path in before} == before


def test_shards_are_a_cache_that_finished_runs_do_not_need(
  tiny, damaged, monkeypatch
):
  shutil.rmtree(damaged / 'tfds/roar_tiny/grad_pixel_remove_70')
  tallies = _tallies(monkeypatch)
  pipeline.run(tiny.works(damaged), ['train', 'report'])
  assert (tallies['train'].made, tallies['train'].kept) == (0, 10)


def test_another_estimator_is_added_to_what_is_there(
  tiny, finished, damaged, monkeypatch
):
  tallies = _tallies(monkeypatch)
  before = _states(damaged)
  works = tiny.works(
    damaged, "Study.estimators = ('sobel', 'grad', 'sg_sq_grad', 'random')"
  )
  pipeline.run(works, BEFORE_TRAIN)
  # One unit per source shard and one per ranking or cell that was lacking.
  assert tallies['rank'].made == 5 + 2
  assert tallies['shards'].made == 2 * (5 + 2)
  after = _states(damaged)
  assert {path: after[path] for path in before} == before
  # The same ranking, whatever others are asked for in the same pass.
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_grad_pixel')
  works = tiny.works(
    damaged, "Study.estimators = ('sq_grad', 'var_grad', 'grad')"
  )
  pipeline.run(works, ['rank'])
  for split, index in (('train', 2), ('test', 0)):
    one, two = (
      _shard(root, 'ranking_grad_pixel', split, index).read_bytes()
      for root in (damaged, finished)
    )
    assert one == two


def test_a_stopped_training_is_resumed_with_the_same_outcome(
  tiny, finished, damaged, artefacts
):
  run = _run_directory(damaged, 'grad_pixel_remove_30', 0)
  shutil.rmtree(run)
  asked = []

  def stop():
    asked.append(1)
    return len(asked) >= 2  # Asked after every call, of a second at most.

  works = tiny.works(damaged, stop=stop)
  with pytest.raises(errors.PreemptedError) as caught:
    pipeline.run(works, ['train'])
  assert caught.value.exit_status == 75
  step = int(re.search(r'after step (\d+) of 75', str(caught.value))[1])
  assert 0 < step < 75
  assert sorted(path.name for path in run.iterdir()) == [
    'checkpoints',
    'events',
  ]
  assert [path.name for path in (run / 'checkpoints').iterdir()] == [
    f'step_{step:08d}.npz'
  ]
  steps = []
  from roar_tf.training import loop

  train = loop.Trainer.train

  def watched(self, *args, progress=lambda steps: None, **kwargs):
    return train(self, *args, progress=steps.append, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop.Trainer, 'train', watched)
    pipeline.run(tiny.works(damaged), ['train'])
  assert steps[0] == step and sum(steps) == 75  # Not begun again.
  _assert_equal_trees(artefacts(damaged), artefacts(finished))


@pytest.mark.parametrize('content', [b'', b'PK half', b'\x93NUMPY'])
def test_a_damaged_checkpoint_is_no_obstacle(
  content, tiny, finished, damaged, artefacts
):
  run = _run_directory(damaged, 'original', 0)
  shutil.rmtree(run)
  (run / 'checkpoints').mkdir(parents=True)
  (run / 'checkpoints/step_00000032.npz').write_bytes(content)
  pipeline.run(tiny.works(damaged), ['train'])
  _assert_equal_trees(artefacts(damaged), artefacts(finished))


def test_training_from_disk_writes_the_bytes_of_training_from_memory(
  tiny, finished, damaged, artefacts, monkeypatch
):
  shutil.rmtree(damaged / 'runs')
  shutil.rmtree(damaged / 'models')
  monkeypatch.setattr(trainings.examples, 'MEMORY_BOUND', 0)
  monkeypatch.setattr(trainings.examples, 'from_batches', None)
  masked_on_the_fly = ("Study.masking = 'ranking'", 'Study.seeds = 1')
  pipeline.run(tiny.works(damaged, *masked_on_the_fly), ['model', 'train'])
  found, expected = (
    {
      name: data
      for name, data in artefacts(root).items()
      if not name.endswith('config.gin') and 'seed_1' not in name
    }
    for root in (damaged, finished)
  )
  _assert_equal_trees(found, expected)


# --- many workers -----------------------------------------------------------


def test_two_workers_stage_by_stage_write_the_bytes_of_one(
  tiny, finished, tmp_path, artefacts
):
  for stage in pipeline.STAGES:
    for worker in (1, 0):
      # Workers are processes: they share nothing but the disk.
      pipeline.run(tiny.works(tmp_path), [stage], worker=worker, num_workers=2)
  _assert_equal_trees(artefacts(tmp_path), artefacts(finished))


def test_units_side_by_side_write_the_bytes_of_one_by_one(
  tiny, finished, tmp_path, artefacts
):
  works = tiny.works(tmp_path, 'Study.seeds = 1')
  pipeline.run(works, pipeline.STAGES, parallel=4)
  assert len(list(tmp_path.glob('runs/**/DONE'))) == 5
  _assert_part_of(artefacts(tmp_path), artefacts(finished))


def test_two_workers_on_the_same_units_end_with_one_artefact(
  tiny, finished, tmp_path, monkeypatch, artefacts
):
  # The second does a whole stage just before the first publishes its first file
  # of that stage: the first then writes all over what is finished.
  def works():
    return tiny.works(tmp_path, 'Study.seeds = 1', 'Study.thresholds = (30,)')

  rename, active = tf.io.gfile.rename, []

  def racing(*args, **kwargs):
    if active:
      pipeline.run(works(), [active.pop()])
    return rename(*args, **kwargs)

  monkeypatch.setattr(tf.io.gfile, 'rename', racing)
  for stage in pipeline.STAGES:
    active.append(stage)
    pipeline.run(works(), [stage])
    assert not active
  assert len(list(tmp_path.glob('runs/**/DONE'))) == 3
  _assert_part_of(artefacts(tmp_path), artefacts(finished))


def test_a_worker_without_inputs_names_them_and_does_the_rest(
  tiny, damaged, monkeypatch
):
  # As if the other worker had not ranked by `grad` yet.
  for config in ('ranking_grad_pixel', 'grad_pixel_remove_30'):
    shutil.rmtree(damaged / 'tfds/roar_tiny' / config)
  shutil.rmtree(damaged / 'runs')
  tallies = _tallies(monkeypatch)
  with pytest.raises(errors.UnitsFailedError) as caught:
    pipeline.run(tiny.works(damaged), ['train'], worker=0, num_workers=2)
  failures = tallies['train'].failures
  # Every second of: two of original, four of random, four of grad.
  assert (tallies['train'].made, len(failures)) == (3, 2)
  for failure in failures:
    assert failure in str(caught.value)
    assert failure.startswith('tiny/grad_pixel_remove_')
    assert 'tfds/roar_tiny/ranking_grad_pixel' in failure
  assert caught.value.exit_status == 1


def test_a_worker_that_comes_first_of_all_names_what_it_waits_for(
  tiny, tmp_path
):
  for stage in BEFORE_TRAIN[1:]:
    with pytest.raises(errors.UnitsFailedError, match='roar_tiny/original'):
      pipeline.run(tiny.works(tmp_path), [stage])


# --- seeds and inputs -------------------------------------------------------


def test_another_seed_is_another_model(finished):
  same = 0
  for cell in ('original', 'random_pixel_remove_30', 'grad_pixel_remove_70'):
    one, two = (_predictions(_run_directory(finished, cell, s)) for s in (0, 1))
    np.testing.assert_array_equal(one['ids'], two['ids'])
    same += np.array_equal(one['predictions'], two['predictions'])
  assert same == 0


def test_the_same_seed_in_another_study_has_the_same_accuracy(
  tiny, finished, damaged
):
  name = 'grad_pixel_remove_70'
  for seed, first in ((1, 1), (0, 0)):
    (work,) = tiny.works(damaged)
    run = next(r for r in work.runs if (r.cell_name, r.seed) == (name, first))
    run = type(run)('again', run.source, run.cell, seed)
    pipeline.run(
      [pipeline.Work(work.context, [run.cell], [run])], pipeline.STAGES[:5]
    )
    again = _run_directory(damaged, name, seed, study='again')
    before = _run_directory(finished, name, seed)
    for file in ('result.json', 'test_predictions.npz'):
      assert (again / file).read_bytes() == (before / file).read_bytes()


def test_the_seed_of_a_study_decides_model_and_random_ranking(
  tiny, finished, tmp_path
):
  works = tiny.works(tmp_path, "Study.estimators = ('random',)", seed=1)
  pipeline.run(works, ('source', 'model', 'rank'))
  assert [run.seed for run in works[0].runs[:2]] == [1, 2]
  shard = _shard(finished, 'ranking_random_pixel', 'test', 0)
  for name in ('models/tiny/weights.npz', shard.relative_to(finished)):
    one, two = ((root / name).read_bytes() for root in (finished, tmp_path))
    assert len(one) == pytest.approx(len(two), rel=0.1)
    assert one != two


def test_results_agree_with_the_predictions_beside_them(finished):
  for path in finished.rglob('result.json'):
    result = json.loads(path.read_text())
    data = _predictions(path.parent)
    assert result['test_images'] == 60 == len(set(data['ids']))
    assert result['steps'] == 75  # 10 epochs of 120 images in batches of 16.
    correct = data['predictions'] == data['labels']
    np.testing.assert_array_equal(correct, data['correct'])
    assert result['accuracy'] == correct.mean()
    assert result['top5'] == 1  # Of three classes.


def test_the_models_learn_and_masking_costs_accuracy(finished):
  def accuracy(path):
    return json.loads((path / 'result.json').read_text())['accuracy']

  # Chance is a third. A short training may end 0.1 higher or lower on another
  # processor, the mean of three less so.
  paths = [finished / 'models/tiny', *finished.glob('runs/*/*/original/seed_*')]
  assert len(paths) == 3
  assert np.mean([accuracy(path) for path in paths]) > 0.5


def test_masking_on_the_fly_gives_the_accuracies_of_shards(
  tiny, finished, damaged, monkeypatch
):
  shutil.rmtree(damaged / 'runs')
  for path in (damaged / 'tfds/roar_tiny').glob('*_remove_*'):
    shutil.rmtree(path)
  tallies = _tallies(monkeypatch)
  works = tiny.works(damaged, "Study.masking = 'ranking'", 'Study.seeds = 1')
  pipeline.run(works, ('rank', 'shards', 'train'))
  assert tallies['shards'].made == 0 and tallies['train'].made == 5
  assert not list((damaged / 'tfds/roar_tiny').glob('*_remove_*'))
  for directory in finished.glob('runs/*/*/*/seed_0'):
    on_the_fly = damaged / directory.relative_to(finished)
    for file in ('result.json', 'test_predictions.npz'):
      assert (directory / file).read_bytes() == (on_the_fly / file).read_bytes()


# --- many sources -----------------------------------------------------------


def test_sources_of_other_image_sizes_share_a_study(
  tiny, damaged, store_dataset, tmp_path
):
  import tensorflow_datasets as tfds

  from roar_tf.analysis import results

  images = np.random.default_rng(0).integers(0, 256, (20, 6, 10, 1), np.uint8)
  values = {'image': images, 'label': np.arange(20) % 2}
  features = {
    'image': tfds.features.Image(shape=(6, 10, 1), encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=2),
  }
  splits = {'train': values, 'test': values}
  store_dataset(tiny.data_dir, 'other', '1.0.0', splits, features)
  (tmp_path / 'other.gin').write_text(
    f"include '{tiny.dataset}'\nSource.tfds_name = 'other'\n"
    'Source.image_shape = (6, 10, 1)\nSource.num_classes = 2\n'
    'Source.train_images = 20\nSource.test_images = 20\n'
    'Source.truth = False\nTraining.epochs = 1\n'
  )
  sources = (f'{tmp_path}/other.gin', tiny.dataset)
  works = tiny.works(
    damaged, f'Study.sources = {sources!r}', 'Study.thresholds = (50,)'
  )
  shutil.rmtree(damaged / 'reports')
  pipeline.run(works, pipeline.STAGES)
  frame = results.read_csv(f'{damaged}/reports/small/results.csv')
  assert len(frame) == 2 * 3 * 2
  assert set(frame['source']) == {'other', 'tiny'}
  assert set(frame['test_images']) == {20, 60}
  levels = works[0].context.batches(
    'ranking_random_pixel',
    shards.Layout(levels=(6, 10, 1)),
    'test',
    0,
    100,
  )
  (batch,) = levels
  assert ((batch['levels'].numpy() <= 50).sum((1, 2, 3)) == 30).all()


# --- other settings ---------------------------------------------------------


EXPLAINED = ['explained/Training.epochs = 9']
# Without its own binding the explained model would train like the runs.
RETRAINED = ['Training.l2 = 0.5', 'explained/Training.l2 = 0.0001']
SUBSET = ['Source.train_subset = 60']


@pytest.mark.parametrize(
  'bindings, stage, words',
  [
    (SUBSET, 'source', ['Source.train_subset', 'None', '60']),
    (["Source.tfds_name = 'x'"], 'source', ['tfds_name', "'tiny'", "'x'"]),
    (EXPLAINED, 'model', ['Training.epochs', '10', '9', 'models/tiny']),
    (['explained/small_resnet.width = 8'], 'model', ['small_resnet.width']),
    (RETRAINED, 'train', ['Training.l2', '0.0001', '0.5', 'runs/small']),
    # Earlier artefacts of other settings, though only a later stage is asked.
    (EXPLAINED, 'train', ['Training.epochs', '10', '9', 'models/tiny']),
    (EXPLAINED, 'shards', ['Training.epochs', 'models/tiny']),
    (EXPLAINED, 'report', ['Training.epochs', 'models/tiny']),
    (SUBSET, 'rank', ['Source.train_subset', '60']),
  ],
)
def test_other_settings_are_refused_by_name_and_nothing_is_touched(
  bindings, stage, words, tiny, damaged
):
  before = _states(damaged)
  with pytest.raises(errors.UsageError) as caught:
    pipeline.run(tiny.works(damaged, *bindings), [stage])
  for word in ['DONE', *words]:
    assert word in str(caught.value)
  assert sorted(_states(damaged)) == sorted(before)
  assert _states(damaged) == before


def test_settings_that_change_no_value_are_no_obstacle(tiny, finished):
  # grad takes no samples, and the explained model trains as it did.
  works = tiny.works(
    finished, 'Attribution.samples = 3', 'explained/Training.epochs = 10'
  )
  pipeline.run(works, BEFORE_TRAIN)


def test_samples_of_an_ensemble_are_settings(tiny, damaged):
  binding = "Study.estimators = ('sg_grad',)"
  pipeline.run(
    tiny.works(damaged, binding, 'Attribution.samples = 2'), ['rank']
  )
  with pytest.raises(errors.UsageError, match='Attribution.samples: 2 there'):
    pipeline.run(
      tiny.works(damaged, binding, 'Attribution.samples = 3'), ['rank']
    )


def test_ties_are_a_setting_of_what_is_ranked(tiny, damaged):
  bernoulli = "Study.estimators = ('random_bernoulli',)"
  by_index = "Ranking.ties = 'index'"
  pipeline.run(tiny.works(damaged, bernoulli), ['rank'])
  # Draws have no ties.
  pipeline.run(tiny.works(damaged, bernoulli, by_index), ['rank'])
  with pytest.raises(
    errors.UsageError, match="Ranking.ties: 'random' there, 'index' asked for"
  ):
    pipeline.run(tiny.works(damaged, by_index), ['rank'])


CUTS = 'Ranking.cuts = (30, 50, 70)'


def test_cuts_are_a_setting_of_rankings(tiny, damaged):
  before = _states(damaged)
  with pytest.raises(
    errors.UsageError,
    match=r'Ranking.cuts: None there, \[30, 50, 70\] asked for',
  ):
    pipeline.run(tiny.works(damaged, CUTS), ['train'])
  assert _states(damaged) == before


def test_cuts_change_no_cell(tiny, finished, tmp_path):
  for part in ('tfds/roar_tiny/original', 'models'):
    shutil.copytree(finished / part, tmp_path / part)
  pipeline.run(tiny.works(tmp_path, CUTS), BEFORE_TRAIN)
  ranking = 'ranking_grad_pixel'
  few = _shard(tmp_path, ranking, 'test', 0).read_bytes()
  assert few != _shard(finished, ranking, 'test', 0).read_bytes()
  for estimator, threshold in itertools.product(('grad', 'random'), (30, 70)):
    for split, index in (('test', 1), ('train', 2)):
      name = f'{estimator}_pixel_remove_{threshold}'
      assert (
        _shard(tmp_path, name, split, index).read_bytes()
        == _shard(finished, name, split, index).read_bytes()
      )


def test_thresholds_that_are_no_cuts_are_refused_before_any_work(
  tiny, tmp_path
):
  with pytest.raises(errors.UsageError, match='Threshold 70 .*Ranking.cuts'):
    tiny.works(tmp_path, 'Ranking.cuts = (30, 50)')


def test_runs_of_other_settings_are_found_behind_runs_without_inputs(
  tiny, damaged
):
  # Left by two workers: original and random are unfinished, grad is done. The
  # report must not pass runs off as what they are not.
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_random_pixel')
  for path in damaged.glob('runs/small/tiny/original'):
    shutil.rmtree(path)
  with pytest.raises(errors.UnitsFailedError, match='Training.l2'):
    pipeline.run(tiny.works(damaged, *RETRAINED), ['report'])


# --- damage -----------------------------------------------------------------


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(bytes(data))


def test_nothing_is_trained_on_a_damaged_shard(
  tiny, finished, damaged, monkeypatch, artefacts
):
  shard = _shard(damaged, 'grad_pixel_remove_70', 'train', 1)
  _flip(shard)
  shutil.rmtree(damaged / 'runs')
  tallies = _tallies(monkeypatch)
  with pytest.raises(errors.UnitsFailedError) as caught:
    pipeline.run(tiny.works(damaged, 'Study.seeds = 1'), pipeline.STAGES)
  assert caught.value.exit_status == 1
  assert str(shard) in str(caught.value)
  assert (tallies['train'].made, len(tallies['train'].failures)) == (4, 1)
  results = {str(p.parent) for p in damaged.glob('runs/**/result.json')}
  assert len(results) == 4
  assert not any('grad_pixel_remove_70' in path for path in results)
  # The advice of the message.
  assert 'delete it and its .DONE file' in str(caught.value)
  shard.unlink()
  pathlib.Path(f'{shard}.DONE').unlink()
  pipeline.run(tiny.works(damaged, 'Study.seeds = 1'), pipeline.STAGES)
  assert len(list(damaged.glob('runs/**/result.json'))) == 5
  _assert_part_of(artefacts(damaged), artefacts(finished))


@pytest.mark.parametrize(
  'config, stage', [('original', 'rank'), ('ranking_grad_pixel', 'shards')]
)
def test_nothing_is_made_from_a_truncated_shard(config, stage, tiny, damaged):
  shard = _shard(damaged, config, 'test', 1)
  shard.write_bytes(shard.read_bytes()[:-100])
  for path in (damaged / 'tfds/roar_tiny').iterdir():
    made = 'ranking_*' if stage == 'rank' else 'grad_pixel_remove_*'
    if path.match(made):
      shutil.rmtree(path)
  with pytest.raises(errors.UnitsFailedError) as caught:
    pipeline.run(tiny.works(damaged), [stage])
  assert str(shard) in str(caught.value)
  made = _all_shards(damaged, 'ranking_' if stage == 'rank' else 'grad_pixel_')
  count = {'rank': 2 * 4, 'shards': 2 * 4}[stage]
  assert len(made) == count
  assert not any('test.tfrecord-00001' in path.name for path in made)


def _all_shards(root, prefix):
  return [
    path
    for path in (root / 'tfds/roar_tiny').rglob('*.tfrecord-*')
    if path.parts[-3].startswith(prefix) and path.suffix != '.DONE'
  ]


@pytest.mark.parametrize('content', [b'', b'{"digest": "1', b'no json'])
def test_a_damaged_marker_is_named(content, tiny, damaged):
  marker = pathlib.Path(f'{_shard(damaged, "original", "train", 0)}.DONE')
  marker.write_bytes(content)
  with pytest.raises(errors.RoarError, match=str(marker)) as caught:
    pipeline.run(tiny.works(damaged), ['source'])
  assert caught.value.exit_status == 1
  marker.unlink()  # The advice.
  pipeline.run(tiny.works(damaged), ['source'])


def test_a_damaged_explained_model_is_named(tiny, finished, damaged, artefacts):
  weights = damaged / 'models/tiny/weights.npz'
  _flip(weights)
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_grad_pixel')
  with pytest.raises(errors.UnitsFailedError, match=str(weights)):
    pipeline.run(tiny.works(damaged), ['rank'])
  shutil.rmtree(weights.parent)  # The advice.
  pipeline.run(tiny.works(damaged), pipeline.STAGES)
  _assert_equal_trees(artefacts(damaged), artefacts(finished))


# --- images that cannot be decoded ------------------------------------------


SKIP = (
  "Source.unreadable = 'skip'",
  'Study.thresholds = (50,)',
  'Study.seeds = 1',
)


def test_a_study_runs_on_the_images_that_can_be_decoded(
  photographs, tmp_path, artefacts
):
  photographs.damage('train/class_1/03.jpg', 'test/class_0/02.jpg')
  for name, number in (('one', 1), ('two', 2)):
    workers = [
      photographs.tiny.works(tmp_path / name, *SKIP) for _ in range(number)
    ]
    for stage in pipeline.STAGES:
      for i, works in enumerate(workers):
        pipeline.run(works, [stage], worker=i, num_workers=number)
  found = artefacts(tmp_path / 'one')
  _assert_equal_trees(artefacts(tmp_path / 'two'), found)
  results = [
    json.loads(data) for n, data in found.items() if n.endswith('result.json')
  ]
  assert len(results) == 1 + 3
  assert {result['test_images'] for result in results} == {7}
  # Two epochs in batches of two images.
  assert {result['steps'] for result in results} == {19}
  page = found['reports/small/index.html'].decode()
  assert '19 train, 7 test' in page
  assert '1 train, 1 test (ids in manifest.json of original)' in page
  ids = _predictions(tmp_path / 'one/models/photographs')['ids'].tolist()
  assert len(ids) == 7 and b'test/class_0/02.jpg' not in ids


def test_shards_may_be_empty(photographs, tmp_path):
  (work,) = photographs.tiny.works(
    tmp_path / 'w',
    *SKIP,
    'Source.images_per_shard = 4',
    "Study.estimators = ('random',)",
    'Training.epochs = 1',
  )
  reader = Reader(work.context.experiment.source, None, '/nowhere')
  ids = [example['id'] for example in reader.encoded('test', 0, 4)]
  photographs.damage(*(i.numpy().decode() for i in ids))
  pipeline.run([work], pipeline.STAGES)
  assert work.context.records('test', 0) == 0
  assert work.context.images('test') == 4
  report = tmp_path / 'w/reports/small'
  assert (report / 'mosaic_photographs_1.png').exists()
  assert '20 train, 4 test' in (report / 'index.html').read_text()
  loaded = tfds.load(
    'roar_photographs/random_pixel_remove_50',
    split='test',
    data_dir=tmp_path / 'w/tfds',
  )
  assert len(list(loaded)) == 4
  assert (
    integrity.verify(integrity.folders(work.context.workspace)).damages == []
  )


# --- estimators -------------------------------------------------------------


def test_an_oracle_needs_a_source_with_truth(tiny, tmp_path):
  works = tiny.works(
    tmp_path, "Study.estimators = ('oracle',)", 'Source.truth = False'
  )
  with pytest.raises(errors.UsageError, match='oracle.*tiny'):
    pipeline.run(works, pipeline.STAGES)
  # It can be told before anything is computed.
  assert not (tmp_path / 'models').exists()


def test_a_cell_alone_needs_no_study(tiny, damaged, monkeypatch):
  (work,) = tiny.works(damaged)
  cell = cells.Cell('random', 'element', 'keep', 50)
  tallies = _tallies(monkeypatch)
  pipeline.run([pipeline.Work(work.context, [cell])], BEFORE_TRAIN)
  assert (tallies['rank'].made, tallies['shards'].made) == (6, 6)
  assert len(_all_shards(damaged, 'random_element_keep_50')) == 5


def _levels(context, config, depth):
  layout = shards.Layout(levels=(8, 8, depth))
  (batch,) = context.batches(config, layout, 'test', 0, 100)
  return batch['levels'].numpy()


def test_ties_by_index_reach_the_ranking(tiny, damaged, monkeypatch):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  registry.register('flat', needs_model=False)(
    lambda model, images, targets, keys: tf.zeros_like(images)
  )
  (work,) = tiny.works(damaged, "Ranking.ties = 'index'")
  cell = cells.Cell('flat', 'element', 'remove', 50)
  pipeline.run([pipeline.Work(work.context, [cell])], ['rank'])
  levels = _levels(work.context, 'ranking_flat_element', 3)
  expected = -(-100 * np.arange(1, 193) // 192).reshape(8, 8, 3)
  assert (levels == expected).all()


def test_bernoulli_counts_and_imagenets_mean_reach_the_cells(tiny, damaged):
  (work,) = tiny.works(damaged)
  cell = cells.Cell('random_bernoulli', 'element', 'keep', 50, 'imagenet_mean')
  pipeline.run([pipeline.Work(work.context, [cell])], BEFORE_TRAIN)
  levels = _levels(work.context, 'ranking_random_bernoulli_element', 3)
  counts = (levels <= 50).sum(axis=(1, 2, 3))
  assert len(set(counts)) > 3
  assert abs(counts.mean() - 96) < 5 * 192**0.5 / 2 / len(counts) ** 0.5
  plain, masked = (
    next(
      work.context.batches(
        name, shards.Layout(image=(8, 8, 3), classes=3), 'test', 0, 100
      )
    )['image'].numpy()
    for name in ('original', cell.name)
  )
  fill = np.array([124, 116, 104], np.uint8)
  assert (masked == np.where(levels <= 50, plain, fill)).all()


def test_a_computed_fill_has_the_bytes_of_shards_when_masked_on_the_fly(
  tiny, damaged, monkeypatch
):
  (work,) = tiny.works(damaged)
  context = work.context
  made = [
    cells.Cell('grad', granularity, 'remove', 70, fill)
    for granularity, fill in (
      ('pixel', 'noisy_linear'),
      ('element', 'noisy_linear'),
      ('pixel', 'blurred'),
    )
  ]
  pipeline.run([pipeline.Work(context, made)], BEFORE_TRAIN)
  originals = trainings.examples_of(context, None, 'shards')
  for cell in made:
    stored = trainings.examples_of(context, cell, 'shards')
    in_memory = trainings.examples_of(context, cell, 'ranking')
    with monkeypatch.context() as patch:
      patch.setattr(trainings.examples, 'MEMORY_BOUND', 0)
      on_disk = trainings.examples_of(context, cell, 'ranking')
    for split in ('train', 'test'):
      expected = np.asarray(stored[split].images)
      np.testing.assert_array_equal(in_memory[split].images, expected)
      # In batches of another size, the last one padded.
      found = np.concatenate(
        [b['image'] for b in on_disk[split].test_batches(order.Share(7))]
      )
      np.testing.assert_array_equal(found[: len(expected)], expected)
      changed = expected != originals[split].images.numpy()
      assert 0.6 < changed.mean() <= 0.71
    done = workspace.require(context.dataset_done(cell.name))
    assert fills.settings(cell.fill).items() <= (
      done['fingerprint']['settings'].items()
    )


def test_a_fill_of_three_channels_is_refused_for_grey_images(tiny, tmp_path):
  with pytest.raises(errors.UsageError, match='"imagenet_mean".*3.*tiny.*1;'):
    tiny.works(
      tmp_path,
      "Study.fills = ('imagenet_mean',)",
      'Source.image_shape = (8, 8, 1)',
    )
