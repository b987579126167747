"""Train-time augmentations, stateless per example.

Each takes uint8 or float images [B, H, W, C] and float32 uniforms
[B, DRAWS] in [0, 1) and returns images of the same shape and dtype. They act on
the already masked image and never resample, so masked values stay exact.
"""

import tensorflow as tf

DRAWS = 3
"""Uniforms that one augmented example may use."""

PADDING = 4
"""Pixels of reflection around an image before it is cropped at random."""


def none(images, uniforms):
  """Returns the images as they are."""
  del uniforms
  return images


def flip(images, uniforms):
  """Mirrors half of the images from left to right."""
  return tf.where(
    uniforms[:, 0, None, None, None] < 0.5, images, tf.reverse(images, [2])
  )


def pad_crop_flip(images, uniforms):
  """Shifts by up to 4 pixels either way (reflected border), then flips."""
  height, width = images.shape[1:3]
  padded = tf.pad(
    images, [[0, 0], [PADDING] * 2, [PADDING] * 2, [0, 0]], 'REFLECT'
  )
  offsets = tf.cast(uniforms[:, 1:] * (2 * PADDING + 1), tf.int32)
  rows = offsets[:, :1] + tf.range(height)
  columns = offsets[:, 1:] + tf.range(width)
  images = tf.gather(padded, rows, axis=1, batch_dims=1)
  images = tf.gather(images, columns, axis=2, batch_dims=1)
  return flip(images, uniforms)


AUGMENTATIONS = {f.__name__: f for f in (none, flip, pad_crop_flip)}
