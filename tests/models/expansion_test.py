"""Tests of batch norm without the outputs that it normalises."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf.models import batch_norm, expansion, precision, resnet

L = keras.layers
SHAPE = (4, 5, 3, 6)  # 60 values per channel.
FILTERS = 24


def _plain(inputs, kernel, gamma, beta, epsilon):
  outputs = tf.nn.conv2d(inputs, tf.cast(kernel, inputs.dtype), 1, 'VALID')
  outputs = tf.cast(outputs, kernel.dtype)
  mean, variance = tf.nn.moments(outputs, [0, 1, 2])
  normalised = (outputs - mean) / tf.sqrt(variance + epsilon) * gamma + beta
  return tf.cast(normalised, inputs.dtype), mean, variance * 60 / 59


def _arguments(dtype, input_dtype=None):
  generator = np.random.default_rng(0)
  # As after a ReLU: one-sided, with a mean.
  inputs = np.maximum(generator.normal(0.5, 1, SHAPE), 0)
  return [
    tf.cast(tf.constant(inputs, dtype), input_dtype or dtype),
    tf.constant(generator.normal(size=(1, 1, SHAPE[-1], FILTERS)), dtype),
    tf.constant(generator.uniform(0.5, 2, FILTERS), dtype),
    tf.constant(generator.normal(size=FILTERS), dtype),
  ]


def _outcome(function, arguments):
  """Returns what a function returns, and the gradients of all arguments."""
  weights = np.random.default_rng(1).normal(size=(*SHAPE[:-1], FILTERS))
  with tf.GradientTape() as tape:
    tape.watch(arguments)
    values = function(*arguments, 1e-2)
    loss = tf.reduce_sum(tf.sin(values[0]) * tf.cast(weights, values[0].dtype))
  return [*values, *tape.gradient(loss, arguments)]


def test_values_and_gradients_are_those_of_the_plain_formulation():
  expected = _outcome(_plain, _arguments(tf.float64))
  found = _outcome(expansion.normalised, _arguments(tf.float64))
  for a, b in zip(expected, found, strict=True):
    assert a.dtype == b.dtype == tf.float64
    np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


def test_bfloat16_differs_by_rounding():
  expected = _outcome(_plain, _arguments(tf.float64))
  compiled = tf.function(
    lambda *a: _outcome(expansion.normalised, a), jit_compile=True
  )
  arguments = _arguments(tf.float32, tf.bfloat16)
  found = compiled(*arguments)
  plain = _outcome(_plain, arguments)
  assert [x.dtype for x in found] == [x.dtype for x in plain]
  for exact, a, b in zip(expected, plain, found, strict=True):
    error, usual = (
      np.sqrt(np.mean((tf.cast(x, tf.float64) - exact) ** 2)) for x in (b, a)
    )
    assert error < 2 * usual + 1e-7
    assert error < 0.02 * np.sqrt(np.mean(exact**2))


def test_statistics_keep_the_digits_of_float32():
  arguments = _arguments(tf.float32, tf.bfloat16)
  rounded = [tf.cast(tf.cast(x, tf.bfloat16), tf.float64) for x in arguments]
  _, *expected = _plain(*rounded, 1e-5)
  _, *found = expansion.normalised(*arguments, 1e-5)
  for a, b in zip(expected, found, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


def test_constant_inputs_have_no_variance():
  arguments = _arguments(tf.float32)[1:]
  outputs, _, variance = expansion.normalised(
    tf.ones(SHAPE, tf.bfloat16), *arguments, 1e-5
  )
  np.testing.assert_allclose(variance, tf.zeros_like(variance), atol=1e-5)
  assert np.isfinite(tf.cast(outputs, tf.float32)).all()


# --- in models ----------------------------------------------------------------


def _built(function, dtype='bfloat16', shape=(6, 5, 3)):
  with precision.computing_in(dtype):
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


def _layers(filters=8, size=1, strides=1, norm=None, **arguments):
  def function(x):
    convolution = L.Conv2D(filters, size, strides, use_bias=False, **arguments)
    return (norm or batch_norm.BatchNormalization())(convolution(x))

  return function


def _step(model, images, lean):
  """Returns outputs, moved statistics and gradients of one step."""
  weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
  others = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]

  def call():
    return model.stateless_call(weights, others, images, training=True)

  with tf.GradientTape() as tape:
    tape.watch(weights)
    with expansion.training(model) if lean else contextlib.nullcontext():
      outputs, moved = call()
    values = tf.reshape(tf.cast(outputs, tf.float32), [-1])
    goal = tf.cos(tf.range(tf.size(values), dtype=tf.float32))
    loss = tf.reduce_sum(goal * values)
  return outputs, moved, tape.gradient(loss, weights)


def _narrow_only(model, images) -> bool:
  """Whether no fused batch norm is left in the graph of a lean step."""
  step = tf.function(lambda x: _step(model, x, lean=True)[0])
  operations = step.get_concrete_function(images).graph.get_operations()
  return not any(o.type.startswith('FusedBatchNorm') for o in operations)


def _images(shape=(8, 6, 5, 3)):
  return tf.constant(np.random.default_rng(3).normal(1, 2, shape), tf.float32)


@pytest.mark.parametrize('strides', [1, (2, 1)])
def test_a_pair_of_layers(strides):
  model = _built(_layers(strides=strides))
  assert _narrow_only(model, _images())
  plain, lean = (_step(model, _images(), lean) for lean in (False, True))
  for a, b in zip(tf.nest.flatten(plain), tf.nest.flatten(lean), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    scale = float(tf.reduce_max(tf.abs(a)))
    np.testing.assert_allclose(
      tf.cast(b, tf.float32), tf.cast(a, tf.float32), atol=0.02 * scale, rtol=0
    )
  # Neither statistics nor gradients were rounded to bfloat16.
  for value in (*lean[1], *lean[2]):
    rounded = tf.cast(tf.cast(value, tf.bfloat16), tf.float32)
    assert (value != rounded).numpy().mean() > 0.5


FROZEN = batch_norm.BatchNormalization(trainable=False)


@pytest.mark.parametrize(
  'layers',
  [
    _layers(filters=3),  # It does not widen.
    _layers(size=3),
    _layers(activation='relu'),
    _layers(filters=6, groups=3),
    _layers(norm=FROZEN),
    lambda x: batch_norm.BatchNormalization()(L.Conv2D(8, 1)(x)),  # A bias.
  ],
)
def test_what_does_not_take_part_is_called_as_it_is(layers):
  _assert_untouched(_built(layers))


def test_float32_is_called_as_it_is():
  _assert_untouched(_built(_layers(), 'float32'))


def _assert_untouched(model):
  assert not _narrow_only(model, _images())
  plain, lean = (_step(model, _images(), lean) for lean in (False, True))
  for a, b in zip(tf.nest.flatten(plain), tf.nest.flatten(lean), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_nested_model_is_called_as_it_is():
  inner = _built(_layers())

  class Features(L.Layer):
    def call(self, inputs):
      return inner(inputs, training=False)

  model = _built(lambda x: Features()(x))
  plain, lean = (_step(model, _images(), lean)[0] for lean in (False, True))
  np.testing.assert_array_equal(plain, lean)
  assert _narrow_only(inner, _images())


@pytest.fixture
def bottlenecks(monkeypatch):
  """Makes a ResNet of four bottlenecks with random gammas, by precision."""
  monkeypatch.setitem(resnet.DEPTHS, 14, (4, (1, 2, 1)))

  def make(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    model = resnet.resnet((32, 40, 3), 5, depth=14)
    keras.config.set_dtype_policy(before)
    generator = np.random.default_rng(4)
    for variable in model.trainable_variables:
      shape = tuple(variable.shape)
      if variable.path.endswith('gamma'):
        variable.assign(generator.uniform(0.5, 1.5, shape))
      else:
        variable.assign(generator.normal(size=shape) / np.sqrt(shape[0] * 9))
    return model

  return make


def _flat(values):
  return np.concatenate([np.ravel(tf.cast(x, tf.float64)) for x in values])


def _traced(model, images, lean):
  return tf.function(lambda x: _step(model, x, lean))(images)


def test_a_resnet_trains_as_written_plainly(bottlenecks, monkeypatch):
  monkeypatch.setattr(expansion, 'COMPUTED_IN', ('float64',))
  model = bottlenecks('float64')
  before = [v.numpy() for v in model.variables]
  images = tf.cast(_images((4, 32, 40, 3)), tf.float64)
  plain, lean = (_traced(model, images, lean) for lean in (False, True))
  for a, b in zip([plain[0], *plain[2]], [lean[0], *lean[2]], strict=True):
    scale = float(tf.reduce_max(tf.abs(a)))
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-9 * scale)
  places = [
    i
    for i, v in enumerate(model.non_trainable_variables)
    if v.path.endswith('moving_mean')
  ]
  for i in places:
    np.testing.assert_allclose(lean[1][i], plain[1][i], rtol=1e-9, atol=1e-12)
  for variable, old in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, old)


def test_a_resnet_in_bfloat16_is_as_exact_as_written_plainly(bottlenecks):
  images = _images((8, 32, 40, 3))
  exact = _traced(bottlenecks('float64'), tf.cast(images, tf.float64), False)
  model = bottlenecks('mixed_bfloat16')
  errors = {}
  for lean in (False, True):
    step = tf.function(lambda x, lean=lean: _step(model, x, lean))
    _, _, gradients = step(images)
    difference = _flat(gradients) - _flat(exact[2])
    errors[lean] = np.linalg.norm(difference) / np.linalg.norm(_flat(exact[2]))
  graph = step.get_concrete_function(images).graph
  types = [o.type for o in graph.get_operations()]
  # The stem's and two per bottleneck; the last ones and shortcuts take part.
  assert types.count('FusedBatchNormV3') == 1 + 2 * 4
  assert errors[True] < 1.2 * errors[False] < 0.6, errors
