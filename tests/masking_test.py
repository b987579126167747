"""Tests of masking: what is replaced, what stays, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import masking, randomness

SHAPE = (3, 9, 7, 3)
FILL = (125.2, 0.0, 254.9)
THRESHOLDS = (1, 37, 100)


def _images(dtype=np.uint8):
  values = np.random.default_rng(0).integers(0, 256, SHAPE)
  return values.astype(dtype)


def _levels(depth):
  generator = np.random.default_rng(1)
  return generator.integers(1, 101, (*SHAPE[:3], depth)).astype(np.uint8)


def test_is_the_public_mask():
  assert roar_tf.mask is masking.mask


@pytest.mark.parametrize('depth', [1, 3])
def test_remove_and_keep_sum_to_original_and_fill(depth):
  images, levels = _images(), _levels(depth)
  removed, kept = (
    masking.mask(images, levels, threshold=37, mode=mode, fill=FILL)
    for mode in masking.MODES
  )
  assert removed.dtype == kept.dtype == tf.uint8
  colour = np.array([125, 0, 255])
  np.testing.assert_array_equal(
    removed.numpy().astype(int) + kept.numpy(), images.astype(int) + colour
  )


@pytest.mark.parametrize('mode', masking.MODES)
@pytest.mark.parametrize('depth', [1, 3])
def test_exactly_the_levels_up_to_the_threshold_are_selected(depth, mode):
  images, levels = _images(np.int32), _levels(depth)
  for threshold in THRESHOLDS:
    masked = masking.mask(
      images, levels, threshold=threshold, mode=mode, fill=[-1, -1, -1]
    ).numpy()
    selected = np.broadcast_to(levels <= threshold, SHAPE)
    replaced = selected if mode == 'remove' else ~selected
    np.testing.assert_array_equal(masked == -1, replaced)
    np.testing.assert_array_equal(masked[~replaced], images[~replaced])


@pytest.mark.parametrize('mode', masking.MODES)
def test_untouched_floats_keep_every_bit(mode):
  generator = np.random.default_rng(3)
  # Any bit pattern: signed zeros, subnormal numbers, infinities and NaNs.
  images = generator.integers(0, 2**32, SHAPE, np.uint32).view(np.float32)
  images[0, :2] = -0.0
  levels = _levels(1)
  masked = masking.mask(
    images, levels, threshold=50, mode=mode, fill=[0, 0, 0]
  ).numpy()
  stays = (levels > 50) if mode == 'remove' else (levels <= 50)
  stays = np.broadcast_to(stays, SHAPE)
  assert 0 < stays.sum() < stays.size
  np.testing.assert_array_equal(
    masked.view(np.uint32)[stays], images.view(np.uint32)[stays]
  )


def test_fill_is_rounded_for_integers_and_exact_for_floats():
  everything = np.ones((1, 2, 2, 1), np.uint8)
  for dtype, expected in (
    (np.uint8, [125, 0, 255]),
    (np.int32, [125, 0, 255]),
    (np.float32, FILL),
    (np.float64, FILL),
  ):
    masked = masking.mask(
      np.full((1, 2, 2, 3), 7, dtype), everything, threshold=1, fill=FILL
    )
    np.testing.assert_array_equal(
      masked, np.broadcast_to(np.array(expected, dtype), (1, 2, 2, 3))
    )


def test_a_fill_of_other_channels_is_refused():
  images = np.zeros((1, 2, 2, 4), np.uint8)
  levels = np.ones((1, 2, 2, 1), np.uint8)
  with pytest.raises(ValueError, match='fill of 3 channels.*of 4'):
    masking.mask(images, levels, threshold=1, fill=FILL)


@pytest.mark.parametrize('depth', [1, 3])
@pytest.mark.parametrize('mode', masking.MODES)
def test_custom_fill_is_told_what_is_removed_and_the_keys(depth, mode):
  images, levels = _images(np.float32), _levels(depth)
  keys = randomness.keys_of_ids(['a', 'b', 'c'])
  told = []

  def fill(images, removed, keys):
    told.append((images, removed, keys))
    noise = randomness.uniform(keys, images.shape[1:])
    return -1 - tf.where(removed, noise, noise * 0)

  masked = masking.mask(
    images, levels, threshold=30, mode=mode, fill=fill, keys=keys
  ).numpy()
  [(seen, removed, seen_keys)] = told
  expected = (levels <= 30) if mode == 'remove' else (levels > 30)
  assert removed.dtype == tf.bool and removed.shape == levels.shape
  np.testing.assert_array_equal(removed, expected)
  np.testing.assert_array_equal(seen, images)
  np.testing.assert_array_equal(seen_keys, keys)
  expected = np.where(
    np.broadcast_to(expected, SHAPE),
    -1 - randomness.uniform(keys, SHAPE[1:]).numpy(),
    images,
  )
  np.testing.assert_array_equal(masked, expected)


def test_eager_and_inside_dataset_map_give_the_same_bytes():
  images, levels = _images(), _levels(3)
  eager = masking.mask(images, levels, threshold=37, fill=FILL)
  dataset = tf.data.Dataset.from_tensor_slices((images, levels)).batch(2)
  for threshold in (37, tf.constant(37, tf.int64)):
    mapped = dataset.map(
      lambda image, level, threshold=threshold: masking.mask(
        image, level, threshold=threshold, fill=FILL
      )
    )
    np.testing.assert_array_equal(
      np.concatenate(list(mapped.as_numpy_iterator())), eager
    )


@pytest.mark.parametrize(
  'threshold',
  [0, 101, 12.5, True, '50', None, [50], np.nan, np.inf]
  + [tf.constant(300), tf.constant(-1), tf.constant(12.5), tf.constant([50])],
  ids=str,
)
def test_thresholds_that_are_no_whole_percentage_are_refused(threshold):
  with pytest.raises(ValueError, match='whole percentage from 1 to 100'):
    masking.mask(_images(), _levels(1), threshold=threshold, fill=FILL)


@pytest.mark.parametrize('threshold', [0, 300, -1])
def test_a_threshold_of_a_graph_is_checked_when_it_runs(threshold):
  @tf.function
  def mask(threshold):
    return masking.mask(_images(), _levels(1), threshold=threshold, fill=FILL)

  expected = masking.mask(_images(), _levels(1), threshold=37, fill=FILL)
  np.testing.assert_array_equal(mask(tf.constant(37)), expected)
  with pytest.raises(tf.errors.InvalidArgumentError, match='whole percentage'):
    mask(tf.constant(threshold))


@pytest.mark.parametrize(
  ('dtype', 'fill', 'message'),
  [
    (np.uint8, [300, 0, 0], 'uint8 images must be from 0 to 255, found'),
    (np.uint8, -1, 'from 0 to 255, found -1'),
    (np.int16, 40000, 'int16 images must be from -32768 to 32767'),
    (np.uint8, [np.nan, 0, 0], 'finite number.*nan'),
    (np.float32, [0, np.inf, 0], 'finite number.*inf'),
    (np.uint8, [0.485, 0.456, 0.406], r'looks like 0\.\.1: multiply it by 255'),
    (np.uint8, 'mean', "function such as those of roar_tf.fills, found 'mean'"),
    (np.uint8, None, 'finite number.*None'),
    (np.uint8, lambda x, *_: tf.cast(x, tf.float32), 'return uint8.*float32'),
    (np.uint8, lambda x, *_: x[:, :2], r'must return uint8 .*\(3, 2, 7, 3\)'),
  ],
)
def test_a_fill_that_the_images_cannot_hold(dtype, fill, message):
  with pytest.raises(ValueError, match=message):
    masking.mask(_images(dtype), _levels(1), threshold=50, fill=fill)


def test_black_white_and_colours_beyond_255_of_floats_are_colours():
  for dtype, fill in ((np.uint8, [0, 1, 255]), (np.float32, [0.5, -1, 300])):
    masked = masking.mask(
      _images(dtype), np.ones((*SHAPE[:3], 1), np.uint8), threshold=1, fill=fill
    )
    np.testing.assert_array_equal(masked[0, 0, 0], np.array(fill, dtype))


def test_unknown_mode_is_refused():
  with pytest.raises(ValueError, match="'remove', 'keep'.*'roar'"):
    masking.mask(_images(), _levels(1), threshold=5, mode='roar', fill=FILL)


@pytest.mark.parametrize(
  'levels',
  [
    _levels(1).astype(np.int32),
    _levels(1)[..., 0],
  ],
  ids=['int32', 'rank 3'],
)
def test_levels_of_another_type_or_rank_are_refused(levels):
  with pytest.raises(ValueError, match='levels must be uint8'):
    masking.mask(_images(), levels, threshold=5, fill=FILL)


@pytest.mark.parametrize(
  ('images', 'levels'),
  [
    (_images(), _levels(1)[:, :8]),
    (_images()[..., :1], _levels(3)),
    (_images()[0], _levels(1)),
    (_images(), _levels(1)[:1]),
  ],
  ids=['height', 'channels', 'no batch', 'one map'],
)
def test_levels_of_other_images_are_refused(images, levels):
  with pytest.raises(ValueError, match='do not fit'):
    masking.mask(images, levels, threshold=5, fill=[1] * images.shape[-1])
