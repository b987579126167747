"""Tests of GRAD on models whose gradient is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf.estimators import gradient

SHAPE = (3, 2, 2)
CLASSES = 4


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).normal(size=(5, *SHAPE))


@pytest.fixture(scope='module')
def weights():
  return np.random.default_rng(1).normal(size=(np.prod(SHAPE), CLASSES))


def _model(weights, activation=None):
  inputs = keras.Input(SHAPE, dtype='float64')
  dense = keras.layers.Dense(CLASSES, activation=activation, dtype='float64')
  outputs = dense(keras.layers.Flatten(dtype='float64')(inputs))
  dense.set_weights([weights, np.zeros(CLASSES)])
  return keras.Model(inputs, outputs)


def test_is_signed_and_of_the_logit_at_this_very_image(images, weights):
  # d tanh(z) / dx = (1 - tanh(z)^2) w, another number for every image.
  targets = np.array([0, 3, 1, 1, 2], np.int32)
  scores = gradient.grad(
    _model(weights, 'tanh'), tf.constant(images), tf.constant(targets), None
  )
  logits = np.sum(images.reshape(5, -1) * weights[:, targets].T, axis=1)
  expected = (1 - np.tanh(logits) ** 2)[:, None] * weights[:, targets].T
  np.testing.assert_allclose(
    scores, expected.reshape(images.shape), rtol=1e-10, atol=1e-14
  )
  assert (scores.numpy() < 0).any() and (scores.numpy() > 0).any()


def test_calls_the_model_in_evaluation_mode(images):
  inputs = keras.Input(SHAPE, dtype='float64')
  x = keras.layers.BatchNormalization(dtype='float64')(inputs)
  x = keras.layers.Dropout(0.9, dtype='float64')(x)
  x = keras.layers.Flatten(dtype='float64')(x)
  model = keras.Model(inputs, keras.layers.Dense(2, dtype='float64')(x))
  before = [v.numpy() for v in model.variables]

  def grad(batch):
    targets = tf.zeros([len(batch)], tf.int32)
    return gradient.grad(model, tf.constant(batch), targets, None).numpy()

  # In training mode dropout redraws and batch norm mixes the examples.
  together = grad(images)
  np.testing.assert_array_equal(grad(images), together)
  np.testing.assert_allclose(grad(images[:1]), together[:1], rtol=1e-12)
  for variable, value in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)
