"""Tests of the one pass: closed forms, shared work, independence, XLA."""

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from roar_tf import randomness
from roar_tf.estimators import plan, registry

SHAPE = (2, 3, 2)
SIZE = 12
CLASSES = 3
ALL = (
  'grad',
  'sq_grad',
  'sg_grad',
  'sg_sq_grad',
  'var_grad',
  'sq_sg_grad',
  'gb',
  'var_gb',
  'ig',
  'sg_sq_ig',
  'var_ig',
  'random',
  'sobel',
)
PAPER = tuple(
  prefix + base
  for base in ('grad', 'gb', 'ig')
  for prefix in ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
)


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


@pytest.fixture(scope='module')
def weights():
  return np.random.default_rng(1).normal(size=(SIZE, CLASSES))


@pytest.fixture(scope='module')
def linear(weights):
  inputs = keras.Input(SHAPE, dtype='float64')
  dense = keras.layers.Dense(CLASSES, dtype='float64')
  outputs = dense(keras.layers.Flatten(dtype='float64')(inputs))
  dense.set_weights([weights, np.zeros(CLASSES)])
  return keras.Model(inputs, outputs)


@pytest.fixture(scope='module')
def network():
  """A network with curvature and ReLUs.

  In float64, where no ReLU is open in one program and shut in another because
  of rounding.
  """
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input((6, 6, 3), dtype='float64'),
      keras.layers.Conv2D(4, 3, activation='tanh', dtype='float64'),
      keras.layers.Conv2D(4, 2, activation='relu', dtype='float64'),
      keras.layers.Flatten(dtype='float64'),
      keras.layers.Dense(4, dtype='float64'),
    ]
  )


@pytest.fixture(scope='module')
def images():
  """Three images, each with a range of its own."""
  values = np.random.default_rng(2).uniform(-1, 1, (3, *SHAPE))
  return values * np.array([0.5, 1.0, 2.0]).reshape(3, 1, 1, 1)


TARGETS = np.array([2, 0, 1], np.int32)


def _compute(
  model,
  images,
  names,
  *,
  targets=TARGETS,
  ids=('a', 'b', 'c'),
  seed=0,
  jit_compile=False,
  **settings,
):
  some = plan.Plan(names, plan.Settings(**settings))
  function = plan.compile_plan(some, model)
  if jit_compile:
    function = tf.function(function.python_function, jit_compile=True)
  outcome = function(
    tf.constant(images),
    None if targets is None else tf.constant(targets, tf.int32),
    randomness.keys_of_ids(list(ids)),
    None,
    tf.constant(seed),
  )
  return {name: value.numpy() for name, value in outcome.items()}


# --- closed forms -------------------------------------------------------------


def test_linear_model_in_closed_form(linear, weights, images):
  names = ['grad', 'sq_grad', 'sg_grad', 'sg_sq_grad', 'var_grad', 'sq_sg_grad']
  found = _compute(linear, images, names)
  assert list(found) == names
  expected = weights.T[TARGETS].reshape(images.shape)
  for name, values in found.items():
    assert values.dtype == np.float64
    goal = np.square(expected) if 'sq' in name else expected
    # No noise changes the gradient of a linear function.
    goal = 0 * goal if name == 'var_grad' else goal
    np.testing.assert_allclose(values, goal, rtol=1e-12, atol=1e-25)


def test_quadratic_model_approaches_its_moments(quadratic, matrices, images):
  # grad f = 2 A (x + sigma e) with e standard Gaussian: every component is
  # Gaussian, with mean m = 2 A x and variance s^2 = 4 sigma^2 sum_j A_ij^2.
  samples, noise = 2000, 0.15
  found = _compute(
    quadratic,
    images,
    ['grad', 'sg_grad', 'sg_sq_grad', 'var_grad'],
    samples=samples,
    noise=noise,
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


def test_statistics_share_their_noise(quadratic, images):
  # In float64 E[g^2] - E[g]^2 holds to the last digits, if g is the same.
  found = _compute(
    quadratic,
    images,
    ['sg_grad', 'sg_sq_grad', 'var_grad', 'sq_sg_grad', 'sq_var_grad'],
    samples=5,
  )
  square = np.square(found['sg_grad'])
  np.testing.assert_array_equal(found['sq_sg_grad'], square)
  np.testing.assert_allclose(
    found['var_grad'], found['sg_sq_grad'] - square, rtol=1e-10, atol=1e-12
  )
  np.testing.assert_array_equal(
    found['sq_var_grad'], np.square(found['var_grad'])
  )


def test_without_noise_ensembles_are_the_clean_estimate(quadratic, images):
  found = _compute(quadratic, images, ALL[:6], noise=0.0, samples=3)
  for name in ('sg_grad', 'sg_sq_grad', 'sq_sg_grad'):
    clean = found['sq_grad' if 'sq' in name else 'grad']
    np.testing.assert_allclose(found[name], clean, rtol=1e-12)
  np.testing.assert_allclose(found['var_grad'], 0, atol=1e-25)


def test_one_sample_has_no_variance(quadratic, images):
  found = _compute(quadratic, images, ['sg_grad', 'var_grad'], samples=1)
  assert (found['var_grad'] == 0).all()
  assert (found['sg_grad'] != 0).any()


# --- the noise ----------------------------------------------------------------


@pytest.fixture
def echo(monkeypatch):
  """A base whose estimate is the image it is given, noise and all."""
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  registry.register('echo')(lambda model, images, targets, keys: images)


def test_noise_is_relative_to_the_range_of_each_image(echo, quadratic, images):
  samples = 400
  for noise in (0.15, 0.5):
    found = _compute(
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


def test_noise_is_independent_between_samples_images_and_pixels(
  echo, quadratic
):
  images = np.random.default_rng(4).normal(size=(3, 20, 20, 3))
  # The mean of J values tells the last of them: J m_J - (J - 1) m_(J-1).
  sums = [
    n * _compute(quadratic, images, ['sg_echo'], samples=n)['sg_echo']
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


def test_a_constant_image_gets_no_noise(echo, quadratic):
  images = np.full((3, *SHAPE), 0.3)
  found = _compute(quadratic, images, ['sg_echo', 'var_echo'])
  np.testing.assert_allclose(found['sg_echo'], images, rtol=1e-14)
  assert (found['var_echo'] == 0).all()


def test_a_base_gets_other_keys_for_every_noisy_copy(monkeypatch, linear):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))

  @registry.register('drawing')
  def drawing(model, images, targets, keys):
    draws = randomness.uniform(keys, images.shape[1:])
    return tf.cast(draws, images.dtype)

  images = np.zeros((3, *SHAPE))
  found = _compute(linear, images, ['drawing', 'var_drawing'], samples=200)
  assert len(np.unique(found['drawing'])) > 30
  np.testing.assert_allclose(found['var_drawing'], 1 / 12, rtol=0.4)


# --- what an outcome depends on -----------------------------------------------


@pytest.fixture(scope='module')
def batch():
  return np.random.default_rng(3).normal(size=(5, 6, 6, 3))


IDS = tuple('vwxyz')


@pytest.fixture(scope='module')
def together(network, batch):
  return _compute(network, batch, ALL, targets=None, ids=IDS, samples=4)


@pytest.fixture(scope='module')
def in_blocks(network, batch):
  """The same from blocks of three rows, the last ones padded."""
  return _compute(
    network, batch, ALL, targets=None, ids=IDS, samples=4, batch_size=3
  )


@pytest.mark.parametrize('batch_size', [None, 3])
@pytest.mark.parametrize('name', ALL)
def test_outcome_does_not_depend_on_the_others_asked_for(
  name, batch_size, network, batch, together, in_blocks
):
  alone = _compute(
    network,
    batch,
    [name],
    targets=None,
    ids=IDS,
    samples=4,
    batch_size=batch_size,
  )
  assert list(alone) == [name]
  expected = (in_blocks if batch_size else together)[name]
  np.testing.assert_array_equal(alone[name], expected)


def _assert_close(found, expected, name, rtol=1e-10):
  """Equal up to the rounding of another shape or program."""
  scale = np.abs(expected).max()
  np.testing.assert_allclose(
    found, expected, rtol=0, atol=rtol * scale, err_msg=name
  )


@pytest.mark.parametrize('name', ALL)
def test_outcome_does_not_depend_on_the_blocks(name, together, in_blocks):
  _assert_close(in_blocks[name], together[name], name)


@pytest.mark.parametrize('batch_size', [None, 3])
def test_outcome_does_not_depend_on_the_order_of_the_batch(
  network, batch, together, in_blocks, batch_size
):
  order = [3, 0, 4, 1, 2]
  found = _compute(
    network,
    batch[order],
    ALL,
    targets=None,
    ids=[IDS[i] for i in order],
    samples=4,
    batch_size=batch_size,
  )
  for name in ALL:
    expected = (in_blocks if batch_size else together)[name]
    # A row's arithmetic may depend on its place in a vector of the processor.
    _assert_close(found[name], expected[order], name)


def test_outcome_does_not_depend_on_the_neighbours(network, batch, together):
  others = batch + 1
  others[2] = batch[2]
  found = _compute(network, others, ALL, targets=None, ids=IDS, samples=4)
  for name in ALL:
    equal = (found[name] == together[name]).all(axis=(1, 2, 3))
    # `random` looks at the id alone, `sobel` at differences of pixels.
    if name not in ('random', 'sobel'):
      assert equal.tolist() == [False, False, True, False, False], name
    assert equal[2], name


def test_outcome_depends_on_the_id_through_the_noise_alone(
  network, batch, together
):
  found = _compute(
    network, batch, ALL, targets=None, ids=(*'vwxy', 'other'), samples=4
  )
  for name in ALL:
    differs = (found[name] != together[name]).any(axis=(1, 2, 3))
    noisy = any(part in name for part in ('sg', 'var', 'random'))
    assert differs.tolist() == [False] * 4 + [noisy], name


def test_seed_changes_what_is_random_and_nothing_else(network, batch, together):
  found = _compute(
    network, batch, ALL, targets=None, ids=IDS, samples=4, seed=1
  )
  for name in ALL:
    noisy = any(part in name for part in ('sg', 'var', 'random'))
    assert (found[name] == together[name]).all() != noisy, name


def test_target_defaults_to_the_class_predicted_on_the_clean_image(
  network, batch, together
):
  predicted = np.argmax(network(batch), axis=1)
  assert len(set(predicted)) > 1
  for targets, equal in ((predicted, True), ((predicted + 1) % 4, False)):
    found = _compute(network, batch, ALL, targets=targets, ids=IDS, samples=4)
    for name in ('grad', 'sg_grad', 'sg_sq_grad', 'var_grad'):
      same = np.isclose(found[name], together[name], rtol=1e-9, atol=1e-12)
      assert same.all(axis=(1, 2, 3)).tolist() == [equal] * 5, name


def test_permuting_logits_and_targets_together_changes_nothing(
  weights, images, linear
):
  order = [2, 0, 1]
  inputs = keras.Input(SHAPE, dtype='float64')
  dense = keras.layers.Dense(CLASSES, dtype='float64')
  outputs = dense(keras.layers.Flatten(dtype='float64')(inputs))
  dense.set_weights([weights[:, order], np.zeros(CLASSES)])
  permuted = keras.Model(inputs, outputs)
  inverse = np.argsort(order)[TARGETS]
  names = ['grad', 'sg_sq_grad']
  for targets, others in ((TARGETS, inverse), (None, None)):
    found = _compute(linear, images, names, targets=targets)
    again = _compute(permuted, images, names, targets=others)
    for name in names:
      np.testing.assert_allclose(
        again[name], found[name], rtol=1e-12, atol=1e-25
      )
  # A target that is not permuted too is another class.
  wrong = _compute(permuted, images, ['grad'])['grad']
  assert not np.allclose(wrong, _compute(linear, images, ['grad'])['grad'])


def test_asking_twice_is_asking_once(linear, images):
  some = plan.Plan(['grad', 'sg_grad', 'grad'], plan.Settings())
  assert some.names == ('grad', 'sg_grad')


def test_shuffled_names_give_the_same_values(network, batch, together):
  found = _compute(network, batch, ALL[::-1], targets=None, ids=IDS, samples=4)
  assert list(found) == list(ALL[::-1])
  for name in ALL:
    np.testing.assert_array_equal(found[name], together[name])


# --- filters ------------------------------------------------------------------

FILTERED = ('blur_sg_sq_grad', 'max_ig', 'blur_random', 'max_grad', 'max_sobel')


@pytest.fixture(scope='module')
def filtered(network, batch):
  return _compute(
    network,
    batch,
    (*ALL, *FILTERED),
    targets=None,
    ids=IDS,
    samples=4,
    blur_sigma=0.8,
    max_size=5,
  )


def test_filters_are_those_of_scipy_over_the_same_scores(filtered, together):
  for name in ALL:
    np.testing.assert_array_equal(filtered[name], together[name])
  for name in FILTERED:
    kind, of = name.split('_', 1)
    expected = (
      scipy.ndimage.gaussian_filter(together[of], (0, 0.8, 0.8, 0))
      if kind == 'blur'
      else scipy.ndimage.maximum_filter(together[of], (1, 5, 5, 1))
    )
    _assert_close(filtered[name], expected, name)
    assert (filtered[name] != together[of]).any()


@pytest.mark.parametrize('name', FILTERED)
def test_a_filtered_map_does_not_depend_on_the_others_asked_for(
  name, network, batch, filtered
):
  alone = _compute(
    network,
    batch,
    [name],
    targets=None,
    ids=IDS,
    samples=4,
    blur_sigma=0.8,
    max_size=5,
  )
  assert list(alone) == [name]
  np.testing.assert_array_equal(alone[name], filtered[name])


def test_filters_compile_under_xla_and_agree(network, batch):
  found, expected = (
    _compute(
      network,
      batch,
      FILTERED,
      targets=None,
      ids=IDS,
      samples=4,
      noise=0.0,
      blur_sigma=0.8,
      max_size=5,
      jit_compile=jit_compile,
    )
    for jit_compile in (True, False)
  )
  for name in FILTERED:
    _assert_close(found[name], expected[name], name)


# --- compilation --------------------------------------------------------------


@pytest.mark.parametrize('batch_size', [None, 3])
def test_compiles_under_xla_and_agrees(quadratic, images, batch_size):
  names = [name for name in ALL if 'gb' not in name]  # There is no ReLU.
  found, expected = (
    _compute(
      quadratic,
      images,
      names,
      samples=4,
      batch_size=batch_size,
      jit_compile=jit_compile,
    )
    for jit_compile in (True, False)
  )
  for name in names:
    # The noise: XLA's erfinv in float32 has other last digits.
    _assert_close(found[name], expected[name], name, rtol=1e-3)


def test_graph_does_not_grow_with_the_number_of_samples(network, batch):
  def size(samples):
    some = plan.Plan(['var_grad'], plan.Settings(samples=samples))
    concrete = plan.compile_plan(some, network).get_concrete_function(
      tf.constant(batch),
      None,
      randomness.keys_of_ids(IDS),
      None,
      tf.constant(0),
    )
    return len(concrete.graph.as_graph_def().SerializeToString())

  # A few operations more leave the padding of the last block out.
  assert size(500) <= 1.05 * size(5)


# --- cost and refusals --------------------------------------------------------


@pytest.mark.parametrize(
  ('names', 'samples', 'expected'),
  [
    (['random', 'sobel'], 15, 0),
    (['grad'], 15, 1),
    (['grad', 'sq_grad'], 15, 1),
    (['sg_grad'], 15, 15),
    (['sg_grad', 'sg_sq_grad', 'var_grad', 'sq_sg_grad'], 7, 7),
    (['grad', 'var_grad', 'sq_grad', 'random'], 15, 16),
    (['grad', 'dear'], 15, 1 + 25),
    (['sg_grad', 'sg_dear', 'var_dear', 'dear'], 2, 2 + 2 * 25 + 25),
    (['gb', 'grad'], 15, 2),
    (['ig'], 15, 25),
    (['ig', 'grad', 'sq_ig'], 15, 25),
    (['ig', 'var_grad'], 15, 25 + 15),
    (PAPER, 15, 416),
    ((*PAPER, 'sq_sg_grad', 'random', 'sobel'), 15, 416),
    ((*PAPER, *(f'blur_{n}' for n in PAPER), 'max_grad'), 15, 416),
    (['blur_sg_grad', 'max_sg_grad', 'max_random'], 15, 15),
  ],
)
def test_gradient_evaluations_count_shared_work_once(
  names, samples, expected, monkeypatch
):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  registry.register('dear', gradients=25)(lambda *arguments: None)
  some = plan.Plan(names, plan.Settings(samples=samples))
  assert some.gradient_evaluations == expected


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    (['random'], 0),
    (['grad'], 1),
    (['grad', 'gb'], 1),
    # The clean image's prediction is the target of the noisy ones.
    (['sg_grad'], 1 + 15),
    (PAPER, 400),
  ],
)
def test_forward_evaluations_are_shared_by_backward_rules(names, expected):
  assert plan.Plan(names, plan.Settings()).forward_evaluations == expected


def test_rows_that_really_run_are_the_evaluations_planned(images):
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
  _compute(model, images, names, **settings)
  some = plan.Plan(names, plan.Settings(**settings))
  assert some.gradient_evaluations == some.forward_evaluations == 5 * 7
  assert int(rows) == len(images) * some.forward_evaluations


def test_gradient_evaluations_are_what_really_runs(monkeypatch, linear, images):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  calls = tf.Variable(0)  # Images scored.

  @registry.register('counting')
  def counting(model, images, targets, keys):
    calls.assign_add(images.shape[0])
    return images

  names = ['counting', 'sq_counting', 'sg_counting', 'var_counting']
  _compute(linear, images, names, samples=6)
  expected = plan.Plan(names, plan.Settings(samples=6)).gradient_evaluations
  assert int(calls) == len(images) * expected == 3 * 7


@pytest.mark.parametrize(
  'wrong',
  [
    lambda images: tf.reduce_sum(images, axis=-1, keepdims=True),
    lambda images: images[:1],
    lambda images: None,
  ],
  ids=['channels', 'batch', 'nothing'],
)
@pytest.mark.parametrize('prefix', ['', 'sg_'])
def test_scores_of_another_shape_are_refused_by_name(
  wrong, prefix, monkeypatch, linear, images
):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  registry.register('wrong')(lambda m, images, t, k: wrong(images))
  with pytest.raises(ValueError, match='"wrong" must return scores of shape'):
    _compute(linear, images, [f'{prefix}wrong'])
