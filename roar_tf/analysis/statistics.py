"""Statistics of a study: one long table, a row for every number.

What is compared: a *curve* is one estimator's cells of a source, mode,
granularity, fill and input; its rival is random's curve of the same. `curves`
defines area and RACU, `inference` their intervals and tests.

Runs are what varies: means, intervals, tests and power say what many more seeds
would show *on the same test images and the same rankings*. How far other test
images would move a number is `sampling_error`, which stands beside and is in no
interval: curves are compared on the same images, where most of it cancels.

One test per curve, two-sided, since an estimator that is worse than random is a
finding too: Welch's on the area, whose seeds are independent (the cells of one
seed are summed first, so that it does not matter how they vary together).
Holm's correction is over the curves of one source and mode that compete.
Controls (`results.is_control`) do not: the oracles' order is checked by an
alarm, and `blur_` and `max_` ask what is wrong with the benchmark, not whether
an estimator is right. They have a `p` of their own and no `p_holm`, so adding
controls to a study costs its estimators no power. Models of `maskonly` and
`deletion` are not tested against random's: no claim rests on them.

What to expect, simulated with 5 seeds and 16 estimators
(`benchmarks/confidence.py`): nominal 95 % intervals cover 94.6 to 95.5 %.
Holm's test finds something where nothing is in 2.6 % of studies if all cells
vary alike; in 7 %, more than the nominal 5, if all estimators vary more than
three times as much as random does, since Welch's test is approximate at a level
of 0.05 / 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from roar_tf.analysis import curves, inference, results
from roar_tf.analysis.checks import STANDING, Alarm, alarms, checks

__all__ = [
  'COLUMNS',
  'POINTS',
  'QUANTITIES',
  'STANDING',
  'Alarm',
  'alarms',
  'checks',
  'compute',
  'read_csv',
  'with_alarms',
  'write_csv',
]

CURVE = ('source', 'mode', 'granularity', 'fill', 'input', 'estimator')
COLUMNS = (*CURVE, 'threshold', 'quantity', 'value', 'low', 'high', 'runs')
POINTS = 0.02
"""The effect whose power is told: two points."""
QUANTITIES = (
  'accuracy',
  'accuracy_sd',
  'sampling_error',
  'gain',
  'area',
  'racu',
  'p',
  'p_holm',
  'power',
  'detectable',
  'rank',
)

_WHOLE = ('threshold', 'runs')
_REAL = ('value', 'low', 'high')


def compute(
  frame: pd.DataFrame,
  chances: Mapping[str, float],
  expected: Iterable[Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
  """Returns the statistics of one study.

  Args:
    frame: its runs, see `results.COLUMNS`.
    chances: for each source the accuracy of guessing, a fraction; without it
      there is no RACU.
    expected: the runs that the study lists, as for `results.faults`. They only
      tell which thresholds a curve must have, which otherwise are those that
      any curve of its source, mode and input has.

  Returns:
    A frame with the columns `COLUMNS`, in their order. Accuracies, gains and
    areas are fractions. `threshold` is NA for quantities of a whole curve,
    `low` and `high` are NaN where there is no interval.

    * `accuracy`: mean over runs; 95 % t interval from 3 runs on.
    * `accuracy_sd`: standard deviation between runs, from 2 on.
    * `sampling_error`: see `results.summarise`.
    * `gain`: s (random - own), s = 1 in `remove` and -1 in `keep`; Welch's
      95 % interval.
    * `area`, `racu`: see `curves`; 95 % intervals, by Welch and by Fieller.
      RACU is there for `image` and `deletion`, whose curves start at an
      `original` of the same input.
    * `p`, `p_holm`: of the area, of `image` only, from 3 runs on; none where
      all runs agree to the last digit.
    * `power`: the chance that Holm's test finds an area of `POINTS`, whatever
      is true of the others; `detectable`: the area it finds with 80 % chance.
      Both take the standard deviations seen for the true ones.
    * `rank`: 1 is best, among the curves that compete, of one granularity and
      fill; `low` and `high` are how far it moves, see `inference.ranks`.

    Quantities of curves that lack a cell are absent, as are those that need
    more runs; an accuracy that is not a number makes all of its curve NaN.
    `runs` is the number of own runs behind the number.
  """
  frame = results.tidy(frame)
  summary = results.summarise(frame)
  thresholds = _thresholds(frame, expected)
  rows = list(_of_cells(summary))
  kind = ['source', 'mode', 'input']
  for (source, mode, input), cells in frame[frame['mode'] != ''].groupby(kind):
    reference = results.reference(cells['estimator'])
    if reference is None:
      continue
    same = summary['source'].eq(source) & summary['mode'].eq(mode)
    here = summary[same & summary['input'].eq(input)]
    rows += _gains(here, mode, reference)
    areas = {}
    for (granularity, fill), group in cells.groupby(['granularity', 'fill']):
      heights = {
        estimator: curves.height(own, thresholds[source, mode, input], mode)
        for estimator, own in group.groupby('estimator')
      }
      random = heights.pop(reference, None)
      if random is None:
        continue
      start = results.original(summary, source, input)
      for estimator, height in heights.items():
        if height is not None:
          curve = (source, mode, granularity, fill, input, estimator)
          areas[curve] = _Area(random, height, mode)
          rows.append(areas[curve].row(curve))
          if source in chances and len(start) and input != 'maskonly':
            first, _ = curves.weights(thresholds[source, mode, input], mode)
            racu = areas[curve].racu(start.iloc[0], first, chances[source])
            rows.append({**_named(curve), **racu})
    if input == 'image':
      rows += [*_tests(areas), *_ranks(areas)]
  return _tidy(pd.DataFrame(rows, columns=list(COLUMNS)))


def with_alarms(table: pd.DataFrame, checks: Iterable[Alarm]) -> pd.DataFrame:
  """Returns the table with a row for each check.

  It is `alarm_<kind>`, or `check_<kind>` of one that holds; `value` is what was
  measured and `high` what was allowed.
  """
  rows = [
    {
      **{column: getattr(check, column) for column in CURVE},
      'threshold': check.threshold,
      'quantity': f'{"check" if check.holds else "alarm"}_{check.kind}',
      'value': check.value,
      'high': check.allowed,
    }
    for check in checks
  ]
  more = pd.DataFrame(rows, columns=list(COLUMNS))
  return _tidy(pd.concat([table.astype(object), more.astype(object)]))


def write_csv(table: pd.DataFrame, path: str) -> None:
  """Writes the table; floats survive the way back exactly."""
  from roar_tf.engine import files

  text = _tidy(table).to_csv(index=False, lineterminator='\n')
  files.publish(path, text.encode())


def read_csv(path: str) -> pd.DataFrame:
  """Reads what `write_csv` wrote; raises DataError for anything else."""

  def standard(frame):
    for column in set(_WHOLE).intersection(frame):
      frame[column] = [int(text) if text else None for text in frame[column]]
    return _tidy(frame)

  return results.parse_csv(path, _REAL, standard, 'statistics')


class _Area:
  """What is known of the area between random's curve and another."""

  def __init__(self, random: curves.Height, own: curves.Height, mode: str):
    self.random, self.own, self.sign = random, own, curves.SIGN[mode]
    self.value = self.sign * (random.value - own.value)
    self._random = inference.of_mean(random.sd, random.runs)
    self._own = inference.of_mean(own.sd, own.runs)
    self.error, self.freedom = _sum(self._random, self._own)
    self.own_error, self.own_freedom = _sum(self._own)
    self.p = float(inference.p_value(self.value, self.error, self.freedom))

  def row(self, curve: tuple) -> dict[str, Any]:
    half = inference.half_width(self.error, self.freedom)
    return _row(curve, 'area', self.value, half, self.own.runs)

  def power(self, level: float) -> inference.Power:
    """Returns what a test at that level could find with these variances."""
    variances, freedoms = zip(self._random, self._own, strict=True)
    return inference.Power(variances, freedoms, level)

  def racu(
    self, start: pd.Series, first: float, chance: float
  ) -> dict[str, Any]:
    """Returns value, low and high of the area over random's above chance.

    Args:
      start: the summary's row of `original`.
      first: w_0, its weight.
      chance: accuracy of guessing; the weights make 1, so random's whole curve
        is that high above it on average.
    """
    begin = inference.of_mean(start['sd'], start['runs'])
    variances, freedoms = zip(self._random, self._own, begin, strict=True)
    value, low, high = inference.ratio(
      (self.sign, -self.sign, 0),
      (1, 0, first),
      (self.random.value, self.own.value, start['mean']),
      variances,
      freedoms,
      -chance,
    )
    names = ('quantity', 'value', 'low', 'high', 'runs')
    return dict(
      zip(
        names,
        ('racu', float(value), float(low), float(high), self.own.runs),
        strict=True,
      )
    )


def _sum(*means) -> tuple[float, float]:
  variances, freedoms = zip(*means, strict=True)
  error, freedom = inference.combined(variances, freedoms)
  return float(error), float(freedom)


def _named(curve: tuple) -> dict[str, Any]:
  return dict(zip(CURVE, curve, strict=True))


def _row(
  curve: tuple,
  quantity: str,
  value: float,
  half: float = math.nan,
  runs: int | None = None,
  threshold: int | None = None,
) -> dict[str, Any]:
  return {
    **_named(curve),
    'threshold': threshold,
    'quantity': quantity,
    'value': value,
    'low': value - half,
    'high': value + half,
    'runs': runs,
  }


def _thresholds(
  frame: pd.DataFrame, expected: Iterable[Mapping[str, Any]] | None
) -> dict[tuple[str, str, str], list[int]]:
  """The thresholds that every curve of a (source, mode, input) must have."""
  found = frame[frame['mode'] != ''][['source', 'mode', 'input', 'threshold']]
  keys = set(found.itertuples(index=False, name=None))
  for run in expected or ():
    if run['mode']:
      kind = (run['source'], run['mode'], run.get('input', 'image'))
      keys.add((*kind, int(run['threshold'])))
  thresholds = {}
  for *kind, threshold in sorted(keys):
    thresholds.setdefault(tuple(kind), []).append(threshold)
  return thresholds


def _of_cells(summary: pd.DataFrame) -> Iterator[dict[str, Any]]:
  for cell in summary.itertuples():
    curve = tuple(getattr(cell, column) for column in CURVE)
    at = {'threshold': cell.threshold, 'runs': cell.runs}
    yield _row(curve, 'accuracy', cell.mean, cell.high - cell.mean, **at) | {
      'low': cell.low,
      'high': cell.high,
    }
    if cell.runs > 1:
      yield _row(curve, 'accuracy_sd', cell.sd, **at)
    yield _row(curve, 'sampling_error', cell.sampling_error, **at)


def _gains(
  summary: pd.DataFrame, mode: str, reference: str
) -> Iterator[dict[str, Any]]:
  """Of all cells of one source, mode and input but random's."""
  key = ['granularity', 'fill', 'threshold']
  random = summary[summary['estimator'] == reference]
  rows = summary[summary['estimator'] != reference].merge(
    random[[*key, 'mean', 'sd', 'runs']], on=key, suffixes=('', '_random')
  )
  for cell in rows.itertuples():
    error, freedom = _sum(
      inference.of_mean(cell.sd, cell.runs),
      inference.of_mean(cell.sd_random, cell.runs_random),
    )
    yield _row(
      tuple(getattr(cell, column) for column in CURVE),
      'gain',
      curves.SIGN[mode] * (cell.mean_random - cell.mean),
      float(inference.half_width(error, freedom)),
      cell.runs,
      cell.threshold,
    )


def _tests(areas: Mapping[tuple, _Area]) -> Iterator[dict[str, Any]]:
  """Tests of one source and mode, with what they could have found."""
  tested = {c: area for c, area in areas.items() if not math.isnan(area.p)}
  for curve, area in tested.items():
    yield _row(curve, 'p', area.p, runs=area.own.runs)
  family = {c: a for c, a in tested.items() if not results.is_control(c[-1])}
  if not family:
    return
  level = inference.LEVEL / len(family)
  corrected = inference.holm([area.p for area in family.values()])
  for (curve, area), p in zip(family.items(), corrected, strict=True):
    power = area.power(level)
    for quantity, value in (
      ('p_holm', p),
      ('power', power.of(POINTS)),
      ('detectable', power.detectable()),
    ):
      yield _row(curve, quantity, float(value), runs=area.own.runs)


def _ranks(areas: Mapping[tuple, _Area]) -> Iterator[dict[str, Any]]:
  """Ranks within each granularity and fill of one source and mode."""
  groups: dict[tuple, dict[tuple, _Area]] = {}
  for curve, area in areas.items():
    if not (results.is_control(curve[-1]) or math.isnan(area.value)):
      groups.setdefault(curve[2:4], {})[curve] = area
  for group in groups.values():
    ranks = inference.ranks(
      [area.value for area in group.values()],
      [area.own_error for area in group.values()],
      [area.own_freedom for area in group.values()],
    )
    for curve, rank, low, high in zip(group, *ranks, strict=True):
      row = _row(curve, 'rank', float(rank), runs=group[curve].own.runs)
      yield row | {'low': float(low), 'high': float(high)}


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
  """Returns the table with its types and order made standard."""
  lacking = [column for column in COLUMNS if column not in table.columns]
  if lacking:
    raise ValueError(f'columns are missing: {", ".join(lacking)}')
  table = table[list(COLUMNS)].copy()
  for column in (*CURVE, 'quantity'):
    table[column] = table[column].astype(object).fillna('').astype(str)
  table = table.astype({c: 'Int64' for c in _WHOLE})
  table = table.astype({c: 'float64' for c in _REAL})
  known = {quantity: i for i, quantity in enumerate(QUANTITIES)}
  order = table['quantity'].map(lambda q: (known.get(q, len(known)), q))
  return (
    table.assign(order=order)
    .sort_values([*CURVE, 'threshold', 'order', *_REAL], ignore_index=True)
    .drop(columns='order')
  )
