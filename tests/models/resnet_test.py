"""Tests of the residual networks."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import errors
from roar_tf.models import batch_norm, resnet


@pytest.fixture(scope='module')
def model():
  keras.utils.set_random_seed(0)
  return resnet.small_resnet((16, 16, 3), 5, width=4, blocks=2, stages=3)


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
  [(1, 10, 16, 1, 3), (3, 7, 8, 2, 3), (3, 2, 3, 1, 1)],
)
def test_parameters_in_closed_form(channels, classes, width, blocks, stages):
  model = resnet.small_resnet(
    (16, 16, channels), classes, width=width, blocks=blocks, stages=stages
  )
  assert model.count_params() == _parameter_count(
    channels, classes, width, blocks, stages
  )


def test_maps_float_images_to_logits():
  keras.utils.set_random_seed(0)
  model = resnet.small_resnet((17, 28, 1), 7, width=2)
  images = np.random.default_rng(0).normal(size=(3, 17, 28, 1))
  logits = model(images, training=False)
  assert logits.shape == (3, 7) and logits.dtype == tf.float32
  assert model.output_shape == (None, 7)
  # Logits, no probabilities.
  assert (logits.numpy() < 0).any()


def test_the_last_gamma_of_each_block_starts_at_zero(model):
  norms = [
    layer
    for layer in model.layers
    if isinstance(layer, keras.layers.BatchNormalization)
  ]
  assert {type(norm) for norm in norms} == {batch_norm.BatchNormalization}
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


def test_weights_start_at_their_scale():
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


# --- equivariant ResNets ------------------------------------------------------


@pytest.fixture(scope='module')
def equivariant():
  """One whose every variable is drawn at random, as training may leave it."""
  keras.utils.set_random_seed(0)
  model = resnet.equivariant_resnet((16, 16, 3), 3, width=4)
  generator = np.random.default_rng(0)
  for variable in model.variables:
    value = generator.normal(0, 0.5, variable.shape)
    positive = 'variance' in variable.path
    variable.assign(np.abs(value) + 0.5 if positive else value)
  return model


def _turned(values):
  """Images or scores under the three rolls of the channels."""
  return [np.roll(values, turn, axis=-1) for turn in range(3)]


def test_rolling_the_channels_rolls_the_logits(equivariant):
  images = np.random.default_rng(0).normal(size=(20, 16, 16, 3))
  first, *others = (
    equivariant(turned.astype(np.float32), training=False).numpy()
    for turned in _turned(images)
  )
  assert np.ptp(first, axis=1).min() > 1e-3  # Of classes: not all alike.
  scale = np.abs(first).max()
  for turn, logits in enumerate(others, start=1):
    np.testing.assert_allclose(
      logits, np.roll(first, turn, axis=-1), atol=1e-5 * scale
    )


def test_one_detector_has_all_weights(equivariant):
  assert (
    equivariant.count_params()
    == resnet.small_resnet((16, 16, 3), 1, width=4).count_params()
  )


def test_scores_of_pixels_are_those_of_images_with_channels_rolled(equivariant):
  images = np.random.default_rng(1).normal(size=(6, 16, 16, 3))
  images = np.concatenate(_turned(images)).astype(np.float32)
  scores = roar_tf.explain(equivariant, images, ['grad', 'gb'])
  for values in scores.values():
    first, *others = np.split(values, 3)
    assert np.abs(first).max() > 0
    scale = np.abs(first).max()
    for turn, turned in enumerate(others, start=1):
      np.testing.assert_allclose(
        turned, np.roll(first, turn, axis=-1), atol=1e-4 * scale
      )


def test_more_classes_than_channels_are_refused():
  with pytest.raises(errors.UsageError, match='4 classes and 3 channels'):
    resnet.equivariant_resnet((16, 16, 3), 4)


# --- ResNets for large images -------------------------------------------------


@pytest.fixture(scope='module')
def resnet50():
  random.seed(0)  # Keras' initialisers take their seeds from it.
  return resnet.resnet50((224, 224, 3), 1000)


@pytest.fixture
def policy(request):
  before = keras.config.floatx(), keras.config.dtype_policy()
  keras.config.set_dtype_policy(request.param)
  yield request.param
  keras.config.set_floatx(before[0])
  keras.config.set_dtype_policy(before[1])


def _resnet18(shape, classes):
  return resnet.resnet(shape, classes, depth=18)


def _count(variables):
  return sum(int(np.prod(variable.shape)) for variable in variables)


def _convolutions(model):
  return [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]


def test_resnet50_has_the_papers_numbers_of_parameters(resnet50):
  assert _count(resnet50.trainable_variables) == 25_557_032
  assert _count(resnet50.non_trainable_variables) == 53_120
  assert resnet50.output_shape == (None, 1000)
  # And none of them is the convolutions' bias.
  assert all(not layer.use_bias for layer in _convolutions(resnet50))


@pytest.mark.parametrize(
  ('depth', 'trained', 'layers'),
  [(18, 11_689_512, 18), (34, 21_797_672, 34)],
)
def test_relatives_have_torchvisions_numbers_of_parameters(
  depth, trained, layers
):
  model = resnet.resnet((64, 64, 3), 1000, depth=depth)
  assert _count(model.trainable_variables) == trained
  counted = [x for x in model.layers if x.name.startswith(('conv', 'layer'))]
  counted = [x for x in counted if isinstance(x, keras.layers.Conv2D)]
  counted = [x for x in counted if 'downsample' not in x.name]
  assert len(counted) + 1 == layers  # And the dense one.


def test_a_depth_that_does_not_exist_is_named():
  with pytest.raises(
    errors.UsageError, match=r'resnet\.depth cannot be 51;.*50'
  ):
    resnet.resnet((64, 64, 3), 10, depth=51)


def test_resnet50_strides_in_the_3x3(resnet50):
  strided = {x.name: x for x in _convolutions(resnet50) if x.strides != (1, 1)}
  expected = {'conv1': (7, 7)}
  for stage in (2, 3, 4):
    expected[f'layer{stage}.0.conv2'] = (3, 3)
    expected[f'layer{stage}.0.downsample.0'] = (1, 1)
  assert {name: x.kernel_size for name, x in strided.items()} == expected
  assert all(layer.strides == (2, 2) for layer in strided.values())


def test_each_stage_halves_the_resolution():
  model = resnet.resnet50((65, 97, 3), 7)
  sides = [(17, 25), (9, 13), (5, 7), (3, 4)]
  found = [
    tuple(layer.output.shape[1:])
    for layer in model.layers
    if isinstance(layer, keras.layers.Add)
  ]
  assert found == [
    (*side, 256 * 2**stage)
    for stage, side in enumerate(sides)
    for _ in range((3, 4, 6, 3)[stage])
  ]


def test_resnet50_starts_as_the_released_code(resnet50):
  last = 0
  for layer in resnet50.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
      assert layer.momentum == 0.9 and layer.epsilon == 1e-5
      zero = layer.name.endswith('bn3')
      last += zero
      assert (layer.gamma.numpy() == (0 if zero else 1)).all()
      assert not layer.beta.numpy().any()
      continue
    if isinstance(layer, keras.layers.Conv2D):
      kernel = layer.kernel.numpy()
      expected = np.sqrt(1 / np.prod(kernel.shape[:-1]))  # By inputs.
    elif isinstance(layer, keras.layers.Dense):
      kernel, expected = layer.kernel.numpy(), 0.01
      assert not layer.bias.numpy().any()
    else:
      continue
    error = 5 / np.sqrt(2 * kernel.size)
    assert kernel.std() == pytest.approx(expected, rel=error), layer.name
    assert abs(kernel.mean()) < 5 * expected / np.sqrt(kernel.size)
  assert last == 16


def test_strided_convolutions_are_padded_alike_on_both_sides():
  # Ones convolved with ones count the pixels under the kernel: 'same' padding
  # of sides of even length would give these counts in reverse.
  model = resnet.resnet50((64, 64, 1), 2)
  stem = model.get_layer('conv1')
  stem.kernel.assign(tf.ones_like(stem.kernel))
  counts = keras.Model(model.input, stem.output)(np.ones((1, 64, 64, 1)))
  rows = [4, 6, *[7] * 29, 5]  # Pixels -3..3, -1..5, ... and 59..65 of 0..63.
  np.testing.assert_array_equal(counts[0, :, :, 0], np.outer(rows, rows))
  # The second stage begins with 16.
  layer = model.get_layer('layer2.0.conv2')
  padding = next(x for x in model.layers if x.output is layer.input)
  layer.kernel.assign(tf.ones_like(layer.kernel))
  counts = layer(padding(np.ones((1, 16, 16, 128))))[0, :, :, 0] / 128
  rows = [2, *[3] * 7]
  np.testing.assert_array_equal(counts, np.outer(rows, rows))


@pytest.mark.parametrize('policy', ['float64'], indirect=True)
@pytest.mark.parametrize('factory', [resnet.small_resnet, _resnet18])
def test_float64_is_float64_throughout(policy, factory, randomise):
  model = factory((20, 20, 3), 4)
  randomise(model)
  images = np.random.default_rng(0).normal(size=(2, 20, 20, 3))
  logits = model(images, training=False)
  assert logits.dtype == tf.float64
  assert {v.dtype for v in model.variables} == {'float64'}
  # What float32 cannot see reaches the logits.
  assert (model(images + 1e-10, training=False) != logits).numpy().any()


@pytest.mark.parametrize('policy', ['mixed_bfloat16'], indirect=True)
@pytest.mark.parametrize('factory', [resnet.small_resnet, _resnet18])
def test_mixed_bfloat16_keeps_variables_and_logits_in_float32(
  policy, factory, randomise
):
  model = factory((32, 32, 3), 4)
  randomise(model)
  images = tf.constant(
    np.random.default_rng(0).normal(size=(8, 32, 32, 3)), tf.float32
  )
  convolutions = _convolutions(model)
  assert all(x.output.dtype == 'bfloat16' for x in convolutions)
  weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
  before = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]
  with tf.GradientTape() as tape:
    tape.watch(weights)
    logits, moving = model.stateless_call(
      weights, before, images, training=True
    )
    loss = tf.reduce_mean(tf.square(logits))
  gradients = tape.gradient(loss, weights)
  assert {x.dtype for x in [*weights, *gradients, *moving]} == {tf.float32}
  assert logits.dtype == model(images).dtype == tf.float32
  assert all(np.isfinite(x).all() for x in [*gradients, *moving])
  # The averages move, and have more digits than bfloat16 can hold. A single one
  # may by chance be what it was: which one depends on the processor.
  for old, new in zip(before, moving, strict=True):
    rounded = tf.cast(tf.cast(new, tf.bfloat16), tf.float32)
    assert (new != old).numpy().mean() > 0.9
    assert (new != rounded).numpy().mean() > 0.9


@pytest.mark.parametrize('policy', ['mixed_bfloat16'], indirect=True)
def test_mixed_bfloat16_normalises_as_float32_does(policy):
  values = np.random.default_rng(1).normal(3, 2, (6, 5, 4, 3))
  outcome = []
  for dtype in (policy, 'float32'):
    layer = batch_norm.BatchNormalization(momentum=0.9, dtype=dtype)
    outputs = layer(tf.constant(values, tf.bfloat16), training=True)
    outcome.append((outputs, layer.moving_mean, layer.moving_variance))
  assert outcome[0][0].dtype == tf.bfloat16
  for mixed, single in zip(*outcome, strict=True):
    digits = 1e-6 if mixed.dtype == 'float32' else 2**-7
    np.testing.assert_allclose(
      tf.cast(mixed, tf.float32), single, rtol=digits, atol=digits
    )


def test_resnet_survives_saving_in_safe_mode(randomise, tmp_path):
  model = resnet.resnet((40, 32, 3), 4, depth=18)
  randomise(model)
  path = tmp_path / 'model.keras'
  model.save(path)
  loaded = keras.saving.load_model(path, safe_mode=True)
  images = np.random.default_rng(0).normal(size=(2, 40, 32, 3))
  np.testing.assert_array_equal(loaded(images), model(images))
  norms = {type(x) for x in loaded.layers if 'bn' in x.name}
  assert norms == {batch_norm.BatchNormalization}


def test_no_convolution_of_one_pixel_is_strided():
  # TensorFlow 2.21 crashes in the gradient of some on a CPU.
  model = resnet.small_resnet((16, 16, 3), 4, width=8)
  ones = [
    layer.strides
    for layer in model.layers
    if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1)
  ]
  assert ones == [(1, 1)] * 2
