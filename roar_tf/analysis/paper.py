"""The paper's results as data: Tables 1 and 2, and ours beside them.

`paper_table_1.csv` and `paper_table_2.csv` hold what Hooker et al. (NeurIPS
2019) print, in percent, digit for digit. Only names are ours: Table 2's rows
"GP" are GB, guided backprop, as its caption says, and its `random` is Bernoulli
(section 4.1). It has no squared estimators: Figure 6 draws them, no table does.
"""

from __future__ import annotations

import functools
import importlib.resources
import io
import re

import pandas as pd

from roar_tf.analysis import results

_GRADIENT = re.compile('((sg_sq|sq_sg|sg|sq|var)_)?(grad|ig|gb)')


def table_1() -> pd.DataFrame:
  """Returns Table 1, one row per source, of unmodified images.

  Columns: source; accuracy, a fraction, the mean of 10 runs; train_images,
  test_images; base_learning_rate, per 256 images; train_steps.
  """
  table = _read('paper_table_1.csv')
  return table.assign(accuracy=_fractions(table['accuracy']))


def table_2() -> pd.DataFrame:
  """Returns Table 2, one row per cell in its order: 3 x 14 x 2 x 5 = 420.

  Columns: source, estimator (in our names), mode, threshold (whole percent),
  accuracy (a fraction, the mean of 5 runs).
  """
  wide = _read('paper_table_2.csv').reset_index(names='row')
  long = wide.melt(['row', 'source', 'estimator'], value_name='accuracy')
  long[['mode', 'threshold']] = long['variable'].str.split('_', expand=True)
  # Melted column by column; within a row the order is that of the columns.
  long = long.sort_values('row', kind='stable', ignore_index=True)
  long = long.astype({'threshold': 'int64'})
  long['accuracy'] = _fractions(long['accuracy'])
  return long[['source', 'estimator', 'mode', 'threshold', 'accuracy']]


def estimators() -> list[str]:
  """Returns the rows of Table 2 from top to bottom, in our names."""
  return list(dict.fromkeys(_read('paper_table_2.csv')['estimator']))


def name(estimator: str) -> str:
  """Returns the paper's name of an estimator, ours where it has none."""
  if _GRADIENT.fullmatch(estimator):
    return estimator.upper().replace('_', '-')
  return {'random': 'Random', 'sobel': 'Sobel'}.get(estimator, estimator)


def compare(summary: pd.DataFrame, source: str) -> pd.DataFrame:
  """Returns our accuracies beside the paper's, where both have one.

  Args:
    summary: what `results.summarise` returns.
    source: the source.

  Returns:
    One row per cell of ours that the paper has too, whatever its granularity
    and fill (the paper's are `element` and `mean`), `original` first, then in
    the order of Table 2. Both our controls, `random` and `random_bernoulli`,
    stand beside the paper's random. Columns: those of the summary, where the
    mean is called `ours`; `paper`; and `difference`, ours minus the paper's.
    Fractions. Empty for a source that is none of the paper's.
  """
  rows = results.where(summary, source=source, input='image')
  control = dict.fromkeys(results.RANDOM, 'random')
  rows = rows.assign(theirs=rows['estimator'].replace(control))
  both = rows.merge(_theirs(source), on=['theirs', 'mode', 'threshold'])
  both = both.rename(columns={'mean': 'ours'})
  both['difference'] = both['ours'] - both['paper']
  # The rows of an estimator stand together, estimators in the paper's order.
  both['first'] = both.groupby('theirs')['row'].transform('min')
  order = ['first', 'estimator', 'granularity', 'fill', 'row']
  both = both.sort_values(order, ignore_index=True)
  return both.drop(columns=['theirs', 'row', 'first'])


def _theirs(source: str) -> pd.DataFrame:
  """Returns Table 2 of one source, `original` first, estimators as `theirs`."""
  start, cells = table_1(), table_2()
  start = start[['source', 'accuracy']].assign(
    estimator=results.ORIGINAL, mode='', threshold=0
  )
  rows = pd.concat([start, cells], ignore_index=True)
  rows = rows[rows['source'] == source].reset_index(drop=True)
  names = {'accuracy': 'paper', 'estimator': 'theirs'}
  rows = rows.rename(columns=names).drop(columns='source')
  return rows.reset_index(names='row')


def _fractions(percents: pd.Series) -> pd.Series:
  """Returns percents of two decimals as the nearest fractions of four."""
  return (percents / 100).round(4)


@functools.cache
def _read(file: str) -> pd.DataFrame:
  folder = importlib.resources.files('roar_tf.analysis')
  text = folder.joinpath(file).read_text(encoding='utf-8')
  return pd.read_csv(io.StringIO(text))
