"""Tests of what images go through before they are evaluated."""

import numpy as np
import pytest
import tensorflow as tf

from roar_tf.training import preprocessing


def _images(shape=(28, 28, 3), count=4, seed=0):
  generator = np.random.default_rng(seed)
  return generator.integers(0, 256, (count, *shape)).astype(np.uint8)


def _released(images, size):
  """Resized to `size`, of which the middle is taken, by TensorFlow 1's own."""
  height, width = images.shape[1:3]
  large = tf.raw_ops.ResizeBicubic(
    images=images, size=size, align_corners=False, half_pixel_centers=False
  ).numpy()
  top, left = (size[0] - height + 1) // 2, (size[1] - width + 1) // 2
  return large[:, top : top + height, left : left + width]


@pytest.mark.parametrize('side', [224, 112, 28])
def test_center_crop_is_that_of_the_released_code(side):
  images = _images((side, side, 3), count=2)
  enlarged = side * 256 // 224
  if side == 224:
    assert enlarged == side + 32  # CROP_PADDING.
  cropped = preprocessing.center_crop(images)
  assert cropped.dtype == tf.float32 and cropped.shape == images.shape
  np.testing.assert_allclose(
    cropped, _released(images, (enlarged, enlarged)), atol=1e-3
  )
  assert (cropped.numpy() != np.round(cropped)).any()


@pytest.mark.parametrize('shape', [(16, 28, 3), (33, 20, 1), (9, 7, 3)])
def test_sides_are_cropped_by_one_formula_each(shape):
  images = _images(shape)
  size = [side * 256 // 224 for side in shape[:2]]
  # That op looks its weights up in a table of 1024 distances.
  np.testing.assert_allclose(
    preprocessing.center_crop(images), _released(images, size), atol=0.5
  )


def test_it_is_the_middle_that_is_seen():
  # 196 of 224, and the values that are mixed into its first and last.
  images = _images((224, 224, 1), count=1)
  other = images.copy()
  other[:, :12], other[:, -12:] = 0, 255
  other[:, :, :12], other[:, :, -12:] = 0, 255
  cropped = preprocessing.center_crop(images)
  np.testing.assert_array_equal(preprocessing.center_crop(other), cropped)
  other[:, 110] = 255 - other[:, 110]
  assert (preprocessing.center_crop(other) != cropped).numpy().any()
  # A ramp becomes flatter by 196 / 224, as well as a = -0.75 follows ramps.
  ramp = np.arange(224.0)[None, :, None, None] * np.ones((1, 1, 224, 1))
  expected = 14 + 0.875 * np.arange(224)
  np.testing.assert_allclose(
    preprocessing.center_crop(ramp)[0, :, 100, 0], expected, atol=0.05
  )


@pytest.mark.parametrize('jit_compile', [False, True], ids=['graph', 'xla'])
def test_compiled_it_gives_the_same(jit_compile):
  images = _images((28, 16, 3))
  compiled = tf.function(preprocessing.center_crop, jit_compile=jit_compile)
  np.testing.assert_allclose(
    compiled(images), preprocessing.center_crop(images), atol=1e-3
  )


def test_outcome_of_an_example_does_not_depend_on_the_batch():
  images = _images()
  together = preprocessing.center_crop(images).numpy()
  np.testing.assert_array_equal(
    preprocessing.center_crop(images[::-1]), together[::-1]
  )
  np.testing.assert_array_equal(
    preprocessing.center_crop(images[1:2]), together[1:2]
  )
