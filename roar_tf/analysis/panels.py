"""What the figures show: panels of lines, for any medium to draw.

Each method of `Curves` returns the panels of one figure of the paper, redrawn
from a study. `figures` draws them with matplotlib, `charts` as SVG in the page.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import optimize

from roar_tf.analysis import families, results

TITLES = {'remove': 'Remove and retrain', 'keep': 'Keep and retrain'}
# The most lines of one panel that can still be told apart.
_LINES = 9
# How far below the lines chance may lie, in heights of all lines, to be shown.
_NEAR = 0.75


@dataclasses.dataclass(frozen=True)
class Point:
  """A cell of a curve; accuracies in percent, NaN where there is none."""

  threshold: int
  mean: float
  low: float = math.nan
  high: float = math.nan
  sd: float = math.nan
  runs: int = 1


@dataclasses.dataclass(frozen=True)
class Line:
  """One estimator's curve, in the order of the axis."""

  label: str
  look: families.Look
  points: tuple[Point, ...]
  named: bool = True


@dataclasses.dataclass(frozen=True)
class Panel:
  """One pair of axes.

  Attributes:
    title: what its lines have in common.
    mode: `remove`, or `keep` whose axis runs from all kept to little kept, so
      that both modes lose information from left to right.
    lines: the estimators.
    start: the original, where every line begins; None if it was not run.
    chance: accuracy of guessing in percent, or None.
    span: lowest and highest value of the axis, shared by the panels of a
      figure.
    retrained: whether its accuracies are those of retrained models.
  """

  title: str
  mode: str
  lines: tuple[Line, ...]
  start: Point | None
  chance: float | None
  span: tuple[float, float]
  retrained: bool = True

  @property
  def ticks(self) -> list[int]:
    """The thresholds, and that of the original."""
    ticks = {p.threshold for line in self.lines for p in line.points}
    return sorted(ticks | {0 if self.mode == 'remove' else 100})

  def segments(self, line: Line) -> list[list[Point]]:
    """A line's points from the original on, parted where cells are missing."""
    order = sorted(self.ticks, reverse=self.mode == 'keep')
    points = [self.start] if self.start else []
    found = [[]]
    for point in (*points, *line.points):
      place = order.index(point.threshold)
      if found[-1] and order.index(found[-1][-1].threshold) + 1 < place:
        found.append([])
      found[-1].append(point)
    return found

  @property
  def shows_chance(self) -> bool:
    """Whether chance is known and inside the axis."""
    return self.chance is not None and self.span[0] <= self.chance

  @property
  def chance_text(self) -> str:
    """What is said of chance, at its line or where the axis ends above it."""
    text = f'chance {self.chance:.4g} %'
    return text if self.shows_chance else f'{text} lies below'

  @property
  def axis(self) -> str:
    """What the horizontal axis says."""
    verb = 'removed' if self.mode == 'remove' else 'kept'
    return f'Image {verb}, most important first (%)'


class Curves:
  """The curves of one source, and the figures of the paper made of them."""

  def __init__(self, summary: pd.DataFrame, source: str, chance: float | None):
    """Prepares the curves.

    Args:
      summary: what `results.summarise` returns.
      source: the source.
      chance: accuracy of guessing, a fraction; None leaves it out.
    """
    self.source = source
    self.chance = None if chance is None else 100 * chance
    here = summary[summary['source'] == source]
    tested = here[here['input'] == 'deletion'].assign(input='image')
    self._summaries = {True: here, False: tested}
    self._rows = {
      (mode, retrained): results.against_random(some, source, mode)
      for mode in TITLES
      for retrained, some in self._summaries.items()
    }
    self.looks = self._looks()
    self._kept: dict[tuple, dict[str, Line]] = {}

  def rows(self, mode: str) -> pd.DataFrame:
    """What `results.against_random` says of retrained models."""
    return self._rows[mode, True]

  def by_family(self, mode: str) -> list[Panel]:
    """One panel if its lines can be told apart, else one per family.

    Figures 4 and 6 of the paper: single estimates, SmoothGrad, SG-SQ and VAR,
    and squared ones, each beside random. Cells of other granularities and
    fills have panels of their own.
    """
    # A cell whose mean is not a number cannot be drawn; `check` has named it.
    rows = self.rows(mode).dropna(subset='mean')
    lines, start = self._lines(mode), self._start(mode)
    span = _span(lines.values(), self.chance, start)
    variants = _variants(rows)
    panels = []
    for variant in sorted(variants, key=_usual_first):
      names = rows[_of(rows, variant)].drop_duplicates('label')
      rivals = names[~names['reference']]
      randoms = names.loc[names['reference'], 'label']
      groups = {'': list(rivals['label'])}
      if len(names) > _LINES:
        groups = rivals.groupby(rivals['estimator'].map(families.family))
        groups = {key: list(some['label']) for key, some in groups}
      name = _variant_title(variant, variants)
      for key in ('', *families.FAMILIES):
        if key in groups:
          title = ': '.join(filter(None, (name, families.FAMILIES.get(key))))
          drawn = [lines[label] for label in (*groups[key], *randoms)]
          if name:  # The title says what would stand in brackets.
            drawn = [
              dataclasses.replace(line, label=line.label.partition(' (')[0])
              for line in drawn
            ]
          drawn, title = tuple(drawn), title or TITLES[mode]
          panels.append(Panel(title, mode, drawn, start, self.chance, span))
    return panels

  def both_modes(self) -> list[Panel]:
    """Keep beside remove, all estimators on one axis: Figure 5 of the paper.

    Only the outermost lines and random carry their names, where there are many.
    """
    curves = {
      mode: self._lines(mode, usual=True) for mode in ('keep', 'remove')
    }
    if not all(curves.values()):
      return []
    starts = {mode: self._start(mode) for mode in curves}
    every = [line for lines in curves.values() for line in lines.values()]
    span = _span(every, self.chance, *starts.values())
    return [
      Panel(
        TITLES[mode],
        mode,
        _outermost(lines.values()),
        starts[mode],
        self.chance,
        span,
      )
      for mode, lines in curves.items()
    ]

  def deletion(self, mode: str) -> list[Panel]:
    """The explained model without retraining, beside retraining: Figure 3."""
    left = self._lines(mode, usual=True, retrained=False)
    right = self._lines(mode, usual=True)
    right = {label: line for label, line in right.items() if label in left}
    if not left or not right:
      return []
    starts = self._start(mode, False), self._start(mode)
    span = _span([*left.values(), *right.values()], self.chance, *starts)
    return [
      Panel(
        title, mode, _outermost(lines.values()), start, self.chance, span, again
      )
      for title, lines, start, again in (
        ('Not retrained', left, starts[0], False),
        ('Retrained', right, starts[1], True),
      )
    ]

  def _lines(
    self, mode: str, usual: bool = False, retrained: bool = True
  ) -> dict[str, Line]:
    """The curves of a mode by label, best first.

    Args:
      mode: the mode.
      usual: whether to leave out all but the first granularity and fill.
      retrained: whether of retrained models, or of the explained one.
    """
    key = mode, usual, retrained
    if key not in self._kept:
      self._kept[key] = self._made(*key)
    return self._kept[key]

  def _made(self, mode: str, usual: bool, retrained: bool) -> dict[str, Line]:
    """Makes what `_lines` returns."""
    rows = self._rows[mode, retrained].dropna(subset='mean')
    if usual and len(rows):
      rows = rows[_of(rows, min(_variants(rows), key=_usual_first))]
    lines = {}
    for label, cells in rows.groupby('label', sort=False):
      cells = cells.sort_values('threshold', ascending=mode == 'remove')
      points = (
        _point(cell, int(cell.threshold)) for cell in cells.itertuples()
      )
      look = self.looks.get(cells['estimator'].iloc[0])
      if look:
        lines[label] = Line(label, look, tuple(points))
    return lines

  def _start(self, mode: str, retrained: bool = True) -> Point | None:
    """The original, stored as threshold 0, which keeps all of the image."""
    rows = results.original(self._summaries[retrained], self.source)
    rows = rows.dropna(subset='mean')
    if rows.empty:
      return None
    return _point(next(rows.itertuples()), 0 if mode == 'remove' else 100)

  def _looks(self) -> dict[str, families.Look]:
    """The look of each label, the same in all figures of the source."""
    rows = pd.concat([self.rows(mode) for mode in TITLES])
    references = rows.loc[rows['reference'], 'estimator']
    reference = references.iloc[0] if len(references) else None
    return families.looks(rows['estimator'], reference)


def place(wanted: Sequence[float], low: float, high: float, gap: float):
  """Positions as near as possible to those wanted, a gap or more apart.

  Args:
    wanted: ascending.
    low: of the range that they should stay in.
    high: of that range.
    gap: least distance of neighbours.
  """
  steps = gap * np.arange(len(wanted))
  # Least-squares positions whose neighbours are at least a gap apart, then
  # pushed inside the range.
  free = np.asarray(wanted, float) - steps
  placed = optimize.isotonic_regression(free).x if len(free) else free
  return np.clip(placed, low, max(low, high - gap * len(free))) + steps


def describe(panel: Panel, source: str) -> str:
  """What the lines show, in words: their order at the right end."""
  verb, side = ('removed', max) if panel.mode == 'remove' else ('kept', min)
  text = (
    f'Line chart for {source}: test accuracy against the share of each image'
    f' that is {verb}, for {len(panel.lines)} rankings.'
  )
  if panel.start is not None:
    text += f' Original images: {panel.start.mean:.1f} %.'
  last = side(
    (p.threshold for line in panel.lines for p in line.points), default=0
  )
  ends = [
    (point.mean, line.label)
    for line in panel.lines
    for point in line.points
    if point.threshold == last
  ]
  listed = ', '.join(f'{label} {mean:.1f} %' for mean, label in sorted(ends))
  if listed:
    text += f' With {last} % {verb}, lowest first: {listed}.'
  if panel.chance is not None:
    text += f' Chance: {panel.chance:.4g} %.'
  return text


def _point(cell, threshold: int) -> Point:
  values = (100 * value for value in (cell.mean, cell.low, cell.high, cell.sd))
  return Point(threshold, *values, int(cell.runs))


def _span(
  lines: Iterable[Line], chance: float | None, *starts: Point | None
) -> tuple[float, float]:
  """Shows every value, and chance where the lines come near it.

  Far below all lines it would only press them together.
  """
  points = [point for line in lines for point in line.points]
  points += [start for start in starts if start]
  values = [v for p in points for v in (p.mean, p.low, p.high)]
  values = [v for v in values if math.isfinite(v)]
  low, high = min(values, default=0), max(values, default=100)
  if chance is not None and low - chance <= _NEAR * (high - low):
    low, high = min(low, chance), max(high, chance)
  margin = 0.04 * (high - low or 1)
  return low - margin, high + margin


def _outermost(lines) -> tuple[Line, ...]:
  """Leaves names to random and, of many lines, the highest and lowest."""
  lines = list(lines)
  if len(lines) <= _LINES:
    return tuple(lines)
  ends = sorted(lines, key=lambda line: line.points[-1].mean)
  named = {line.label for line in (*ends[:3], *ends[-3:])}
  return tuple(
    dataclasses.replace(
      line, named=line.label in named or line.look.colour == families.INK
    )
    for line in lines
  )


def _variants(rows: pd.DataFrame) -> list[tuple[str, str]]:
  """The granularities and fills that occur together."""
  pairs = rows[['granularity', 'fill']].drop_duplicates()
  return list(pairs.itertuples(index=False, name=None))


def _of(rows: pd.DataFrame, variant: tuple[str, str]) -> pd.Series:
  """Which rows are of a granularity and fill."""
  return (rows['granularity'] == variant[0]) & (rows['fill'] == variant[1])


def _usual_first(variant: tuple[str, str]):
  granularity, fill = variant
  return fill != 'mean', fill, granularity != 'pixel'


def _variant_title(variant, variants) -> str:
  granularity, fill = variant
  parts = []
  if len({g for g, _ in variants}) > 1:
    parts.append(f'by {granularity}')
  if len({f for _, f in variants}) > 1:
    parts.append(f'fill {fill}')
  return ', '.join(parts)
