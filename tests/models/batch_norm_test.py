"""Tests of batch norm: Keras' own layer is the reference."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf.models import batch_norm

SHAPE = (6, 5, 4, 3)  # 120 values per channel.


def _parameters(seed=0):
  generator = np.random.default_rng(seed)
  return [
    generator.uniform(0.5, 2, 3),  # gamma
    generator.normal(size=3),  # beta
    generator.normal(size=3),  # moving mean
    generator.uniform(0.5, 2, 3),  # moving variance
  ]


def _layer(kind, dtype='float32', **arguments):
  layer = kind(
    momentum=batch_norm.MOMENTUM,
    epsilon=batch_norm.EPSILON,
    dtype=dtype,
    **arguments,
  )
  layer.build((None, *SHAPE[1:]))
  layer.set_weights(_parameters())
  return layer


@pytest.fixture
def layers():
  return (
    _layer(batch_norm.BatchNormalization),
    _layer(keras.layers.BatchNormalization),
  )


@pytest.fixture(scope='module')
def inputs():
  values = np.random.default_rng(1).normal(3, 2, SHAPE)
  return tf.constant(values, tf.float32)


@pytest.mark.parametrize('training', [False, True, None])
def test_fused_batch_norm_equals_keras(layers, inputs, training):
  ours, theirs = (layer(inputs, training=training) for layer in layers)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
  assert ours.dtype == tf.float32


@pytest.mark.parametrize('training', [False, True])
def test_fused_batch_norm_has_the_gradients_of_keras(layers, inputs, training):
  goal = tf.constant(np.random.default_rng(2).normal(size=SHAPE), tf.float32)
  gradients = []
  for layer in layers:
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      value = tf.reduce_sum(goal * layer(inputs, training=training))
    gradients.append(tape.gradient(value, [inputs, layer.gamma, layer.beta]))
  for ours, theirs in zip(*gradients, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_training_moves_towards_the_mean_and_the_unbiased_variance(
  layers, inputs
):
  ours, _ = layers
  _, _, mean, variance = _parameters()
  ours(inputs, training=True)
  values = inputs.numpy().astype(np.float64).reshape(-1, 3)
  np.testing.assert_allclose(
    ours.moving_mean, 0.9 * mean + 0.1 * values.mean(axis=0), rtol=1e-5
  )
  np.testing.assert_allclose(
    ours.moving_variance,
    0.9 * variance + 0.1 * values.var(axis=0, ddof=1),
    rtol=1e-5,
  )


def test_inference_moves_nothing(layers, inputs):
  ours, _ = layers
  before = ours.get_weights()
  ours(inputs, training=False)
  ours(inputs)
  ours.trainable = False  # Keras: a frozen layer is in inference mode.
  frozen = ours(inputs, training=True)
  for old, new in zip(before, ours.get_weights(), strict=True):
    np.testing.assert_array_equal(old, new)
  np.testing.assert_array_equal(frozen, ours(inputs, training=False))


@pytest.mark.parametrize('training', [False, True])
def test_float64_is_keras_own_path(inputs, training):
  inputs = tf.cast(inputs, tf.float64) + 1e-10
  outcome = []
  for kind in (batch_norm.BatchNormalization, keras.layers.BatchNormalization):
    layer = _layer(kind, 'float64')
    outcome.append([layer(inputs, training=training), *layer.get_weights()])
  assert outcome[0][0].dtype == tf.float64
  for ours, theirs in zip(*outcome, strict=True):
    np.testing.assert_array_equal(ours, theirs)
