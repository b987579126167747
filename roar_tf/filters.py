"""Filters over the rows and columns of images and of maps, as scipy has them.

Arrays are floating [B, H, W, C] of static height, width and channels. Every
channel is filtered alone. Outside of the array its values are mirrored, those
at the border included: `mode='reflect'` of `scipy.ndimage`.
"""

from __future__ import annotations

import numpy as np

from roar_tf.lazy import tf

TRUNCATE = 4.0
"""Standard deviations after which a Gaussian ends, as in scipy."""


def gaussian(values, sigma: float) -> tf.Tensor:
  """Returns values [B, H, W, C] blurred by a Gaussian.

  Equals `scipy.ndimage.gaussian_filter(values, (0, sigma, sigma, 0))`.

  Args:
    values: float [B, H, W, C].
    sigma: standard deviation in pixels, not negative.
  """
  radius = int(TRUNCATE * sigma + 0.5)
  if not radius:
    return values
  places = np.arange(-radius, radius + 1)
  weights = np.exp(-0.5 * (places / sigma) ** 2)
  weights /= weights.sum()
  for axis in (1, 2):
    values = _weighted(values, weights, radius, axis)
  return values


def maximum(values, size: int) -> tf.Tensor:
  """Returns the largest of the size x size values around each place.

  Equals `scipy.ndimage.maximum_filter(values, (1, size, size, 1))`.

  Args:
    values: float [B, H, W, C].
    size: odd number of rows and columns, 1 or more.
  """
  return tf.nn.max_pool2d(values, size, 1, 'SAME')


def _weighted(values, weights, radius: int, axis: int) -> tf.Tensor:
  padded = _mirrored(values, radius, axis)
  # A batch may have any number of images.
  size = [-1, *values.shape[1:]]

  def moved(by):
    begin = [0] * padded.shape.rank
    begin[axis] = by
    return tf.slice(padded, begin, size)

  # Both sides of a Gaussian have equal weights.
  parts = [tf.constant(weights[radius], values.dtype) * moved(radius)]
  for i in range(radius):
    weight = tf.constant(weights[i], values.dtype)
    parts.append(weight * (moved(i) + moved(2 * radius - i)))
  return tf.add_n(parts)


def _mirrored(values, radius: int, axis: int) -> tf.Tensor:
  """Adds `radius` mirrored values at both ends, however few there are."""
  while radius:
    step = min(radius, values.shape[axis])
    paddings = [[0, 0]] * values.shape.rank
    paddings[axis] = [step, step]
    values = tf.pad(values, paddings, 'SYMMETRIC')
    radius -= step
  return values
