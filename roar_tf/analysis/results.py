"""The table of results: one row per run, checked and summarised.

A frame has the columns `COLUMNS`. Its `threshold` is a whole percent, its
`accuracy` a fraction. Rows of the `original` cell have threshold 0 and an
empty granularity and mode.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from roar_tf import errors
from roar_tf.analysis import curves, inference

CELL = (
  'source',
  'estimator',
  'granularity',
  'mode',
  'fill',
  'input',
  'threshold',
)
IDENTITY = (*CELL, 'seed')
CURVE = ('source', 'mode', 'granularity', 'fill', 'input', 'estimator')
_TYPES = {
  'study': 'str',
  'source': 'str',
  'estimator': 'str',
  'granularity': 'str',
  'mode': 'str',
  'threshold': 'int64',
  'fill': 'str',
  'input': 'str',
  'seed': 'int64',
  'accuracy': 'float64',
  'top5': 'float64',
  'steps': 'int64',
  'test_images': 'int64',
  'seconds': 'float64',
  'explained_seed': 'int64',
  'protocol': 'str',
  'look': 'int64',
}
_OF_EARLIER = {'protocol': 'plain', 'look': 0}
"""What the tables of versions hold that had no such columns."""
_OPTIONAL = {
  'study': '',
  'fill': 'mean',
  'input': 'image',
  'top5': 'nan',
  'steps': '0',
  'seconds': 'nan',
}
COLUMNS = tuple(_TYPES)
ORIGINAL = 'original'
# The first one that a study ran is what its other estimators must beat.
RANDOM = ('random', 'random_bernoulli')
ORACLES = ('oracle', 'inverse_oracle')
RUNS_FOR_INTERVAL = inference.RUNS_FOR_INTERVAL


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the frame with its columns, types and row order made standard."""
  absent = {c: v for c, v in _OF_EARLIER.items() if c not in frame}
  return typed(frame.assign(**absent), _TYPES).sort_values(
    list(COLUMNS), ignore_index=True
  )


def typed(frame: pd.DataFrame, types: Mapping[str, str]) -> pd.DataFrame:
  """Returns the columns of a table of this package in their order and types.

  `tidy` calls it for results.csv and `statistics` for statistics.csv. A text
  that is missing becomes empty.

  Args:
    frame: the table.
    types: the type of each column.

  Raises:
    ValueError: a column is missing, or holds something else.
  """
  lacking = [column for column in types if column not in frame.columns]
  if lacking:
    raise ValueError(f'columns are missing: {", ".join(lacking)}')
  frame = frame[list(types)].copy()
  texts = [column for column, name in types.items() if name == 'str']
  frame[texts] = frame[texts].astype(object).fillna('')
  return frame.astype(types)


def where(rows: pd.DataFrame, **values: Any) -> pd.DataFrame:
  """Returns the rows that have these values in the columns of these names."""
  for column, value in values.items():
    rows = rows[rows[column] == value]
  return rows


def nodes(
  frame: pd.DataFrame, expected: Iterable[Mapping[str, Any]] | None = None
) -> dict[tuple[str, str, str], list[int]]:
  """Returns the thresholds of all curves of each (source, mode, input).

  A curve that lacks one of them is not whole, and has no lead: another study
  would be compared.

  Args:
    frame: runs of one study.
    expected: the runs that it lists, as for `faults.of_runs`; without it the
      thresholds that any curve has.
  """
  columns = ['source', 'mode', 'input', 'threshold']
  masked = frame.loc[frame['mode'] != '', columns]
  found = set(masked.itertuples(index=False, name=None))
  for run in expected or ():
    if run['mode']:
      input = run.get('input', 'image')
      found.add((run['source'], run['mode'], input, int(run['threshold'])))
  thresholds = {}
  for *group, threshold in sorted(found):
    thresholds.setdefault(tuple(group), []).append(threshold)
  return thresholds


def reference(estimators: Iterable[str]) -> str | None:
  """Returns which of the estimators is random, None if none of them is."""
  present = set(estimators)
  return next((name for name in RANDOM if name in present), None)


def replicates(explained: Mapping[int, int]) -> list[list[int]]:
  """Returns the seeds of each independent replicate of an estimator's runs.

  Runs that are made from rankings of one model share that model's luck. With
  one model for all, about which all is said, and with one for each seed, every
  seed is a replicate. Else the models are, and their seeds are averaged first.

  Args:
    explained: by seed, the seed of the explained model.
  """
  of_model: dict[int, list[int]] = {}
  for seed in sorted(explained):
    of_model.setdefault(explained[seed], []).append(seed)
  if len(of_model) == 1:
    return [[seed] for seed in sorted(explained)]
  return list(of_model.values())


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns a row per cell: runs, mean, sd and the 95 % t interval low..high.

  All but the number of runs are over `replicates`, of which there may be fewer:
  the mean is one of their means. The interval tells where the mean of many more
  would lie on the same test images. `sampling_error` is the standard error that
  these images, being so few, leave: sqrt(mean (1 - mean) / test_images), exact
  for one run and at most that for a mean of several, whose images are the same.

  A run that is listed twice counts once (`faults` names it), and an accuracy
  that is not a number makes its cell's mean one too: neither may pass for
  more evidence than there is.
  """
  frame = tidy(frame)
  studies = frame['study'].unique()
  if len(studies) > 1:
    raise ValueError(
      f'Results of several studies ({", ".join(studies)}) cannot be averaged;'
      ' pass the rows of one.'
    )
  rows = []
  for cell, group in frame.groupby(list(CELL), sort=True):
    of_seed, explained = {}, {}
    for seed, twins in group.groupby('seed'):
      of_seed[seed] = twins['accuracy'].to_numpy().mean()
      explained[seed] = twins['explained_seed'].iloc[0]
    accuracies = np.array(
      [
        np.mean([of_seed[seed] for seed in seeds])
        for seeds in replicates(explained)
      ]
    )
    count, mean = len(accuracies), accuracies.mean()
    deviation = accuracies.std(ddof=1) if count > 1 else math.nan
    of_mean, freedom = inference.of_mean(deviation, count)
    half = inference.half_width(np.sqrt(of_mean), freedom)
    images = group['test_images'].min()
    variance = mean * (1 - mean) / images
    sampling = math.sqrt(variance) if variance >= 0 else math.nan
    # No accuracy lies outside of 0..1.
    low, high = (float(np.clip(mean + e, 0, 1)) for e in (-half, half))
    runs = len(of_seed), count
    numbers = (*runs, mean, deviation, low, high, images, sampling)
    rows.append((*cell, *numbers))
  columns = [*CELL, 'runs', 'replicates', 'mean', 'sd', 'low', 'high']
  columns += ['test_images', 'sampling_error']
  return pd.DataFrame(rows, columns=columns)


def original(
  summary: pd.DataFrame, source: str, input: str = 'image'
) -> pd.DataFrame:
  """Returns the source's cell of unmasked images.

  It is one row, or none if that cell was not run.
  """
  return where(summary, source=source, estimator=ORIGINAL, input=input)


def against_random(
  summary: pd.DataFrame,
  source: str,
  mode: str,
  weights: Mapping[int, float] | None = None,
) -> pd.DataFrame:
  """Compares the image cells of a source and mode with random, best first.

  Adds these columns, empty of numbers where there is no random to compare with:
    label: the estimator, with granularity and fill where rows need them.
    reference: whether the row is random's.
    gain: the fraction by which the cell beats random's cell of the same
      granularity, fill and threshold: below it in `remove`, above it in `keep`.
    lead: the area between random's curve and the label's, see `curves`; NaN
      where one of them lacks a threshold.

  Args:
    summary: of `summarise`.
    source: the source.
    mode: the mode.
    weights: of the thresholds of a whole curve in a lead, see
      `curves.of_lead`; None for those that any curve has, and its area.
  """
  rows = where(summary, source=source, mode=mode, input='image').copy()
  rows['label'] = labels(rows)
  rows['reference'] = rows['estimator'] == reference(rows['estimator'])
  key = ['granularity', 'fill', 'threshold']
  random = rows.loc[rows['reference'], [*key, 'mean']]
  rows = rows.merge(random, on=key, how='left', suffixes=('', '_random'))
  rows['gain'] = curves.SIGN[mode] * (rows['mean_random'] - rows['mean'])
  rows['lead'] = math.nan
  if weights is None:
    weights = curves.of_lead(sorted(set(rows['threshold'])), mode)
  for _, cells in rows.groupby('label'):
    gains = dict(zip(cells['threshold'], cells['gain'], strict=True))
    if set(weights) <= set(gains):
      lead = math.fsum(weight * gains[t] for t, weight in weights.items())
      rows.loc[cells.index, 'lead'] = lead
  return rows.sort_values(
    ['lead', 'label', 'threshold'],
    ascending=[False, True, True],
    ignore_index=True,
  )


def cell_name(
  estimator: str,
  granularity: str,
  mode: str,
  fill: str,
  input: str,
  threshold: int,
) -> str:
  """Returns the name of a cell for sentences, as in the paths of its runs."""
  from roar_tf import cells

  name = cells.name_of(estimator, granularity, mode, threshold, fill)
  return name if input == 'image' else f'{name}_{input}'


def write_csv(frame: pd.DataFrame, path: str) -> None:
  """Writes the rows in a fixed order; `read_csv` gets every digit back."""
  from roar_tf.engine import files

  text = tidy(frame).to_csv(index=False, lineterminator='\n')
  files.publish(path, text.encode())


def digest(frame: pd.DataFrame) -> str:
  """Returns the SHA-256 of all rows, without the times that they took."""
  text = tidy(frame).drop(columns='seconds').to_csv(index=False)
  return hashlib.sha256(text.encode()).hexdigest()


def read_csv(path: str) -> pd.DataFrame:
  """Reads what `write_csv` wrote; an empty string stays an empty string.

  A table that was made elsewhere may leave out what `_OPTIONAL` names.

  Raises:
    DataError: the file is no such table.
  """
  with reading(path) as data:
    frame = parsed(data, _TYPES)
    if 'explained_seed' not in frame and 'seed' in frame:
      # Earlier versions explained one model, that of the first seed.
      frame['explained_seed'] = min(map(int, frame['seed']), default=0)
    absent = {c: v for c, v in _OPTIONAL.items() if c not in frame}
    frame = frame.assign(**absent)
    return tidy(frame)


@contextlib.contextmanager
def reading(path: str) -> Iterator[bytes]:
  """Yields the content of a table's file, for a block that reads it.

  Raises:
    DataError: the block raises ValueError, since the file is no such table.
  """
  from roar_tf.engine import files

  try:
    yield files.read(path)
  except ValueError as e:
    raise errors.DataError(
      f'{path} is no table of results ({e}); write it again with roar_report.'
    ) from e


def parsed(data: bytes, types: Mapping[str, str]) -> pd.DataFrame:
  """Returns a table as it was written; an empty string stays one.

  Nothing is guessed: an estimator may be called `nan` or `null`, and only
  Python's own parser is sure to give every float back.

  Args:
    data: the table, as csv.
    types: the type of each column that is known.
  """
  frame = pd.read_csv(io.BytesIO(data), dtype=str, na_filter=False)
  for column in frame:
    if types.get(column) == 'float64':
      frame[column] = [float(text or 'nan') for text in frame[column]]
    elif types.get(column) == 'Int64':
      numbers = [int(text) if text else pd.NA for text in frame[column]]
      frame[column] = pd.array(numbers, dtype='Int64')
  return frame


def labels(rows: pd.DataFrame) -> list[str]:
  """Returns the name of each row's curve in tables and figures.

  It is the estimator and, in brackets, the granularity where the rows have
  several, and the fill unless it is `mean`.
  """
  several = rows.loc[rows['mode'] != '', 'granularity'].nunique() > 1
  names = []
  for row in rows.itertuples():
    notes = [row.granularity] if several and row.granularity else []
    notes += [row.fill] if row.fill != 'mean' else []
    names.append(
      f'{row.estimator} ({", ".join(notes)})' if notes else row.estimator
    )
  return names


def identity(run: Mapping[str, Any]) -> tuple:
  """Returns the values of `IDENTITY` of a run that a study lists.

  Args:
    run: a mapping with these keys; `fill` and `input` may be left out.
  """
  run = {'fill': 'mean', 'input': 'image', **run}
  return tuple(
    int(run[key]) if _TYPES[key] == 'int64' else str(run[key] or '')
    for key in IDENTITY
  )


def identities(frame: pd.DataFrame) -> list[tuple]:
  """Returns the `identity` of every row of results."""
  return [identity(row) for row in frame.to_dict('records')]
