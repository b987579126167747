"""A study's accuracies beside those of the paper's Table 2, for its report."""

from __future__ import annotations

import pandas as pd

from roar_tf.analysis import paper, results, statistics, tables
from roar_tf.analysis.soundness import Entry, Table


def tables_of(summary: pd.DataFrame, source: str) -> list[Table]:
  """Returns one table per mode for the page; none for a source not the paper's.

  An entry is ours in percent, with the paper's and the difference as its note.
  """
  rows = paper.compare(summary, source)
  rows = rows.assign(label=results.labels(rows))
  originals = rows[rows['estimator'] == results.ORIGINAL]
  compared = []
  for mode in ('remove', 'keep'):
    cells = rows[rows['mode'] == mode]
    if cells.empty:
      continue
    thresholds = sorted(set(cells['threshold']))
    body = [
      (row.label, [_entry(row)] + [Entry('')] * (len(thresholds) - 1))
      for row in originals.itertuples()
    ]
    for label, group in cells.groupby('label', sort=False):
      entries = {cell.threshold: _entry(cell) for cell in group.itertuples()}
      body.append(
        (label, [entries.get(t, Entry(tables.NONE)) for t in thresholds])
      )
    heads = [f'{mode}, ours', *(f'{t} %' for t in thresholds)]
    compared.append(Table(heads, body))
  return compared


def statistics_of(summary: pd.DataFrame, source: str) -> pd.DataFrame:
  """Returns rows of statistics.csv: `paper`, and `paper_difference`."""
  rows = paper.compare(summary, source).assign(input='image')
  names = {'paper': 'paper', 'difference': 'paper_difference'}
  return pd.concat(
    [
      rows.assign(quantity=quantity, value=rows[column], low=None, high=None)
      for column, quantity in names.items()
    ],
    ignore_index=True,
  ).reindex(columns=list(statistics.COLUMNS))


def _entry(row) -> Entry:
  note = f'{tables.percent(row.paper)} {tables.points(row.difference)}'
  return Entry(tables.percent(row.ours), note=note)
