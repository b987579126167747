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

  The fill raises ValueError for images of another number of channels.
  """
  values = np.asarray(values, np.float64)

  def fill(images, removed, keys):
    del removed, keys
    if values.ndim and values.shape[-1] != images.shape[-1]:
      raise ValueError(
        f'a fill of {values.shape[-1]} channels cannot replace values of '
        f'images of {images.shape[-1]}.'
      )
    colour = np.rint(values) if images.dtype.is_integer else values
    return tf.broadcast_to(tf.cast(colour, images.dtype), tf.shape(images))

  return fill


def fits(name: str, channels: int) -> bool:
  """Whether a fill of a name suits images of so many channels."""
  values = CONSTANT_FILLS.get(name, 0.0)
  return np.ndim(values) == 0 or len(values) == channels


def removed_by(levels, threshold, mode: str) -> tf.Tensor:
  """Returns bool [B, H, W, 1 or C]: which values a threshold replaces."""
  selected = levels <= tf.cast(threshold, levels.dtype)
  return selected if mode == 'remove' else tf.logical_not(selected)


def picture(images, levels, *, threshold, mode='remove') -> tf.Tensor:
  """Returns the mask itself as images: 255 where values stay, else 0.

  Same arguments as `mask`; same shape and dtype as `images`, of which nothing
  else is used.
  """
  removed = removed_by(levels, threshold, mode)
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
    threshold: whole percentage 1..100, an integer or scalar integer tensor.
    mode: 'remove' replaces the most important t %, 'keep' all the others.
    fill: a `Fill`, such as those of `roar_tf.fills`, or [C] channel values.
    keys: int32 [B, 2] for fills that draw random numbers, which are the same
      for all images without them.

  Returns:
    Masked images, same shape and dtype as `images`.

  Raises:
    ValueError: wrong shapes, mode or threshold, or a fill for another number
      of channels.
  """
  images = tf.convert_to_tensor(images)
  levels = tf.convert_to_tensor(levels)
  if mode not in MODES:
    raise ValueError(f'mode must be one of {MODES}, found {mode!r}.')
  if not tf.is_tensor(threshold):
    check_threshold(threshold)
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
    fill = constant_fill(fill)
  if keys is None:
    keys = tf.zeros([tf.shape(images)[0], 2], tf.int32)
  removed = removed_by(levels, threshold, mode)
  return tf.where(removed, fill(images, removed, keys), images)


def check_threshold(threshold) -> int:
  """Returns a valid threshold as int; raises ValueError otherwise."""
  if isinstance(threshold, bool) or int(threshold) != threshold:
    raise ValueError(
      f'a threshold is a whole percentage from 1 to 100, found {threshold!r}.'
    )
  if not 1 <= threshold <= 100:
    raise ValueError(
      f'a threshold is a whole percentage from 1 to 100, found {threshold}; '
      'the unmodified images (t = 0) are the cell "original".'
    )
  return int(threshold)
