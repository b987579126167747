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
alarm, and `blur_x` or `shuffle_x` ask what is wrong with the benchmark, not
whether an estimator is right. They have a `p` of their own and no `p_holm`, so
adding controls to a study costs its estimators no power. Models of `maskonly`
and `deletion` are not tested against random's: no claim rests on them.

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
from roar_tf.analysis.results import Check

CURVE = ('source', 'mode', 'granularity', 'fill', 'input', 'estimator')
_TYPES = dict.fromkeys(CURVE, 'str') | {
  'threshold': 'Int64',
  'quantity': 'str',
  'value': 'float64',
  'low': 'float64',
  'high': 'float64',
  'runs': 'Int64',
}
COLUMNS = tuple(_TYPES)
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
  group = ['source', 'mode', 'input']
  for (source, mode, input), runs in frame[frame['mode'] != ''].groupby(group):
    reference = results.reference(runs['estimator'])
    if reference is None:
      continue
    cells = results.where(summary, source=source, mode=mode, input=input)
    rows += _gains(cells, mode, reference)
    nodes = thresholds[source, mode, input]
    areas = _areas(runs, nodes, reference)
    rows += [area.row(curve) for curve, area in areas.items()]
    start = results.original(summary, source, input)
    if source in chances and len(start) and input != 'maskonly':
      weight, _ = curves.weights(nodes, mode)
      rows += [
        area.racu(curve, start.iloc[0], weight, chances[source])
        for curve, area in areas.items()
      ]
    if input == 'image':
      rows += [*_tests(areas), *_ranks(areas)]
  return _tidy(pd.DataFrame(rows, columns=list(COLUMNS)))


def with_checks(table: pd.DataFrame, checks: Iterable[Check]) -> pd.DataFrame:
  """Returns the table with a row for each check, for statistics.csv.

  Its quantity is `alarm_<name>`, or `check_<name>` where the check holds;
  `value` is what was measured and `high` what was allowed.
  """
  rows = [
    {
      **{column: getattr(check, column) for column in CURVE},
      'threshold': check.threshold,
      'quantity': f'{"check" if check.holds else "alarm"}_{check.name}',
      'value': check.value,
      'high': check.allowed,
    }
    for check in checks
  ]
  more = pd.DataFrame(rows, columns=list(COLUMNS))
  return _tidy(pd.concat([table.astype(object), more.astype(object)]))


def write_csv(table: pd.DataFrame, path: str) -> None:
  """Writes the table to a file; floats keep all their digits."""
  from roar_tf.engine import files

  text = _tidy(table).to_csv(index=False, lineterminator='\n')
  files.publish(path, text.encode())


class _Area:
  """The area between random's curve and another, and how sure it is."""

  def __init__(self, random: curves.Height, own: curves.Height, mode: str):
    self.random, self.own, self.sign = random, own, curves.SIGN[mode]
    self.value = self.sign * (random.value - own.value)
    self._random = inference.of_mean(random.sd, random.runs)
    self._own = inference.of_mean(own.sd, own.runs)
    self.error, self.freedom = _sum(self._random, self._own)
    self.own_error, self.own_freedom = _sum(self._own)
    self.p = float(inference.p_value(self.value, self.error, self.freedom))

  def row(self, curve: tuple) -> dict[str, Any]:
    """Returns the area's row of the table."""
    half = inference.half_width(self.error, self.freedom)
    ends = self.value - half, self.value + half
    return _row(curve, 'area', self.value, self.own.runs, ends)

  def power(self, level: float) -> inference.Power:
    """Returns what a test at that level could find with these variances."""
    variances, freedoms = zip(self._random, self._own, strict=True)
    return inference.Power(variances, freedoms, level)

  def racu(
    self, curve: tuple, start: pd.Series, weight: float, chance: float
  ) -> dict[str, Any]:
    """Returns the row of RACU, the area over random's above chance.

    Args:
      curve: the curve.
      start: the summary's row of `original`.
      weight: w_0, that of the start.
      chance: accuracy of guessing; the weights make 1, so random's whole curve
        is that high above it on average.
    """
    begin = inference.of_mean(start['sd'], start['runs'])
    variances, freedoms = zip(self._random, self._own, begin, strict=True)
    value, *ends = inference.ratio(
      (self.sign, -self.sign, 0),
      (1, 0, weight),
      (self.random.value, self.own.value, start['mean']),
      variances,
      freedoms,
      -chance,
    )
    return _row(curve, 'racu', float(value), self.own.runs, ends)


def _areas(
  runs: pd.DataFrame, thresholds: list[int], reference: str
) -> dict[tuple, _Area]:
  """Returns the areas of the whole curves of one source, mode and input.

  Curves are compared with random's of the same granularity and fill.
  """
  areas = {}
  for group, members in runs.groupby([*CURVE[:-1]]):
    mode = group[1]
    heights = {
      estimator: curves.height(own, thresholds, mode)
      for estimator, own in members.groupby('estimator')
    }
    random = heights.pop(reference, None)
    for estimator, height in heights.items():
      if random is not None and height is not None:
        areas[(*group, estimator)] = _Area(random, height, mode)
  return areas


def _sum(*means) -> tuple[float, float]:
  variances, freedoms = zip(*means, strict=True)
  error, freedom = inference.combined(variances, freedoms)
  return float(error), float(freedom)


def _row(
  curve: tuple,
  quantity: str,
  value: float,
  runs: int,
  ends: Iterable[float] = (math.nan, math.nan),
  threshold: int | None = None,
) -> dict[str, Any]:
  """Returns a row of the table; the ends are those of its interval."""
  numbers = (threshold, quantity, value, *map(float, ends), runs)
  return dict(zip(COLUMNS, (*curve, *numbers), strict=True))


def _thresholds(
  frame: pd.DataFrame, expected: Iterable[Mapping[str, Any]] | None
) -> dict[tuple[str, str, str], list[int]]:
  """Returns the thresholds of all curves of each (source, mode, input)."""
  columns = ['source', 'mode', 'input', 'threshold']
  masked = frame.loc[frame['mode'] != '', columns]
  nodes = set(masked.itertuples(index=False, name=None))
  for run in expected or ():
    if run['mode']:
      input = run.get('input', 'image')
      nodes.add((run['source'], run['mode'], input, int(run['threshold'])))
  thresholds = {}
  for *group, threshold in sorted(nodes):
    thresholds.setdefault(tuple(group), []).append(threshold)
  return thresholds


def _of_cells(summary: pd.DataFrame) -> Iterator[dict[str, Any]]:
  for cell in summary.itertuples():
    curve = tuple(getattr(cell, column) for column in CURVE)
    at = {'threshold': cell.threshold, 'runs': cell.runs}
    ends = cell.low, cell.high
    yield _row(curve, 'accuracy', cell.mean, ends=ends, **at)
    if cell.runs > 1:
      yield _row(curve, 'accuracy_sd', cell.sd, **at)
    yield _row(curve, 'sampling_error', cell.sampling_error, **at)


def _gains(
  summary: pd.DataFrame, mode: str, reference: str
) -> Iterator[dict[str, Any]]:
  """Yields gains of all cells of one source, mode and input but random's."""
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
    half = inference.half_width(error, freedom)
    gain = curves.SIGN[mode] * (cell.mean_random - cell.mean)
    curve = tuple(getattr(cell, column) for column in CURVE)
    ends = gain - half, gain + half
    yield _row(curve, 'gain', gain, cell.runs, ends, cell.threshold)


def _tests(areas: Mapping[tuple, _Area]) -> Iterator[dict[str, Any]]:
  """Yields tests of one source and mode, and what they could have detected."""
  tested = {c: area for c, area in areas.items() if not math.isnan(area.p)}
  for curve, area in tested.items():
    yield _row(curve, 'p', area.p, area.own.runs)
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
      yield _row(curve, quantity, float(value), area.own.runs)


def _ranks(areas: Mapping[tuple, _Area]) -> Iterator[dict[str, Any]]:
  """Yields ranks within each granularity and fill of one source and mode."""
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
    for curve, rank, *ends in zip(group, *ranks, strict=True):
      yield _row(curve, 'rank', float(rank), group[curve].own.runs, ends)


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
  """Returns the table with its types and order made standard."""
  order = {quantity: i for i, quantity in enumerate(QUANTITIES)}
  table = results.typed(table, _TYPES)
  ranks = table['quantity'].map(lambda q: (order.get(q, len(order)), q))
  return (
    table.assign(order=ranks)
    .sort_values(
      [*CURVE, 'threshold', 'order', 'value', 'low', 'high'], ignore_index=True
    )
    .drop(columns='order')
  )
