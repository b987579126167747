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
from roar_tf.analysis.checks import Alarm
from roar_tf.analysis.inference import LEVEL
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
    kind: `estimator`; `reference` for random; `control`.
    area: points over random, as a fraction.
    racu: area as a part of that between random and chance.
    p: of the area; p_holm after correction.
    p_holm: see p.
    rank: among those that compete.
    power: the chance to find two points.
    detectable: the area that is found with 80 % chance.
    runs: seeds.
    leak: the check of its masks, None where they were not tested.
  """

  label: str
  estimator: str
  kind: str
  area: Estimate = Estimate()
  racu: Estimate = Estimate()
  p: float = math.nan
  p_holm: float = math.nan
  rank: Estimate = Estimate()
  power: float = math.nan
  detectable: float = math.nan
  runs: int = 0
  leak: Alarm | None = None

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
    """The verdict."""
    if self.kind == 'reference':
      return 'the reference'
    if not self.area.known:
      return 'incomplete'
    if self.kind == 'control':
      return 'control'
    if self.tested:
      return f'{self.tone} than random' if self.tone else 'not told from random'
    side = 'ahead' if self.area.value > 0 else 'behind'
    return f'{side}, not tested'


def verdicts(
  table: pd.DataFrame,
  rows: pd.DataFrame,
  leaks: Iterable[Alarm] = (),
) -> list[Verdict]:
  """Returns what is said of each curve of one source and mode, best first.

  Curves of other fills and granularities come after those of the usual ones.

  Args:
    table: of `statistics.compute`.
    rows: of `results.against_random`: the cells, their labels and order.
    leaks: checks of kind `leak`.
  """
  if rows.empty:
    return []
  source, mode = rows.iloc[0][['source', 'mode']]
  here = table[
    (table['source'] == source)
    & (table['mode'] == mode)
    & (table['input'] == 'image')
    & table['threshold'].isna()
  ]
  found = {}
  for row in here.itertuples():
    key = row.estimator, row.granularity, row.fill
    found.setdefault(key, {})[row.quantity] = row
  # The masks of a ranking are the same under every fill, and under the other
  # mode they are the same shapes.
  masks = {
    (leak.estimator, leak.granularity): leak
    for leak in leaks
    if leak.source == source
  }
  said = []
  for label, cells in rows.groupby('label', sort=False):
    first = cells.iloc[0]
    key = tuple(first[['estimator', 'granularity', 'fill']])
    numbers = found.get(key, {})
    kind = 'control' if results.is_control(key[0]) else 'estimator'
    said.append(
      Verdict(
        label,
        key[0],
        'reference' if first['reference'] else kind,
        **{name: _estimate(numbers, name) for name in ('area', 'racu', 'rank')},
        **{
          name: _estimate(numbers, name).value
          for name in ('p', 'p_holm', 'power', 'detectable')
        },
        runs=int(cells['runs'].min()),
        leak=masks.get(key[:2]),
      )
    )
  variants = {
    row.label: (row.fill != 'mean', row.fill, row.granularity)
    for row in rows.itertuples()
  }
  return sorted(said, key=lambda one: (variants[one.label], _order(one)))


def sentences(said: Sequence[Verdict], mode: str) -> list[str]:
  """Says in plain words which estimators beat random, and how surely."""
  if not any(one.kind == 'reference' for one in said):
    return ['Without a random baseline nothing can be said about an estimator.']
  rivals = [one for one in said if one.kind == 'estimator' and one.area.known]
  if not rivals:
    return ['No estimator has a whole curve that could be judged.']
  if any(one.tested for one in rivals):
    text = _of_tests(rivals)
  else:
    text = _of_points(rivals, min(one.runs for one in said))
  leaking = [one for one in rivals if one.leak and not one.leak.holds]
  # In `remove` a mask that tells the class keeps accuracy up and hides a lead;
  # in `keep` it adds to one.
  if mode == 'keep':
    leaking = [one for one in leaking if one.area.value > 0]
  if leaking:
    may = (
      ', which holds accuracy up: these rankings may have found more than their'
      ' curves show.'
      if mode == 'remove'
      else ': being ahead may owe to that.'
    )
    text.append(
      f'The masks of {_listed(leaking, False)} give the class away{may}'
    )
  return text


def _of_tests(rivals: Sequence[Verdict]) -> list[str]:
  better = [one for one in rivals if one.tone == 'better']
  worse = [one for one in rivals if one.tone == 'worse'][::-1]
  rest = [one for one in rivals if one.tested and not one.tone]
  untested = [one for one in rivals if not one.tested]
  be = 'is' if len(better) == 1 else 'are'
  text = (
    f'{len(better) or "None"} of {len(rivals)} estimators {be} better than'
    f' random{": " + _listed(better) if better else ""}.'
  )
  if worse:
    be = 'is' if len(worse) == 1 else 'are'
    text += f' {len(worse)} {be} worse: {_listed(worse)}.'
  if rest:
    be = 'is' if len(rest) == 1 else 'are'
    text += f' {len(rest)} {be} not told from random: {_listed(rest)}.'
  if untested:
    be = 'has' if len(untested) == 1 else 'have'
    text += (
      f' {len(untested)} {be} too few seeds for a test: {_listed(untested)}.'
    )
  return [text]


def _of_points(rivals: Sequence[Verdict], fewest: int) -> list[str]:
  ahead = [one for one in rivals if one.area.value > 0]
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


def _estimate(numbers, name: str) -> Estimate:
  row = numbers.get(name)
  return Estimate(row.value, row.low, row.high) if row else Estimate()


def _order(one: Verdict):
  """Best first; random stands where it is, at no points over itself."""
  value = 0.0 if one.kind == 'reference' else one.area.value
  return math.isnan(value), -value if value == value else 0, one.label


def _listed(some: Sequence[Verdict], numbers: bool = True) -> str:
  names = [
    f'{one.label} ({points(one.area.value)} points)' if numbers else one.label
    for one in some
  ]
  more = [f'and {len(names) - _NAMED} more'] if len(names) > _NAMED else []
  return ', '.join(names[:_NAMED] + more)
