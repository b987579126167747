"""Tests of runs: retrained, resumed, of masks alone, not retrained at all."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import cells, errors
from roar_tf.analysis import results
from roar_tf.engine import markers
from roar_tf.study import grid
from roar_tf.training import checkpoint, loop

CELLS = [f'{e}_pixel_remove_{t}' for e in ('random', 'grad') for t in (30, 70)]


def _watched_steps(monkeypatch) -> list[int]:
  """Returns a list that receives how far every call of a training got."""
  steps = []
  train = loop.Trainer.train

  def watched(self, *args, progress=lambda steps: None, **kwargs):
    return train(self, *args, progress=steps.append, **kwargs)

  monkeypatch.setattr(loop.Trainer, 'train', watched)
  return steps


def _result(directory):
  return json.loads((directory / 'result.json').read_text())


# --- results -----------------------------------------------------------------


def test_results_agree_with_the_predictions_beside_them(finished, predictions):
  paths = list(finished.rglob('result.json'))
  assert len(paths) == 11
  for path in paths:
    result, data = _result(path.parent), predictions(path.parent)
    assert result['test_images'] == 60 == len(set(data['ids']))
    assert result['steps'] == 75  # 10 epochs of 120 images in batches of 16.
    correct = data['predictions'] == data['labels']
    np.testing.assert_array_equal(correct, data['correct'])
    assert result['accuracy'] == correct.mean()
    assert result['top5'] == 1  # Of three classes.


def test_models_learn_and_masking_costs_accuracy(finished, run_of):
  assert _result(finished / 'models/tiny')['accuracy'] > 0.6  # Chance: a third.
  whole = _result(run_of(finished, 'original'))['accuracy']
  masked = [_result(run_of(finished, cell))['accuracy'] for cell in CELLS]
  assert whole > 0.6 and whole > np.mean(masked)


def test_another_seed_is_another_model(finished, run_of, predictions):
  for cell in ('original', 'random_pixel_remove_30', 'grad_pixel_remove_70'):
    one, two = (predictions(run_of(finished, cell, seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one['ids'], two['ids'])
    assert (one['predictions'] != two['predictions']).any()


def test_the_seed_of_a_study_decides_model_and_random_ranking(
  tiny, finished, tmp_path, make, shard_of
):
  shutil.copytree(
    finished / 'tfds/roar_tiny/original', tmp_path / 'tfds/roar_tiny/original'
  )
  random = "Study.estimators = ('random',)"
  pipeline = tiny.pipeline(tmp_path, random, seed=1)
  make(pipeline, goals=[pipeline.stages[0].model.explained()])
  make(pipeline, 'rank')
  assert [run.seed for run in pipeline.runs[:2]] == [1, 2]
  shard = shard_of(finished, 'ranking_random_pixel', 'test')
  for name in ('models/tiny/weights.npz', shard.relative_to(finished)):
    one, two = ((root / name).read_bytes() for root in (finished, tmp_path))
    assert len(one) == pytest.approx(len(two), rel=0.1)
    assert one != two


@pytest.mark.parametrize('bound', [1 << 32, 0])
def test_how_images_are_read_and_masked_changes_no_result(
  bound, tiny, finished, damaged, make, run_of, artefacts
):
  """In memory and from disk; on the fly, in another study."""
  for path in (damaged / 'tfds/roar_tiny').glob('*_remove_*'):
    shutil.rmtree(path)
  bindings = ["Study.masking = 'ranking'", 'Study.thresholds = (70,)']
  pipeline = tiny.pipeline(damaged, *bindings, memory_bound=bound)
  if not bound:
    shutil.rmtree(damaged / 'models')
    make(pipeline, 'model')
  stages = pipeline.stages[0]
  runs = [
    grid.Run('again', 'tiny', run.cell, run.seed)
    for run in pipeline.runs
    if run.seed == 1
  ]
  counts = make(pipeline, goals=[stages.train.artefact(run) for run in runs])
  assert counts.made == {'train': 3}
  assert not list((damaged / 'tfds/roar_tiny').glob('*_remove_*'))
  for run in runs:
    for file in ('result.json', 'test_predictions.npz'):
      one, other = (
        run_of(root, run.folder, 1, study) / file
        for root, study in ((finished, 'small'), (damaged, 'again'))
      )
      assert one.read_bytes() == other.read_bytes()
  weights = 'models/tiny/weights.npz'
  assert artefacts(damaged)[weights] == artefacts(finished)[weights]


def test_nothing_is_trained_on_a_damaged_shard(
  tiny, finished, damaged, make, shard_of, flip, artefacts, assert_same, run_of
):
  shard = shard_of(damaged, 'grad_pixel_remove_70', 'train', 1)
  flip(shard)
  for cell in CELLS[2:]:
    shutil.rmtree(run_of(damaged, cell, 0))
  advice = 'delete it and its .DONE file'
  counts = make(tiny.pipeline(damaged), fails=[str(shard), advice])
  assert counts.made == {'train': 1, 'report': 1}
  assert len(counts.failures) == 1
  assert not (run_of(damaged, CELLS[3], 0) / 'result.json').exists()
  shard.unlink()
  shard.with_name(f'{shard.name}.DONE').unlink()
  counts = make(tiny.pipeline(damaged))
  assert counts.made == {'shards': 1, 'train': 1, 'report': 1}
  assert_same(artefacts(damaged), artefacts(finished))


# --- stopped trainings -------------------------------------------------------


def test_a_stopped_training_is_resumed_with_the_same_outcome(
  tiny, finished, damaged, make, run_of, artefacts, assert_same, monkeypatch
):
  run = run_of(damaged, 'grad_pixel_remove_30')
  shutil.rmtree(run)
  # A signal arrives when the training has begun.
  stop = (run / 'events').exists
  with pytest.raises(errors.PreemptedError) as caught:
    make(tiny.pipeline(damaged, stop=stop))
  assert caught.value.exit_status == 75
  names = sorted(path.name for path in run.iterdir())
  assert names == ['checkpoints', 'events']
  (saved,) = (run / 'checkpoints').iterdir()
  step = int(re.fullmatch(r'step_(\d{8})\.npz', saved.name)[1])
  assert 0 < step < 75
  steps = _watched_steps(monkeypatch)
  make(tiny.pipeline(damaged))
  assert steps[0] == step and sum(steps) == 75  # Not begun again.
  assert_same(artefacts(damaged), artefacts(finished))


def test_a_damaged_checkpoint_is_no_obstacle(
  tiny, finished, damaged, make, run_of, artefacts, assert_same
):
  for seed, content in enumerate((b'', b'PK half')):
    run = run_of(damaged, 'original', seed)
    shutil.rmtree(run)
    (run / 'checkpoints').mkdir(parents=True)
    (run / 'checkpoints/step_00000032.npz').write_bytes(content)
  assert make(tiny.pipeline(damaged)).made == {'train': 2}
  assert_same(artefacts(damaged), artefacts(finished))


def test_a_run_that_is_killed_before_its_marker_is_not_trained_again(
  tiny, finished, damaged, make, run_of, artefacts, assert_same, monkeypatch
):
  run = run_of(damaged, 'grad_pixel_remove_30')
  shutil.rmtree(run)
  often = 'Training.checkpoint_seconds = 0'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(checkpoint, 'SAVING', 0)
    write = markers.write

    def killed(path, *arguments):
      if path == f'{run}/DONE':
        raise OSError('killed')
      write(path, *arguments)

    patch.setattr(markers, 'write', killed)
    make(tiny.pipeline(damaged, often), 'train', fails='killed')
  assert (run / 'result.json').exists() and not (run / 'DONE').exists()
  (_, newest) = sorted((run / 'checkpoints').iterdir())
  trained = int(newest.stem.partition('_')[2])
  before = json.loads((run / 'timing.json').read_text())
  steps = _watched_steps(monkeypatch)
  make(tiny.pipeline(damaged))
  assert steps[0] == trained > 0 and sum(steps) == 75
  assert not (run / 'checkpoints').exists()
  after = json.loads((run / 'timing.json').read_text())
  assert after['step_seconds'] > 0.5 * before['step_seconds']
  assert_same(artefacts(damaged), artefacts(finished))


def test_another_process_may_finish_a_run_meanwhile(
  tiny, finished, damaged, make, run_of, artefacts, assert_same, monkeypatch
):
  run = run_of(damaged, 'grad_pixel_remove_30')
  shutil.rmtree(run)
  monkeypatch.setattr(checkpoint, 'SAVING', 0)
  save, saved = checkpoint.save, []

  def beside(directory, *arguments):
    if saved:  # The other one is through with it.
      shutil.copytree(
        run_of(finished, 'grad_pixel_remove_30'), run, dirs_exist_ok=True
      )
      checkpoint.delete(directory)
    saved.append(directory)
    save(directory, *arguments)

  monkeypatch.setattr(checkpoint, 'save', beside)
  often = 'Training.checkpoint_seconds = 0'
  counts = make(tiny.pipeline(damaged, often), 'train')
  assert counts.made == {'train': 1} and len(saved) > 1
  make(tiny.pipeline(damaged))
  found, expected = artefacts(damaged), artefacts(finished)
  for each in (found, expected):  # It tells how often was saved.
    del each[str((run / 'config.gin').relative_to(damaged))]
  assert_same(found, expected)


def test_runs_side_by_side_share_the_costs_of_their_device(
  tiny, damaged, make, run_of
):
  for seed in (0, 1):
    shutil.rmtree(run_of(damaged, 'original', seed))
  make(tiny.pipeline(damaged), 'train', parallel=2)
  spent = [
    json.loads((run_of(damaged, 'original', seed) / 'timing.json').read_text())
    for seed in (0, 1)
  ]
  assert all(0 < t['device_seconds'] <= t['seconds'] for t in spent)
  both = sum(t['device_seconds'] for t in spent)
  assert both < 0.9 * sum(t['seconds'] for t in spent)


@pytest.mark.parametrize('bound', [1 << 32, 0])
def test_images_sorted_by_class_are_warned_of(
  bound, photographs, make, tmp_path, caplog
):
  # As image_folder reads them: a class after the other, five images a shard.
  bindings = ('Training.shuffle_shards = 1', 'Training.epochs = 0.1')
  pipeline = photographs.tiny.pipeline(
    tmp_path / 'w', *bindings, memory_bound=bound
  )
  with caplog.at_level('WARNING', 'roar_tf'):
    make(pipeline, 'model', upstream=True)
  told = [r.getMessage() for r in caplog.records if r.name == 'roar_tf']
  sentences = [text for text in told if 'sorted' in text]
  assert len(sentences) == 1
  for word in ('photographs', 'shuffle_shards = 1', 'raise it to 4'):
    assert word in sentences[0]


# --- masks alone, and no retraining ------------------------------------------

CONTROLS = ('Study.mask_only_seeds = 1', 'Study.deletion = True')


@pytest.fixture(scope='module')
def controlled(tiny, finished, make, tmp_path_factory):
  """The finished workspace with the controls in the study; do not touch."""
  root = tmp_path_factory.mktemp('controlled') / 'workspace'
  shutil.copytree(finished, root)
  make(tiny.pipeline(root, *CONTROLS))
  return root


def test_controls_leave_retrainings_alone(finished, controlled, artefacts):
  before, after = artefacts(finished), artefacts(controlled)
  data = [n for n in before if n.startswith(('runs/', 'tfds/', 'models/'))]
  assert [n for n in data if after[n] != before[n]] == []
  cells_ = [
    {n.split('/')[3] for n in found if n.startswith('runs/')}
    for found in (before, after)
  ]
  assert cells_[1] - cells_[0] == {
    'original_deletion',
    *(f'{c}_{kind}' for c in CELLS for kind in ('maskonly', 'deletion')),
  }


def test_controls_are_rows_of_the_results(controlled):
  frame = results.read_csv(str(controlled / 'reports/small/results.csv'))
  counts = frame['input'].value_counts().to_dict()
  assert counts == {'image': 10, 'deletion': 5, 'maskonly': 4}
  steps = frame.groupby('input')['steps'].unique()
  assert list(steps['deletion']) == [0]
  assert list(steps['maskonly']) == list(steps['image'])
  page = (controlled / 'reports/small/index.html').read_text()
  assert 'lacks seed' not in page and 'not listed by the study' not in page


def test_deletion_is_the_explained_model_on_masked_images(
  tiny, controlled, run_of, predictions
):
  model = _result(controlled / 'models/tiny')
  original = _result(run_of(controlled, 'original_deletion'))
  assert original == {**model, 'steps': 0}
  stages = tiny.pipeline(controlled).stages[0]
  model, scaled = stages.model.load(), stages.model.scaling()
  for name in ('grad_pixel_remove_70', 'random_pixel_remove_30'):
    data = stages.data.examples(cells.parse_cell(name))['test']
    images = tf.cast(np.asarray(data.images), tf.float32)
    logits = model(scaled(images), training=False)
    found = predictions(run_of(controlled, f'{name}_deletion'))
    np.testing.assert_array_equal(found['predictions'], np.argmax(logits, -1))
    np.testing.assert_array_equal(
      found['ids'].astype(str), data.ids.astype(str)
    )


def test_masks_alone_need_no_masked_datasets(
  tiny, controlled, tmp_path, make, run_of
):
  root = shutil.copytree(controlled, tmp_path / 'workspace')
  run = run_of(root, 'grad_pixel_remove_30_maskonly')
  shutil.rmtree(run)
  shutil.rmtree(root / 'tfds/roar_tiny/grad_pixel_remove_30')
  assert make(tiny.pipeline(root, *CONTROLS)).made == {'train': 1}
  before = run_of(controlled, 'grad_pixel_remove_30_maskonly')
  for name in ('result.json', 'test_predictions.npz'):
    assert (run / name).read_bytes() == (before / name).read_bytes()


def test_the_model_behind_scores_from_files_cannot_be_tested(tiny, damaged):
  # As if the ranking had been made from files.
  datasets = damaged / 'tfds/roar_tiny'
  (datasets / 'ranking_grad_pixel').rename(datasets / 'ranking_mine_pixel')
  stages = tiny.pipeline(damaged, "Study.estimators = ('random',)").stages[0]
  cell = cells.parse_cell('mine_pixel_remove_30')
  stages.train.artefact(grid.Run('small', 'tiny', cell, 0))
  with pytest.raises(errors.UsageError, match='"mine" explains is elsewhere'):
    stages.train.artefact(grid.Run('small', 'tiny', cell, 0, 'deletion'))
