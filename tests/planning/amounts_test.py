"""Tests of roar_tf.planning.amounts: what is left is what will be made."""

import collections
import shutil

import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.estimators import gradient
from roar_tf.planning import amounts
from roar_tf.study import STAGES, executor, pipeline, selection
from roar_tf.training import checkpoint, loop

# Batches that are filled to the last row: 40 or 60 images in a shard, 10 in a
# call, and 10 rows in each of its 3 copies and 2 steps.
EVEN = (
  'Source.images_per_shard = 60',
  'Attribution.batch_size = 10',
  'Attribution.samples = 3',
  'Attribution.steps = 3',
  "Study.estimators = ('random', 'grad', 'var_grad', 'sg_ig', 'gb')",
  'Study.thresholds = (50,)',
  'Study.seeds = 1',
  'Study.mask_only_seeds = 1',
  'Study.deletion = True',
  'Training.epochs = 1',
  'Training.drops = ()',
)


@pytest.fixture
def made(monkeypatch):
  """What stages really make: {stage: units}, and training steps by role."""
  counts = collections.Counter()
  execute = executor.execute

  def counted(stage, units, **how):
    tally = execute(stage, units, **how)
    counts[stage] += tally.made
    return tally

  train = loop.Trainer.train

  def trained(self, examples, *words, **how):
    state, steps = train(self, examples, *words, **how)
    counts[f'steps {words[0]}'] += steps
    return state, steps

  monkeypatch.setattr(executor, 'execute', counted)
  monkeypatch.setattr(loop.Trainer, 'train', trained)
  return counts


@pytest.fixture
def gradients(monkeypatch):
  """Counts gradient evaluations as they are computed: rows times rules."""
  rows = tf.Variable(0, dtype=tf.int64)
  evaluate = gradient.gradients

  def counted(model, images, targets, rules=('gradient',)):
    rows.assign_add(images.shape[0] * len(rules))
    return evaluate(model, images, targets, rules)

  monkeypatch.setattr(gradient, 'gradients', counted)
  return rows


def test_a_study_makes_what_was_left_and_then_nothing_is(
  tiny, tmp_path, made, gradients
):
  works = tiny.works(tmp_path / 'w', *EVEN)
  tallies, found = amounts.left(works, STAGES)
  assert not (tmp_path / 'w').exists()  # Nothing was written.
  pipeline.run(works, STAGES)
  amount = found['tiny']
  assert {t.stage: t.left for t in tallies} == {s: made[s] for s in STAGES}
  assert all(tally.done == 0 for tally in tallies)
  assert amount.gradient_evaluations == amount.padded_evaluations
  assert amount.gradient_evaluations == int(gradients)
  # GRAD, GB; three copies of GRAD and two more steps of IG: 180 images.
  assert amount.gradient_evaluations == 180 * (2 + 3 * 3)
  assert amount.steps == made['steps run'] == 8 * (1 + 5 + 5)
  assert amount.explained_steps == made['steps explained'] == 8
  assert amount.runs == 11 and amount.evaluations == 1 + 11 + 6
  # Again: all of it is there.
  tallies, found = amounts.left(tiny.works(tmp_path / 'w', *EVEN), STAGES)
  amount = found['tiny']
  assert {t.stage: t.done for t in tallies} == {s: made[s] for s in STAGES}
  assert all(tally.left == 0 for tally in tallies)
  assert not amount.gradient_evaluations and not amount.explained_images
  assert not amount.steps and not amount.explained_steps
  assert not amount.runs and not amount.evaluations
  for (_, _), records in amount.records.items():
    assert records.left == 0 and records.done > 0
  files = list((tmp_path / 'w/tfds').rglob('*.tfrecord-?????-of-?????'))
  assert sum(r.done_bytes for r in amount.records.values()) == sum(
    file.stat().st_size for file in files
  )


def test_half_of_a_study_is_half_done(tiny, damaged, made):
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_grad_pixel')
  shutil.rmtree(damaged / 'tfds/roar_tiny/grad_pixel_remove_30')
  runs = damaged / 'runs/small/tiny'
  shutil.rmtree(runs / 'grad_pixel_remove_30')
  shutil.rmtree(runs / 'original/seed_1')
  for path in (damaged / 'tfds/roar_tiny/random_pixel_remove_70').rglob(
    '*train*00001*'
  ):
    path.unlink()
  tallies, found = amounts.left(tiny.works(damaged), STAGES)
  pipeline.run(tiny.works(damaged), STAGES)
  assert {t.stage: t.left for t in tallies} == {s: made[s] for s in STAGES}
  amount = found['tiny']
  assert amount.gradient_evaluations == 180
  assert amount.runs == 3 and amount.explained_steps == 0
  assert amount.steps == made['steps run']


def test_what_is_chosen_is_counted(tiny, tmp_path, made):
  works = selection.only(
    tiny.works(tmp_path / 'w'), ['estimator:random,threshold:30']
  )
  tallies, found = amounts.left(works, STAGES[:-1])
  pipeline.run(works, STAGES[:-1])
  assert {t.stage: t.left for t in tallies} == {s: made[s] for s in STAGES[:-1]}
  assert found['tiny'].gradient_evaluations == 0
  assert found['tiny'].explained_models == 0


def test_steps_that_a_checkpoint_holds_are_done(tiny, damaged):
  place = damaged / 'runs/small/tiny/original/seed_0'
  shutil.rmtree(place)
  _, before = amounts.left(tiny.works(damaged), STAGES)
  (place / 'checkpoints').mkdir(parents=True)
  for step in (8, 40):
    (place / f'checkpoints/step_{step:08d}.npz').touch()
  assert checkpoint.newest_step(str(place / 'checkpoints')) == 40
  _, after = amounts.left(tiny.works(damaged), STAGES)
  assert after['tiny'].steps == before['tiny'].steps - 40 > 0


def test_other_settings_are_refused_as_by_the_study(tiny, finished):
  works = tiny.works(finished, 'Training.momentum = 0.5')
  with pytest.raises(errors.UsageError, match='Training.momentum'):
    amounts.left(works, STAGES)


def test_a_whole_study_is_what_is_left_of_none(tiny, tmp_path):
  works = tiny.works(tmp_path / 'w', *EVEN)
  _, found = amounts.left(works, STAGES)
  whole = amounts.whole(works[0].context.experiment)
  for field in (
    *('runs', 'steps', 'explained_steps', 'explained_models', 'evaluations'),
    *('test_images', 'train_images', 'explained_images'),
    'gradient_evaluations',
  ):
    assert getattr(whole, field) == getattr(found['tiny'], field), field


def test_batches_are_padded(tiny, tmp_path):
  # Shards of 40 images in calls of 16: 48 are explained.
  works = tiny.works(tmp_path / 'w', 'Attribution.batch_size = 16')
  _, found = amounts.left(works, STAGES)
  shards = works[0].context.experiment.source.shard_bounds
  rows = sum(
    -(-(stop - start) // 16) * 16
    for split in ('train', 'test')
    for start, stop in shards(split)
  )
  assert found['tiny'].padded_evaluations == rows
  assert found['tiny'].gradient_evaluations == 180
  _, shared = amounts.left(works, STAGES, explaining=2)
  assert shared['tiny'].padded_evaluations > 180
