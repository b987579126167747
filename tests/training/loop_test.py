"""Tests of whole trainings: repetition, interruption."""

import functools
import os
import time
from concurrent import futures

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special
from small_training import (
  CLASSES,
  MEAN,
  STD,
  linear,
  make_split,
  make_trainer,
  network,
)

from roar_tf import errors
from roar_tf.training import (
  augmentation,
  checkpoint,
  clock,
  distribution,
  examples,
  loop,
  order,
  schedule,
)

STEPS = 19  # Of 50 images, 3 epochs, batches of 8.


@pytest.fixture(autouse=True)
def short_calls(monkeypatch):
  """Several calls even in a short training."""
  _calls_of(monkeypatch, 4)
  monkeypatch.setattr(loop, 'SAVING', 0.0)


def _calls_of(monkeypatch, steps):
  for name in ('FIRST_CALL', 'STEPS_PER_CALL'):
    monkeypatch.setattr(loop, name, steps)
  monkeypatch.setattr(loop, 'CALL_SECONDS', 1e9)


@pytest.fixture(scope='module')
def trainer():
  return make_trainer(network, augmentation='pad_crop_flip')


@pytest.fixture(scope='module')
def split():
  return make_split(50)


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
  other = make_trainer(network, augmentation='pad_crop_flip')
  _assert_equal(other.train(split, 'cell', 1)[0], trained)


def test_steps_per_call_do_not_change_the_bits(
  trainer, split, trained, monkeypatch
):
  _calls_of(monkeypatch, 7)
  _assert_equal(trainer.train(split, 'cell', 1)[0], trained)


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
  # Not yet traced.
  trainer = make_trainer(network, augmentation='pad_crop_flip')

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


def test_one_trainer_takes_splits_of_several_sizes(split):
  trainer = make_trainer(linear)
  for count in (50, 40, 60):
    state, steps = trainer.train(make_split(count), 1)
    assert steps == -(-count * 3 // 8)
  fresh, _ = make_trainer(linear).train(make_split(60), 1)
  _assert_equal(state, fresh)


# --- what is computed ---------------------------------------------------------


def test_a_whole_training_equals_numpy(split):
  trainer = make_trainer(linear, epochs=2.5, l2=0.01)
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
  trainer = make_trainer(
    linear,
    epochs=4,
    batch_size=batch_size,
    augmentation='recording',
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
    made = make_split(count, seed)
    images = made.images.numpy() // 8
    images += (30 * made.labels.numpy()[:, None, None, None]).astype(np.uint8)
    return made, examples.Examples(
      tf.constant(images), made.labels, made.keys, made.ids
    )

  trainer = make_trainer(network, epochs=40, drops=(), base_learning_rate=2.0)
  (noise, train), (_, test) = make(200, 1), make(100, 2)
  state, _ = trainer.train(train, 0)
  assert trainer.evaluate(state, test).correct.mean() > 0.9
  # Labels that have nothing to do with the images: chance is 1/7.
  state, _ = trainer.train(noise, 0)
  accuracy = trainer.evaluate(state, make_split(100, 2)).correct.mean()
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


@pytest.mark.parametrize('call', [0, 3])
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


def test_a_killed_run_resumes_from_its_last_checkpoint(
  split, trained, tmp_path
):
  trainer = make_trainer(network, augmentation='pad_crop_flip')
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


def test_saving_takes_little_of_the_time(split, tmp_path, monkeypatch):
  monkeypatch.setattr(loop, 'SAVING', 50.0)
  saved = []

  def save(directory, state, *_):
    saved.append(int(state['step']))
    time.sleep(0.2)  # The next one is due in ten seconds.

  monkeypatch.setattr(checkpoint, 'save', save)
  resumption = _resumption(tmp_path, every_seconds=0)
  make_trainer(linear).train(split, 1, resumption=resumption)
  assert saved == [4]


def test_time_of_earlier_processes_counts(trainer, split, tmp_path):
  with (
    clock.Clock() as first,
    pytest.raises(errors.PreemptedError),
  ):
    trainer.train(
      split, 'cell', 1, resumption=_resumption(tmp_path, Stop(1)), clock=first
    )
  with clock.Clock() as second:
    trainer.train(
      split, 'cell', 1, resumption=_resumption(tmp_path), clock=second
    )
  assert 0 < second.before.seconds <= first.timing.seconds
  assert second.before.step_seconds == first.step_seconds > 0
  assert second.timing.seconds > second.before.seconds
  assert second.timing.step_seconds > first.step_seconds


def test_hosts_go_on_from_a_checkpoint_that_all_of_them_see(
  trainer, split, trained, tmp_path, caplog
):
  class TwoHosts(distribution.Devices):
    def everywhere(self, number):
      return [number, min(number, 8)]  # The other one lacks the newest.

  resumption = _resumption(tmp_path, Stop(2), every_seconds=0)
  with pytest.raises(errors.PreemptedError, match='step 12'):
    trainer.train(split, 'cell', 1, resumption=resumption)
  devices = TwoHosts(tf.distribute.get_strategy())
  other = make_trainer(network, devices=devices, augmentation='pad_crop_flip')
  told = []
  state, _ = other.train(
    split, 'cell', 1, resumption=_resumption(tmp_path), progress=told.append
  )
  assert told[0] == 8
  _assert_equal(state, trained)
  assert '(12, 8)' in caplog.text


@pytest.mark.parametrize('damaged, resumed_at', [(1, 8), (2, 0)])
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


def test_a_finished_run_that_was_not_committed_trains_no_further_step(
  trainer, split, trained, tmp_path
):
  resumption = _resumption(tmp_path)
  checkpoint.save(resumption.directory, trained, FINGERPRINT, clock.Timing())
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


def test_random_numbers_of_layers_repeat_and_resume(split, tmp_path):
  trainer = make_trainer(_dropout)
  expected, _ = trainer.train(split, 1)
  with pytest.raises(errors.PreemptedError):
    trainer.train(split, 1, resumption=_resumption(tmp_path, Stop(1)))
  state, _ = trainer.train(split, 1, resumption=_resumption(tmp_path))
  _assert_equal(state, expected)
  _assert_equal(make_trainer(_dropout).train(split, 1)[0], expected)


def test_a_diverged_training_names_its_steps():
  trainer = make_trainer(linear, base_learning_rate=1e30, warmup_epochs=0)
  message = r'loss became (nan|inf) in step [2-4] of 19.*base_learning_rate'
  with pytest.raises(errors.RoarError, match=message) as caught:
    trainer.train(make_split(50), 1)
  assert caught.value.exit_status == 1
