"""Tests of the augmentations against NumPy, value by value."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from roar_tf.training import augmentation

ALMOST_ONE = 1 - 2.0**-24
EXACT = ('none', 'flip', 'pad_crop_flip')
"""Augmentations that move whole pixels."""


def _images(count=40, shape=(7, 9, 3)):
  generator = np.random.default_rng(0)
  return generator.integers(0, 256, (count, *shape), np.uint8)


def _uniforms(count=40, seed=1):
  generator = np.random.default_rng(seed)
  values = generator.random((count, 5)).astype(np.float32)
  values[:4] = [
    [0, 0, 0, 0, 0],
    [ALMOST_ONE] * 5,
    [0, ALMOST_ONE, 0, ALMOST_ONE, 0],
    [0.5, 0, ALMOST_ONE, 0, ALMOST_ONE],
  ]
  return values


def _reference(image, uniforms):
  """`pad_crop_flip` of one image."""
  border = augmentation.PADDING
  padded = np.pad(image, [[border] * 2, [border] * 2, [0, 0]], 'reflect')
  top, left = (int(u * (2 * border + 1)) for u in uniforms[1:3].astype(float))
  height, width, _ = image.shape
  crop = padded[top : top + height, left : left + width]
  return crop if uniforms[0] < 0.5 else crop[:, ::-1]


def _close(name, found, expected):
  """Matrix products of another batch may differ in the last bits."""
  if name in EXACT:
    np.testing.assert_array_equal(found, expected)
  else:
    np.testing.assert_allclose(found, expected, atol=1e-3)


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


@pytest.mark.parametrize('name', augmentation.AUGMENTATIONS)
def test_outcome_of_an_example_does_not_depend_on_the_batch(name):
  augment = augmentation.AUGMENTATIONS[name]
  images, uniforms = _images(), _uniforms()
  together = np.asarray(augment(images, uniforms))
  order = np.random.default_rng(2).permutation(40)
  _close(name, augment(images[order], uniforms[order]), together[order])
  _close(name, augment(images[3:5], uniforms[3:5]), together[3:5])


@pytest.mark.parametrize('name', augmentation.AUGMENTATIONS)
def test_eager_and_inside_dataset_map_give_the_same_bytes(name):
  augment = augmentation.AUGMENTATIONS[name]
  images, uniforms = _images(), _uniforms()
  dataset = tf.data.Dataset.from_tensor_slices((images, uniforms)).batch(16)
  mapped = np.concatenate(list(dataset.map(augment).as_numpy_iterator()))
  _close(name, mapped, augment(images, uniforms))


@pytest.mark.parametrize('name', augmentation.AUGMENTATIONS)
def test_compiles_under_xla_and_agrees(name):
  augment = augmentation.AUGMENTATIONS[name]
  images, uniforms = tf.constant(_images()), tf.constant(_uniforms())
  compiled = tf.function(augment, jit_compile=True)(images, uniforms)
  np.testing.assert_allclose(compiled, augment(images, uniforms), atol=0.05)


# --- resized_crop_flip --------------------------------------------------------


def test_a_resized_crop_is_what_tensorflow_one_makes_of_the_rectangle():
  images, uniforms = _images(shape=(40, 60, 3)), _uniforms()
  outcome = augmentation.resized_crop_flip(images, uniforms).numpy()
  assert outcome.dtype == np.float32
  rectangles = np.transpose(augmentation.crops(uniforms[:, 1:], 40, 60))
  for image, draws, found, rectangle in zip(
    images, uniforms, outcome, rectangles.astype(int), strict=True
  ):
    top, left, height, width = rectangle
    # No resize_bicubic of TensorFlow 2's own interface is the one of 1.
    expected = tf.raw_ops.ResizeBicubic(
      images=image[None, top : top + height, left : left + width],
      size=[40, 60],
      align_corners=False,
      half_pixel_centers=False,
    ).numpy()[0]
    if draws[0] >= 0.5:
      expected = expected[:, ::-1]
    # TensorFlow looks its weights up in a table of 1,024 places.
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_random_rectangles_stay_inside_and_within_area_and_aspect():
  generator = np.random.default_rng(0)
  uniforms = generator.random((20000, 4)).astype(np.float32)
  uniforms[:3] = [[0] * 4, [ALMOST_ONE] * 4, [0.5, ALMOST_ONE, 0.5, 0.5]]
  for size in ((224, 224), (30, 60), (60, 30), (8, 8)):
    top, left, height, width = map(
      np.array, augmentation.crops(uniforms, *size)
    )
    for value in (top, left, height, width):
      np.testing.assert_array_equal(value, np.round(value))
    assert top.min() >= 0 and left.min() >= 0 and width.min() >= 1
    assert (top + height).max() <= size[0]
    assert (left + width).max() <= size[1]
    area = height * width / (size[0] * size[1])
    assert area.min() >= 0.08 and area.max() <= 1
    # Widths are rounded to whole pixels.
    assert (width >= height * 0.75 - 0.5 - 1e-4).all()
    assert (width <= height * 4 / 3 + 0.5 + 1e-4).all()


def test_random_rectangles_are_distributed_as_tensorflows():
  count, size = 4000, 96

  @tf.function
  def theirs():
    def one(seed):
      begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        [size, size, 3],
        tf.zeros([1, 0, 4]),
        seed=tf.stack([seed, 7]),
        min_object_covered=0.0,
        aspect_ratio_range=augmentation.ASPECT,
        area_range=augmentation.AREA,
        use_image_if_no_bounding_boxes=True,
      )
      return tf.concat([begin[:2], extent[:2]], 0)

    return tf.map_fn(one, tf.range(count))

  uniforms = np.random.default_rng(0).random((count, 4)).astype(np.float32)
  ours = np.transpose(augmentation.crops(uniforms, size, size))
  reference = theirs().numpy().astype(float)
  for column in range(4):
    found = stats.ks_2samp(ours[:, column], reference[:, column])
    assert found.pvalue > 1e-4, column
