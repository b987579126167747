"""Tests of the examples in memory and of their order."""

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import randomness
from roar_tf.training import examples


def _epochs(order, count, epochs):
  indices, numbers = order.positions(0, count * epochs)
  np.testing.assert_array_equal(numbers, np.repeat(np.arange(epochs), count))
  return indices.reshape(epochs, count)


@pytest.mark.parametrize('count', [1, 2, 97])
def test_every_epoch_is_a_permutation(count):
  for epoch in _epochs(examples.Order(count, 'a'), count, 6):
    assert sorted(epoch) == list(range(count))


def test_epochs_differ_and_are_unrelated():
  epochs = _epochs(examples.Order(2000, 'a'), 2000, 5)
  correlation = np.corrcoef(epochs) - np.eye(5)
  assert np.abs(correlation).max() < 5 / np.sqrt(2000)
  against_place = np.corrcoef(epochs, np.arange(2000))[-1, :-1]
  assert np.abs(against_place).max() < 5 / np.sqrt(2000)


def test_every_place_in_an_epoch_is_as_likely():
  epochs = _epochs(examples.Order(5, 'a'), 5, 2000)
  for place in epochs.T:
    counts = np.bincount(place, minlength=5)
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)


def test_random_access_equals_sequential_reading():
  sequential, epochs = examples.Order(13, 'run', 3).positions(0, 200)
  for start, stop in ((0, 5), (190, 200), (5, 60), (50, 51), (12, 14), (7, 7)):
    order = examples.Order(13, 'run', 3)
    for _ in range(2):  # Whatever was read before.
      indices, numbers = order.positions(start, stop)
      np.testing.assert_array_equal(indices, sequential[start:stop])
      np.testing.assert_array_equal(numbers, epochs[start:stop])
      order.positions(100, 150)


def test_batches_run_on_across_epochs():
  order = examples.Order(10, 'a')
  batches = [order.positions(4 * i, 4 * i + 4) for i in range(5)]
  indices = np.concatenate([b[0] for b in batches])
  assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
  assert batches[2][1].tolist() == [0, 0, 1, 1]
  assert {b[0].dtype for b in batches} == {np.dtype(np.int32)}


def test_a_batch_may_be_larger_than_the_split():
  indices, epochs = examples.Order(3, 'a').positions(0, 8)
  assert sorted(indices[:3]) == sorted(indices[3:6]) == [0, 1, 2]
  assert epochs.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_seed_words_decide_the_order():
  orders = [
    tuple(examples.Order(50, *words).positions(0, 50)[0])
    for words in (('a', 1), ('a', 2), ('b', 1), ('a',), ('a', 1, 0))
  ]
  assert len(set(orders)) == len(orders)
  again = examples.Order(50, 'a', 1).positions(0, 50)[0]
  assert tuple(again) == orders[0]


def test_from_batches_joins_in_order():
  images = np.arange(5 * 4).reshape(5, 2, 2, 1).astype(np.uint8)
  labels = np.array([3, 1, 4, 1, 5])
  ids = np.array([b'v', b'w', b'x', b'y', b'z'], object)
  batches = (
    {
      'image': tf.constant(images[part]),
      'label': tf.constant(labels[part], tf.int64),
      'id': tf.constant(ids[part]),
    }
    for part in (slice(0, 3), slice(3, 5))
  )
  joined = examples.from_batches(batches)
  assert len(joined) == 5
  np.testing.assert_array_equal(joined.images, images)
  np.testing.assert_array_equal(joined.labels, labels)
  np.testing.assert_array_equal(joined.ids, ids)
  np.testing.assert_array_equal(joined.keys, randomness.keys_of_ids(ids))
  assert joined.images.dtype == tf.uint8 and joined.labels.dtype == tf.int32
