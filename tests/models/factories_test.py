"""Tests of models of `Training.model`: what trains, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf import config, errors
from roar_tf.models import factories

L = keras.layers
SHAPE, CLASSES = (6, 6, 3), 4


def _checked(factory):
  model = factories.build(factory, SHAPE, CLASSES, 'float32')
  factories.check(factory, model)
  return model


def _layers(*last, **arguments):
  def my_model(shape, classes):
    kernel = L.Dense(classes, **arguments)
    return keras.Sequential([keras.Input(shape), L.Flatten(), kernel, *last])

  return my_model


class Subclass(keras.Model):
  """A model that knows its images when it is called."""

  def __init__(self, shape, classes):
    super().__init__()
    self.flatten, self.dense = L.Flatten(), L.Dense(classes)

  def call(self, images):
    return self.dense(tf.nn.relu(self.flatten(images)))


def _unbuilt(shape, classes):
  return keras.Sequential([L.Flatten(), L.Dense(classes)])


@pytest.mark.parametrize('factory', [Subclass, _unbuilt, _layers()])
def test_models_that_were_never_called_are_built(factory):
  model = _checked(factory)
  assert model.inputs[0].shape == (None, *SHAPE)
  assert model.outputs[0].shape == (None, CLASSES)
  assert [v.shape for v in model.trainable_variables] == [(108, 4), (4,)]


def _two_inputs(shape, classes):
  images = [keras.Input(shape), keras.Input(shape)]
  flat = L.Flatten()(L.Add()(images))
  return keras.Model(images, L.Dense(classes)(flat))


def _two_outputs(shape, classes):
  images = keras.Input(shape)
  flat = L.Flatten()(images)
  return keras.Model(images, [L.Dense(classes)(flat), L.Dense(classes)(flat)])


def _of_whole_numbers(shape, classes):
  images = keras.Input(shape, dtype='uint8')
  flat = L.Flatten()(L.Rescaling(1 / 255)(images))
  return keras.Model(images, L.Dense(classes)(flat))


def _raising(shape, classes):
  raise KeyError('width\nand more')


class Loss(L.Layer):
  def call(self, inputs):
    self.add_loss(keras.ops.sum(inputs**2))
    return inputs


class Penalised(L.Layer):
  """A weight of its own, with a penalty."""

  def build(self, shape):
    self.scale = self.add_weight(shape=shape[1:], regularizer='l2')

  def call(self, inputs):
    return inputs * self.scale


REFUSED = {
  'no model': (lambda shape, classes: None, 'NoneType'),
  'a layer': (lambda shape, classes: L.Dense(classes), 'Dense'),
  'a factory of one argument': (lambda shape: None, 'TypeError.*argument'),
  'a factory that raises': (_raising, 'KeyError.*factories_test.py'),
  'two inputs': (_two_inputs, r'\(None, 6, 6, 3\) alone, found .* and '),
  'two outputs': (_two_outputs, r'found \(None, 4\) and \(None, 4\)'),
  'whole numbers': (_of_whole_numbers, 'floating point.*uint8'),
  'other images': (lambda s, k: _layers()((8, 8, 3), k), r'\(None, 8, 8, 3\)'),
  'other classes': (lambda s, k: _layers()(s, 9), r'\(None, 9\)'),
  'softmax': (_layers(L.Softmax()), 'softmax of its own'),
  'hidden sigmoid': (
    _layers(L.Activation('sigmoid'), L.Reshape((CLASSES,))),
    'probabilities',
  ),
  'kernel_regularizer': (
    _layers(kernel_regularizer='l2'),
    'has kernel_regularizer.*Training.l2',
  ),
  'bias_regularizer': (_layers(bias_regularizer='l1'), 'bias_regularizer'),
  'activity_regularizer': (
    _layers(activity_regularizer='l2'),
    'activity_regularizer',
  ),
  'kernel_constraint': (_layers(kernel_constraint='max_norm'), '_constraint'),
  'add_loss': (_layers(Loss()), 'add_loss'),
  'regularizer of a weight': (_layers(Penalised()), 'has a regularizer'),
  'in a nested model': (
    lambda s, k: keras.Sequential(
      [keras.Input(s), _layers(bias_constraint='non_neg')(s, k)]
    ),
    'bias_constraint',
  ),
  'random when tested': (
    _layers(L.Lambda(lambda x: x + tf.random.normal(tf.shape(x)))),
    'random numbers',
  ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_retrained_is_refused_by_name(name):
  function, words = REFUSED[name]
  factory = config.Factory('mine', function, {}, 'explained')
  with pytest.raises(errors.UsageError, match=words) as caught:
    _checked(factory)
  text = str(caught.value)
  assert text.startswith('gin parameter explained/Training.model = @mine: ')
  assert '\n' not in text


def test_dropout_and_batch_norm_may_be_in_it():
  def factory(shape, classes):
    model = keras.Sequential([keras.Input(shape), L.BatchNormalization()])
    for layer in (L.Dropout(0.5), L.Flatten(), L.Dense(classes)):
      model.add(layer)
    return model

  model = _checked(factory)
  assert np.isfinite(model(np.zeros((1, *SHAPE)))).all()
