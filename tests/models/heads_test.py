"""Tests of what a model must be: logits, of every image by itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf.models import heads

L = keras.layers
SHAPE, CLASSES = (6, 5, 3), 4
IMAGES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


@pytest.fixture(autouse=True)
def seed():
  keras.utils.set_random_seed(0)


def _model(*last, units=CLASSES):
  return keras.Sequential(
    [
      keras.Input(SHAPE),
      L.Conv2D(4, 3, activation='relu'),
      L.Flatten(),
      L.Dense(units),
      *last,
    ]
  )


def _two_heads(activation, join):
  images = keras.Input(SHAPE)
  flat = L.Flatten()(images)
  parts = [L.Dense(CLASSES, activation=activation)(flat) for _ in range(2)]
  return keras.Model(images, join(parts))


class Subclass(keras.Model):
  """A network and something behind it."""

  def __init__(self, behind):
    super().__init__()
    self.network, self.behind = _model(), behind

  def call(self, inputs):
    return self.behind(self.network(inputs))


def _lambda(function):
  return _model(L.Lambda(function))


LOGITS = {
  'logits': _model,
  'one of them': lambda: _model(units=1),
  'softmax': lambda: _model(L.Softmax()),
  'sigmoid': lambda: _model(L.Activation('sigmoid')),
  'one sigmoid': lambda: _model(L.Activation('sigmoid'), units=1),
  'gated by a sigmoid': lambda: _model(L.Activation('silu')),
  'capped': lambda: _lambda(lambda x: 30 * tf.tanh(x / 30)),
  'never negative': lambda: _model(L.ReLU()),
  'never positive': lambda: _lambda(lambda x: -tf.nn.relu(x)),
  'all zero': lambda: _lambda(lambda x: 0 * x),
  'average of logits': lambda: _two_heads(None, L.Average()),
  'fixed noise': lambda: _lambda(
    lambda x: x + tf.random.stateless_normal([CLASSES], (1, 2))
  ),
}


@pytest.mark.parametrize('name', LOGITS)
def test_logits_are_taken(name):
  classes = 2 if name.startswith('one') else CLASSES
  assert heads.check(LOGITS[name](), tf.constant(IMAGES)) == classes


HIDDEN = {
  'sigmoid behind Reshape': lambda: _model(
    L.Activation('sigmoid'), L.Reshape((CLASSES,))
  ),
  'one sigmoid behind Reshape': lambda: _model(
    L.Activation('sigmoid'), L.Reshape((1,)), units=1
  ),
  'sigmoid in a function': lambda: _lambda(tf.function(tf.nn.sigmoid)),
  'sigmoid in a loop': lambda: _lambda(lambda x: tf.map_fn(tf.nn.sigmoid, x)),
  'sigmoid in other words': lambda: _lambda(lambda x: 1 / (1 + tf.exp(-x))),
  'hyperbolic sigmoid': lambda: _lambda(lambda x: (tf.tanh(x) + 1) / 2),
  'complement': lambda: _model(
    L.Activation('sigmoid'), L.Lambda(lambda x: 1 - x)
  ),
  'log_sigmoid': lambda: _model(L.Activation('log_sigmoid')),
  'log_softmax behind Lambda': lambda: _model(
    L.Activation('log_softmax'), L.Lambda(lambda x: x * 1)
  ),
  'log_softmax in a function': lambda: _lambda(tf.function(tf.nn.log_softmax)),
  'log of softmax': lambda: _model(L.Softmax(), L.Lambda(tf.math.log)),
  'softmax of softmax': lambda: _model(L.Softmax(), L.Softmax()),
  'average of softmax': lambda: _two_heads('softmax', L.Average()),
  'average of sigmoid': lambda: _two_heads('sigmoid', L.Average()),
  'average of log_softmax': lambda: _two_heads('log_softmax', L.Average()),
  'heads side by side': lambda: _two_heads('softmax', L.Concatenate()),
}


@pytest.mark.parametrize('name', HIDDEN)
def test_hidden_activations_are_refused(name):
  with pytest.raises(ValueError, match='probabilities.*returns logits.$'):
    heads.check(HIDDEN[name](), tf.constant(IMAGES))


def test_logits_that_sum_to_one_for_the_first_image_are_logits():
  model = _model()
  model.layers[-1].bias.assign([0.6, 0.4, 0, 0])
  black = tf.zeros([1, *SHAPE])
  np.testing.assert_allclose(tf.reduce_sum(model(black)), 1, atol=1e-6)
  assert heads.check(model, black) == CLASSES


def _dropout(x):
  return dropout(x, training=True)


dropout = L.Dropout(0.5)
NOT_ALONE = {
  'batch norm': (lambda: Subclass(InTraining()), 'assigns variables'),
  'dropout': (lambda: Subclass(_dropout), 'assigns variables'),
  'noise': (
    lambda: _lambda(lambda x: x + tf.random.normal(tf.shape(x))),
    'random numbers',
  ),
  'noise of NumPy': (
    lambda: _lambda(
      lambda x: tf.ensure_shape(
        tf.numpy_function(np.random.permutation, [x], x.dtype), x.shape
      )
    ),
    'each time',
  ),
  'batch mean': (
    lambda: _lambda(lambda x: x - tf.reduce_mean(x, 0)),
    'other images',
  ),
  'place': (
    lambda: _lambda(
      lambda x: x * tf.cast(tf.range(tf.shape(x)[0])[:, None], x.dtype)
    ),
    'other images',
  ),
}


class InTraining(L.Layer):
  """Batch norm that is always called as in training."""

  def __init__(self):
    super().__init__()
    self.norm = L.BatchNormalization()

  def call(self, inputs):
    return self.norm(inputs, training=True)


@pytest.mark.parametrize('name', NOT_ALONE)
def test_what_makes_more_of_images_than_a_function_is_refused(name):
  make, words = NOT_ALONE[name]
  model = make()
  model(IMAGES)
  before = [np.asarray(v) for v in model.variables]
  with pytest.raises(ValueError, match=words):
    heads.check(model, tf.constant(IMAGES))
  for one, other in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(one, other)


def test_an_activation_is_refused_where_the_loss_has_one():
  for last in ('softmax', 'sigmoid', 'log_softmax'):
    with pytest.raises(ValueError, match='softmax of its own'):
      heads.check(_model(L.Activation(last)), IMAGES, activation=False)
