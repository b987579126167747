"""Which estimators are better than random, by how much, and how surely.

All numbers come from the table of `statistics.compute`; here they are put into
rows and words.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from roar_tf.analysis import results
from roar_tf.analysis.inference import LEVEL
from roar_tf.analysis.results import Check
from roar_tf.analysis.tables import points

# How many estimators a sentence names.
_NAMED = 4


class Estimate(NamedTuple):
  """A number and its interval; NaN where there is none."""

  value: float = math.nan
  low: float = math.nan
  high: float = math.nan

  @property
  def known(self) -> bool:
    """Whether there is a number."""
    return not math.isnan(self.value)

  @property
  def bounded(self) -> bool:
    """Whether there is an interval."""
    return not (math.isnan(self.low) or math.isnan(self.high))


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a study says of one curve.

  Attributes:
    label: the estimator, with granularity and fill where a study has several.
    estimator: its name.
    role: `estimator`; `reference` for random; `control`.
    area: points over random, as a fraction.
    racu: area as a part of that between random and chance.
    p_holm: p of the area after correction.
    rank: among the curves that compete.
    power: the chance to detect two points.
    detectable: the area that is detected with 80 % chance.
    runs: how many seeds there are.
    leak: the check of its masks, None where they were not tested.
  """

  label: str
  estimator: str
  role: str
  area: Estimate = Estimate()
  racu: Estimate = Estimate()
  p_holm: float = math.nan
  rank: Estimate = Estimate()
  power: float = math.nan
  detectable: float = math.nan
  runs: int = 0
  leak: Check | None = None

  @property
  def tested(self) -> bool:
    """Whether there is a corrected test."""
    return not math.isnan(self.p_holm)

  @property
  def tone(self) -> str:
    """`better` or `worse` where a test says so, else empty."""
    if not self.tested or self.p_holm >= LEVEL:
      return ''
    return 'better' if self.area.value > 0 else 'worse'

  @property
  def words(self) -> str:
    """The verdict in a few words."""
    if self.role == 'reference':
      return 'the reference'
    if not self.area.known:
      return 'incomplete'
    if self.role == 'control':
      return 'control'
    if self.tested:
      return f'{self.tone} than random' if self.tone else 'not told from random'
    side = 'ahead' if self.area.value > 0 else 'behind'
    return f'{side}, not tested'


def of_curves(
  table: pd.DataFrame,
  rows: pd.DataFrame,
  leaks: Iterable[Check] = (),
) -> list[Verdict]:
  """Returns the verdict on each curve of one source and mode, best first.

  Curves of other fills and granularities come after those of the usual ones.

  Args:
    table: of `statistics.compute`.
    rows: of `results.against_random`: the cells, their labels and order.
    leaks: checks of the name `leak`.
  """
  if rows.empty:
    return []
  source, mode = rows.iloc[0][['source', 'mode']]
  numbers = results.where(table, source=source, mode=mode, input='image')
  numbers = numbers[numbers['threshold'].isna()]
  estimates = {
    (row.estimator, row.granularity, row.fill, row.quantity): Estimate(
      row.value, row.low, row.high
    )
    for row in numbers.itertuples()
  }
  # The masks of a ranking are the same under every fill, and under the other
  # mode they are the same shapes.
  masks = {
    (leak.estimator, leak.granularity): leak
    for leak in leaks
    if leak.source == source
  }
  ranked = []
  for label, cells in rows.groupby('label', sort=False):
    first = cells.iloc[0]
    curve = estimator, granularity, fill = tuple(
      first[['estimator', 'granularity', 'fill']]
    )
    role = 'control' if results.is_control(estimator) else 'estimator'
    verdict = Verdict(
      label,
      estimator,
      'reference' if first['reference'] else role,
      **{
        name: estimates.get((*curve, name), Estimate())
        for name in ('area', 'racu', 'rank')
      },
      **{
        name: estimates.get((*curve, name), Estimate()).value
        for name in ('p_holm', 'power', 'detectable')
      },
      runs=int(cells['runs'].min()),
      leak=masks.get((estimator, granularity)),
    )
    order = (fill != 'mean', fill, granularity, *_order(verdict))
    ranked.append((order, verdict))
  return [verdict for _, verdict in sorted(ranked, key=lambda pair: pair[0])]


def sentences(verdicts: Sequence[Verdict], mode: str) -> list[str]:
  """Returns in plain words which estimators beat random, and how surely."""
  if not any(verdict.role == 'reference' for verdict in verdicts):
    return ['Without a random baseline nothing can be said about an estimator.']
  rivals = [v for v in verdicts if v.role == 'estimator' and v.area.known]
  if not rivals:
    return ['No estimator has a whole curve that could be judged.']
  if any(rival.tested for rival in rivals):
    text = [_of_tests(rivals)]
  else:
    text = _of_points(rivals, min(verdict.runs for verdict in verdicts))
  leaking = [rival for rival in rivals if rival.leak and not rival.leak.holds]
  # In `remove` a mask that tells the class keeps accuracy up and hides a lead;
  # in `keep` it adds to one.
  if mode == 'keep':
    leaking = [rival for rival in leaking if rival.area.value > 0]
  if leaking:
    consequence = (
      ', which holds accuracy up: these rankings may have found more than their'
      ' curves show.'
      if mode == 'remove'
      else ': being ahead may owe to that.'
    )
    names = _listed(leaking, numbers=False)
    text.append(f'The masks of {names} give the class away{consequence}')
  return text


def _of_tests(rivals: Sequence[Verdict]) -> str:
  better = [rival for rival in rivals if rival.tone == 'better']
  worse = [rival for rival in rivals if rival.tone == 'worse'][::-1]
  equal = [rival for rival in rivals if rival.tested and not rival.tone]
  untested = [rival for rival in rivals if not rival.tested]
  be = 'is' if len(better) == 1 else 'are'
  text = (
    f'{len(better) or "None"} of {len(rivals)} estimators {be} better than'
    f' random{": " + _listed(better) if better else ""}.'
  )
  for group, singular, plural, words in (
    (worse, 'is', 'are', 'worse'),
    (equal, 'is', 'are', 'not told from random'),
    (untested, 'has', 'have', 'too few seeds for a test'),
  ):
    if group:
      verb = singular if len(group) == 1 else plural
      text += f' {len(group)} {verb} {words}: {_listed(group)}.'
  return text


def _of_points(rivals: Sequence[Verdict], fewest: int) -> list[str]:
  ahead = [rival for rival in rivals if rival.area.value > 0]
  text = (
    f'Averaged over the curve, {len(ahead) or "none"} of {len(rivals)}'
    f' estimators {"is" if len(ahead) == 1 else "are"} ahead of random'
  )
  text += (
    f': {_listed(ahead)}.'
    if ahead
    else f'; the closest is {_listed(rivals[:1])}.'
  )
  if fewest >= results.RUNS_FOR_INTERVAL:
    return [text, 'All seeds agree to the last digit: nothing can be tested.']
  noun = 'seed' if fewest == 1 else 'seeds'
  return [
    text,
    f'With {fewest} {noun} per cell these are points without intervals: no '
    'significance is claimed.',
  ]


def _order(verdict: Verdict):
  """Sorts the best first; random has no points over itself."""
  value = 0.0 if verdict.role == 'reference' else verdict.area.value
  return math.isnan(value), -value if value == value else 0, verdict.label


def _listed(verdicts: Sequence[Verdict], numbers: bool = True) -> str:
  names = [
    f'{v.label} ({points(v.area.value)} points)' if numbers else v.label
    for v in verdicts
  ]
  more = [f'and {len(names) - _NAMED} more'] if len(names) > _NAMED else []
  return ', '.join(names[:_NAMED] + more)
