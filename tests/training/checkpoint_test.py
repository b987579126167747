"""Tests of checkpoints: exact round trip; what is damaged is not resumed."""

import os

import numpy as np
import pytest
import tensorflow as tf

from roar_tf.training import checkpoint


def _state(moving=2):
  generator = np.random.default_rng(0)

  def draw(*shape):
    return tf.constant(generator.normal(size=shape), tf.float32)

  return {
    # More than ten: their order must not be that of text.
    'trainable': [draw(2, 3), *(draw(1) for _ in range(12))],
    'moving': [draw(3) for _ in range(moving)],
    'velocity': [draw(2, 3), *(draw(1) for _ in range(12))],
  }


def _assert_equal(found, expected):
  assert set(found) == set(expected)
  for part, values in expected.items():
    for ours, theirs in zip(found[part], values, strict=True):
      assert ours.dtype == theirs.dtype
      assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
      assert ours.shape == theirs.shape


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'run' / 'checkpoint.npz')


def test_round_trip_keeps_every_bit(path):
  state = _state()
  state['velocity'][0] = tf.constant([[np.nan, -0.0, 1e-42], [np.inf, 1, 2]])
  checkpoint.save(path, state, 1234, 'digest')
  found, step = checkpoint.restore(path, 'digest')
  assert step == 1234 and isinstance(step, int)
  _assert_equal(found, state)


def test_a_model_without_moving_statistics_is_restored_whole(path):
  state = _state(moving=0)
  checkpoint.save(path, state, 1, 'digest')
  found, _ = checkpoint.restore(path, 'digest')
  _assert_equal(found, state)


def test_the_newest_replaces_the_one_before_and_nothing_else_is_left(path):
  checkpoint.save(path, _state(), 1, 'digest')
  checkpoint.save(path, _state(), 2, 'digest')
  assert checkpoint.restore(path, 'digest')[1] == 2
  assert os.listdir(os.path.dirname(path)) == ['checkpoint.npz']


def test_where_there_is_none_nothing_is_resumed(path):
  assert checkpoint.restore(path, 'digest') is None


def test_another_configuration_is_not_resumed(path):
  checkpoint.save(path, _state(), 1, 'digest')
  assert checkpoint.restore(path, 'other') is None


def _write(path, data):
  with open(path, 'wb') as file:
    file.write(data)


def test_a_truncated_checkpoint_is_not_resumed(path):
  checkpoint.save(path, _state(), 7, 'digest')
  with open(path, 'rb') as file:
    data = file.read()
  for size in [0, 1, 20, 50, *range(100, len(data), 97), len(data) - 1]:
    _write(path, data[:size])
    assert checkpoint.restore(path, 'digest') is None, size


@pytest.mark.parametrize(
  'data', [b'', b'nonsense', b'\x93NUMPY', b'PK\x03\x04']
)
def test_another_file_is_not_resumed(path, data):
  checkpoint.save(path, _state(), 7, 'digest')
  _write(path, data)
  assert checkpoint.restore(path, 'digest') is None


def test_a_flipped_bit_is_noticed_or_harmless(path):
  state = _state()
  checkpoint.save(path, state, 7, 'digest')
  with open(path, 'rb') as file:
    data = file.read()
  generator = np.random.default_rng(0)
  # The directory of the archive, at its end, and some of the rest.
  places = [*generator.integers(0, len(data), 300)]
  places += [*range(len(data) - 400, len(data))]
  for place in places:
    damaged = bytearray(data)
    damaged[place] ^= 1 << int(generator.integers(8))
    _write(path, damaged)
    found = checkpoint.restore(path, 'digest')
    if found is not None:
      assert found[1] == 7
      _assert_equal(found[0], state)
