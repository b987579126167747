"""Tests of the residual networks and of their batch norm."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf.models import resnet

SHAPE = (6, 5, 4, 3)  # 120 values per channel.


def _parameters(seed=0):
  generator = np.random.default_rng(seed)
  return [
    generator.uniform(0.5, 2, 3),  # gamma
    generator.normal(size=3),  # beta
    generator.normal(size=3),  # moving mean
    generator.uniform(0.5, 2, 3),  # moving variance
  ]


def _layer(kind, dtype='float32', **arguments):
  layer = kind(
    momentum=resnet.BATCH_NORM_MOMENTUM,
    epsilon=resnet.BATCH_NORM_EPSILON,
    dtype=dtype,
    **arguments,
  )
  layer.build((None, *SHAPE[1:]))
  layer.set_weights(_parameters())
  return layer


@pytest.fixture
def layers():
  return (
    _layer(resnet.BatchNormalization),
    _layer(keras.layers.BatchNormalization),
  )


@pytest.fixture(scope='module')
def inputs():
  values = np.random.default_rng(1).normal(3, 2, SHAPE)
  return tf.constant(values, tf.float32)


@pytest.fixture(scope='module')
def model():
  keras.utils.set_random_seed(0)
  return resnet.small_resnet((16, 16, 3), 5, width=4, blocks=2, stages=3)


# --- batch norm ---------------------------------------------------------------


@pytest.mark.parametrize('training', [False, True, None])
def test_fused_batch_norm_equals_keras(layers, inputs, training):
  ours, theirs = (layer(inputs, training=training) for layer in layers)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
  assert ours.dtype == tf.float32


@pytest.mark.parametrize('training', [False, True])
def test_fused_batch_norm_has_the_gradients_of_keras(layers, inputs, training):
  goal = tf.constant(np.random.default_rng(2).normal(size=SHAPE), tf.float32)
  gradients = []
  for layer in layers:
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      value = tf.reduce_sum(goal * layer(inputs, training=training))
    gradients.append(tape.gradient(value, [inputs, layer.gamma, layer.beta]))
  for ours, theirs in zip(*gradients, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_training_moves_towards_the_mean_and_the_unbiased_variance(
  layers, inputs
):
  ours, _ = layers
  _, _, mean, variance = _parameters()
  ours(inputs, training=True)
  values = inputs.numpy().astype(np.float64).reshape(-1, 3)
  np.testing.assert_allclose(
    ours.moving_mean, 0.9 * mean + 0.1 * values.mean(axis=0), rtol=1e-5
  )
  np.testing.assert_allclose(
    ours.moving_variance,
    0.9 * variance + 0.1 * values.var(axis=0, ddof=1),
    rtol=1e-5,
  )


def test_inference_moves_nothing(layers, inputs):
  ours, _ = layers
  before = ours.get_weights()
  ours(inputs, training=False)
  ours(inputs)
  ours.trainable = False  # Keras: a frozen layer is in inference mode.
  frozen = ours(inputs, training=True)
  for old, new in zip(before, ours.get_weights(), strict=True):
    np.testing.assert_array_equal(old, new)
  np.testing.assert_array_equal(frozen, ours(inputs, training=False))


@pytest.mark.parametrize('training', [False, True])
def test_float64_is_keras_own_path(inputs, training):
  inputs = tf.cast(inputs, tf.float64) + 1e-10
  outcome = []
  for kind in (resnet.BatchNormalization, keras.layers.BatchNormalization):
    layer = _layer(kind, 'float64')
    outcome.append([layer(inputs, training=training), *layer.get_weights()])
  assert outcome[0][0].dtype == tf.float64
  for ours, theirs in zip(*outcome, strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_stateless_call_returns_the_moments_and_assigns_nothing(inputs):
  images = keras.Input(SHAPE[1:])
  layer = resnet.BatchNormalization(momentum=0.9)
  model = keras.Model(images, layer(images))
  before = [v.numpy() for v in model.variables]
  _, (mean, _) = model.stateless_call(
    model.trainable_variables,
    model.non_trainable_variables,
    inputs,
    training=True,
  )
  np.testing.assert_allclose(
    mean, 0.1 * inputs.numpy().mean(axis=(0, 1, 2)), rtol=1e-4
  )
  for variable, value in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)


# --- small ResNets ------------------------------------------------------------


def _parameter_count(channels, classes, width, blocks, stages):
  """Weights, two trained and two moving numbers per normalised channel."""
  total = 9 * channels * width + 4 * width
  inputs = width
  for stage in range(stages):
    filters = width * 2**stage
    for _ in range(blocks):
      total += 9 * inputs * filters + 9 * filters * filters + 8 * filters
      if inputs != filters:
        total += inputs * filters + 4 * filters
      inputs = filters
  return total + inputs * classes + classes


@pytest.mark.parametrize(
  ('channels', 'classes', 'width', 'blocks', 'stages'),
  [(1, 10, 16, 1, 3), (3, 10, 4, 1, 2), (3, 7, 8, 2, 3), (3, 2, 3, 1, 1)],
)
def test_parameters_in_closed_form(channels, classes, width, blocks, stages):
  model = resnet.small_resnet(
    (16, 16, channels), classes, width=width, blocks=blocks, stages=stages
  )
  assert model.count_params() == _parameter_count(
    channels, classes, width, blocks, stages
  )


def test_defaults_are_one_block_in_three_stages_of_width_sixteen():
  model = resnet.small_resnet((28, 28, 1), 10)
  assert model.count_params() == _parameter_count(1, 10, 16, 1, 3)


@pytest.mark.parametrize('shape', [(16, 16, 3), (17, 28, 1)])
def test_maps_float_images_to_logits(shape):
  model = resnet.small_resnet(shape, 7, width=2)
  images = np.random.default_rng(0).normal(size=(3, *shape))
  logits = model(images, training=False)
  assert logits.shape == (3, 7) and logits.dtype == tf.float32
  assert model.output_shape == (None, 7)
  # Logits, no probabilities.
  assert (logits.numpy() < 0).any()


def test_each_stage_but_the_first_halves_the_resolution(model):
  sizes = [
    tuple(layer.output.shape[1:3])
    for layer in model.layers
    if isinstance(layer, keras.layers.Add)
  ]
  assert sizes == [(16, 16)] * 2 + [(8, 8)] * 2 + [(4, 4)] * 2


def test_the_last_gamma_of_each_block_starts_at_zero(model):
  norms = [
    layer
    for layer in model.layers
    if isinstance(layer, keras.layers.BatchNormalization)
  ]
  assert {type(norm) for norm in norms} == {resnet.BatchNormalization}
  zero = [norm for norm in norms if not norm.gamma.numpy().any()]
  assert len(zero) == 6
  for norm in norms:
    assert norm.momentum == 0.9 and norm.epsilon == 1e-5
    assert norm in zero or (norm.gamma.numpy() == 1).all()
    assert not norm.beta.numpy().any()
  # They are the ones that silence the residual branches: no 3x3 convolution
  # but the stem's has an effect yet.
  again = keras.models.clone_model(model)
  again.set_weights(model.get_weights())
  convolutions = [
    layer
    for layer in again.layers
    if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3)
  ]
  for layer in convolutions[1:]:
    layer.set_weights([-3 * w for w in layer.get_weights()])
  images = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
  np.testing.assert_allclose(again(images), model(images), rtol=1e-6)


def test_weights_start_at_the_released_codes_scale():
  keras.utils.set_random_seed(0)
  model = resnet.small_resnet((8, 8, 3), 400, width=64, stages=2)
  for layer in model.layers:
    if isinstance(layer, keras.layers.Conv2D):
      assert not layer.use_bias
      kernel = layer.kernel.numpy()
      fan_out = kernel.shape[0] * kernel.shape[1] * kernel.shape[3]
      expected = np.sqrt(2 / fan_out)
    elif isinstance(layer, keras.layers.Dense):
      kernel, expected = layer.kernel.numpy(), 0.01
      assert not layer.bias.numpy().any()
    else:
      continue
    error = 5 / np.sqrt(2 * kernel.size)
    assert kernel.std() == pytest.approx(expected, rel=error)
    assert abs(kernel.mean()) < 5 * expected / np.sqrt(kernel.size)


def test_survives_saving_in_safe_mode(model, tmp_path):
  generator = np.random.default_rng(0)
  model.set_weights(
    [
      generator.uniform(0.1, 0.3, np.shape(w)).astype(np.float32)
      for w in model.get_weights()
    ]
  )
  path = tmp_path / 'model.keras'
  model.save(path)
  loaded = keras.saving.load_model(path, safe_mode=True)
  images = generator.normal(size=(4, 16, 16, 3)).astype(np.float32)
  np.testing.assert_array_equal(loaded(images), model(images))
  for training in (False, True):
    np.testing.assert_allclose(
      loaded(images, training=training),
      model(images, training=training),
      rtol=1e-6,
    )
  norms = {type(x) for x in loaded.layers if 'normal' in x.name}
  assert norms == {resnet.BatchNormalization}
