"""Pictures of attributions and of masked images, for notebooks and papers.

Each function returns a matplotlib figure, which a notebook shows and
`savefig('name.pdf')` saves. Images are [B, H, W, C]: uint8, or floating point
in 0..1, in 0..255 or, as a model takes them, in any range, which is then
stretched for each image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from roar_tf import errors
from roar_tf.estimators.habits import as_array

if TYPE_CHECKING:
  from matplotlib.figure import Figure

__all__ = ['attributions', 'masked']

_SIDE, _GAP, _HEAD = 1.5, 0.08, 0.3
"""Inches: of a picture, between two of them, and of a line of text."""
_SIGNED, _UNSIGNED = 'RdBu_r', 'magma'


def attributions(
  images,
  scores,
  *,
  titles: Sequence[str] | None = None,
  percentile: float = 99.0,
) -> Figure:
  """Returns heat maps beside the images, a row for each image.

      scores = roar_tf.explain(model, images, ['grad', 'sg_sq_grad'])
      roar_tf.plot.attributions(images, scores, titles=['cat', 'dog'])

  Scores are summed over channels, as they are ranked by pixel. A map with signs
  is red where it is positive, blue where it is negative and white at 0; one
  without is bright where it is large.

  Args:
    images: [B, H, W, C], as above.
    scores: [B, H, W, C], [B, H, W, 1] or [B, H, W]; or a dict from names to
      them, as `explain` returns it, a column each.
    titles: what stands beside each image, such as its class.
    percentile: of the magnitudes of a map, where its colours end: a few
      outliers would leave all else pale.

  Raises:
    ValueError: shapes do not fit, or scores hold NaN or infinity.
  """
  images = _images(images)
  columns = _columns(scores, 'scores', 'plot.attributions(images, scores)')
  maps = {
    name: _maps(name, values, images.shape) for name, values in columns.items()
  }
  if not 0 < percentile <= 100:
    raise errors.UsageError(
      f'percentile must be above 0 and at most 100, found {percentile}.'
    )
  grid = _Grid(images, ['image', *maps], titles)
  for row, image in enumerate(images):
    grid.show(row, 0, image)
    for column, values in enumerate(maps.values(), 1):
      grid.show(row, column, *_coloured(values[row], percentile))
  return grid.figure


def masked(
  images,
  levels,
  *,
  thresholds: int | Sequence[int] = (10, 30, 50, 70, 90),
  mode: str = 'remove',
  fill=None,
  titles: Sequence[str] | None = None,
) -> Figure:
  """Returns images side by side as retrained models see them.

      levels = roar_tf.rank(scores['sg_sq_grad'])
      roar_tf.plot.masked(images, levels, thresholds=(10, 50, 90))

  Args:
    images: [B, H, W, C], as above.
    levels: uint8 [B, H, W, 1 or C], as `rank` returns them; or a dict from
      names to them, a row for each name and image.
    thresholds: whole percentages, a column each; or a single one.
    mode: `remove` replaces the most important t %, `keep` all the others.
    fill: of `mask`; the mean colour of the images if None.
    titles: what stands beside each image, such as its class.

  Raises:
    ValueError: shapes do not fit, or what `mask` raises.
  """
  from roar_tf import masking

  images = np.asarray(as_array(images))
  shown = _images(images)
  rows = _columns(levels, 'levels', 'plot.masked(images, levels)')
  if fill is None:
    fill = images.mean((0, 1, 2), dtype=np.float64)
    fill = np.rint(fill) if images.dtype.kind in 'iu' else fill
  thresholds = np.atleast_1d(thresholds).tolist()
  verb = {'remove': 'removed', 'keep': 'kept'}.get(mode, mode)
  heads = ['image', *(f'{t} % {verb}' for t in thresholds)]
  names = [
    '\n'.join(filter(None, (name, title)))
    for name in rows
    for title in _titles(titles, len(images))
  ]
  grid = _Grid(np.concatenate([shown] * len(rows)), heads, names)
  for i, values in enumerate(rows.values()):
    values = np.asarray(as_array(values))
    if values.dtype.kind == 'f':
      raise ValueError(
        'levels must be uint8, as roar_tf.rank returns them, found '
        f'{values.dtype}: give roar_tf.rank(scores) for scores.'
      )
    every = [shown]
    for threshold in thresholds:
      removed = masking.mask(
        images, values, threshold=threshold, mode=mode, fill=fill
      )
      every.append(_images(removed, images))
    for column, pictures in enumerate(every):
      for row, picture in enumerate(pictures):
        grid.show(i * len(images) + row, column, picture)
  return grid.figure


class _Grid:
  """A figure of pictures in rows and columns.

  Attributes:
    figure: it.
  """

  def __init__(self, images, heads: Sequence[str], titles):
    """Lays a figure out.

    Args:
      images: [N, H, W, C], one a row.
      heads: of the columns.
      titles: of the rows, or None.
    """
    from roar_tf.analysis import figures

    titles, count = _titles(titles, len(images)), len(images)
    height, width = images.shape[1:3]
    # Letters of 9 points are about 0.09 inches wide.
    lines = [line for title in titles for line in title.split('\n')]
    left = 0.09 * max(map(len, lines), default=0) + 2 * _GAP
    longest = max(map(len, map(str, heads)))
    wide = max(_SIDE * width / max(height, width), 0.085 * longest)
    tall = _SIDE * height / max(height, width)
    size = (
      left + len(heads) * (wide + _GAP),
      _HEAD + count * (tall + _GAP),
    )
    self.figure = figures.Picture(figsize=size, dpi=144, facecolor='white')
    self._place = lambda row, column: (
      (left + column * (wide + _GAP)) / size[0],
      1 - (_HEAD + row * (tall + _GAP) + tall) / size[1],
      wide / size[0],
      tall / size[1],
    )
    style = dict(size=9, color=figures.INK, va='center')
    for column, head in enumerate(heads):
      x, _, across, _ = self._place(0, column)
      y = 1 - _HEAD / 2 / size[1]
      self.figure.text(x + across / 2, y, str(head), ha='center', **style)
    for row, title in enumerate(titles):
      x, y, _, up = self._place(row, 0)
      x -= _GAP / size[0]
      self.figure.text(x, y + up / 2, title, ha='right', **style)

  def show(self, row: int, column: int, picture, colours=None, limits=None):
    """Draws a picture [H, W, 3] of 0..1, or a map [H, W] in colours."""
    axes = self.figure.add_axes(self._place(row, column))
    axes.axis('off')
    low, high = limits or (0, 1)
    axes.imshow(
      picture, cmap=colours, vmin=low, vmax=high, interpolation='nearest'
    )


def _titles(titles, count: int) -> list[str]:
  """Returns the title of each image, empty without any.

  Raises:
    ValueError: there are not as many.
  """
  if titles is None:
    return [''] * count
  if isinstance(titles, str) or len(titles) != count:
    raise ValueError(
      f'titles must be one for each of the {count} images, found {titles!r}.'
    )
  return [str(title) for title in titles]


def _columns(values, noun: str, call: str) -> Mapping:
  """Returns arrays by name; one without a name is called ''."""
  if not isinstance(values, Mapping):
    return {'' if noun == 'levels' else 'scores': values}
  if not values:
    raise ValueError(f'{noun} are empty: give some, as in {call}.')
  return values


def _images(images, like=None) -> np.ndarray:
  """Returns images as they are shown, float [B, H, W, 3] of 0..1.

  Args:
    images: [B, H, W, C].
    like: images that say how these are scaled; themselves if None.

  Raises:
    ValueError: they are none.
  """
  if isinstance(images, Mapping):
    raise ValueError(
      'images come first and scores second, as in '
      'plot.attributions(images, scores), found a dict for the images.'
    )
  images = np.asarray(as_array(images))
  if images.ndim != 4 or 0 in images.shape or images.dtype.kind not in 'fiub':
    raise ValueError(
      'images must be numbers [batch, height, width, channels], found '
      f'{images.dtype} {images.shape}; one image is image[None].'
    )
  like = images if like is None else like
  images, like = images.astype(np.float32), np.asarray(like)
  if not np.isfinite(images).all():
    raise ValueError('images hold NaN or infinity.')
  low, high = like.min(), like.max()
  if like.dtype.kind == 'f' and 0 <= low and high <= 1:
    scaled = images
  elif 0 <= low and high <= 255:
    scaled = images / 255
  else:
    axes = (1, 2, 3)
    low, high = like.min(axes, keepdims=True), like.max(axes, keepdims=True)
    scaled = (images - low) / np.where(high > low, high - low, 1)
  if scaled.shape[-1] != 3:  # Grey, or more than a screen has.
    scaled = np.repeat(scaled.mean(-1, keepdims=True), 3, -1)
  return np.clip(scaled, 0, 1)


def _maps(name: str, scores, shape) -> np.ndarray:
  """Returns scores summed over channels, float [B, H, W].

  Raises:
    ValueError: they are none of the images.
  """
  scores = np.asarray(as_array(scores))
  values = scores[..., None] if scores.ndim == 3 else scores
  if (
    values.ndim != 4
    or values.shape[:3] != shape[:3]
    or values.dtype.kind not in 'fiub'
  ):
    raise ValueError(
      f'scores "{name}" must be [{shape[0]}, {shape[1]}, {shape[2]}, channels],'
      f' as the images are, found {scores.dtype} {scores.shape}.'
    )
  maps = values.astype(np.float64).sum(-1)
  if not np.isfinite(maps).all():
    raise ValueError(f'scores "{name}" hold NaN or infinity.')
  return maps


def _coloured(values: np.ndarray, percentile: float) -> tuple:
  """Returns a map, its colours, and the values at which they end."""
  limit = np.percentile(np.abs(values), percentile) or np.abs(values).max()
  limit = float(limit) or 1.0
  if (values < 0).any():
    return values, _SIGNED, (-limit, limit)
  return values, _UNSIGNED, (0.0, limit)
