"""Tables on the question whether the benchmark itself could be fooling us.

`report` puts them into the page. Each function returns None where the study has
nothing to fill its table with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd

from roar_tf.analysis import contrasts, families, results, tables
from roar_tf.analysis.arms import Estimate
from roar_tf.analysis.faults import Check
from roar_tf.analysis.verdict import Verdict


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
  areas = {verdict.label: verdict.lead.value for verdict in verdicts}
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
    table, source=source, mode=mode, input='image', quantity='lead'
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
  leads = results.where(table, source=source, mode=mode, quantity='lead')
  tested = results.where(leads, input='deletion')
  retrained = results.where(leads, input='image')
  if tested.empty:
    return None
  key = ['estimator', 'granularity', 'fill']
  both = tested.merge(retrained, on=key, how='left', suffixes=('', '_again'))
  both = both.sort_values('value', ascending=False)
  both = both.assign(label=results.labels(both))
  body = [
    (
      row.label,
      [
        Entry(
          tables.points(row.value), note=tables.interval(row.low, row.high)
        ),
        Entry(
          tables.points(row.value_again),
          note=tables.interval(row.low_again, row.high_again),
        ),
      ],
    )
    for row in both.itertuples()
  ]
  return Table(['estimator', 'not retrained', 'retrained'], body)


def decomposition(
  verdicts: Sequence[Verdict], found: Sequence[contrasts.Contrast]
) -> Table | None:
  """Returns what a lead is made of: shape, image, model.

  Args:
    verdicts: of one source and mode.
    found: of `contrasts.decomposed`.
  """
  leads = {verdict.curve: verdict.lead for verdict in verdicts}
  parts = {(one.curve, one.rival): one.lead for one in found}
  body = []
  for verdict in verdicts:
    own, name = verdict.curve, verdict.estimator
    shape = own._replace(estimator=f'shuffle_{name}')
    image = own._replace(estimator=f'untrained_{name}')
    of = (
      leads.get(shape, Estimate()),
      parts.get((image, shape.estimator), Estimate()),
      parts.get((own, image.estimator), Estimate()),
    )
    if verdict.lead.known and any(part.known for part in of):
      entries = [_estimate(part) for part in (verdict.lead, *of)]
      body.append((verdict.label, entries))
  heads = ['estimator', 'lead', 'shape', 'image', 'model']
  return Table(heads, body) if body else None


def planned(
  found: Sequence[contrasts.Contrast], source: str, mode: str
) -> Table | None:
  """Returns the planned contrasts of a source and mode."""
  body = [
    (
      f'{contrast.curve.estimator} against {contrast.rival}',
      [
        _estimate(contrast.lead),
        Entry(contrast.word),
      ],
    )
    for contrast in found
    if contrast.curve[:2] == (source, mode)
  ]
  return Table(['estimators', 'lead', 'verdict'], body) if body else None


def consistency(
  found: Sequence[contrasts.Agreement], source: str
) -> Table | None:
  """Returns how alike the conditions of a source order the estimators."""
  body = [
    (
      f'{_condition(agreement.first)} and {_condition(agreement.second)}',
      [
        Entry(tables.decimal(agreement.tau)),
        Entry(str(agreement.estimators)),
      ],
    )
    for agreement in found
    if agreement.source == source
  ]
  return (
    Table(['orders', 'Kendall’s tau', 'estimators'], body) if body else None
  )


def sureness(verdicts: Sequence[Verdict]) -> Table | None:
  """Returns what makes leads unsure, and which the study would have found."""
  body = []
  for verdict in verdicts:
    if verdict.role == 'reference':
      continue
    values = verdict.seeds_error, verdict.images_error, verdict.detectable
    entries = [Entry(tables.percent(value)) for value in values]
    entries.append(Entry(tables.interval(*verdict.pointwise[1:])))
    body.append((verdict.label, [Entry(str(verdict.seeds)), *entries]))
  heads = [
    'estimator',
    'seeds',
    'error of seeds',
    'error of test images',
    'lead found with 80 %',
    'interval of it alone',
  ]
  return Table(heads, body) if body else None


def _estimate(estimate: Estimate) -> Entry:
  note = tables.interval(estimate.low, estimate.high)
  return Entry(tables.points(estimate.value), note=note)


def _condition(condition: tuple[str, str, str]) -> str:
  mode, fill, input = condition
  text = mode if input == 'image' else f'{mode} without retraining'
  return text if fill == 'mean' else f'{text}, fill {fill}'


def _entries(values: Sequence[float]) -> list[Entry]:
  return [Entry(tables.points(value)) for value in values]
