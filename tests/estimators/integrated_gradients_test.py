"""Tests of IG: closed forms, completeness, batches of every size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import estimators

L = keras.layers
SHAPE = (3, 2, 2)
SIZE, CLASSES = 12, 3
TARGETS = np.array([2, 0, 1, 1, 0], np.int32)
FLOAT64 = {'dtype': 'float64'}
BASELINES = {
  'black': 0.0,
  'scalar': 0.1,
  'channels': np.array([-0.3, 0.7]),
  'image': np.random.default_rng(5).normal(size=SHAPE),
  'batch': np.random.default_rng(6).normal(size=(5, *SHAPE)),
}


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).normal(size=(5, *SHAPE))


@pytest.fixture(scope='module')
def weights():
  return np.random.default_rng(1).normal(size=(SIZE, CLASSES))


@pytest.fixture(scope='module')
def linear(weights):
  inputs = keras.Input(SHAPE, **FLOAT64)
  dense = L.Dense(CLASSES, **FLOAT64)
  outputs = dense(L.Flatten(**FLOAT64)(inputs))
  dense.set_weights([weights, np.array([3.0, -1.0, 0.5])])
  return keras.Model(inputs, outputs)


@pytest.fixture(scope='module')
def network():
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input(SHAPE, **FLOAT64),
      L.Conv2D(4, 2, activation='tanh', **FLOAT64),
      L.Flatten(**FLOAT64),
      L.Dense(6, activation='tanh', **FLOAT64),
      L.Dense(CLASSES, **FLOAT64),
    ]
  )


def _ig(model, images, name='ig', **arguments):
  arguments = {'targets': TARGETS, **arguments}
  return roar_tf.explain(model, images, name, **arguments)[name].numpy()


def _gradient(model, images):
  """Returns the gradient of the targets' logits, by a tape."""
  images = tf.constant(images)
  with tf.GradientTape() as tape:
    tape.watch(images)
    logits = model(images, training=False)
    selected = tf.gather(logits, TARGETS, batch_dims=1)
  return tape.gradient(selected, images).numpy()


def _loop(model, images, baseline, steps):
  """The definition, one step after the other."""
  difference = images - baseline
  total = sum(
    _gradient(model, baseline + i / steps * difference)
    for i in range(1, steps + 1)
  )
  return difference * total / steps


# --- closed forms -------------------------------------------------------------


@pytest.mark.parametrize(
  ('baseline', 'steps'),
  [*((name, 7) for name in BASELINES), ('image', 1), ('image', 25)],
)
def test_of_a_linear_model(linear, weights, images, baseline, steps):
  start = BASELINES[baseline]
  found = _ig(linear, images, baseline=start, steps=steps)
  assert found.dtype == np.float64
  expected = (images - start) * weights.T[TARGETS].reshape(images.shape)
  np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize('steps', [1, 10])
def test_of_a_quadratic_model_with_right_endpoints(images, steps):
  # f_k(x) = w_k . x^2 has the gradient 2 w x; along the path from x0 the mean
  # over i = 1..k of x0 + i / k (x - x0) is x0 + (k + 1) / 2k (x - x0).
  generator = np.random.default_rng(7)
  kernel = generator.normal(size=(SIZE, CLASSES))
  start = generator.normal(size=SHAPE)
  inputs = keras.Input(SHAPE, **FLOAT64)
  dense = L.Dense(CLASSES, use_bias=False, **FLOAT64)
  outputs = dense(L.Flatten(**FLOAT64)(keras.ops.square(inputs)))
  dense.set_weights([kernel])
  model = keras.Model(inputs, outputs)
  found = _ig(model, images, baseline=start, steps=steps)
  mean = start + (steps + 1) / (2 * steps) * (images - start)
  w = kernel.T[TARGETS].reshape(images.shape)
  np.testing.assert_allclose(
    found, (images - start) * 2 * w * mean, rtol=1e-12, atol=1e-14
  )


def test_one_step_is_the_gradient_times_the_difference(network, images):
  found = roar_tf.explain(
    network, images, ['ig', 'grad'], targets=TARGETS, steps=1, baseline=0.25
  )
  np.testing.assert_array_equal(
    found['ig'], (images - 0.25) * found['grad'].numpy()
  )


def test_of_the_baseline_itself_is_zero(network, images):
  assert not _ig(network, images, baseline=images).any()


# --- axioms -------------------------------------------------------------------


def test_completeness_with_an_error_that_falls_with_the_steps(network, images):
  start = BASELINES['batch']

  def logits(x):
    return network(tf.constant(x)).numpy()[np.arange(5), TARGETS]

  expected = logits(images) - logits(start)
  errors = np.array(
    [
      np.abs(
        _ig(network, images, baseline=start, steps=k).sum(axis=(1, 2, 3))
        - expected
      ).mean()
      for k in (5, 25, 125)
    ]
  )
  # Right endpoints: first order, so five times the steps, a fifth of the error.
  ratios = errors[:-1] / errors[1:]
  assert ((ratios > 3.5) & (ratios < 7.5)).all(), errors
  assert errors[-1] < 0.01 * np.abs(expected).max()


def test_gauss_legendre_is_far_more_complete_at_equal_steps(network, images):
  start = BASELINES['batch']
  logits = [network(tf.constant(x)).numpy() for x in (images, start)]
  expected = (logits[0] - logits[1])[np.arange(5), TARGETS]

  def error(steps, quadrature):
    found = _ig(
      network, images, baseline=start, steps=steps, quadrature=quadrature
    )
    return np.abs(found.sum(axis=(1, 2, 3)) - expected).max()

  assert error(8, 'gauss_legendre') < 1e-3 * error(25, 'riemann_right')


@pytest.mark.parametrize('steps', [1, 4, 7])
def test_gauss_legendre_in_batches_is_its_definition(network, images, steps):
  nodes, weights = np.polynomial.legendre.leggauss(steps)
  expected = images * sum(
    weight / 2 * _gradient(network, (1 + node) / 2 * images)
    for node, weight in zip(nodes, weights, strict=True)
  )
  arguments = {'steps': steps, 'quadrature': 'gauss_legendre'}
  for size in (1, 15, 64):
    found = _ig(network, images, batch_size=size, **arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
  eager = estimators.ig(
    network, tf.constant(images), tf.constant(TARGETS), None, **arguments
  )
  np.testing.assert_allclose(eager, expected, rtol=1e-11, atol=1e-13)


def test_a_pixel_that_the_model_ignores_gets_nothing(network, images):
  inputs = keras.Input(SHAPE, **FLOAT64)
  mask = np.ones(SHAPE)
  mask[1, 1] = 0
  model = keras.Model(inputs, network(inputs * mask))
  found = _ig(model, images)
  assert not found[:, 1, 1].any() and found[:, 0].all()


# --- how it is computed -------------------------------------------------------


def test_images_in_blocks_have_their_own_baselines(network, images):
  start = BASELINES['batch']
  expected = _loop(network, images, start, 4)
  found = _ig(network, images, baseline=start, steps=4, batch_size=2)
  np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize('steps', [1, 6])
def test_eagerly_equals_explain(network, images, steps):
  start = BASELINES['batch']
  eager = estimators.ig(
    network,
    tf.constant(images),
    tf.constant(TARGETS),
    None,
    steps=steps,
    baseline=start,
  )
  np.testing.assert_allclose(
    eager,
    _ig(network, images, baseline=start, steps=steps),
    rtol=1e-11,
    atol=1e-13,
  )


def test_defaults_are_the_papers(network, images):
  found = _ig(network, images)
  np.testing.assert_array_equal(
    found, _ig(network, images, steps=25, baseline=0.0)
  )
  eager = estimators.ig(
    network, tf.constant(images), tf.constant(TARGETS), None
  )
  np.testing.assert_allclose(eager, found, rtol=1e-11, atol=1e-13)


def test_every_noisy_copy_has_a_path_of_its_own(linear, weights, images):
  # Linear: IG is (x + noise - x0) w, of which SG-IG is the mean.
  names = ['sg_ig', 'ig', 'var_ig']
  found = roar_tf.explain(
    linear, images, names, targets=TARGETS, samples=400, steps=2, noise=0.2
  )
  w = weights.T[TARGETS].reshape(images.shape)
  sigma = 0.2 * (images.max(axis=(1, 2, 3)) - images.min(axis=(1, 2, 3)))
  spread = sigma[:, None, None, None] * np.abs(w)
  deviations = (found['sg_ig'] - found['ig']) / (spread / 20)
  assert np.abs(deviations).max() < 4.5
  np.testing.assert_allclose(
    found['var_ig'] / spread**2, 1, atol=4.5 * np.sqrt(2 / 400)
  )


# --- refusals -----------------------------------------------------------------


@pytest.mark.parametrize(
  ('baseline', 'message'),
  [
    ('black', r'must broadcast to the images \(5, 3, 2, 2\)'),
    (np.zeros(3), r'must broadcast .* found \(3,\)'),
    (np.zeros((1, 5, *SHAPE)), r'must broadcast .* found \(1, 5, 3, 2, 2\)'),
    ([[1.0], [1.0, 2.0]], 'must broadcast'),
    ([0.0, np.inf], 'NaN or infinity'),
  ],
)
def test_bad_baselines_are_refused(network, images, baseline, message):
  with pytest.raises(ValueError, match=message) as refusal:
    _ig(network, images, baseline=baseline)
  sentence = str(refusal.value)
  assert 'baseline' in sentence and sentence.endswith('.')
  assert '\n' not in sentence and len(sentence) < 150


def test_a_baseline_that_nobody_asks_for_is_not_looked_at(network, images):
  found = _ig(network, images, 'grad', baseline=np.zeros(17))
  np.testing.assert_array_equal(found, _ig(network, images, 'grad'))
