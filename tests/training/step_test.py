"""Tests of the loss and of one pure step against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from roar_tf.models import resnet
from roar_tf.training import settings, step

CLASSES = 4


def _training(**changes):
  return settings.Training(
    **{
      'model': resnet.resnet50,
      'epochs': 1,
      'batch_size': 8,
      'base_learning_rate': 0.1,
      'momentum': 0.9,
      'l2': 0.01,
      'label_smoothing': 0.1,
      **changes,
    }
  )


def _batch(shape, seed=0):
  generator = np.random.default_rng(seed)
  images = generator.integers(0, 256, (8, *shape)).astype(np.uint8)
  labels = generator.integers(0, CLASSES, 8).astype(np.int32)
  return {
    'image': tf.constant(images),
    'label': tf.constant(labels),
    'key': tf.constant(generator.integers(0, 99, (8, 2)), tf.int32),
    'epoch': tf.constant([0, 0, 0, 0, 0, 1, 1, 1]),
  }


def _normal(batch):
  """What a model sees of a batch, float64."""
  return (batch['image'].numpy() - 100.0) / 50.0


def _step(model, **changes):
  """A step over 16 images, of which a batch is half an epoch."""
  channels = model.inputs[0].shape[-1]
  return step.Step(
    model, _training(**changes), 16, (100.0,) * channels, (50.0,) * channels
  )


def _reference_loss(logits, labels, weights, training):
  """In float64, from the definitions."""
  smoothing = training.label_smoothing
  goal = np.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES
  entropy = -np.sum(goal * special.log_softmax(logits, axis=1), axis=1)
  half_squares = sum(0.5 * np.sum(np.square(w)) for w in weights)
  return entropy.mean() + training.l2 * half_squares


def _state(model, seed=0):
  """A state unlike the model's own variables."""
  generator = np.random.default_rng(seed)

  def draw(variables, low, high):
    return [
      tf.constant(generator.uniform(low, high, v.shape), tf.float32)
      for v in variables
    ]

  return {
    'trainable': draw(model.trainable_variables, -0.3, 0.4),
    'moving': draw(model.non_trainable_variables, 0.5, 1.5),
    'velocity': draw(model.trainable_variables, -0.1, 0.1),
    'step': tf.constant(0, tf.int64),
    'seed': tf.constant(3),
  }


@pytest.fixture(scope='module')
def linear():
  return keras.Sequential(
    [
      keras.Input((3, 2, 1)),
      keras.layers.Flatten(),
      keras.layers.Dense(CLASSES),
    ]
  )


@pytest.fixture(scope='module')
def network():
  return resnet.small_resnet((6, 6, 3), CLASSES, width=2, stages=2)


def _with_variables_of(network, state):
  """Returns a model of its own that holds the weights of a state."""
  again = keras.models.clone_model(network)
  for variable, value in zip(
    again.trainable_variables + again.non_trainable_variables,
    state['trainable'] + state['moving'],
    strict=True,
  ):
    variable.assign(value)
  return again


# --- loss ---------------------------------------------------------------------


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_equals_numpy(smoothing):
  generator = np.random.default_rng(0)
  logits = generator.normal(0, 5, (8, CLASSES))
  labels = generator.integers(0, CLASSES, 8)
  found = step.cross_entropy(
    tf.constant(logits), tf.constant(labels), smoothing
  )
  training = _training(label_smoothing=smoothing, l2=0)
  expected = _reference_loss(logits, labels, [], training)
  assert float(tf.reduce_mean(found)) == pytest.approx(expected, rel=1e-12)


def test_l2_applies_to_all_but_batch_norm(network):
  flags = step.decayed(network)
  names = [v.path for v in network.trainable_variables]
  assert len(flags) == len(names)
  for name, flag in zip(names, flags, strict=True):
    assert flag == ('batch_normalization' not in name), name
  assert sum(flags) == 6 + 2  # Convolutions; dense kernel and bias.


def test_l2_spares_keras_own_batch_norm_in_nested_models():
  inner = keras.Sequential(
    [keras.Input((4,)), keras.layers.BatchNormalization()]
  )
  model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2)])
  assert step.decayed(model) == [False, False, True, True]


# --- step ---------------------------------------------------------------------


def test_three_steps_of_a_linear_model_equal_numpy(linear):
  # Two steps an epoch, in warm-up, at the peak, after a drop.
  machine = _step(
    linear, base_learning_rate=16, warmup_epochs=1, drops=((1.5, 0.1),)
  )
  training = machine.training
  state = _state(linear)
  kernel, bias = (np.float64(w) for w in state['trainable'])
  velocity = [np.float64(v) for v in state['velocity']]
  for i, rate in enumerate((0, 0.25, 0.5, 0.05)):
    batch = _batch((3, 2, 1), seed=i)
    labels = batch['label'].numpy()
    flat = _normal(batch).reshape(8, -1)
    logits = flat @ kernel + bias
    goal = 0.9 * np.eye(CLASSES)[labels] + 0.1 / CLASSES
    error = (special.softmax(logits, axis=1) - goal) / 8
    expected = _reference_loss(logits, labels, [kernel, bias], training)
    gradients = [
      flat.T @ error + training.l2 * kernel,
      error.sum(axis=0) + training.l2 * bias,
    ]
    velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
    kernel, bias = (
      w - rate * (g + 0.9 * v)
      for w, g, v in zip((kernel, bias), gradients, velocity, strict=True)
    )
    state, metrics = machine(state, batch)
    assert float(metrics['loss']) == pytest.approx(expected, rel=1e-5)
    assert float(metrics['rate']) == pytest.approx(rate, rel=1e-6)
    hits = np.mean(np.argmax(logits, axis=1) == labels)
    assert float(metrics['accuracy']) == pytest.approx(hits)
    assert int(state['step']) == i + 1 and int(state['seed']) == 3
  for found, reference in zip(state['trainable'], (kernel, bias), strict=True):
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-6)
  for found, reference in zip(state['velocity'], velocity, strict=True):
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-6)


def test_a_step_of_a_network_is_nesterov_on_the_gradient_of_its_loss(network):
  machine = _step(network, base_learning_rate=6.4)  # The rate is 0.2.
  training = machine.training
  state = _state(network)
  batch = _batch((6, 6, 3))
  images, labels = _normal(batch).astype(np.float32), batch['label'].numpy()
  after, metrics = machine(state, batch)
  # The same model with its own variables, one objective written out.
  again = _with_variables_of(network, state)
  goal = 0.9 * np.eye(CLASSES)[labels] + 0.1 / CLASSES
  with tf.GradientTape() as tape:
    logits = again(images, training=True)
    objective = tf.reduce_mean(
      -tf.reduce_sum(goal * tf.nn.log_softmax(logits), axis=1)
    )
    for variable in again.trainable_variables:
      if 'batch_normalization' not in variable.path:
        objective += training.l2 / 2 * tf.reduce_sum(tf.square(variable))
  variables = again.trainable_variables
  gradients = tape.gradient(objective, [v.value for v in variables])
  assert float(metrics['loss']) == pytest.approx(float(objective), rel=1e-5)
  for i, gradient in enumerate(gradients):
    velocity = 0.9 * state['velocity'][i] + gradient
    weight = state['trainable'][i] - 0.2 * (gradient + 0.9 * velocity)
    np.testing.assert_allclose(
      after['velocity'][i], velocity, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
      after['trainable'][i], weight, rtol=1e-4, atol=1e-5
    )
  for found, variable in zip(
    after['moving'], again.non_trainable_variables, strict=True
  ):
    np.testing.assert_allclose(found, variable, rtol=1e-4, atol=1e-5)


def test_the_step_is_pure(network):
  state, batch = _state(network), _batch((6, 6, 3))
  before = [v.numpy() for v in network.variables]
  copies = tf.nest.map_structure(lambda v: v.numpy(), state)
  outcomes = [_step(network)(state, batch)[0] for _ in range(2)]
  for variable, value in zip(network.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)
  tf.nest.map_structure(np.testing.assert_array_equal, state, copies)
  tf.nest.map_structure(np.testing.assert_array_equal, *outcomes)


def test_compiles_under_xla_and_agrees():
  network = resnet.small_resnet((6, 6, 3), CLASSES, width=2, stages=1)
  state, batch = _state(network), _batch((6, 6, 3))
  machine = _step(network, augmentation='pad_crop_flip')
  eager = machine(state, batch)
  compiled = tf.function(machine, jit_compile=True)(state, batch)
  for one, other in zip(
    tf.nest.flatten(compiled), tf.nest.flatten(eager), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


# --- microbatches, precision --------------------------------------------------


def test_microbatches_change_nothing_without_batch_norm(linear):
  state, batch = _state(linear), _batch((3, 2, 1))
  whole = _step(linear)(state, batch)
  parts = _step(linear, microbatches=4)(state, batch)
  for one, other in zip(
    tf.nest.flatten(parts), tf.nest.flatten(whole), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_batch_norm_sees_one_microbatch_after_the_other(network):
  state, batch = _state(network), _batch((6, 6, 3))
  after, _ = _step(network, microbatches=2)(state, batch)
  again = _with_variables_of(network, state)
  for part in (slice(0, 4), slice(4, 8)):
    again(_normal(batch)[part].astype(np.float32), training=True)
  for found, variable in zip(
    after['moving'], again.non_trainable_variables, strict=True
  ):
    np.testing.assert_allclose(found, variable, rtol=1e-4, atol=1e-5)


@pytest.fixture
def bfloat16():
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy('mixed_bfloat16')
  yield
  keras.config.set_dtype_policy(before)


def test_bfloat16_keeps_state_and_logits_in_float32(network, bfloat16):
  half = resnet.small_resnet((6, 6, 3), CLASSES, width=2, stages=2)
  assert half.layers[1].compute_dtype == 'bfloat16'
  state, batch = _state(network), _batch((6, 6, 3))
  logits = _step(half).predict(state, batch['image'])
  assert logits.dtype == tf.float32
  exact = _step(network).predict(state, batch['image'])
  assert not np.array_equal(logits, exact)
  np.testing.assert_allclose(logits, exact, rtol=0.05, atol=0.05)
  after, metrics = _step(half)(state, batch)
  floats = [v for v in tf.nest.flatten(after) if v.dtype.is_floating]
  assert {v.dtype for v in floats} == {tf.float32}
  expected = _step(network)(state, batch)[1]['loss']
  assert float(metrics['loss']) == pytest.approx(float(expected), rel=0.02)


# --- evaluation ---------------------------------------------------------------


def test_predictions_are_those_of_the_state_in_evaluation_mode(network):
  state, batch = _state(network), _batch((6, 6, 3))
  again = _with_variables_of(network, state)
  machine = _step(network)
  logits = machine.predict(state, batch['image'])
  expected = again(_normal(batch).astype(np.float32), training=False)
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
  # An example's logits do not depend on its batch.
  np.testing.assert_allclose(
    machine.predict(state, batch['image'][2:3]),
    logits[2:3],
    rtol=1e-4,
    atol=1e-5,
  )
