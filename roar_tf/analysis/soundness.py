"""Could the benchmark itself be fooling us? What a study can say to that.

Each function returns a table for the page, None where the study has nothing to
fill it with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd

from roar_tf.analysis import families, results, tables
from roar_tf.analysis.verdicts import Verdict


@dataclasses.dataclass(frozen=True)
class Cell:
  """What stands in one cell: text, a mark, and what is said beside it."""

  text: str
  marked: bool = False
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of the page: a heading per column, a label per row."""

  heads: Sequence[str]
  rows: Sequence[tuple[str, Sequence[Cell]]]


def leaks(
  summary: pd.DataFrame, source: str, chance: float | None, checks
) -> Table | None:
  """Accuracy of models that saw only the masks, beside guessing.

  Args:
    summary: what `results.summarise` returns.
    source: the source.
    chance: accuracy of guessing in percent, or None.
    checks: of the study.
  """
  rows = summary[
    (summary['source'] == source)
    & (summary['input'] == 'maskonly')
    & (summary['mode'] != '')
  ]
  if rows.empty:
    return None
  leaking = {
    (check.estimator, check.granularity)
    for check in checks
    if check.kind == 'leak' and check.source == source and not check.holds
  }
  # One mask serves every fill, so the label must not name one.
  rows = rows.assign(fill='mean')
  rows = rows.assign(label=results.labels(rows))
  thresholds = sorted(set(rows['threshold']))
  lines = []
  for label, cells in rows.groupby('label'):
    first = cells.iloc[0]
    means = dict(zip(cells['threshold'], cells['mean'], strict=True))
    marked = (first['estimator'], first['granularity']) in leaking
    line = [Cell(tables.percent(means.get(t, math.nan))) for t in thresholds]
    line.append(Cell('leaks' if marked else 'no leak seen', marked))
    lines.append((max(means.values()), label, line))
  lines.sort(key=lambda line: -line[0])
  body = [line[1:] for line in lines]
  if chance is not None:
    guess = [Cell(f'{chance:.4g}') for _ in thresholds]
    body.append(('guessing', [*guess, Cell('')]))
  verb = 'removed' if 'remove' in set(rows['mode']) else 'kept'
  heads = [f'mask of {verb}', *(f'{t} %' for t in thresholds), 'verdict']
  return Table(heads, body)


def smoothed(said: Sequence[Verdict]) -> Table | None:
  """Blurred and max-filtered maps next to the map they are made from.

  Neither knows more of the model; one that does better shows how much of a
  score owes to the shape of the removed area alone.
  """
  areas = {one.label: one for one in said}
  bases = {}
  for one in said:
    prefix, base = families.split(one.estimator)
    if prefix in ('blur_', 'max_'):
      label = one.label.removeprefix(prefix)
      bases.setdefault(label, {})[prefix] = one
  if not bases:
    return None
  body = []
  for label, controls in bases.items():
    own = areas.get(label)
    value = own.area.value if own else math.nan
    line = [Cell(tables.points(value))]
    for prefix in ('blur_', 'max_'):
      control = controls.get(prefix)
      area = control.area.value if control else math.nan
      line.append(Cell(tables.points(area), area > value))
    body.append((label, line))
  return Table(['estimator', 'itself', 'blurred', 'max-filtered'], body)


def fills(table: pd.DataFrame, source: str, mode: str) -> Table | None:
  """Points over random under each fill: a finding should not hang on one."""
  rows = _areas(table, source, mode, 'image')
  if rows['fill'].nunique() < 2:
    return None
  names = sorted(set(rows['fill']), key=lambda fill: (fill != 'mean', fill))
  values = {
    (label, fill): value
    for label, fill, value in zip(
      results.labels(rows.assign(fill='mean')),
      rows['fill'],
      rows['value'],
      strict=True,
    )
  }
  body = [
    (label, [values.get((label, fill), math.nan) for fill in names])
    for label in dict.fromkeys(label for label, _ in values)
  ]
  body.sort(key=lambda row: [-_low(value) for value in row[1]])
  cells = [(label, _cells(line)) for label, line in body]
  return Table(['estimator', *names], cells)


def deletion(table: pd.DataFrame, source: str, mode: str) -> Table | None:
  """Points over random without retraining, beside those with it."""
  tested = _areas(table, source, mode, 'deletion')
  if tested.empty:
    return None
  retrained = _areas(table, source, mode, 'image')
  key = ['estimator', 'granularity', 'fill']
  both = tested.merge(retrained, on=key, how='left', suffixes=('', '_again'))
  both = both.sort_values('value', ascending=False)
  both = both.assign(label=results.labels(both))
  body = [
    (row.label, _cells([row.value, row.value_again]))
    for row in both.itertuples()
  ]
  return Table(['estimator', 'not retrained', 'retrained'], body)


def sureness(
  table: pd.DataFrame, said: Sequence[Verdict], source: str, mode: str
) -> Table | None:
  """What the study could have found, and what makes it unsure."""
  rows = table[
    (table['source'] == source)
    & (table['mode'] == mode)
    & (table['input'] == 'image')
  ]
  rows = rows.assign(label=results.labels(rows))
  worst = rows.groupby(['label', 'quantity'])['value'].max().to_dict()
  body = []
  for one in said:
    values = [
      worst.get((one.label, 'accuracy_sd'), math.nan),
      worst.get((one.label, 'sampling_error'), math.nan),
      one.power,
      one.detectable,
    ]
    line = [Cell(tables.percent(value)) for value in values]
    body.append((one.label, [Cell(str(one.runs)), *line]))
  heads = [
    'estimator',
    'seeds',
    'SD between seeds',
    'test-set error',
    'power, 2 points (%)',
    'found with 80 %',
  ]
  return Table(heads, body) if body else None


def _areas(table, source, mode, input) -> pd.DataFrame:
  return table[
    (table['source'] == source)
    & (table['mode'] == mode)
    & (table['input'] == input)
    & (table['quantity'] == 'area')
  ]


def _cells(values: Sequence[float]) -> list[Cell]:
  return [Cell(tables.points(value)) for value in values]


def _low(value: float) -> float:
  return -math.inf if math.isnan(value) else value
