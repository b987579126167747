"""Train-time augmentations, stateless per example.

Each takes uint8 or float images [B, H, W, C] and float32 uniforms
[B, draws] in [0, 1), and returns images of the same shape. They act on the
already masked image. All but `resized_crop_flip` move whole pixels and return
the type they were given, so that masked values stay exact.
"""

from __future__ import annotations

from collections.abc import Callable

from roar_tf.lazy import tf
from roar_tf.training import resampling

PADDING = 4
"""Pixels of reflection around an image before it is cropped at random."""

AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
"""Range of the random crop's share of the image, and of width over height."""

AUGMENTATIONS: dict[str, Callable] = {}
"""All of them by name; each has `draws`, the uniforms that it uses."""


def _augmentation(draws: int):
  def register(function):
    function.draws = draws
    AUGMENTATIONS[function.__name__] = function
    return function

  return register


@_augmentation(draws=0)
def none(images, uniforms):
  """Returns the images as they are."""
  del uniforms
  return images


@_augmentation(draws=1)
def flip(images, uniforms):
  """Mirrors half of the images from left to right."""
  return tf.where(
    uniforms[:, 0, None, None, None] < 0.5, images, tf.reverse(images, [2])
  )


@_augmentation(draws=3)
def pad_crop_flip(images, uniforms):
  """Shifts by up to 4 pixels either way (reflected border), then flips."""
  height, width = images.shape[1:3]
  padded = tf.pad(
    images, [[0, 0], [PADDING] * 2, [PADDING] * 2, [0, 0]], 'REFLECT'
  )
  offsets = tf.cast(uniforms[:, 1:3] * (2 * PADDING + 1), tf.int32)
  rows = offsets[:, :1] + tf.range(height)
  columns = offsets[:, 1:] + tf.range(width)
  images = tf.gather(padded, rows, axis=1, batch_dims=1)
  images = tf.gather(images, columns, axis=2, batch_dims=1)
  return flip(images, uniforms)


@_augmentation(draws=5)
def resized_crop_flip(images, uniforms):
  """Crops at random, resizes to the full size, flips: the paper's augmentation.

  The released code (`preprocess_for_train`) draws a rectangle as
  `tf.image.sample_distorted_bounding_box` does, of 8 to 100 % of the area and
  an aspect ratio of 3/4 to 4/3, and resizes it by `resize_bicubic`, see
  `resampling`. Its additional demand that a rectangle cover a tenth of the
  image (min_object_covered) is not made here.

  Both resamplings are matrix products, which keep a TPU busy where gathers
  would stall it; it rounds their weights to bfloat16.

  Returns:
    float32 [B, H, W, C], not rounded; cubic weights may overshoot 0..255.
  """
  size = images.shape[1:3]
  images = tf.cast(images, tf.float32)
  top, left, height, width = crops(uniforms[:, 1:], *size)
  rows = _resizing(top, height, size[0])
  columns = _resizing(left, width, size[1])
  columns = tf.where(
    uniforms[:, 0, None, None] < 0.5, columns, tf.reverse(columns, [1])
  )
  for matrix in (rows, columns):
    # The axis to be resampled is the first; the other one takes its place.
    flat = tf.reshape(images, [-1, images.shape[1], _size(images.shape[2:])])
    images = tf.reshape(matrix @ flat, [-1, *images.shape[1:]])
    images = tf.transpose(images, [0, 2, 1, 3])
  return images


def crops(uniforms, image_height: int, image_width: int):
  """Returns random rectangles as `tf.image.sample_distorted_bounding_box` does.

  The aspect ratio is uniform, then the height is uniform on what AREA and the
  image allow, the width follows, then the place is uniform.

  Args:
    uniforms: float32 [B, 4] in [0, 1).
    image_height: pixels.
    image_width: pixels.

  Returns:
    (top, left, height, width), each float32 [B], whole numbers.
  """
  aspect = ASPECT[0] + uniforms[:, 0] * (ASPECT[1] - ASPECT[0])
  area = float(image_height * image_width)
  lowest, highest = (tf.round(tf.sqrt(a * area / aspect)) for a in AREA)
  # The largest height whose rounded width is inside the image.
  fits = tf.floor((image_width + 0.5) / aspect)
  fits -= tf.cast(tf.round(fits * aspect) > image_width, tf.float32)
  highest = tf.minimum(tf.minimum(highest, fits), float(image_height))
  lowest = tf.minimum(lowest, highest)
  height = lowest + tf.floor(uniforms[:, 1] * (highest - lowest + 1))
  # Rounding may take a little off the smallest area.
  small = height * tf.round(height * aspect) < AREA[0] * area
  height += tf.cast(small, tf.float32)
  height = tf.minimum(height, float(image_height))
  width = tf.minimum(tf.round(height * aspect), float(image_width))
  top = tf.floor(uniforms[:, 2] * (image_height - height))
  left = tf.floor(uniforms[:, 3] * (image_width - width))
  return top, left, height, width


def _resizing(start, length, size: int) -> tf.Tensor:
  """Returns matrices that resize parts of an axis to the whole of it.

  Args:
    start: float32 [B], first pixel of the part.
    length: float32 [B], pixels of the part.
    size: pixels of the axis.

  Returns:
    float32 [B, size, size]; row i makes value i of the outcome.
  """
  pixels = tf.range(size, dtype=tf.float32)
  place = pixels * (length / size)[:, None]
  first = tf.floor(place)
  matrix = 0.0
  for tap, weight in enumerate(resampling.weights(place - first)):
    # A value beyond the part is that of its border.
    index = tf.clip_by_value(first + tap - 1, 0.0, length[:, None] - 1)
    here = index + start[:, None]
    matrix += tf.where(here[..., None] == pixels, weight[..., None], 0.0)
  return matrix


def _size(shape) -> int:
  return shape.num_elements()
