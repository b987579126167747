"""Tests of trainings that are interrupted: they end in the same bits."""

import os
import time

import keras
import pytest
import tensorflow as tf
from small_training import (
  STEPS,
  assert_equal,
  linear,
  make_split,
  make_trainer,
  network,
)

from roar_tf import errors
from roar_tf.training import (
  checkpoint,
  clock,
  distribution,
)

pytestmark = pytest.mark.usefixtures('short_calls')


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
  return checkpoint.Resumption(directory, FINGERPRINT, stop=stop, **arguments)


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
  assert_equal(state, trained)


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
  assert_equal(state, trained)


def test_saving_takes_little_of_the_time(split, tmp_path, monkeypatch):
  monkeypatch.setattr(checkpoint, 'SAVING', 50.0)
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
  assert_equal(state, trained)
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
  assert_equal(state, trained)


def test_a_finished_run_that_was_not_committed_trains_no_further_step(
  trainer, split, trained, tmp_path
):
  resumption = _resumption(tmp_path)
  checkpoint.save(resumption.directory, trained, FINGERPRINT, clock.Timing())
  state, steps = trainer.train(split, 'cell', 1, resumption=resumption)
  assert steps == STEPS
  assert_equal(state, trained)


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
  assert_equal(state, expected)
  assert_equal(make_trainer(_dropout).train(split, 1)[0], expected)


def test_a_diverged_training_names_its_steps():
  trainer = make_trainer(linear, base_learning_rate=1e30, warmup_epochs=0)
  message = r'loss became (nan|inf) in step [2-4] of 19.*base_learning_rate'
  with pytest.raises(errors.RoarError, match=message) as caught:
    trainer.train(make_split(50), 1)
  assert caught.value.exit_status == 1
