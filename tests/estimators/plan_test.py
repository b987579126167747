"""Tests of the one pass: closed forms, the noise, what it costs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf import randomness
from roar_tf.estimators import plan, registry

SHAPE = (2, 3, 2)
SIZE = 12
CLASSES = 3
TARGETS = np.array([2, 0, 1], np.int32)


class Quadratic(keras.layers.Layer):
  """Logits f_k(x) = x^T A_k x."""

  def __init__(self, matrices):
    super().__init__(dtype='float64')
    self.matrices = tf.constant(matrices)

  def call(self, inputs):
    x = tf.reshape(inputs, [-1, SIZE])
    return tf.einsum('bi,kij,bj->bk', x, self.matrices, x)


@pytest.fixture(scope='module')
def matrices():
  values = np.random.default_rng(0).normal(size=(CLASSES, SIZE, SIZE))
  return values + values.transpose(0, 2, 1)  # Symmetric.


@pytest.fixture(scope='module')
def quadratic(matrices):
  inputs = keras.Input(SHAPE, dtype='float64')
  return keras.Model(inputs, Quadratic(matrices)(inputs))


def _linear(weights):
  inputs = keras.Input(SHAPE, dtype='float64')
  dense = keras.layers.Dense(CLASSES, dtype='float64')
  outputs = dense(keras.layers.Flatten(dtype='float64')(inputs))
  dense.set_weights([weights, np.zeros(CLASSES)])
  return keras.Model(inputs, outputs)


@pytest.fixture(scope='module')
def weights():
  return np.random.default_rng(1).normal(size=(SIZE, CLASSES))


@pytest.fixture(scope='module')
def linear(weights):
  return _linear(weights)


@pytest.fixture(scope='module')
def images():
  """Three images, each with a range of its own."""
  values = np.random.default_rng(2).uniform(-1, 1, (3, *SHAPE))
  return values * np.array([0.5, 1.0, 2.0]).reshape(3, 1, 1, 1)


# --- closed forms -------------------------------------------------------------

NAMES = ('grad', 'sq_grad', 'sg_grad', 'sg_sq_grad', 'var_grad', 'sq_sg_grad')


def test_linear_model_in_closed_form(compute, linear, weights, images):
  found = compute(linear, images, NAMES, targets=TARGETS)
  assert tuple(found) == NAMES
  expected = weights.T[TARGETS].reshape(images.shape)
  for name, values in found.items():
    assert values.dtype == np.float64
    goal = np.square(expected) if 'sq' in name else expected
    # No noise changes the gradient of a linear function.
    goal = 0 * goal if name == 'var_grad' else goal
    np.testing.assert_allclose(values, goal, rtol=1e-12, atol=1e-25)


def test_quadratic_model_approaches_its_moments(
  compute, quadratic, matrices, images
):
  # grad f = 2 A (x + sigma e) with e standard Gaussian: every component is
  # Gaussian, with mean m = 2 A x and variance s^2 = 4 sigma^2 sum_j A_ij^2.
  samples, noise = 2000, 0.15
  found = compute(
    quadratic, images, NAMES, targets=TARGETS, samples=samples, noise=noise
  )
  flat = images.reshape(3, SIZE)
  sigma = noise * (flat.max(axis=1) - flat.min(axis=1))
  chosen = matrices[TARGETS]
  mean = 2 * np.einsum('bij,bj->bi', chosen, flat)
  variance = 4 * sigma[:, None] ** 2 * np.square(chosen).sum(axis=2)
  # Standard errors of the three statistics over independent samples.
  closed_forms = {
    'sg_grad': (mean, np.sqrt(variance / samples)),
    'sg_sq_grad': (
      mean**2 + variance,
      np.sqrt((2 * variance**2 + 4 * mean**2 * variance) / samples),
    ),
    'var_grad': (variance, variance * np.sqrt(2 / samples)),
  }
  np.testing.assert_allclose(
    found['grad'].reshape(3, SIZE), mean, rtol=1e-10, atol=1e-12
  )
  for name, (expected, error) in closed_forms.items():
    deviations = (found[name].reshape(3, SIZE) - expected) / error
    # 36 values: within 4.5 standard errors, and neither too good to be true.
    assert np.abs(deviations).max() < 4.5, name
    assert 0.4 < np.sqrt(np.square(deviations).mean()) < 1.8, name


def test_statistics_share_their_noise(compute, quadratic, images):
  # In float64 E[g^2] - E[g]^2 holds to the last digits, if g is the same.
  found = compute(quadratic, images, NAMES, targets=TARGETS, samples=5)
  square = np.square(found['sg_grad'])
  np.testing.assert_array_equal(found['sq_sg_grad'], square)
  np.testing.assert_allclose(
    found['var_grad'], found['sg_sq_grad'] - square, rtol=1e-10, atol=1e-12
  )


def test_compiles_under_xla_and_agrees(
  compute, quadratic, images, assert_close
):
  # All but `gb`, because there is no ReLU.
  names = ('sq_grad', 'var_grad', 'ig', 'random', 'sobel', 'blur_ig', 'max_ig')
  found, expected = (
    compute(
      quadratic,
      images,
      names,
      samples=4,
      batch_size=3,
      jit_compile=jit_compile,
    )
    for jit_compile in (True, False)
  )
  # The noise: XLA's erfinv in float32 has other last digits.
  assert_close(found, expected, rtol=1e-3)


# --- the noise ----------------------------------------------------------------


@pytest.fixture
def echo(own_registry):
  """A base whose estimate is the image it is given, noise and all."""
  registry.register('echo')(lambda model, images, targets, keys: images)


def test_noise_is_relative_to_the_range_of_each_image(
  compute, echo, quadratic, images
):
  samples, noise = 400, 0.5
  found = compute(
    quadratic,
    images + 100,
    ['sg_echo', 'var_echo'],
    samples=samples,
    noise=noise,
  )
  flat = images.reshape(3, SIZE)
  sigma = noise * (flat.max(axis=1) - flat.min(axis=1))[:, None]
  mean = (found['sg_echo'] - images - 100).reshape(3, SIZE) / sigma
  assert np.abs(mean).max() < 5 / np.sqrt(samples)
  variance = found['var_echo'].reshape(3, SIZE) / sigma**2
  assert np.abs(variance - 1).max() < 5 * np.sqrt(2 / samples)


def test_noise_is_independent_between_samples_images_and_pixels(compute, echo):
  images = np.random.default_rng(4).normal(size=(3, 20, 20, 3))
  dense = keras.layers.Dense(CLASSES, dtype='float64')
  flatten = keras.layers.Flatten(dtype='float64')
  given = keras.Input((20, 20, 3), dtype='float64')
  model = keras.Model(given, dense(flatten(given)))
  # The mean of J values tells the last of them: J m_J - (J - 1) m_(J-1).
  sums = [
    n * compute(model, images, ['sg_echo'], samples=n)['sg_echo']
    for n in range(1, 5)
  ]
  noise = np.diff([np.zeros_like(images), *sums], axis=0) - images
  flat = noise.reshape(4, 3, -1)
  flat = flat / flat.std(axis=(0, 2), keepdims=True)
  for pairs in (
    flat[1:] * flat[:-1],
    flat[:, 1:] * flat[:, :-1],
    flat[:, :, 1:] * flat[:, :, :-1],
  ):
    assert abs(pairs.mean()) < 5 / np.sqrt(pairs.size)


def test_a_constant_image_gets_no_noise(compute, echo, quadratic):
  images = np.full((3, *SHAPE), 0.3)
  found = compute(quadratic, images, ['sg_echo', 'var_echo'])
  np.testing.assert_allclose(found['sg_echo'], images, rtol=1e-14)
  assert (found['var_echo'] == 0).all()


def test_a_base_gets_other_keys_for_every_noisy_copy(
  compute, own_registry, linear
):
  @registry.register('drawing')
  def drawing(model, images, targets, keys):
    draws = randomness.uniform(keys, images.shape[1:])
    return tf.cast(draws, images.dtype)

  images = np.zeros((3, *SHAPE))
  found = compute(linear, images, ['drawing', 'var_drawing'], samples=200)
  assert len(np.unique(found['drawing'])) > 30
  np.testing.assert_allclose(found['var_drawing'], 1 / 12, rtol=0.4)


# --- what it costs ------------------------------------------------------------


@pytest.mark.parametrize(
  ('names', 'samples', 'expected'),
  [
    (['random', 'sobel'], 15, 0),
    (['grad', 'sq_grad'], 15, 1),
    (['sg_grad', 'sg_sq_grad', 'var_grad', 'sq_sg_grad'], 7, 7),
    (['grad', 'var_grad', 'sq_grad', 'random'], 15, 16),
    (['sg_grad', 'sg_dear', 'var_dear', 'dear'], 2, 2 + 2 * 25 + 25),
    (['gb', 'grad'], 15, 2),
    (['ig', 'grad', 'sq_ig'], 15, 25),
    (['ig', 'var_grad'], 15, 25 + 15),
    (['blur_sg_grad', 'max_sg_grad', 'max_random'], 15, 15),
  ],
)
def test_gradient_evaluations_count_shared_work_once(
  names, samples, expected, own_registry
):
  registry.register('dear', gradients=25)(lambda *arguments: None)
  some = plan.Plan(names, plan.Settings(samples=samples))
  assert some.gradient_evaluations == expected


def test_the_papers_estimators_cost_416_gradients(fifteen):
  some = plan.Plan((*fifteen, 'sq_sg_grad', 'random'), plan.Settings())
  assert some.gradient_evaluations == 416
  assert some.forward_evaluations == 400


def test_rows_that_really_run_are_the_evaluations_planned(compute, images):
  rows = tf.Variable(0)

  class Counting(keras.layers.Layer):
    def call(self, inputs):
      rows.assign_add(tf.shape(inputs)[0])
      return tf.reshape(inputs, [-1, SIZE]) ** 2

  model = keras.Sequential(
    [keras.Input(SHAPE, dtype='float64'), Counting(dtype='float64')]
  )
  names = ['grad', 'ig', 'sg_sq_ig', 'var_grad', 'sg_grad']
  settings = {'samples': 4, 'steps': 7}
  rows.assign(0)
  compute(model, images, names, **settings)
  some = plan.Plan(names, plan.Settings(**settings))
  assert some.gradient_evaluations == some.forward_evaluations == 5 * 7
  assert int(rows) == len(images) * some.forward_evaluations


def test_gradient_evaluations_are_what_really_runs(
  compute, own_registry, linear, images
):
  calls = tf.Variable(0)  # Images scored.

  @registry.register('counting')
  def counting(model, images, targets, keys):
    calls.assign_add(images.shape[0])
    return images

  names = ['counting', 'sq_counting', 'sg_counting', 'var_counting']
  compute(linear, images, names, samples=6)
  expected = plan.Plan(names, plan.Settings(samples=6)).gradient_evaluations
  assert int(calls) == len(images) * expected == 3 * 7
