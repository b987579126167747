"""A study's accuracies beside those of the paper's Table 2."""

from __future__ import annotations

import pandas as pd

from roar_tf.analysis import paper, results, soundness, statistics, tables


def compare(summary: pd.DataFrame, source: str) -> list[soundness.Table]:
  """Returns one table per mode; none for a source that the paper lacks.

  A cell is ours in percent, with the paper's and the difference as its note.
  """
  rows = paper.compare(summary, source)
  if rows.empty:
    return []
  rows = rows.assign(label=results.labels(rows))
  start = rows[rows['estimator'] == results.ORIGINAL]
  found = []
  for mode in ('remove', 'keep'):
    here = rows[rows['mode'] == mode]
    if here.empty:
      continue
    thresholds = sorted(set(here['threshold']))
    body = [
      (row.label, [_cell(row), *[soundness.Cell('')] * (len(thresholds) - 1)])
      for row in start.itertuples()
    ]
    for label, cells in here.groupby('label', sort=False):
      line = {cell.threshold: _cell(cell) for cell in cells.itertuples()}
      body.append(
        (label, [line.get(t, soundness.Cell(tables.NONE)) for t in thresholds])
      )
    heads = [f'{mode}, ours', *(f'{t} %' for t in thresholds)]
    found.append(soundness.Table(heads, body))
  return found


def rows(summary: pd.DataFrame, source: str) -> pd.DataFrame:
  """Returns rows of statistics.csv: `paper`, and `paper_difference`."""
  compared = paper.compare(summary, source)
  found = []
  for quantity, column in (
    ('paper', 'paper'),
    ('paper_difference', 'difference'),
  ):
    some = compared.assign(
      quantity=quantity, value=compared[column], input='image'
    )
    some = some.reindex(columns=list(statistics.COLUMNS))
    found.append(some.assign(low=float('nan'), high=float('nan')))
  return pd.concat(found, ignore_index=True)


def _cell(row) -> soundness.Cell:
  note = f'{tables.percent(row.paper)} {tables.points(row.difference)}'
  return soundness.Cell(tables.percent(row.ours), note=note)
