"""From a ranking to a masked image: one function for every use.

Images are [B, H, W, C], uint8 in the pipeline. A level map is uint8
[B, H, W, 1 or C] with values 1..100. Mode `remove` (ROAR) replaces the values
with level <= t, `keep` (KAR) those with level > t; all others stay as they
are, bit for bit. Paper, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from roar_tf.lazy import tf

MODES = ('remove', 'keep')

Fill = Callable[['tf.Tensor', 'tf.Tensor', 'tf.Tensor'], 'tf.Tensor']
"""(images, removed bool [B, H, W, 1 or C], keys) -> images of fill values."""

CONSTANT_FILLS: Mapping[str, float | tuple[float, ...]] = {
  'zero': 0.0,
  # What the released code fills every dataset with: a `params.update` in
  # interpretability_benchmark/train_resnet.py overwrites the datasets' own.
  'imagenet_mean': (0.485 * 255, 0.456 * 255, 0.406 * 255),
}
"""Named fills of no source, in 0..255: one value, or one per channel."""


def constant_fill(values) -> Fill:
  """Returns a fill with one value per channel, e.g. a dataset's mean colour.

  Args:
    values: [C] numbers, or one for all channels, in the units of the images;
      rounded when the images are integers.

  Raises:
    ValueError: the values are no finite numbers. The fill raises it for images
      of another number of channels, or of integers that cannot be as large.
  """
  values = _colour(values)

  def fill(images, removed, keys):
    del removed, keys
    if values.ndim and values.shape[-1] != images.shape[-1]:
      raise ValueError(
        f'a fill of {values.shape[-1]} channels cannot replace values of '
        f'images of {images.shape[-1]}.'
      )
    colour = values
    if images.dtype.is_integer:
      colour = np.rint(values)
      low, high = images.dtype.min, images.dtype.max
      if not ((colour >= low) & (colour <= high)).all():
        raise ValueError(
          f'a fill of {images.dtype.name} images must be from {low} to {high}, '
          f'found {values.tolist()}.'
        )
    return tf.broadcast_to(tf.cast(colour, images.dtype), tf.shape(images))

  return fill


def _colour(values) -> np.ndarray:
  """Returns one number or [C] of them; raises ValueError for others."""
  try:
    colour = np.asarray(values, np.float64)
    valid = colour.ndim <= 1 and colour.size and np.isfinite(colour).all()
  except (TypeError, ValueError):
    valid = False
  if not valid:
    raise ValueError(
      'a fill must be one finite number, one for each channel or a function '
      f'such as those of roar_tf.fills, found {values!r}.'
    )
  return colour


def fits(name: str, channels: int) -> bool:
  """Whether a fill of a name suits images of so many channels."""
  values = CONSTANT_FILLS.get(name, 0.0)
  return np.ndim(values) == 0 or len(values) == channels


def removed_by(levels, threshold, mode: str) -> tf.Tensor:
  """Returns bool [B, H, W, 1 or C]: which values a threshold replaces."""
  if tf.is_tensor(threshold):  # Not as uint8, where 300 would be 44.
    levels, threshold = tf.cast(levels, tf.int32), tf.cast(threshold, tf.int32)
  selected = levels <= tf.cast(threshold, levels.dtype)
  return selected if mode == 'remove' else tf.logical_not(selected)


def removed_share(threshold: int, mode: str) -> int:
  """Returns how many percent of the values a threshold replaces."""
  return threshold if mode == 'remove' else 100 - threshold


def picture(images, levels, *, threshold, mode='remove') -> tf.Tensor:
  """Returns the mask itself as images: 255 where values stay, else 0.

  Same arguments as `mask`; same shape and dtype as `images`, of which nothing
  else is used.
  """
  removed = removed_by(levels, _checked_threshold(threshold), mode)
  shown = tf.cast(tf.where(removed, 0, 255), images.dtype)
  return tf.broadcast_to(shown, tf.shape(images))


def mask(
  images, levels, *, threshold, mode='remove', fill, keys=None
) -> tf.Tensor:
  """Replaces the values that a ranking and a threshold select.

  Args:
    images: [B, H, W, C], any number type.
    levels: uint8 [B, H, W, 1 or C] as `rank` returns them; with `cuts`, the
      threshold must be one of them, which this cannot check.
    threshold: whole percentage 1..100, an integer or scalar integer tensor;
      one of a graph is checked when it runs, on CPUs and GPUs.
    mode: 'remove' replaces the most important t %, 'keep' all the others.
    fill: a `Fill`, such as those of `roar_tf.fills`, or [C] channel values in
      the units of the images.
    keys: int32 [B, 2] for fills that draw random numbers, which are the same
      for all images without them.

  Returns:
    Masked images, same shape and dtype as `images`.

  Raises:
    ValueError: wrong shapes, mode or threshold, or a fill of another number of
      channels, shape, dtype or range.
  """
  images = tf.convert_to_tensor(images)
  levels = tf.convert_to_tensor(levels)
  if mode not in MODES:
    raise ValueError(f'mode must be one of {MODES}, found {mode!r}.')
  threshold = _checked_threshold(threshold)
  if levels.dtype != tf.uint8 or levels.shape.rank != 4:
    raise ValueError(
      'levels must be uint8 [batch, height, width, 1 or channels], found '
      f'{levels.dtype.name} {levels.shape}.'
    )
  if not images.shape.rank == 4 or not (
    images.shape[:3].is_compatible_with(levels.shape[:3])
    and levels.shape[3] in (1, images.shape[3])
  ):
    raise ValueError(f'levels {levels.shape} do not fit images {images.shape}.')
  if not callable(fill):
    _check_scale(fill, images.dtype)
    fill = constant_fill(fill)
  if keys is None:
    keys = tf.zeros([tf.shape(images)[0], 2], tf.int32)
  removed = removed_by(levels, threshold, mode)
  filled = tf.convert_to_tensor(fill(images, removed, keys))
  if filled.dtype != images.dtype or not _broadcasts(filled, images):
    raise ValueError(
      f'a fill must return {images.dtype.name} {images.shape}, as the images '
      f'are, found {filled.dtype.name} {filled.shape}.'
    )
  return tf.where(removed, filled, images)


def _broadcasts(filled, images) -> bool:
  try:
    shape = tf.broadcast_static_shape(filled.shape, images.shape)
  except ValueError:
    return False
  return shape.is_compatible_with(images.shape)


def _check_scale(values, dtype) -> None:
  """Raises ValueError for colours from 0 to 1 of images of integers."""
  colour = _colour(values)
  fractions = colour != np.rint(colour)
  if (
    dtype.is_integer
    and fractions.any()
    and ((0 <= colour) & (colour <= 1)).all()
  ):
    raise ValueError(
      f'a fill of {dtype.name} images is in 0..255, found {colour.tolist()}, '
      'which looks like 0..1: multiply it by 255.'
    )


def _checked_threshold(threshold):
  """Returns a valid threshold; a graph checks its own when it runs."""
  if tf.is_tensor(threshold) and tf.executing_eagerly():
    threshold = threshold.numpy()
  if not tf.is_tensor(threshold):
    return check_threshold(threshold)
  if not threshold.dtype.is_integer or threshold.shape.rank != 0:
    raise ValueError(
      'a threshold is a whole percentage from 1 to 100, found a tensor of '
      f'{threshold.dtype.name} {threshold.shape}.'
    )
  message = 'a threshold is a whole percentage from 1 to 100.'
  valid = (threshold >= 1) & (threshold <= 100)
  with tf.control_dependencies(
    [tf.debugging.Assert(valid, [message, threshold])]
  ):
    return tf.identity(threshold)


def check_threshold(threshold) -> int:
  """Returns a valid threshold as int; raises ValueError otherwise."""
  try:
    whole = not isinstance(threshold, bool) and int(threshold) == threshold
  except (OverflowError, TypeError, ValueError):
    whole = False
  if not whole:
    raise ValueError(
      f'a threshold is a whole percentage from 1 to 100, found {threshold!r}.'
    )
  if not 1 <= threshold <= 100:
    raise ValueError(
      f'a threshold is a whole percentage from 1 to 100, found {threshold}; '
      'the unmodified images (t = 0) are the cell "original".'
    )
  return int(threshold)
