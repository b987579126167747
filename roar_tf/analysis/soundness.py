"""Tables on the question whether the benchmark itself could be fooling us.

`report` puts them into the page. Each function returns None where the study has
nothing to fill its table with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd

from roar_tf.analysis import families, results, tables
from roar_tf.analysis.results import Check
from roar_tf.analysis.verdicts import Verdict


@dataclasses.dataclass(frozen=True)
class Entry:
  """One entry of a table: its text, whether it is marked, and a small note."""

  text: str
  marked: bool = False
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of the page: a heading per column, a label per row."""

  heads: Sequence[str]
  rows: Sequence[tuple[str, Sequence[Entry]]]


def leaks(
  summary: pd.DataFrame,
  source: str,
  chance: float | None,
  checks: Sequence[Check],
) -> Table | None:
  """Returns accuracies of models that saw only the masks, beside guessing.

  Args:
    summary: what `results.summarise` returns.
    source: the source.
    chance: accuracy of guessing in percent, or None.
    checks: those of the name `leak`.
  """
  cells = results.where(summary, source=source, input='maskonly')
  cells = cells[cells['mode'] != '']
  if cells.empty:
    return None
  leaking = {
    (check.estimator, check.granularity)
    for check in checks
    if check.source == source and not check.holds
  }
  # One mask serves every fill, so the label must not name one.
  cells = cells.assign(fill='mean')
  cells = cells.assign(label=results.labels(cells))
  thresholds = sorted(set(cells['threshold']))
  rows = []
  for (label, *curve), group in cells.groupby(
    ['label', 'estimator', 'granularity']
  ):
    means = dict(zip(group['threshold'], group['mean'], strict=True))
    marked = tuple(curve) in leaking
    entries = [
      Entry(tables.percent(means.get(t, math.nan))) for t in thresholds
    ]
    entries.append(Entry('leaks' if marked else 'no leak seen', marked))
    rows.append((max(means.values()), label, entries))
  rows.sort(key=lambda row: -row[0])
  body = [row[1:] for row in rows]
  if chance is not None:
    guess = [Entry(f'{chance:.4g}') for _ in thresholds]
    body.append(('guessing', [*guess, Entry('')]))
  verb = 'removed' if 'remove' in set(cells['mode']) else 'kept'
  heads = [f'mask of {verb}', *(f'{t} %' for t in thresholds), 'verdict']
  return Table(heads, body)


def smoothed(verdicts: Sequence[Verdict]) -> Table | None:
  """Returns blurred and max-filtered maps next to the map they are made from.

  Neither knows more of the model; one that does better shows how much of a
  score owes to the shape of the removed area alone.
  """
  areas = {verdict.label: verdict.area.value for verdict in verdicts}
  bases = []
  for verdict in verdicts:
    prefix, _ = families.split(verdict.estimator)
    if prefix in ('blur_', 'max_'):
      bases.append(verdict.label.removeprefix(prefix))
  body = []
  for label in dict.fromkeys(bases):
    own = areas.get(label, math.nan)
    filtered = [areas.get(f'{p}{label}', math.nan) for p in ('blur_', 'max_')]
    entries = [Entry(tables.points(area), area > own) for area in filtered]
    body.append((label, [Entry(tables.points(own)), *entries]))
  heads = ['estimator', 'itself', 'blurred', 'max-filtered']
  return Table(heads, body) if body else None


def fills(table: pd.DataFrame, source: str, mode: str) -> Table | None:
  """Returns points over random under each fill, the best curve first.

  A finding should not hang on the fill.
  """
  rows = results.where(
    table, source=source, mode=mode, input='image', quantity='area'
  )
  if rows['fill'].nunique() < 2:
    return None
  names = sorted(set(rows['fill']), key=lambda fill: (fill != 'mean', fill))
  rows = rows.assign(label=results.labels(rows.assign(fill='mean')))
  values = rows.pivot(index='label', columns='fill', values='value')[names]
  values = values.sort_values(names, ascending=False)
  body = [(label, _entries(row)) for label, *row in values.itertuples()]
  return Table(['estimator', *names], body)


def deletion(table: pd.DataFrame, source: str, mode: str) -> Table | None:
  """Returns points over random without retraining, beside those with it."""
  areas = results.where(table, source=source, mode=mode, quantity='area')
  tested = results.where(areas, input='deletion')
  retrained = results.where(areas, input='image')
  if tested.empty:
    return None
  key = ['estimator', 'granularity', 'fill']
  both = tested.merge(retrained, on=key, how='left', suffixes=('', '_again'))
  both = both.sort_values('value', ascending=False)
  both = both.assign(label=results.labels(both))
  body = [
    (row.label, _entries([row.value, row.value_again]))
    for row in both.itertuples()
  ]
  return Table(['estimator', 'not retrained', 'retrained'], body)


def sureness(
  table: pd.DataFrame, verdicts: Sequence[Verdict], source: str, mode: str
) -> Table | None:
  """Returns what the study could have detected, and what makes it unsure."""
  rows = results.where(table, source=source, mode=mode, input='image')
  rows = rows.assign(label=results.labels(rows))
  worst = rows.groupby(['label', 'quantity'])['value'].max().to_dict()
  body = []
  for verdict in verdicts:
    values = [
      worst.get((verdict.label, 'accuracy_sd'), math.nan),
      worst.get((verdict.label, 'sampling_error'), math.nan),
      verdict.power,
      verdict.detectable,
    ]
    entries = [Entry(tables.percent(value)) for value in values]
    body.append((verdict.label, [Entry(str(verdict.runs)), *entries]))
  heads = [
    'estimator',
    'seeds',
    'SD between seeds',
    'test-set error',
    'power, 2 points (%)',
    'found with 80 %',
  ]
  return Table(heads, body) if body else None


def _entries(values: Sequence[float]) -> list[Entry]:
  return [Entry(tables.points(value)) for value in values]
