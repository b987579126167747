"""Tests of fills: what they are made of, and that batches do not matter."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from roar_tf import fills, inpainting, masking, randomness

SHAPE = (7, 9, 8, 3)
MEAN = (120.4, 0.0, 99.6)
COMPUTED = ('blurred', 'noisy_linear')
"""What is neither a colour nor the same for all images."""


@pytest.fixture(scope='module')
def made():
  """Fills by name: each is compiled once."""
  return {name: fills.named(name, MEAN) for name in fills.NAMES}


@pytest.fixture(scope='module')
def noiseless():
  return fills.noisy_linear(MEAN, noise=0)


def _images(dtype=np.uint8):
  return np.random.default_rng(0).integers(0, 256, SHAPE).astype(dtype)


def _levels(depth=1):
  generator = np.random.default_rng(1)
  return generator.integers(1, 101, (*SHAPE[:3], depth)).astype(np.uint8)


def _keys(count=SHAPE[0]):
  return randomness.keys_of_ids([f'image {i}' for i in range(count)])


def _mask(fill, images=None, depth=1, threshold=60, mode='remove', keys=None):
  return masking.mask(
    _images() if images is None else images,
    _levels(depth),
    threshold=threshold,
    mode=mode,
    fill=fill,
    keys=_keys() if keys is None else keys,
  ).numpy()


@pytest.mark.parametrize('name', fills.NAMES)
@pytest.mark.parametrize('depth, mode', [(1, 'remove'), (3, 'keep')])
def test_what_is_not_removed_stays(name, depth, mode, made):
  masked = _mask(made[name], depth=depth, mode=mode)
  selected = np.broadcast_to(_levels(depth) <= 60, SHAPE)
  stays = ~selected if mode == 'remove' else selected
  assert masked.dtype == np.uint8 and masked.shape == SHAPE
  np.testing.assert_array_equal(masked[stays], _images()[stays])
  assert (masked[~stays] != _images()[~stays]).mean() > 0.8


@pytest.mark.parametrize('name', ['mean', 'imagenet_mean', 'zero', 'blurred'])
def test_remove_and_keep_sum_to_original_and_fill(name, made):
  fill = made[name](
    tf.constant(_images()), tf.ones((*SHAPE[:3], 1), tf.bool), _keys()
  )
  removed, kept = (
    _mask(made[name], mode=mode).astype(int) for mode in masking.MODES
  )
  fill = fill.numpy().astype(int)
  np.testing.assert_array_equal(removed + kept, _images() + fill)


def test_blurred_is_a_gaussian_of_the_shorter_side():
  images = _images(np.float64)
  sigma = 0.2 * 8
  np.testing.assert_allclose(
    _mask(fills.blurred(0.2), images, threshold=100),
    scipy.ndimage.gaussian_filter(images, (0, sigma, sigma, 0)),
    rtol=1e-12,
  )
  # 10 pixels at 224 x 224.
  assert fills.BLUR * 224 == pytest.approx(10)


def test_noisy_linear_without_noise_is_the_linear_system(noiseless):
  images = _images(np.float32)
  removed = np.broadcast_to(_levels(3) <= 60, SHAPE)
  found = _mask(noiseless, images, depth=3)
  # Every removed value is the weighted mean of its neighbours.
  kernel = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
  reach = scipy.ndimage.convolve(np.ones(SHAPE[1:3]), kernel, mode='constant')
  for image, mask, one in zip(images, removed, found, strict=True):
    for channel in range(3):
      there, values = mask[..., channel], one[..., channel]
      sums = scipy.ndimage.convolve(values, kernel, mode='constant')
      np.testing.assert_allclose(
        values[there], (sums / reach)[there], atol=0.05
      )
      np.testing.assert_array_equal(values[~there], image[..., channel][~there])


def test_noise_has_its_size_and_falls_on_removed_values_alone(made):
  shape = (100, *SHAPE[1:])
  levels = np.full((*shape[:3], 1), 1, np.uint8)
  levels[:, 0] = 100
  masked = masking.mask(
    np.full(shape, 100, np.uint8),
    levels,
    threshold=50,
    fill=made['noisy_linear'],
    keys=_keys(100),
  ).numpy()
  assert (masked[:, 0] == 100).all()
  noise = masked[:, 1:] - 100.0
  # 0.01 of the range from black to white, and rounding.
  assert noise.std() == pytest.approx((2.55**2 + 1 / 12) ** 0.5, rel=0.03)
  assert abs(noise.mean()) < 5 * 2.55 / noise.size**0.5
  # Neighbours, channels and images have their own.
  for a, b in (
    (noise[1:], noise[:-1]),
    (noise[:, :, 1:], noise[:, :, :-1]),
    (noise[..., 1:], noise[..., :-1]),
  ):
    assert abs((a * b).mean()) < 5 * 2.55**2 / a.size**0.5


def test_noise_depends_on_the_key_alone(made):
  fill, order = made['noisy_linear'], [3, 0, 6, 1, 2, 5, 4]
  together = _mask(fill)
  shuffled = masking.mask(
    _images()[order],
    _levels()[order],
    threshold=60,
    fill=fill,
    keys=tf.gather(_keys(), order),
  )
  np.testing.assert_array_equal(shuffled, together[order])
  others = _mask(fill, keys=_keys() + 1)
  removed = np.broadcast_to(_levels() <= 60, SHAPE)
  assert (others != together)[removed].mean() > 0.6
  # A standard deviation of 2.55 for either.
  gap = (others.astype(float) - together)[removed]
  assert gap.std() == pytest.approx(2**0.5 * fills.NOISE, rel=0.15)


def test_an_image_of_which_nothing_is_left_is_the_mean_and_noise(made):
  images = np.full((8, *SHAPE[1:]), 7, np.uint8)
  masked = masking.mask(
    images,
    np.ones((8, *SHAPE[1:3], 1), np.uint8),
    threshold=100,
    fill=made['noisy_linear'],
    keys=_keys(8),
  ).numpy()
  means = masked.mean(axis=(0, 1, 2))
  np.testing.assert_allclose(means[[0, 2]], [MEAN[0], MEAN[2]], atol=0.6)
  # Black stays in 0..255: half of the noise is cut off.
  assert masked[..., 1].max() < 15 and (masked[..., 1] == 0).mean() > 0.4


def test_a_channel_of_which_nothing_is_left_is_its_mean_the_others_are_solved(
  noiseless,
):
  images = np.full((1, *SHAPE[1:]), 200.0, np.float32)
  levels = np.full((1, *SHAPE[1:]), 1, np.uint8)
  levels[:, 2, 3, :2] = 100
  masked = masking.mask(images, levels, threshold=50, fill=noiseless).numpy()
  np.testing.assert_allclose(masked[..., :2], 200, atol=0.05)
  np.testing.assert_allclose(masked[..., 2], MEAN[2], rtol=1e-6)


# --- one image at a time ------------------------------------------------------


@pytest.mark.parametrize('depth', [1, 3])
@pytest.mark.parametrize('name', COMPUTED)
def test_bytes_do_not_depend_on_the_batch(name, depth, made):
  images, levels, keys = _images(), _levels(depth), _keys()
  together = _mask(made[name], depth=depth)

  def masked(images, levels, keys):
    return masking.mask(
      images, levels, threshold=60, fill=made[name], keys=keys
    )

  for size in (1, 3, 4):
    parts = [
      masked(images[i : i + size], levels[i : i + size], keys[i : i + size])
      for i in range(0, len(images), size)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    # Batches without a static size, in parallel, the last one partial.
    pipeline = (
      tf.data.Dataset.from_tensor_slices((images, levels, keys))
      .batch(size)
      .map(masked, num_parallel_calls=2)
    )
    parts = [batch.numpy() for batch in pipeline]
    np.testing.assert_array_equal(np.concatenate(parts), together)


def test_compiles_as_a_part_of_a_larger_program(made):
  removed, fill = tf.constant(_levels(3) <= 60), made['blurred']
  compiled = tf.function(lambda *arguments: fill(*arguments), jit_compile=True)(
    tf.constant(_images()), removed, _keys()
  )
  found = fill(tf.constant(_images()), removed, _keys())
  assert np.abs(compiled.numpy().astype(int) - found).max() <= 1


def test_floats_are_not_rounded(made):
  masked = _mask(made['blurred'], _images(np.float64))
  rounded = _mask(made['blurred'])
  assert masked.dtype == np.float64
  np.testing.assert_allclose(masked, rounded, atol=0.6)
  removed = np.broadcast_to(_levels() <= 60, SHAPE)
  assert (masked != np.rint(masked))[removed].all()


@pytest.mark.parametrize('name', fills.NAMES)
def test_equal_fills_are_compiled_once(name):
  assert fills.named(name, np.array(MEAN)) is fills.named(name, list(MEAN))
  assert fills.named(name, MEAN) is not fills.named(name, (1.0, 2.0, 3.0))


def test_every_number_behind_a_fill_is_in_its_settings():
  assert set(fills.settings('noisy_linear').values()) == {
    fills.NOISE,
    inpainting.ITERATIONS,
  }
  assert list(fills.settings('blurred').values()) == [fills.BLUR]
  for name in ('mean', 'zero', 'imagenet_mean'):
    assert fills.settings(name) == {}
