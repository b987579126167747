"""Tests of the augmentations against NumPy, value by value."""

import numpy as np
import pytest
import tensorflow as tf

from roar_tf.training import augmentation

ALMOST_ONE = 1 - 2.0**-24


def _images(dtype=np.uint8, count=40, shape=(7, 9, 3)):
  generator = np.random.default_rng(0)
  return generator.integers(0, 256, (count, *shape)).astype(dtype)


def _uniforms(count=40, seed=1):
  generator = np.random.default_rng(seed)
  values = generator.random((count, augmentation.DRAWS)).astype(np.float32)
  values[:4] = [
    [0, 0, 0],
    [ALMOST_ONE] * 3,
    [0, ALMOST_ONE, 0],
    [0.5, 0, ALMOST_ONE],
  ]
  return values


def _reference(image, uniforms):
  """`pad_crop_flip` of one image."""
  border = augmentation.PADDING
  padded = np.pad(image, [[border] * 2, [border] * 2, [0, 0]], 'reflect')
  top, left = (int(u * (2 * border + 1)) for u in uniforms[1:].astype(float))
  height, width, _ = image.shape
  crop = padded[top : top + height, left : left + width]
  return crop if uniforms[0] < 0.5 else crop[:, ::-1]


@pytest.mark.parametrize('name', augmentation.AUGMENTATIONS)
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_shape_and_type_stay_and_no_value_is_new(name, dtype):
  images = _images(dtype)
  outcome = augmentation.AUGMENTATIONS[name](images, _uniforms())
  outcome = tf.convert_to_tensor(outcome)
  assert outcome.dtype == dtype and outcome.shape == images.shape
  for old, new in zip(images, outcome.numpy(), strict=True):
    # Whole pixels move; their channels stay together.
    before = {tuple(pixel) for pixel in old.reshape(-1, 3)}
    assert {tuple(pixel) for pixel in new.reshape(-1, 3)} <= before


def test_none_is_the_identity():
  images = _images()
  np.testing.assert_array_equal(augmentation.none(images, _uniforms()), images)


def test_flip_is_the_identity_or_the_mirror_by_the_first_uniform():
  images, uniforms = _images(), _uniforms()
  outcome = augmentation.flip(images, uniforms).numpy()
  mirrored = uniforms[:, 0] >= 0.5
  assert 5 < mirrored.sum() < 35
  np.testing.assert_array_equal(outcome[~mirrored], images[~mirrored])
  np.testing.assert_array_equal(outcome[mirrored], images[mirrored, :, ::-1])


def test_pad_crop_flip_equals_the_reference():
  images, uniforms = _images(), _uniforms()
  outcome = augmentation.pad_crop_flip(images, uniforms)
  for found, image, draws in zip(outcome, images, uniforms, strict=True):
    np.testing.assert_array_equal(found, _reference(image, draws))


def test_pad_crop_flip_reaches_every_shift_and_both_sides():
  side = 2 * augmentation.PADDING + 1
  shifts = (np.arange(side) + 0.5) / side
  grid = np.stack(
    np.meshgrid([0.25, 0.75], shifts, shifts, indexing='ij'), axis=-1
  ).reshape(-1, 3)
  # Large enough that no reflected window is its own mirror.
  image = _images(count=1, shape=(11, 12, 3))
  images = np.tile(image, (len(grid), 1, 1, 1))
  outcome = augmentation.pad_crop_flip(images, grid.astype(np.float32)).numpy()
  assert len({image.tobytes() for image in outcome}) == 2 * side * side
  # The middle of the range is no shift.
  middle = len(grid) // 4
  np.testing.assert_array_equal(outcome[middle], images[0])


@pytest.mark.parametrize('name', augmentation.AUGMENTATIONS)
def test_outcome_of_an_example_does_not_depend_on_the_batch(name):
  augment = augmentation.AUGMENTATIONS[name]
  images, uniforms = _images(), _uniforms()
  together = np.asarray(augment(images, uniforms))
  order = np.random.default_rng(2).permutation(40)
  np.testing.assert_array_equal(
    augment(images[order], uniforms[order]), together[order]
  )
  np.testing.assert_array_equal(
    augment(images[3:5], uniforms[3:5]), together[3:5]
  )


@pytest.mark.parametrize('name', augmentation.AUGMENTATIONS)
def test_eager_and_inside_dataset_map_give_the_same_bytes(name):
  augment = augmentation.AUGMENTATIONS[name]
  images, uniforms = _images(), _uniforms()
  dataset = tf.data.Dataset.from_tensor_slices((images, uniforms)).batch(16)
  mapped = np.concatenate(list(dataset.map(augment).as_numpy_iterator()))
  np.testing.assert_array_equal(mapped, augment(images, uniforms))
