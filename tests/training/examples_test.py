"""Tests of the examples in memory."""

import numpy as np
import tensorflow as tf

from roar_tf import randomness
from roar_tf.training import examples


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
