"""The layout of a panel: where its axes, curves, marks and labels stand.

`charts` writes these shapes as SVG for the page and `figures` paints them into
PNG files. Both only translate, so that a chart and a file show the same.
Lengths are in pixels of the page, counted from the left and from the top.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import ticker
from scipy import optimize

from roar_tf.analysis import families, panels

CHARACTER = 6.3
"""A wide guess of a letter's width in any sans serif font of a label's size."""
LABELS = 0.36
"""The largest part of a drawing's width that labels may take."""
_LABEL_HEIGHT = 14.4
# What the plot leaves to numbers at its left, top and bottom, and to a leader
# and a piece of the curve before each label at its right.
_LEFT, _TOP, _BOTTOM, _KEY = 34, 10, 38, 44
_RANDOM = families.Look(families.INK)


@dataclasses.dataclass(frozen=True)
class Path:
  """A line through (x, y) points.

  Its role is `rule` of the grid, `chance`, `leader` from a curve to its label,
  `curve`, `bar` of an interval, `zero`, or the outline of a filled area, `band`
  or `beyond`.
  """

  role: str
  points: Sequence[tuple[float, float]]
  look: families.Look | None = None


@dataclasses.dataclass(frozen=True)
class Mark:
  """The `mark` of a cell, or the faint dot of a single `run`.

  Its title tells the numbers behind it to who points at it.
  """

  role: str
  x: float
  y: float
  look: families.Look
  title: str = ''

  @property
  def radius(self) -> float:
    """Half the size of the marker."""
    return 1.8 if self.role == 'run' else 3.2

  @property
  def marker(self) -> str:
    """The shape, one of `families.MARKERS`."""
    return 'o' if self.role == 'run' else self.look.marker


@dataclasses.dataclass(frozen=True)
class Text:
  """A number at a `tick`, the `note` of chance, or the `name` of a curve.

  The name of random is `name bold`. The point (x, y) is the `start`, `middle`
  or `end` of the line that the text stands on.
  """

  role: str
  x: float
  y: float
  text: str
  anchor: str = 'start'


def size(figure: Sequence[panels.Panel]) -> tuple[int, int, int]:
  """Returns the size of each panel of a figure, which all its labels need.

  That is its width, its height, and the letters of the longest label.
  """
  width, height = {1: (760, 400), 2: (380, 310)}.get(len(figure), (340, 290))
  labels = [
    [curve.label for curve in panel.curves if curve.named] for panel in figure
  ]
  lines = _LABEL_HEIGHT * max(map(len, labels))
  height = max(height, math.ceil(_TOP + _BOTTOM + lines))
  return width, height, max(map(len, itertools.chain(*labels)))


def shapes(
  panel: panels.Panel, width: float, height: float, letters: int
) -> Iterator[Path | Mark | Text]:
  """Yields all shapes of a panel, those in front last.

  Args:
    panel: what it shows.
    width: of the whole drawing.
    height: of the whole drawing.
    letters: of the longest label of the figure, for which all its panels leave
      room. Labels are cut where they would take too much.
  """
  letters = min(letters, int(LABELS * width / CHARACTER))
  right = _KEY + CHARACTER * letters
  plot = _Plot(panel, width - _LEFT - right, height - _TOP - _BOTTOM)
  # Random lies in front of all others.
  curves = sorted(panel.curves, key=lambda curve: curve.look.layer)
  yield from _axes(plot)
  yield from _labels(plot, letters)
  yield from (_band(plot, curve) for curve in curves if curve.band)
  if panel.start is not None:
    yield from _cell(plot, panel.start, _RANDOM, 'original')
  for curve in curves:
    yield from _curve(plot, curve)


class _Plot:
  """The rectangle between the axes, which places thresholds and percents."""

  def __init__(self, panel: panels.Panel, width: float, height: float):
    self.panel = panel
    self.width, self.height = width, height
    self.right, self.bottom = _LEFT + width, _TOP + height

  def x(self, threshold: float) -> float:
    first, last = self.panel.ticks[0], self.panel.ticks[-1]
    share = (threshold - first) / ((last - first) or 1)
    return round(_LEFT + 6 + share * (self.width - 12), 1)

  def y(self, percent: float) -> float:
    low, high = self.panel.span
    share = (percent - low) / (high - low)
    return round(_TOP + (1 - share) * self.height, 1)

  def across(self, role: str, y: float) -> Path:
    """Returns a horizontal line from axis to axis."""
    return Path(role, ((_LEFT, y), (self.right, y)))


def _axes(plot: _Plot) -> Iterator[Path | Text]:
  panel = plot.panel
  low, high = panel.span
  steps = ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
  for value in steps.tick_values(low, high):
    if low <= value <= high and 0 <= value <= 100:
      y = plot.y(value)
      yield plot.across('rule', y)
      yield Text('tick', _LEFT - 7, y + 4, f'{value:g}', 'end')
  end = -math.inf
  for threshold in panel.ticks:
    x, text = plot.x(threshold), f'{threshold:g}'
    half = CHARACTER / 2 * len(text)
    if x - half >= end + 6:  # Where thresholds are close, not all are written.
      yield Text('tick', x, plot.bottom + 16, text, 'middle')
      end = x + half
  middle = _LEFT + plot.width / 2
  yield Text('tick', middle, plot.bottom + 32, panel.axis, 'middle')
  if panel.chance is not None:
    y = plot.y(panel.chance) if panel.shows_chance else plot.bottom
    if panel.shows_chance:
      yield plot.across('chance', y)
    yield Text('note', _LEFT + 2, y - 4, panel.chance_text)


def _labels(plot: _Plot, letters: int) -> Iterator[Path | Mark | Text]:
  """Yields each label beside the end of its curve, none over another."""
  named = [curve for curve in plot.panel.curves if curve.named]
  named.sort(key=lambda curve: -curve.points[-1].mean)
  ends = [plot.y(curve.points[-1].mean) for curve in named]
  heights = spread(ends, _TOP + 4, plot.bottom + 14, _LABEL_HEIGHT)
  right = plot.right
  for curve, end, y in zip(named, ends, heights, strict=True):
    look, label = curve.look, curve.label
    x = plot.x(curve.points[-1].threshold)
    yield Path('leader', ((x + 5, end), (right + 4, y)))
    yield Path('curve', ((right + 6, y), (right + 26, y)), look)
    yield Mark('mark', right + 16, y, look)
    role = 'name bold' if look.colour == families.INK else 'name'
    text = label if len(label) <= letters else f'{label[: letters - 1]}…'
    yield Text(role, right + 31, y + 4, text)


def _band(plot: _Plot, curve: panels.Curve) -> Path:
  edges = [(p.threshold, p.low) for p in curve.points]
  edges += [(p.threshold, p.high) for p in reversed(curve.points)]
  return Path('band', [(plot.x(t), plot.y(v)) for t, v in edges], curve.look)


def _curve(plot: _Plot, curve: panels.Curve) -> Iterator[Path | Mark]:
  """Yields one curve, parted where cells are missing, and its cells."""
  for part in plot.panel.segments(curve):
    points = [(plot.x(p.threshold), plot.y(p.mean)) for p in part]
    yield Path('curve', points, curve.look)
  for point in curve.points:
    title = f'{curve.label}, {point.threshold:g} % {plot.panel.verb}'
    yield from _cell(plot, point, curve.look, title, bar=not curve.band)


def _cell(
  plot: _Plot,
  point: panels.Point,
  look: families.Look,
  title: str,
  bar: bool = True,
) -> Iterator[Path | Mark]:
  """Yields a cell with its interval, or with its runs if they are two."""
  x = plot.x(point.threshold)
  title = f'{title}: {point.mean:.1f} %'
  if math.isfinite(point.low):
    title += f' ({point.low:.1f} to {point.high:.1f})'
    if bar:
      low, high = plot.y(point.low), plot.y(point.high)
      yield Path('bar', ((x, low), (x, high)), look)
      for y in (low, high):
        yield Path('bar', ((x - 2, y), (x + 2, y)), look)
  elif point.runs == 2:
    # The mean and sd of two runs determine both: mean +- sd / sqrt(2).
    apart = point.sd / math.sqrt(2)
    for value in (point.mean - apart, point.mean + apart):
      yield Mark('run', x, plot.y(value), look)
  yield Mark('mark', x, plot.y(point.mean), look, title)


def spread(
  wanted: Sequence[float], low: float, high: float, gap: float
) -> np.ndarray:
  """Returns positions as near as possible to those wanted, a gap apart.

  Args:
    wanted: positions, ascending.
    low: least position.
    high: largest position and a gap, as far as there is room.
    gap: least distance of neighbours.
  """
  steps = gap * np.arange(len(wanted))
  # Least-squares positions whose neighbours are at least a gap apart, then
  # pushed inside the range.
  free = np.asarray(wanted, float) - steps
  placed = optimize.isotonic_regression(free).x if len(free) else free
  return np.clip(placed, low, max(low, high - gap * len(free))) + steps
