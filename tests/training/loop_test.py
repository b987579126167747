"""Tests of whole trainings: repetition, interruption, evaluation."""

import dataclasses
import functools
import os
from concurrent import futures

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from roar_tf import errors, randomness
from roar_tf.models import resnet
from roar_tf.training import (
  augmentation,
  checkpoint,
  examples,
  loop,
  order,
  preprocessing,
  schedule,
  settings,
)

SHAPE = (8, 8, 3)
CLASSES = 7
MEAN, STD = (120.0, 130.0, 110.0), (70.0, 60.0, 80.0)
STEPS = 19  # Of 50 images, 3 epochs, batches of 8.


@pytest.fixture(autouse=True)
def short_calls(monkeypatch):
  """Several calls even in a short training."""
  _calls_of(monkeypatch, 4)


def _calls_of(monkeypatch, steps):
  for name in ('FIRST_CALL', 'STEPS_PER_CALL'):
    monkeypatch.setattr(loop, name, steps)
  monkeypatch.setattr(loop, 'CALL_SECONDS', 1e9)


def _examples(count, seed=0):
  generator = np.random.default_rng(seed)
  ids = np.array([b'%d/%d' % (seed, i) for i in range(count)], object)
  return examples.Examples(
    images=tf.constant(generator.integers(0, 256, (count, *SHAPE)), tf.uint8),
    labels=tf.constant(generator.integers(0, CLASSES, count), tf.int32),
    keys=randomness.keys_of_ids(ids),
    ids=ids,
  )


def _network(shape, classes):
  return resnet.small_resnet(shape, classes, width=2, stages=2)


def _linear(shape, classes):
  return keras.Sequential(
    [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
  )


def _trainer(factory, **changes):
  training = settings.Training(
    **{
      'model': factory,
      'epochs': 3,
      'batch_size': 8,
      'base_learning_rate': 0.8,
      'warmup_epochs': 0.5,
      'drops': ((2, 0.1),),
      **changes,
    }
  )
  return loop.Trainer(factory, SHAPE, CLASSES, training, MEAN, STD)


@pytest.fixture(scope='module')
def trainer():
  return _trainer(_network, augmentation='pad_crop_flip')


@pytest.fixture(scope='module')
def split():
  return _examples(50)


@pytest.fixture(scope='module')
def trained(trainer, split):
  """The state of an uninterrupted run, of another number of steps a call."""
  state, steps = trainer.train(split, 'cell', 1)
  assert steps == STEPS
  return state


def _assert_equal(found, expected):
  tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def _differ(found, expected, part='trainable'):
  return any(
    not np.array_equal(one, other)
    for one, other in zip(found[part], expected[part], strict=True)
  )


# --- repetition ---------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(trainer, split, trained):
  trainer.train(split, 'cell', 2)  # Whatever ran in between.
  again, _ = trainer.train(split, 'cell', 1)
  _assert_equal(again, trained)


def test_another_trainer_gives_the_same_bits(split, trained):
  tf.random.set_seed(99)
  other = _trainer(_network, augmentation='pad_crop_flip')
  _assert_equal(other.train(split, 'cell', 1)[0], trained)


def test_steps_per_call_do_not_change_the_bits(
  trainer, split, trained, monkeypatch
):
  _calls_of(monkeypatch, 7)
  _assert_equal(trainer.train(split, 'cell', 1)[0], trained)


@pytest.mark.parametrize('words', [('cell', 2), ('other', 1), ('cell',)])
def test_other_seed_words_give_another_run(trainer, split, trained, words):
  assert _differ(trainer.train(split, *words)[0], trained)


def test_seed_words_decide_every_random_weight(trainer):
  first, again, other = (
    trainer.initial_state('cell', seed) for seed in (1, 1, 2)
  )
  _assert_equal(again, first)
  kernels = [i for i, w in enumerate(first['trainable']) if w.shape.rank > 1]
  assert len(kernels) == 7
  for i in kernels:
    assert not np.array_equal(first['trainable'][i], other['trainable'][i])
  assert all(not np.any(v) for v in first['velocity'])


def test_runs_side_by_side_end_in_the_bits_of_runs_alone(split, trained):
  trainer = _trainer(_network, augmentation='pad_crop_flip')  # Not yet traced.

  def run(seed):
    state, _ = trainer.train(split, 'cell', seed)
    return state, trainer.evaluate(state, split)

  with futures.ThreadPoolExecutor(3) as pool:
    outcomes = list(pool.map(run, (1, 2, 1)))
  (state, evaluation), (other, _), (again, _) = outcomes
  _assert_equal(state, trained)
  _assert_equal(again, trained)
  assert _differ(other, trained)
  alone = trainer.evaluate(trained, split)
  np.testing.assert_array_equal(evaluation.predictions, alone.predictions)


def test_training_leaves_the_models_variables_alone(trainer, split):
  before = [v.numpy() for v in trainer.model.variables]
  state, _ = trainer.train(split, 'cell', 5)
  trainer.evaluate(state, split)
  for variable, value in zip(trainer.model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)


def test_load_puts_a_state_into_the_model(trainer, trained, split):
  model = trainer.load(trained)
  assert model is trainer.model
  for variables, part in (
    (model.trainable_variables, 'trainable'),
    (model.non_trainable_variables, 'moving'),
  ):
    for variable, value in zip(variables, trained[part], strict=True):
      np.testing.assert_array_equal(variable, value)


def test_one_trainer_takes_splits_of_several_sizes(split):
  trainer = _trainer(_linear)
  for count in (50, 40, 60):
    state, steps = trainer.train(_examples(count), 1)
    assert steps == -(-count * 3 // 8)
  fresh, _ = _trainer(_linear).train(_examples(60), 1)
  _assert_equal(state, fresh)


# --- what is computed ---------------------------------------------------------


def test_normalises_by_the_given_mean_and_deviation(trainer):
  images = np.array([0, 100, 255], np.uint8).reshape(3, 1, 1, 1)
  found = trainer.normalise(np.broadcast_to(images, (3, 2, 2, 3)))
  assert found.dtype == tf.float32
  expected = (images - np.array(MEAN)) / np.array(STD)
  np.testing.assert_allclose(
    found, np.broadcast_to(expected, (3, 2, 2, 3)), rtol=1e-6
  )


def test_a_whole_training_equals_numpy(split):
  trainer = _trainer(_linear, epochs=2.5, l2=0.01)
  kernel, bias = (
    np.float64(w) for w in trainer.initial_state('run', 3)['trainable']
  )
  velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
  images = (split.images.numpy() - np.array(MEAN)) / np.array(STD)
  images, labels = images.reshape(50, -1), split.labels.numpy()
  positions = order.Order([50], 16, 'run', 3)
  losses = 16  # 125 examples in batches of 8.
  for i in range(losses):
    pieces = positions.pieces(8 * i, 8 * i + 8)
    indices = np.concatenate([piece.rows for piece in pieces])
    rate = float(schedule.learning_rate(trainer.training, 50, i))
    flat = images[indices]
    goal = 0.9 * np.eye(CLASSES)[labels[indices]] + 0.1 / CLASSES
    error = (special.softmax(flat @ kernel + bias, axis=1) - goal) / 8
    gradients = [
      flat.T @ error + 0.01 * kernel,
      error.sum(axis=0) + 0.01 * bias,
    ]
    velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
    kernel, bias = (
      w - rate * (g + 0.9 * v)
      for w, g, v in zip((kernel, bias), gradients, velocity, strict=True)
    )
  state, steps = trainer.train(split, 'run', 3)
  assert steps == losses
  np.testing.assert_allclose(state['trainable'][0], kernel, atol=1e-4)
  np.testing.assert_allclose(state['trainable'][1], bias, atol=1e-4)


def _recorded_draws(split, monkeypatch, batch_size, *seed_words):
  """Uniforms of the augmentation by example, in the order of the epochs."""
  seen = {}

  def record(images, uniforms):
    for image, draws in zip(images, uniforms, strict=True):
      seen.setdefault(image.tobytes(), []).append(tuple(draws))
    return images

  def recording(images, uniforms):
    shape = images.shape
    images = tf.numpy_function(record, [images, uniforms], images.dtype)
    return tf.ensure_shape(images, shape)

  recording.draws = 3
  monkeypatch.setitem(augmentation.AUGMENTATIONS, 'recording', recording)
  trainer = _trainer(
    _linear, epochs=4, batch_size=batch_size, augmentation='recording'
  )
  trainer.train(split, *seed_words)
  return seen


def test_augmentation_is_a_function_of_run_example_and_epoch(
  split, monkeypatch
):
  record = functools.partial(_recorded_draws, split, monkeypatch)
  draws = record(10, 'cell', 1)
  # Each example once in each epoch, with other numbers in each.
  assert len(draws) == 50
  assert {len(values) for values in draws.values()} == {4}
  everything = [draw for values in draws.values() for draw in values]
  assert len(set(everything)) == 200
  # The neighbours in a batch do not matter, the run does.
  assert record(25, 'cell', 1) == draws
  other = record(10, 'cell', 2)
  assert not {d for v in other.values() for d in v} & set(everything)
  # Fair: 200 uniforms in each column.
  assert np.abs(np.mean(everything, axis=0) - 0.5).max() < 5 / np.sqrt(12 * 200)


def test_learns_what_can_be_learnt_and_nothing_else():
  def make(count, seed):
    made = _examples(count, seed)
    images = made.images.numpy() // 8
    images += (30 * made.labels.numpy()[:, None, None, None]).astype(np.uint8)
    return made, examples.Examples(
      tf.constant(images), made.labels, made.keys, made.ids
    )

  trainer = _trainer(_network, epochs=40, drops=(), base_learning_rate=2.0)
  (noise, train), (_, test) = make(200, 1), make(100, 2)
  state, _ = trainer.train(train, 0)
  assert trainer.evaluate(state, test).correct.mean() > 0.9
  # Labels that have nothing to do with the images: chance is 1/7.
  state, _ = trainer.train(noise, 0)
  accuracy = trainer.evaluate(state, _examples(100, 2)).correct.mean()
  assert accuracy < 1 / 7 + 5 * np.sqrt(1 / 7 * 6 / 7 / 100)


# --- interruption -------------------------------------------------------------


class Stop:
  """True at the given calls, counted from 0."""

  def __init__(self, *calls):
    self.calls = set(calls)
    self.count = -1

  def __call__(self):
    self.count += 1
    return self.count in self.calls


FINGERPRINT = {'settings': {'seed': 1}, 'inputs': {}}


def _resumption(tmp_path, stop=lambda: False, **arguments):
  directory = str(tmp_path / 'run' / 'checkpoints')
  return loop.Resumption(directory, FINGERPRINT, stop=stop, **arguments)


@pytest.mark.parametrize('call', [0, 2, 3])
def test_a_stopped_and_resumed_run_ends_in_the_same_bits(
  trainer, split, trained, tmp_path, call
):
  after = 4 * (call + 1)
  with pytest.raises(errors.PreemptedError, match=f'step {after} of {STEPS}'):
    trainer.train(
      split, 'cell', 1, resumption=_resumption(tmp_path, Stop(call))
    )
  saved = _resumption(tmp_path).directory
  assert os.listdir(saved) == [f'step_{after:08d}.npz']
  told = []
  state, steps = trainer.train(
    split, 'cell', 1, resumption=_resumption(tmp_path), progress=told.append
  )
  assert steps == STEPS
  assert told[0] == after and sum(told) == STEPS
  _assert_equal(state, trained)


def test_a_run_stopped_at_every_chance_still_ends(
  trainer, split, trained, tmp_path
):
  stops = 0
  while True:
    try:
      state, _ = trainer.train(
        split, 'cell', 1, resumption=_resumption(tmp_path, lambda: True)
      )
      break
    except errors.PreemptedError:
      stops += 1
  assert stops == STEPS // 4
  _assert_equal(state, trained)


def test_a_killed_run_resumes_from_its_last_checkpoint(
  split, trained, tmp_path
):
  trainer = _trainer(_network, augmentation='pad_crop_flip')
  resumption = _resumption(tmp_path, every_seconds=0)
  done = []

  def kill(count):
    done.append(count)
    if sum(done) == 12:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    trainer.train(split, 'cell', 1, resumption=resumption, progress=kill)
  told = []
  state, _ = trainer.train(
    split, 'cell', 1, resumption=resumption, progress=told.append
  )
  assert told[0] == 8  # The third call was not saved before it was killed.
  _assert_equal(state, trained)


def test_without_need_nothing_is_saved(trainer, split, tmp_path):
  resumption = _resumption(tmp_path, every_seconds=1e9)
  trainer.train(split, 'cell', 1, resumption=resumption)
  assert not os.path.exists(resumption.directory)


@pytest.mark.parametrize(
  'damaged, resumed_at', [(0, 12), (1, 8), (2, 0)], ids=str
)
def test_damaged_checkpoints_are_passed_over_with_a_warning(
  trainer, split, trained, tmp_path, caplog, damaged, resumed_at
):
  resumption = _resumption(tmp_path, Stop(2), every_seconds=0)
  with pytest.raises(errors.PreemptedError):
    trainer.train(split, 'cell', 1, resumption=resumption)
  names = sorted(os.listdir(resumption.directory), reverse=True)
  assert names == ['step_00000012.npz', 'step_00000008.npz']
  for name in names[:damaged]:
    path = f'{resumption.directory}/{name}'
    os.truncate(path, os.path.getsize(path) // 2)
  told = []
  with caplog.at_level('WARNING', 'roar_tf'):
    state, _ = trainer.train(
      split, 'cell', 1, resumption=_resumption(tmp_path), progress=told.append
    )
  assert told[0] == resumed_at and sum(told) == STEPS
  warned = [record.getMessage() for record in caplog.records]
  assert len(warned) == damaged
  for name, message in zip(names, warned, strict=False):
    assert name in message and 'damaged' in message
  _assert_equal(state, trained)


def test_a_checkpoint_of_other_settings_is_refused_by_name(
  trainer, split, tmp_path
):
  resumption = _resumption(tmp_path, Stop(0))
  with pytest.raises(errors.PreemptedError):
    trainer.train(split, 'cell', 1, resumption=resumption)
  other = dataclasses.replace(
    _resumption(tmp_path), fingerprint={'settings': {'seed': 2}, 'inputs': {}}
  )
  with pytest.raises(errors.UsageError, match='seed: 1 there, 2 asked for'):
    trainer.train(split, 'cell', 1, resumption=other)


def test_a_checkpoint_of_another_model_is_refused_by_name(
  trainer, split, tmp_path
):
  with pytest.raises(errors.PreemptedError):
    trainer.train(split, 'cell', 1, resumption=_resumption(tmp_path, Stop(0)))
  other = _trainer(
    lambda shape, classes: resnet.small_resnet(
      shape, classes, width=4, stages=2
    )
  )
  message = r'step_00000004.npz.*architecture.*\(3, 3, 3, 2\).*\(3, 3, 3, 4\)'
  with pytest.raises(errors.UsageError, match=message):
    other.train(split, 'cell', 1, resumption=_resumption(tmp_path))


def test_a_finished_run_that_was_not_committed_trains_no_further_step(
  trainer, split, trained, tmp_path
):
  resumption = _resumption(tmp_path)
  checkpoint.save(resumption.directory, trained, FINGERPRINT)
  state, steps = trainer.train(split, 'cell', 1, resumption=resumption)
  assert steps == STEPS
  _assert_equal(state, trained)


def _dropout(shape, classes):
  """A model whose layers draw random numbers themselves."""
  return keras.Sequential(
    [
      keras.Input(shape),
      keras.layers.Flatten(),
      keras.layers.Dropout(0.5),
      keras.layers.Dense(classes),
    ]
  )


@pytest.mark.parametrize('factory', [_linear, _dropout])
def test_any_model_repeats_and_resumes(factory, split, tmp_path):
  trainer = _trainer(factory)
  expected, _ = trainer.train(split, 1)
  with pytest.raises(errors.PreemptedError):
    trainer.train(split, 1, resumption=_resumption(tmp_path, Stop(1)))
  state, _ = trainer.train(split, 1, resumption=_resumption(tmp_path))
  _assert_equal(state, expected)
  _assert_equal(_trainer(factory).train(split, 1)[0], expected)


def test_a_diverged_training_names_its_steps():
  trainer = _trainer(_linear, base_learning_rate=1e30, warmup_epochs=0)
  message = r'loss became (nan|inf) in step [2-4] of 19.*base_learning_rate'
  with pytest.raises(errors.RoarError, match=message) as caught:
    trainer.train(_examples(50), 1)
  assert caught.value.exit_status == 1


# --- evaluation ---------------------------------------------------------------


@pytest.mark.parametrize(
  'count, batch', [(1, 8), (16, 8), (17, 8), (50, 8), (50, 3)]
)
def test_evaluation_covers_every_example_and_equals_numpy(
  trainer, trained, monkeypatch, count, batch
):
  monkeypatch.setattr(loop, 'EVALUATION_BATCH', batch)
  test = _examples(count, seed=3)
  outcome = trainer.evaluate(trained, test)
  model = keras.models.clone_model(trainer.model)
  model.set_weights([v.numpy() for v in trainer.load(trained).variables])
  images = (test.images.numpy() - np.array(MEAN)) / np.array(STD)
  logits = model(images.astype(np.float32), training=False).numpy()
  labels = test.labels.numpy()
  assert outcome.predictions.dtype == np.int32
  assert outcome.predictions.shape == (count,)
  _assert_most_likely(outcome.predictions, logits)
  np.testing.assert_array_equal(outcome.correct, outcome.predictions == labels)
  # Where no other class is as likely as the label but for rounding.
  own = np.take_along_axis(logits, labels[:, None], 1)
  before, tied = (logits > own + 1e-4).sum(1), np.abs(logits - own) < 1e-4
  clear = tied.sum(1) == 1
  assert clear.mean() > 0.9
  np.testing.assert_array_equal(outcome.in_top5[clear], before[clear] < 5)
  if count == 50:
    assert 0 < outcome.correct.sum() < outcome.in_top5.sum() < count


def _assert_most_likely(predictions, logits):
  """Predictions have the highest logit, up to rounding."""
  logits = np.asarray(logits)
  chosen = np.take_along_axis(logits, predictions[:, None], 1)[:, 0]
  np.testing.assert_allclose(chosen, logits.max(axis=1), rtol=0, atol=1e-4)


def test_with_few_classes_everything_is_among_the_first_five():
  training = _trainer(_linear).training
  trainer = loop.Trainer(_linear, SHAPE, 3, training, MEAN, STD)
  test = _examples(20)
  test = examples.Examples(test.images, test.labels % 3, test.keys, test.ids)
  outcome = trainer.evaluate(trainer.initial_state(0), test)
  assert outcome.in_top5.all() and not outcome.correct.all()


def test_preprocessing_concerns_evaluation_alone(split):
  plain = _trainer(_linear)
  cropping = _trainer(_linear, eval_preprocess='center_crop')
  state, _ = plain.train(split, 'cell', 1)
  _assert_equal(cropping.train(split, 'cell', 1)[0], state)
  test = _examples(50, seed=3)
  found = cropping.evaluate(state, test).predictions
  cropped = preprocessing.center_crop(test.images)
  logits = cropping.load(state)(cropping.normalise(cropped), training=False)
  _assert_most_likely(found, logits)
  assert (found != plain.evaluate(state, test).predictions).any()
