"""Tests of models whose variables are given."""

import numpy as np
import tensorflow as tf

from roar_tf.models import resnet, stateless


def test_a_model_computes_with_the_values_that_are_given():
  one, other = (
    resnet.small_resnet((8, 8, 3), 4, width=2, stages=2) for _ in range(2)
  )
  generator = np.random.default_rng(0)
  other.set_weights(
    [generator.uniform(0.5, 1.5, w.shape) for w in other.get_weights()]
  )
  images = tf.constant(generator.normal(size=(2, 8, 8, 3)), tf.float32)
  before = one.get_weights()

  @tf.function
  def logits(trainable, others):
    with stateless.with_variables(one, trainable, others):
      return one(images, training=False)

  found = logits(
    [tf.constant(v.numpy()) for v in other.trainable_variables],
    [tf.constant(v.numpy()) for v in other.non_trainable_variables],
  )
  np.testing.assert_array_equal(found, tf.function(other)(images))
  assert np.abs(found - one(images)).max() > 0.1
  for value, weight in zip(one.get_weights(), before, strict=True):
    np.testing.assert_array_equal(value, weight)
