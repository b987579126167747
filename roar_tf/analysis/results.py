"""The table of results: one row per run, checked and summarised.

A frame has the columns `COLUMNS`. Its `threshold` is a whole percent, its
`accuracy` a fraction. Rows of the `original` cell have threshold 0 and an
empty granularity and mode.
"""

from __future__ import annotations

import collections
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

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
COLUMNS = (
  'study',
  'source',
  'estimator',
  'granularity',
  'mode',
  'threshold',
  'fill',
  'input',
  'seed',
  'accuracy',
  'top5',
  'steps',
  'test_images',
  'seconds',
)
ORIGINAL = 'original'
# The first one that a study ran is what its other estimators must beat.
RANDOM = ('random', 'random_bernoulli')
ORACLES = ('oracle', 'inverse_oracle')
RUNS_FOR_INTERVAL = inference.RUNS_FOR_INTERVAL
# Rows that test the benchmark itself; they are shown but do not compete.
_CONTROLS = re.compile(
  'random|random_bernoulli|(inverse_)?oracle|(blur|max)_.*'
)

_WHOLE = ('threshold', 'seed', 'steps', 'test_images')
_REAL = ('accuracy', 'top5', 'seconds')
_TEXT = tuple(c for c in COLUMNS if c not in _WHOLE + _REAL)


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the frame with its columns, types and row order made standard."""
  lacking = [column for column in COLUMNS if column not in frame.columns]
  if lacking:
    raise ValueError(f'columns are missing: {", ".join(lacking)}')
  frame = frame[list(COLUMNS)].copy()
  for column in _TEXT:
    frame[column] = frame[column].astype(object).fillna('').astype(str)
  frame = frame.astype({c: 'int64' for c in _WHOLE})
  frame = frame.astype({c: 'float64' for c in _REAL})
  return frame.sort_values(list(COLUMNS), ignore_index=True)


def is_control(estimator: str) -> bool:
  """Whether a name tests the benchmark and does not compete with the others.

  That are random itself, the oracles, and `blur_` or `max_` of anything, which
  know no more of the model than what they are made of.
  """
  return bool(_CONTROLS.fullmatch(estimator))


def reference(estimators: Iterable[str]) -> str | None:
  """Returns the one of them that stands for random, None without any."""
  present = set(estimators)
  return next((name for name in RANDOM if name in present), None)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
  """One row per cell: runs, mean, sd and the 95 % t interval low..high.

  The interval tells where the mean of many more runs would lie on the same test
  images. `sampling_error` is the standard error that these images, being so
  few, leave: sqrt(mean (1 - mean) / test_images), exact for one run and at most
  that for a mean of several, whose images are the same.

  A run that is listed twice counts once (`check` names it), and an accuracy
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
    accuracies = np.array(
      [seed.to_numpy().mean() for _, seed in group.groupby('seed')['accuracy']]
    )
    runs, mean = len(accuracies), accuracies.mean()
    deviation = accuracies.std(ddof=1) if runs > 1 else math.nan
    of_mean, freedom = inference.of_mean(deviation, runs)
    half = inference.half_width(np.sqrt(of_mean), freedom)
    images = group['test_images'].min()
    variance = mean * (1 - mean) / images
    sampling = math.sqrt(variance) if variance >= 0 else math.nan
    low, high = float(mean - half), float(mean + half)
    numbers = (runs, mean, deviation, low, high, images, sampling)
    rows.append((*cell, *numbers))
  columns = [*CELL, 'runs', 'mean', 'sd', 'low', 'high']
  columns += ['test_images', 'sampling_error']
  return pd.DataFrame(rows, columns=columns)


def original(
  summary: pd.DataFrame, source: str, input: str = 'image'
) -> pd.DataFrame:
  """The source's cell of unmasked images: one row, none if it was not run."""
  return summary[
    (summary['source'] == source)
    & (summary['estimator'] == ORIGINAL)
    & (summary['input'] == input)
  ]


def against_random(
  summary: pd.DataFrame, source: str, mode: str
) -> pd.DataFrame:
  """The image cells of one source and mode, compared with random, best first.

  Adds these columns, empty of numbers where there is no random to compare with:
    label: the estimator, with granularity and fill where rows need them.
    reference: whether the row is random's.
    mean_random, low_random, high_random: random's cell of the same
      granularity, fill and threshold.
    gain: the fraction by which the cell beats it: below it in `remove`, above
      it in `keep`.
    clear: whether the two intervals are apart, on the better side.
    lead: the area between random's curve and the label's, see `curves`; NaN
      where one of them lacks a threshold that others of the mode have.
  """
  here = (summary['source'] == source) & (summary['mode'] == mode)
  rows = summary[here & (summary['input'] == 'image')].copy()
  rows['label'] = labels(rows)
  rows['reference'] = rows['estimator'] == reference(rows['estimator'])
  key = ['granularity', 'fill', 'threshold']
  random = rows.loc[rows['reference'], [*key, 'mean', 'low', 'high']]
  rows = rows.merge(random, on=key, how='left', suffixes=('', '_random'))
  rows['gain'] = curves.SIGN[mode] * (rows['mean_random'] - rows['mean'])
  if mode == 'remove':
    rows['clear'] = rows['high'] < rows['low_random']
  else:
    rows['clear'] = rows['low'] > rows['high_random']
  rows['lead'] = math.nan
  for _, cells in rows.groupby('label'):
    gains = dict(zip(cells['threshold'], cells['gain'], strict=True))
    if set(gains) == set(rows['threshold']):
      rows.loc[cells.index, 'lead'] = curves.area(gains, mode)
  return rows.sort_values(
    ['lead', 'label', 'threshold'],
    ascending=[False, True, True],
    ignore_index=True,
  )


class Fault(NamedTuple):
  """What keeps the runs of one cell from counting as they should.

  Attributes:
    kind: `duplicate_runs`, `missing_runs`, `unlisted_runs`,
      `impossible_accuracy` or `unequal_counts`.
    cell: its columns `CELL`.
    text: one sentence.
    runs: how many are concerned.
  """

  kind: str
  cell: tuple
  text: str
  runs: int


def check(
  frame: pd.DataFrame, expected: Iterable[Mapping[str, Any]] | None = None
) -> list[str]:
  """Returns the sentences of `faults`."""
  return [fault.text for fault in faults(frame, expected)]


def faults(
  frame: pd.DataFrame, expected: Iterable[Mapping[str, Any]] | None = None
) -> list[Fault]:
  """Finds what keeps the frame from being the whole study.

  Args:
    frame: the rows of one study.
    expected: the runs that the study lists, each a mapping with the keys
      `IDENTITY` (others are ignored; `fill` and `input` may be left out).
      Without it only the rows themselves are checked.

  Returns:
    One per cell and fault: missing, duplicate and unlisted runs, accuracies
    outside 0..1, and runs that were trained or tested on another amount than
    most of their source. Empty when nothing is wrong.
  """
  frame = tidy(frame)
  found = collections.Counter(
    frame[list(IDENTITY)].itertuples(index=False, name=None)
  )
  problems = _name(
    'duplicate_runs',
    'has {} more than once',
    (r for r in found if found[r] > 1),
  )
  if expected is not None:
    wanted = {identity(run) for run in expected}
    problems += _name('missing_runs', 'lacks {}', wanted - set(found))
    problems += _name(
      'unlisted_runs', 'has {}, not listed by the study', set(found) - wanted
    )
  broken = frame[~frame['accuracy'].between(0, 1)]
  problems += _name(
    'impossible_accuracy',
    'has no accuracy between 0 and 1 for {}',
    broken[list(IDENTITY)].itertuples(index=False, name=None),
  )
  for column in ('steps', 'test_images'):
    for _, rows in frame.groupby(['source', 'input']):
      usual = rows[column].mode().iloc[0]
      for value, odd in rows[rows[column] != usual].groupby(column):
        problems += _name(
          'unequal_counts',
          f'has {column} {value} (most runs {usual}) for {{}}',
          odd[list(IDENTITY)].itertuples(index=False, name=None),
        )
  return problems


def cell_name(
  estimator: str,
  granularity: str,
  mode: str,
  fill: str,
  input: str,
  threshold: int,
) -> str:
  """The name of a cell in sentences, as in the paths of its runs."""
  from roar_tf import cells

  name = cells.name_of(estimator, granularity, mode, threshold, fill)
  return name if input == 'image' else f'{name}_{input}'


def write_csv(frame: pd.DataFrame, path: str) -> None:
  """Writes the rows in a fixed order; floats survive the way back exactly."""
  from roar_tf.engine import files

  text = tidy(frame).to_csv(index=False, lineterminator='\n')
  files.publish(path, text.encode())


def read_csv(path: str) -> pd.DataFrame:
  """Reads what `write_csv` wrote; an empty string stays an empty string."""
  return parse_csv(path, _REAL, tidy, 'results')


def parse_csv(
  path: str,
  real: Iterable[str],
  standard: Callable[[pd.DataFrame], pd.DataFrame],
  name: str,
) -> pd.DataFrame:
  """Reads a table of this package; floats come back exactly.

  Args:
    path: the csv file; any URL that `tf.io.gfile` knows.
    real: columns of floats, empty where there is none.
    standard: gives the frame of texts its types, or raises ValueError.
    name: of the table, for the message.

  Raises:
    DataError: the file is no such table.
  """
  from roar_tf.engine import files

  try:
    # Nothing is guessed: an estimator may be called `nan` or `null`, and only
    # Python's own parser is sure to give every float back.
    frame = pd.read_csv(
      io.BytesIO(files.read(path)), dtype=str, na_filter=False
    )
    for column in set(real).intersection(frame):
      frame[column] = [float(text or 'nan') for text in frame[column]]
    return standard(frame)
  except ValueError as e:
    raise errors.DataError(
      f'{path} is no table of {name} ({e}); write it again with roar_report.'
    ) from e


def labels(rows: pd.DataFrame) -> list[str]:
  """Names each row's curve: its estimator and, in brackets, what is needed.

  That are the granularity where the rows have several, and the fill unless it
  is `mean`.
  """
  many = rows.loc[rows['mode'] != '', 'granularity'].nunique() > 1
  names = []
  for row in rows.itertuples():
    notes = [row.granularity] if many and row.granularity else []
    notes += [row.fill] if row.fill != 'mean' else []
    names.append(
      f'{row.estimator} ({", ".join(notes)})' if notes else row.estimator
    )
  return names


def identity(run: Mapping[str, Any]) -> tuple:
  """The values of `IDENTITY` of a run; `fill` and `input` may be left out."""
  run = {'fill': 'mean', 'input': 'image', **run}
  return tuple(
    int(run[key]) if key in _WHOLE else str(run[key] or '') for key in IDENTITY
  )


def _name(kind: str, fault: str, runs: Iterable[tuple]) -> list[Fault]:
  """One per cell, `fault` filled with the seeds concerned."""
  seeds = collections.defaultdict(set)
  for *cell, seed in runs:
    seeds[tuple(cell)].add(seed)
  found = []
  for cell, numbers in sorted(seeds.items()):
    noun = 'seed' if len(numbers) == 1 else 'seeds'
    listed = ', '.join(map(str, sorted(numbers)))
    what = fault.format(f'{noun} {listed}')
    text = f'{cell[0]}: {cell_name(*cell[1:])} {what}.'
    found.append(Fault(kind, cell, text, len(numbers)))
  return found
