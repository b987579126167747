"""Mosaics: test images as the models saw them, for the report.

Images are enlarged and thinned out by whole steps only: a mask resampled by
fractions would show grey pixels that no model was given.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import image as matplotlib_image
from matplotlib.figure import Figure

from roar_tf.analysis.figures import INK, QUIET

_TEXT_SIZE = 9
_DPI = 200
# Larger sides are thinned out in the PNG beside the page, and in the page.
_SIDE = 128
_SIDES_IN_PAGE = (128, 96, 64, 48)


@dataclasses.dataclass(frozen=True)
class Example:
  """One test image under the cells of a study.

  Attributes:
    original: uint8 [H, W, C], C 1 or 3.
    masked: the masked image of each (estimator, threshold); a pair that is
      left out stays blank.
    mode: of all its cells, as granularity and fill.
    granularity: see mode.
    fill: see mode.
  """

  original: np.ndarray
  masked: Mapping[tuple[str, int], np.ndarray]
  mode: str = 'remove'
  granularity: str = 'pixel'
  fill: str = 'mean'

  @property
  def estimators(self) -> list[str]:
    """The estimators, which are the rows of a mosaic."""
    return list(dict.fromkeys(estimator for estimator, _ in self.masked))

  @property
  def thresholds(self) -> list[int]:
    """The thresholds, which are the columns after the original."""
    return sorted({threshold for _, threshold in self.masked})


@dataclasses.dataclass(frozen=True)
class Mosaic:
  """An example as the page shows it.

  Attributes:
    original: PNG.
    masked: PNG of each (estimator, threshold).
    example: what it was made from.
    step: every how many pixels of the image are shown.
  """

  original: bytes
  masked: Mapping[tuple[str, int], bytes]
  example: Example
  step: int

  @property
  def size(self) -> int:
    """Bytes of all its images."""
    return len(self.original) + sum(map(len, self.masked.values()))


def figure(
  example: Example,
  accuracies: Mapping[tuple[str, int], float] | None = None,
) -> Figure:
  """Returns one image as retrained models see it: the paper's Figures 1, 7, 8.

  Args:
    example: the image.
    accuracies: mean test accuracy, a fraction, of the models trained on each
      (estimator, threshold); written above its image, as in the paper.
  """
  accuracies = accuracies or {}
  original, estimators = example.original, example.estimators
  step = _step(original, _SIDE)
  height, width = original[::step, ::step].shape[:2]
  # Small images are enlarged; of large ones there would be too much.
  repeat = 256 // max(height, width) if max(height, width) <= 64 else 1
  tall, wide = repeat * height, repeat * width
  gap, top = 12, 56
  caption = 30 if accuracies else 0
  # A monospaced guess is wide enough for every proportional font.
  left = 28 + 18 * max(map(len, [*estimators, 'shown at 1/2']))
  columns = [None, *example.thresholds]
  row = caption + tall + gap
  size = left + len(columns) * (wide + gap), top + len(estimators) * row
  canvas = np.full((size[1], size[0], 3), 255, np.uint8)
  drawn = Figure(figsize=[n / _DPI for n in size], dpi=_DPI, facecolor='white')

  def write(x: float, y: float, text: str, align: str, ink: str = INK) -> None:
    style = dict(size=_TEXT_SIZE, color=ink, va='center', ha=align)
    drawn.text(x / size[0], 1 - y / size[1], text, **style)

  if step > 1:
    write(left - 16, top / 2, f'shown at 1/{step}', 'right')
  for i, estimator in enumerate(estimators):
    y = top + i * row + caption
    write(left - 16, y + tall / 2, estimator, 'right')
    for j, threshold in enumerate(columns):
      image = original
      if threshold is not None:
        image = example.masked.get((estimator, threshold))
      if image is None:
        continue
      x = left + j * (wide + gap)
      pixels = np.kron(
        _thinned(image, step), np.ones((repeat, repeat, 1), np.uint8)
      )
      canvas[y : y + tall, x : x + wide] = pixels
      if (mean := accuracies.get((estimator, threshold))) is not None:
        text = f'{100 * mean:.1f} %'
        write(x + wide / 2, y - caption / 2, text, 'center', QUIET)
  for j, threshold in enumerate(columns):
    name = 'original' if threshold is None else f'{threshold} %'
    write(left + j * (wide + gap) + wide / 2, top / 2, name, 'center')
  drawn.figimage(canvas, origin='upper')
  return drawn


def fitting(examples: Sequence[Example], budget: int) -> list[Mosaic]:
  """Returns the first examples, as many as fit into a page, at least one.

  Args:
    examples: what there is to show.
    budget: bytes that their images may take. Large images are thinned out
      until the first example fits.
  """
  if not examples:
    return []
  side = next(
    (side for side in _SIDES_IN_PAGE if _estimate(examples[0], side) <= budget),
    _SIDES_IN_PAGE[-1],
  )
  shown = [_mosaic(examples[0], side)]
  for example in examples[1:]:
    budget -= shown[-1].size
    if _estimate(example, side) > budget:
      break
    shown.append(_mosaic(example, side))
  return shown


def _estimate(example: Example, side: int) -> float:
  """Returns the bytes of a mosaic, estimated from a dozen of its images."""
  images = list(example.masked.values())
  some = images[:: max(1, len(images) // 12)]
  step = _step(example.original, side)
  return len(images) * np.mean([len(_png(_thinned(i, step))) for i in some])


def _mosaic(example: Example, side: int) -> Mosaic:
  step = _step(example.original, side)
  masked = {
    cell: _png(_thinned(image, step)) for cell, image in example.masked.items()
  }
  original = _png(_thinned(example.original, step))
  return Mosaic(original, masked, example, step)


def _step(image: np.ndarray, side: int) -> int:
  return math.ceil(max(image.shape[:2]) / side)


def _thinned(image: np.ndarray, step: int) -> np.ndarray:
  """Returns every step-th pixel, as RGB."""
  image = np.asarray(image)[::step, ::step]
  return np.broadcast_to(image, (*image.shape[:2], 3))


def _png(image: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  matplotlib_image.imsave(
    buffer,
    np.ascontiguousarray(image),
    format='png',
    metadata={'Software': None},
    pil_kwargs={'compress_level': 4},
  )
  return buffer.getvalue()
