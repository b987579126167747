"""Tests of checkpoints: exact round trip; what is damaged is not resumed."""

import os

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.training import checkpoint, clock

FINGERPRINT = {'settings': {'Training.epochs': 3}, 'inputs': {}}


def _state(moving=2, step=7):
  generator = np.random.default_rng(0)

  def draw(*shape):
    return tf.constant(generator.normal(size=shape), tf.float32)

  return {
    # More than ten: their order must not be that of text.
    'trainable': [draw(2, 3), *(draw(1) for _ in range(12))],
    'moving': [draw(3) for _ in range(moving)],
    'velocity': [draw(2, 3), *(draw(1) for _ in range(12))],
    'step': tf.constant(step, tf.int64),
    'seed': tf.constant(-5, tf.int32),
  }


def _assert_equal(found, expected):
  def same(ours, theirs):
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()

  tf.nest.map_structure(same, found, expected)


@pytest.fixture
def directory(tmp_path):
  return str(tmp_path / 'run' / 'checkpoints')


def _restore(directory, like=None):
  found = checkpoint.restore(directory, FINGERPRINT, like or _state())
  return found and found.state


def _save(directory, state):
  """Saves a state and returns its file."""
  checkpoint.save(directory, state, FINGERPRINT, clock.Timing())
  return f'{directory}/step_{int(state["step"]):08d}.npz'


def test_round_trip_keeps_every_bit(directory):
  state = _state()
  state['velocity'][0] = tf.constant([[np.nan, -0.0, 1e-42], [np.inf, 1, 2]])
  _save(directory, state)
  _assert_equal(_restore(directory), state)


def test_what_the_training_took_is_in_it(directory):
  spent = clock.Timing(1e5, 2.5, 0.1)
  checkpoint.save(directory, _state(), FINGERPRINT, spent)
  found = checkpoint.restore(directory, FINGERPRINT, _state())
  assert (found.step, found.timing) == (7, spent)


def test_newer_ones_than_asked_for_are_passed_over(directory):
  for step in (20, 300):
    _save(directory, _state(step=step))
  for most, expected in ((300, 300), (299, 20), (20, 20)):
    found = checkpoint.restore(directory, FINGERPRINT, _state(), most)
    assert found.step == expected
  assert checkpoint.restore(directory, FINGERPRINT, _state(), 19) is None


def test_another_process_may_delete_them_at_any_time(directory, monkeypatch):
  path = _save(directory, _state())
  checkpoint.delete(directory)
  checkpoint.delete(directory)
  names = [os.path.basename(path)]
  monkeypatch.setattr(checkpoint.files, 'names_in', lambda _: names)
  assert _restore(directory) is None
  # Between making the folder and writing into it.
  monkeypatch.setattr(checkpoint.files, 'make_directory', lambda _: None)
  _save(directory, _state())
  assert not os.path.exists(directory)


def test_the_two_newest_are_kept_and_the_newest_is_restored(directory):
  for step in (1, 20, 300):
    _save(directory, _state(step=step))
  assert int(_restore(directory)['step']) == 300
  names = ['step_00000020.npz', 'step_00000300.npz']
  assert sorted(os.listdir(directory)) == names


def test_where_there_is_none_nothing_is_resumed(directory):
  assert _restore(directory) is None
  os.makedirs(directory)
  with open(f'{directory}/step_00000001.npz.tmp-abc', 'wb') as file:
    file.write(b'half')
  assert _restore(directory) is None


def test_another_configuration_is_refused_and_named(directory):
  path = _save(directory, _state())
  other = {'settings': {'Training.epochs': 4}, 'inputs': {}}
  with pytest.raises(errors.UsageError) as caught:
    checkpoint.restore(directory, other, _state())
  message = str(caught.value)
  assert path in message and 'Training.epochs: 3 there, 4 asked' in message


@pytest.mark.parametrize(
  'change, reason',
  [
    (lambda s: s['trainable'].pop(), '28 variables where .* 27'),
    (lambda s: s['moving'].append(tf.zeros([2])), '28 variables .* 29'),
    (
      lambda s: s['trainable'].__setitem__(0, tf.zeros([2, 4])),
      r'float32 \(2, 3\) where .* float32 \(2, 4\)',
    ),
  ],
)
def test_another_model_is_refused_and_named(directory, change, reason):
  _save(directory, _state())
  like = _state()
  change(like)
  with pytest.raises(errors.UsageError, match=reason):
    _restore(directory, like)


def _write(path, data):
  with open(path, 'wb') as file:
    file.write(data)


def test_a_truncated_checkpoint_is_not_resumed(directory):
  path = _save(directory, _state())
  with open(path, 'rb') as file:
    data = file.read()
  for size in [0, 1, 20, 50, *range(100, len(data), 97), len(data) - 1]:
    _write(path, data[:size])
    assert _restore(directory) is None, size


def test_a_flipped_bit_gives_the_checkpoint_before(directory):
  _save(directory, _state(step=1))
  path = _save(directory, _state(step=2))
  with open(path, 'rb') as file:
    data = file.read()
  generator = np.random.default_rng(0)
  # The directory of the archive, at its end, and some of the rest.
  places = [*generator.integers(0, len(data), 200)]
  places += [*range(len(data) - 300, len(data))]
  for place in places:
    damaged = bytearray(data)
    damaged[place] ^= 1 << int(generator.integers(8))
    _write(path, damaged)
    assert int(_restore(directory)['step']) == 1, place
