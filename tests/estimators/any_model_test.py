"""Tests of what a model may be: its last layer, its types, where it runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf

L = keras.layers
SHAPE = (6, 5, 3)
CLASSES = 4
FLOAT64 = {'dtype': 'float64'}
SOME = ('grad', 'sg_gb')


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).normal(size=(3, *SHAPE))


def _model(*last, activation=None, dtype='float64', units=CLASSES, seed=0):
  """A small network, equal for equal seeds, with more layers at its end."""
  keras.utils.set_random_seed(seed)
  return keras.Sequential(
    [
      keras.Input(SHAPE, dtype='float64' if dtype == 'float64' else 'float32'),
      L.Conv2D(4, 3, activation='relu', dtype=dtype),
      L.Conv2D(5, 2, dtype=dtype),
      L.BatchNormalization(dtype=dtype),
      L.ReLU(dtype=dtype),
      L.Flatten(dtype=dtype),
      L.Dense(units, activation=activation, dtype=dtype),
      *last,
    ]
  )


def _explain(model, images, names=SOME, **arguments):
  arguments = {'samples': 2, 'steps': 3, 'ids': range(len(images)), **arguments}
  found = roar_tf.explain(model, images, names, **arguments)
  return {name: scores.numpy() for name, scores in found.items()}


# --- the last layer -----------------------------------------------------------


class Subclass(keras.Model):
  """A network and a function of tensors after it."""

  def __init__(self, function):
    super().__init__(**FLOAT64)
    self.network = _model()
    self.function = function

  def call(self, inputs):
    return self.function(self.network(inputs))


@pytest.fixture(scope='module')
def of_logits(images):
  """Names to scores of the network of logits."""
  return _explain(_model(), images)


ENDS = {
  'softmax_layer': lambda: _model(L.Softmax(**FLOAT64)),
  'softmax_argument': lambda: _model(activation='softmax'),
  'softmax_tensorflow': lambda: _model(L.Lambda(tf.nn.softmax, **FLOAT64)),
  'softmax_subclass': lambda: Subclass(tf.nn.softmax),
  'softmax_dropout': lambda: _model(
    L.Softmax(**FLOAT64), L.Dropout(0.5, **FLOAT64)
  ),
  'log_softmax': lambda: _model(activation='log_softmax'),
  'sigmoid': lambda: _model(activation='sigmoid'),
  'logits_subclass': lambda: Subclass(tf.identity),
}


@pytest.mark.parametrize('end', ENDS)
def test_the_logits_are_explained(end, images, of_logits, assert_close):
  assert_close(_explain(ENDS[end](), images), of_logits, rtol=1e-12)


def test_one_sigmoid_is_a_classifier_too(images, assert_close):
  model, logit = _model(activation='sigmoid', units=1), _model(units=1)
  found, expected = (_explain(m, images) for m in (model, logit))
  assert_close(found, expected, rtol=1e-12)


@pytest.mark.parametrize('activation', ['sigmoid', None])
def test_one_output_is_the_log_odds_of_class_1(activation, images):
  model = _model(activation=activation, units=1)
  odds = _model(units=1)(images).numpy()[:, 0]
  assert 0 < (odds > 0).sum() < len(odds)
  explained = [
    _explain(model, images, 'grad', targets=targets)['grad']
    for targets in (None, [0, 0, 0], [1, 1, 1])
  ]
  predicted, against, towards = explained
  np.testing.assert_array_equal(against, -towards)
  positive = (odds > 0)[:, None, None, None]
  expected = np.where(positive, towards, against)
  np.testing.assert_array_equal(predicted, expected)
  assert np.abs(predicted).max() > 0
  with pytest.raises(ValueError, match=r'0\.\.1, found 0'):
    _explain(model, images, 'grad', targets=[0, 1, 2])


def test_probabilities_of_mixed_models(images):
  # Keras' advice: logits in bfloat16, the softmax in float32.
  images = images.astype(np.float32)
  dtype = 'mixed_bfloat16'
  model = _model(L.Activation('softmax', dtype='float32'), dtype=dtype)
  logits = _model(L.Activation('linear', dtype='float32'), dtype=dtype)
  targets = np.array([0, 1, 2])
  expected = _explain(logits, images, 'gb', targets=targets)['gb']
  found = _explain(model, images, 'gb', targets=targets)['gb']
  assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_a_sigmoid_inside_of_the_model_stays(images, assert_close):
  def gated(x):
    return x * tf.nn.sigmoid(x)

  @tf.function(autograph=False)
  def gradient(images):
    logits = gated(network(images, training=False))
    return tf.gradients(tf.reduce_max(logits, -1), images)[0]

  network = _model()
  found = _explain(_model(L.Lambda(gated, **FLOAT64)), images, 'grad')
  expected = {'grad': gradient(tf.constant(images)).numpy()}
  assert_close(found, expected, rtol=1e-12)


@pytest.mark.parametrize('dtype', ['float64', 'float32', 'mixed_bfloat16'])
def test_a_softmax_out_of_reach_is_refused(dtype, images):
  hidden = L.Lambda(tf.function(tf.nn.softmax), dtype=dtype)
  model = _model(hidden, dtype=dtype)
  images = images.astype('float64' if dtype == 'float64' else 'float32')
  for name in ('grad', 'gb'):
    with pytest.raises(ValueError, match='returns probabilities') as refusal:
      _explain(model, images, name)
    message = str(refusal.value)
    assert 'give a model that returns logits.' in message
    assert '\n' not in message


def test_a_single_logit_of_one_is_no_probability():
  model = keras.Sequential(
    [
      keras.Input((4, 4, 1)),
      L.Flatten(),
      L.Dense(1, kernel_initializer='ones', bias_initializer='ones'),
    ]
  )
  found = _explain(model, np.zeros((1, 4, 4, 1), np.float32), 'grad')['grad']
  np.testing.assert_array_equal(found, np.ones((1, 4, 4, 1)))


# --- types of numbers ---------------------------------------------------------


def test_bfloat16_is_close_to_float32(images):
  images = images.astype(np.float32)
  names, targets = ('grad', 'ig'), [0, 1, 2]
  exact = _explain(_model(dtype='float32'), images, names, targets=targets)
  found = _explain(
    _model(dtype='mixed_bfloat16'), images, names, targets=targets
  )
  # Flips of single ReLUs are part of it.
  for name in names:
    correlation = np.corrcoef(found[name].ravel(), exact[name].ravel())[0, 1]
    assert correlation > 0.9, name


# --- compilation --------------------------------------------------------------


def test_all_compile_under_xla_and_agree(
  compute, images, fifteen, assert_close
):
  # Without noise, of which XLA has other last digits: there is no variance.
  found, expected = (
    compute(
      _model(),
      images,
      fifteen,
      samples=2,
      steps=3,
      noise=0.0,
      baseline=0.1,
      batch_size=4,
      jit_compile=jit_compile,
    )
    for jit_compile in (True, False)
  )
  for name in ('var_grad', 'var_gb', 'var_ig'):
    np.testing.assert_allclose(found.pop(name), 0, atol=1e-20)
    np.testing.assert_allclose(expected.pop(name), 0, atol=1e-20)
  assert_close(found, expected, rtol=1e-9)
