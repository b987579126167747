"""What the figures show: panels of curves, before anything is drawn.

`report` asks `Curves` for the figures of the paper, redrawn from a study.
`drawing` lays their panels out, for the page and for PNG files alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from roar_tf.analysis import families, results

TITLES = {'remove': 'Remove and retrain', 'keep': 'Keep and retrain'}
# The most curves of one panel that can still be told apart.
_MOST_CURVES = 9
# How far below the curves chance may lie, in heights of all curves, to be
# shown.
_NEAR = 0.75


@dataclasses.dataclass(frozen=True)
class Point:
  """A cell of a curve; accuracies in percent, NaN where there is none."""

  threshold: float
  mean: float
  low: float = math.nan
  high: float = math.nan
  sd: float = math.nan
  runs: int = 1


@dataclasses.dataclass(frozen=True)
class Curve:
  """One estimator's curve.

  Attributes:
    label: its name.
    look: how it is drawn.
    points: its cells from left to right.
    named: whether its label stands beside its end.
    band: whether low and high are drawn as a band instead of as bars.
  """

  label: str
  look: families.Look
  points: tuple[Point, ...]
  named: bool = True
  band: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
  """One pair of axes and what they show.

  Attributes:
    title: what its curves have in common.
    mode: `remove`, or `keep` whose axis runs from all kept to little kept, so
      that both modes lose information from left to right.
    curves: the curves of the estimators.
    start: the original, where every curve begins; None if it was not run.
    chance: accuracy of guessing in percent, or None.
    span: lowest and highest value of the axis, shared by the panels of a
      figure.
    noun: of what a share is removed or kept.
  """

  title: str
  mode: str
  curves: tuple[Curve, ...]
  start: Point | None
  chance: float | None
  span: tuple[float, float]
  noun: str = 'Image'

  @property
  def ticks(self) -> list[float]:
    """The thresholds, and that of the original, from left to right."""
    ticks = {p.threshold for curve in self.curves for p in curve.points}
    ticks.add(0 if self.mode == 'remove' else 100)
    return sorted(ticks, reverse=self.mode == 'keep')

  def segments(self, curve: Curve) -> list[list[Point]]:
    """Returns a curve's points, parted where cells are missing."""
    order = self.ticks
    parts, last = [], None
    for point in (*([self.start] if self.start else []), *curve.points):
      position = order.index(point.threshold)
      if last is None or position > last + 1:
        parts.append([])
      parts[-1].append(point)
      last = position
    return parts

  @property
  def verb(self) -> str:
    """What is done with a share of each image: it is removed or kept."""
    return 'removed' if self.mode == 'remove' else 'kept'

  @property
  def axis(self) -> str:
    """The title of the horizontal axis."""
    return f'{self.noun} {self.verb}, most important first (%)'

  @property
  def shows_chance(self) -> bool:
    """Whether chance is known and inside the axis."""
    return self.chance is not None and self.span[0] <= self.chance

  @property
  def chance_text(self) -> str:
    """What is written at chance, or where the axis ends above it."""
    text = f'chance {self.chance:.4g} %'
    return text if self.shows_chance else f'{text} lies below'


class Curves:
  """The curves of one source, and the figures of the paper made of them."""

  def __init__(
    self,
    summary: pd.DataFrame,
    source: str,
    chance: float | None,
    weights: Mapping[tuple[str, str, str], Mapping[int, float]] | None = None,
  ):
    """Prepares the curves.

    Args:
      summary: what `results.summarise` returns.
      source: the source.
      chance: accuracy of guessing, a fraction; None leaves it out.
      weights: those of leads, by (source, mode, input).
    """
    self.source = source
    self.chance = None if chance is None else 100 * chance
    here = summary[summary['source'] == source]
    tested = here[here['input'] == 'deletion'].assign(input='image')
    self._summaries = {True: here, False: tested}
    self._rows = {
      (mode, retrained): results.against_random(
        some,
        source,
        mode,
        (weights or {}).get(
          (source, mode, 'image' if retrained else 'deletion')
        ),
      )
      for mode in TITLES
      for retrained, some in self._summaries.items()
    }
    rows = pd.concat([self.rows(mode) for mode in TITLES])
    references = [*rows.loc[rows['reference'], 'estimator'], None]
    # An estimator has the same look in all figures of the source.
    self.looks = families.looks(rows['estimator'], references[0])

  def rows(self, mode: str) -> pd.DataFrame:
    """Returns what `results.against_random` says of retrained models."""
    return self._rows[mode, True]

  def by_family(self, mode: str) -> list[Panel]:
    """Returns one panel if its curves can be told apart, else one per family.

    Figures 4 and 6 of the paper: single estimates, SmoothGrad, SG-SQ and VAR,
    and squared ones, each beside random. Cells of other granularities and
    fills have panels of their own.
    """
    # A cell whose mean is not a number cannot be drawn; a check has named it.
    rows = self.rows(mode).dropna(subset='mean')
    curves, start = self._curves(mode), self._start(mode)
    limits = span(curves.values(), self.chance, start)
    panels = []
    for name, cells in _variants(rows):
      estimators = cells.drop_duplicates('label')
      family = estimators['estimator'].map(families.family)
      for key in families.FAMILIES if len(estimators) > _MOST_CURVES else ['']:
        member = (family == key) | (key == '')
        rivals = estimators[~estimators['reference'] & member]
        if key and rivals.empty:
          continue
        randoms = results.where(estimators, reference=True)
        drawn = [curves[x] for x in (*rivals['label'], *randoms['label'])]
        if name:  # The title says what would stand in brackets.
          drawn = [
            dataclasses.replace(curve, label=curve.label.partition(' (')[0])
            for curve in drawn
          ]
        title = ': '.join(filter(None, (name, families.FAMILIES.get(key))))
        title = title or TITLES[mode]
        panels.append(
          Panel(title, mode, tuple(drawn), start, self.chance, limits)
        )
    return panels

  def both_modes(self) -> list[Panel]:
    """Returns keep beside remove on one axis: Figure 5 of the paper.

    Only the outermost curves and random carry their names, where there are
    many.
    """
    return self._pair(
      [
        (TITLES[mode], mode, self._curves(mode, usual=True), self._start(mode))
        for mode in ('keep', 'remove')
      ]
    )

  def deletion(self, mode: str) -> list[Panel]:
    """Returns the explained model beside retrained ones: Figure 3."""
    tested = self._curves(mode, usual=True, retrained=False)
    retrained = self._curves(mode, usual=True)
    retrained = {k: curve for k, curve in retrained.items() if k in tested}
    return self._pair(
      [
        ('Not retrained', mode, tested, self._start(mode, retrained=False)),
        ('Retrained', mode, retrained, self._start(mode)),
      ]
    )

  def _pair(self, sides: Sequence[tuple]) -> list[Panel]:
    """Returns two panels of a figure; none where one of them would be empty."""
    if not all(curves for _, _, curves, _ in sides):
      return []
    every = [curve for _, _, curves, _ in sides for curve in curves.values()]
    limits = span(every, self.chance, *(start for *_, start in sides))
    return [
      Panel(
        title, mode, _outermost(curves.values()), start, self.chance, limits
      )
      for title, mode, curves, start in sides
    ]

  def _curves(
    self, mode: str, usual: bool = False, retrained: bool = True
  ) -> dict[str, Curve]:
    """Returns the curves of a mode by label, best first.

    Args:
      mode: the mode.
      usual: whether to leave out all but the first granularity and fill.
      retrained: whether of retrained models, or of the explained one.
    """
    rows = self._rows[mode, retrained].dropna(subset='mean')
    if usual and len(rows):
      ((_, rows), *_) = _variants(rows)
    curves = {}
    for label, cells in rows.groupby('label', sort=False):
      cells = cells.sort_values('threshold', ascending=mode == 'remove')
      points = [
        _point(cell, int(cell.threshold)) for cell in cells.itertuples()
      ]
      look = self.looks.get(cells['estimator'].iloc[0])
      if look:
        curves[label] = Curve(label, look, tuple(points))
    return curves

  def _start(self, mode: str, retrained: bool = True) -> Point | None:
    """Returns the original, whose threshold 0 stands for 100 % kept, too."""
    rows = results.original(self._summaries[retrained], self.source)
    rows = rows.dropna(subset='mean')
    if rows.empty:
      return None
    return _point(next(rows.itertuples()), 0 if mode == 'remove' else 100)


def span(
  curves: Iterable[Curve], chance: float | None, *starts: Point | None
) -> tuple[float, float]:
  """Returns the ends of an axis that shows every value.

  It shows chance, too, where the curves come near it. Far below all curves it
  would only press them together.
  """
  points = [point for curve in curves for point in curve.points]
  points += [start for start in starts if start]
  values = [v for p in points for v in (p.mean, p.low, p.high)]
  values = [v for v in values if math.isfinite(v)]
  low, high = min(values, default=0), max(values, default=100)
  if chance is not None and low - chance <= _NEAR * (high - low):
    low, high = min(low, chance), max(high, chance)
  margin = 0.04 * (high - low or 1)
  return low - margin, high + margin


def describe(panel: Panel, source: str) -> str:
  """Returns in words what the curves show: their order at the right end."""
  text = (
    f'Line chart for {source}: test accuracy against the share of each image'
    f' that is {panel.verb}, for {len(panel.curves)} rankings.'
  )
  if panel.start is not None:
    text += f' Original images: {panel.start.mean:.1f} %.'
  last = panel.ticks[-1]
  ends = [
    (point.mean, curve.label)
    for curve in panel.curves
    for point in curve.points
    if point.threshold == last
  ]
  listed = ', '.join(f'{label} {mean:.1f} %' for mean, label in sorted(ends))
  if listed:
    text += f' With {last} % {panel.verb}, lowest first: {listed}.'
  if panel.chance is not None:
    text += f' Chance: {panel.chance:.4g} %.'
  return text


def _point(cell, threshold: int) -> Point:
  values = (100 * value for value in (cell.mean, cell.low, cell.high, cell.sd))
  return Point(threshold, *values, int(cell.replicates))


def _outermost(curves: Iterable[Curve]) -> tuple[Curve, ...]:
  """Leaves names to random and, of many curves, the highest and lowest."""
  curves = tuple(curves)
  if len(curves) <= _MOST_CURVES:
    return curves
  ends = sorted(curves, key=lambda curve: curve.points[-1].mean)
  named = {curve.label for curve in (*ends[:3], *ends[-3:])}
  return tuple(
    dataclasses.replace(
      curve, named=curve.label in named or curve.look.colour == families.INK
    )
    for curve in curves
  )


def _variants(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
  """Returns the cells of each granularity and fill, the usual ones first.

  Before them stands what tells them from the others; it may be empty.
  """
  several = rows[['granularity', 'fill']].nunique() > 1
  variants = []
  for (granularity, fill), cells in rows.groupby(['granularity', 'fill']):
    names = [f'by {granularity}'] if several['granularity'] else []
    names += [f'fill {fill}'] if several['fill'] else []
    order = fill != 'mean', fill, granularity != 'pixel'
    variants.append((order, ', '.join(names), cells))
  return [variant[1:] for variant in sorted(variants, key=lambda v: v[0])]
