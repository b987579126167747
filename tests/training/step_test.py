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
      'model': None,
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
  images = generator.normal(size=(8, *shape)).astype(np.float32)
  return images, generator.integers(0, CLASSES, 8).astype(np.int32)


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


@pytest.mark.parametrize('smoothing', [0.0, 0.1, 0.5])
@pytest.mark.parametrize('l2', [0.0, 1e-4, 0.3])
def test_loss_equals_numpy(smoothing, l2):
  generator = np.random.default_rng(0)
  training = _training(label_smoothing=smoothing, l2=l2)
  logits = generator.normal(0, 5, (8, CLASSES))
  labels = generator.integers(0, CLASSES, 8)
  weights = [generator.normal(size=s) for s in ((3, 3, 2), (5,))]
  found = step.loss(
    tf.constant(logits, tf.float32),
    tf.constant(labels),
    [tf.constant(w, tf.float32) for w in weights],
    training,
  )
  expected = _reference_loss(logits, labels, weights, training)
  assert float(found) == pytest.approx(expected, rel=1e-5)


def test_l2_is_half_the_sum_of_squares():
  # Keras' L2(1e-4) would double it.
  logits, labels = tf.zeros([1, CLASSES]), tf.constant([0])
  weights = [tf.constant([3.0, 4.0])]
  values = [
    float(step.loss(logits, labels, weights, _training(l2=l2)))
    for l2 in (0.0, 1.0)
  ]
  assert values[1] - values[0] == pytest.approx(12.5)


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
  training = _training()
  state = _state(linear)
  kernel, bias = (np.float64(w) for w in state['trainable'])
  velocity = [np.float64(v) for v in state['velocity']]
  for i, rate in enumerate((0.5, 0.05, 0.3)):  # As in a warm-up, at a drop.
    images, labels = _batch((3, 2, 1), seed=i)
    flat = images.reshape(8, -1).astype(np.float64)
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
    state, loss = step.step(linear, training, state, images, labels, rate)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
  for found, reference in zip(state['trainable'], (kernel, bias), strict=True):
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-6)
  for found, reference in zip(state['velocity'], velocity, strict=True):
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-6)


def test_a_step_of_a_network_is_nesterov_on_the_gradient_of_its_loss(network):
  training = _training()
  state = _state(network)
  images, labels = _batch((6, 6, 3))
  after, loss = step.step(network, training, state, images, labels, 0.2)
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
  assert float(loss) == pytest.approx(float(objective), rel=1e-5)
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
  state = _state(network)
  images, labels = _batch((6, 6, 3))
  before = [v.numpy() for v in network.variables]
  copies = {part: [v.numpy() for v in values] for part, values in state.items()}
  outcomes = [
    step.step(network, _training(), state, images, labels, 0.2)
    for _ in range(2)
  ]
  for variable, value in zip(network.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)
  for part, values in copies.items():
    for old, value in zip(state[part], values, strict=True):
      np.testing.assert_array_equal(old, value)
    first, second = (after[part] for after, _ in outcomes)
    for one, other in zip(first, second, strict=True):
      np.testing.assert_array_equal(one, other)


def test_the_models_own_variables_are_not_read(network):
  state = _state(network)
  images, labels = _batch((6, 6, 3))
  other = keras.models.clone_model(network)
  other.set_weights([w + 1 for w in network.get_weights()])
  for run in (
    lambda m: step.step(m, _training(), state, images, labels, 0.2)[1],
    lambda m: step.predict(m, state, images),
  ):
    np.testing.assert_array_equal(run(network), run(other))


def test_compiles_under_xla_and_agrees(network):
  state = _state(network)
  images, labels = _batch((6, 6, 3))
  training = _training()

  def run(state, images, labels, rate):
    return step.step(network, training, state, images, labels, rate)

  arguments = (
    state,
    tf.constant(images),
    tf.constant(labels),
    tf.constant(0.2),
  )
  eager = run(*arguments)
  compiled = tf.function(run, jit_compile=True)(*arguments)
  for one, other in zip(
    tf.nest.flatten(compiled), tf.nest.flatten(eager), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_predictions_are_those_of_the_state_in_evaluation_mode(network):
  state = _state(network)
  images, _ = _batch((6, 6, 3))
  again = _with_variables_of(network, state)
  logits = step.predict(network, state, images)
  np.testing.assert_allclose(
    logits, again(images, training=False), rtol=1e-5, atol=1e-6
  )
  # An example's logits do not depend on its batch.
  np.testing.assert_allclose(
    step.predict(network, state, images[2:3]), logits[2:3], rtol=1e-4, atol=1e-5
  )
