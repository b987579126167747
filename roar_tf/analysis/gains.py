"""Gains over random: one small chart per estimator, all on one scale.

A curve above the zero line is better than random there, whatever the mode. Its
band is the pointwise 95 % interval of each cell. What is shaded lies beyond
what the masks allow: no ranking with such masks could reach it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from matplotlib import ticker

from roar_tf.analysis import curves, drawing, families, results
from roar_tf.analysis.drawing import Mark, Path, Text
from roar_tf.analysis.evidence import Curve, Evidence
from roar_tf.analysis.verdict import Verdict

WIDTH, HEIGHT = 310, 170
"""Of one chart, in pixels of the page."""
_LEFT, _TOP, _RIGHT, _BOTTOM = 34, 8, 10, 34
_LOOK = families.Look('k0')
_GREY = families.Look(families.GREY)


@dataclasses.dataclass(frozen=True)
class Gain:
  """The gain over random at one threshold, in points.

  Attributes:
    threshold: whole percent.
    value: the gain.
    low: lower end of its interval; NaN without one.
    high: its upper end.
    most: the largest gain that the masks allow; NaN if unknown.
  """

  threshold: int
  value: float
  low: float
  high: float
  most: float


@dataclasses.dataclass(frozen=True)
class Chart:
  """One estimator's gains.

  Attributes:
    label: its name.
    word: its verdict.
    mode: `remove` or `keep`, whose axis runs from all kept to little kept.
    gains: from left to right.
    span: lowest and highest value of the axis, shared by all charts.
  """

  label: str
  word: str
  mode: str
  gains: Sequence[Gain]
  span: tuple[float, float] = (0.0, 0.0)

  @property
  def title(self) -> str:
    """What stands above it."""
    return f'{self.label}: {self.word}' if self.word else self.label

  @property
  def description(self) -> str:
    """What it shows, in words."""
    verb = 'removed' if self.mode == 'remove' else 'kept'
    listed = ', '.join(
      f'{gain.value:+.1f} with {gain.threshold} % {verb}' for gain in self.gains
    )
    return f'Points of {self.label} over random: {listed}.'


def charts(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Chart]:
  """Returns a chart per curve of the family's fill, in the verdicts' order.

  Args:
    evidence: of the study.
    verdicts: of one source and mode.
  """
  found = []
  for verdict in verdicts:
    if verdict.role == 'reference' or verdict.curve.fill != evidence.fill:
      continue
    gains = _gains(evidence, verdict.curve)
    if len(gains) > 1:  # One point is in the tables.
      mode = verdict.curve.mode
      found.append(Chart(verdict.label, verdict.word, mode, gains))
  ends = [0.0]
  for chart in found:
    for gain in chart.gains:
      ends += [e for e in (gain.value, gain.low, gain.high) if math.isfinite(e)]
  low, high = min(ends), max(ends)
  margin = 0.06 * (high - low or 1)
  span = low - margin, high + margin
  return [dataclasses.replace(chart, span=span) for chart in found]


def _gains(evidence: Evidence, curve: Curve) -> list[Gain]:
  rows = results.where(
    evidence.frame, source=curve.source, mode=curve.mode, input='image'
  )
  thresholds = sorted(set(rows['threshold']), reverse=curve.mode == 'keep')
  gains = []
  for t in thresholds:
    gain = evidence.lead(curve, weights={(curve.mode, t): 1.0})
    if gain is not None:
      ends = (100 * end for end in gain.pointwise())
      most = 100 * evidence.most(curve, t)
      gains.append(Gain(t, *ends, most))
  return gains


def shapes(chart: Chart) -> Iterator[Path | Mark | Text]:
  """Yields all shapes of a chart, those in front last."""
  low, high = chart.span
  right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
  axis = curves.gone([g.threshold for g in chart.gains], chart.mode)
  first, last = min(axis), max(axis)

  def x(share: float) -> float:
    inner = right - _LEFT - 16
    return round(_LEFT + 8 + inner * (share - first) / ((last - first) or 1), 1)

  def y(value: float) -> float:
    value = min(max(value, low), high)
    return round(_TOP + (high - value) / (high - low) * (bottom - _TOP), 1)

  for value in ticker.MaxNLocator(4).tick_values(low, high):
    if low <= value <= high:
      role = 'rule' if value else 'zero'
      yield Path(role, ((_LEFT, y(value)), (right, y(value))))
      text = f'{value:+g}'.replace('-', '−') if value else '0'
      yield Text('tick', _LEFT - 6, y(value) + 4, text, 'end')
  points = list(zip(axis, chart.gains, strict=True))
  beyond = [(x(s), y(g.most)) for s, g in points if math.isfinite(g.most)]
  if len(beyond) == len(points):
    edge = [(beyond[-1][0], _TOP), (beyond[0][0], _TOP)]
    yield Path('beyond', [*beyond, *edge], _GREY)
  bounded = [(s, g) for s, g in points if math.isfinite(g.low)]
  outline = [(x(s), y(g.low)) for s, g in bounded]
  outline += [(x(s), y(g.high)) for s, g in reversed(bounded)]
  if outline:
    yield Path('band', outline, _LOOK)
  yield Path('curve', [(x(s), y(g.value)) for s, g in points], _LOOK)
  end = -math.inf
  for share, gain in points:
    title = f'{chart.label}, {gain.threshold} %: {gain.value:+.1f} points'
    if math.isfinite(gain.low):
      title += f' ({gain.low:+.1f} to {gain.high:+.1f})'
    yield Mark('mark', x(share), y(gain.value), _LOOK, title)
    text = f'{gain.threshold}'
    half = drawing.CHARACTER / 2 * len(text)
    if x(share) - half >= end + 6:
      yield Text('tick', x(share), bottom + 15, text, 'middle')
      end = x(share) + half
  verb = 'removed' if chart.mode == 'remove' else 'kept'
  middle = (_LEFT + right) / 2
  yield Text('tick', middle, bottom + 30, f'{verb} (%)', 'middle')
