"""The table of results: one row per run, checked and summarised.

A frame has the columns `COLUMNS`. Its `threshold` is a whole percent, its
`accuracy` a fraction. Rows of the `original` cell have threshold 0 and an
empty granularity and mode.
"""

from __future__ import annotations

import collections
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from roar_tf import errors

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
# Below this many runs a t interval says more about luck than about the cell.
RUNS_FOR_INTERVAL = 3

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


def half_width(deviation: float, runs: int, level: float = 0.95) -> float:
  """Half the Student t interval of a mean; NaN below three runs."""
  if runs < RUNS_FOR_INTERVAL:
    return math.nan
  quantile = stats.t.ppf((1 + level) / 2, runs - 1)
  return float(quantile * deviation / math.sqrt(runs))


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
  """One row per cell: runs, mean, sd and the 95 % t interval low..high.

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
    half = half_width(deviation, runs)
    rows.append((*cell, runs, mean, deviation, mean - half, mean + half))
  columns = [*CELL, 'runs', 'mean', 'sd', 'low', 'high']
  return pd.DataFrame(rows, columns=columns)


def original(summary: pd.DataFrame, source: str) -> pd.DataFrame:
  """The source's cell of unmasked images: one row, none if it was not run."""
  return summary[
    (summary['source'] == source)
    & (summary['estimator'] == ORIGINAL)
    & (summary['input'] == 'image')
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
    lead: the label's mean gain over the thresholds; NaN where one is missing,
      since it would compare unlike things.
  """
  here = (summary['source'] == source) & (summary['mode'] == mode)
  rows = summary[here & (summary['input'] == 'image')].copy()
  many = rows['granularity'].nunique() > 1
  rows['label'] = [
    _label(estimator, granularity if many else '', fill)
    for estimator, granularity, fill in zip(
      rows['estimator'], rows['granularity'], rows['fill'], strict=True
    )
  ]
  present = [name for name in RANDOM if (rows['estimator'] == name).any()]
  rows['reference'] = rows['estimator'].isin(present[:1])
  key = ['granularity', 'fill', 'threshold']
  random = rows.loc[rows['reference'], [*key, 'mean', 'low', 'high']]
  rows = rows.merge(random, on=key, how='left', suffixes=('', '_random'))
  if mode == 'remove':
    rows['gain'] = rows['mean_random'] - rows['mean']
    rows['clear'] = rows['high'] < rows['low_random']
  else:
    rows['gain'] = rows['mean'] - rows['mean_random']
    rows['clear'] = rows['low'] > rows['high_random']
  covered = random.groupby(key[:2]).size().to_dict()
  rows['lead'] = math.nan
  for _, cells in rows.groupby('label'):
    first = cells.iloc[0]
    if len(cells) == covered.get((first['granularity'], first['fill'])):
      rows.loc[cells.index, 'lead'] = cells['gain'].to_numpy().mean()
  return rows.sort_values(
    ['lead', 'label', 'threshold'],
    ascending=[False, True, True],
    ignore_index=True,
  )


def check(
  frame: pd.DataFrame, expected: Iterable[Mapping[str, Any]] | None = None
) -> list[str]:
  """Says in sentences what keeps the frame from being the whole study.

  Args:
    frame: the rows of one study.
    expected: the runs that the study lists, each a mapping with the keys
      `IDENTITY` (others are ignored; `fill` and `input` may be left out).
      Without it only the rows themselves are checked.

  Returns:
    One sentence per cell and fault: missing, duplicate and unlisted runs,
    accuracies outside 0..1, and runs that were trained or tested on another
    amount than most of their source. Empty when nothing is wrong.
  """
  frame = tidy(frame)
  found = collections.Counter(
    frame[list(IDENTITY)].itertuples(index=False, name=None)
  )
  problems = _name('has {} more than once', (r for r in found if found[r] > 1))
  if expected is not None:
    wanted = {_identity(run) for run in expected}
    problems += _name('lacks {}', wanted - set(found))
    problems += _name('has {}, not listed by the study', set(found) - wanted)
  broken = frame[~frame['accuracy'].between(0, 1)]
  problems += _name(
    'has no accuracy between 0 and 1 for {}',
    broken[list(IDENTITY)].itertuples(index=False, name=None),
  )
  for column in ('steps', 'test_images'):
    for _, rows in frame.groupby(['source', 'input']):
      usual = rows[column].mode().iloc[0]
      for value, odd in rows[rows[column] != usual].groupby(column):
        problems += _name(
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
  from roar_tf import workspace

  text = tidy(frame).to_csv(index=False, lineterminator='\n')
  workspace.write_atomic(path, text.encode())


def read_csv(path: str) -> pd.DataFrame:
  """Reads what `write_csv` wrote; an empty string stays an empty string."""
  from roar_tf import workspace

  try:
    # Nothing is guessed: an estimator may be called `nan` or `null`, and only
    # Python's own parser is sure to give every float back.
    frame = pd.read_csv(
      io.BytesIO(workspace.read_bytes(path)), dtype=str, na_filter=False
    )
    for column in set(_REAL).intersection(frame):
      frame[column] = [float(text or 'nan') for text in frame[column]]
    return tidy(frame)
  except ValueError as e:
    raise errors.DataError(
      f'{path} is no table of results ({e}); write it again with roar_report.'
    ) from e


def _label(estimator: str, granularity: str, fill: str) -> str:
  notes = [granularity] if granularity else []
  notes += [fill] if fill != 'mean' else []
  return f'{estimator} ({", ".join(notes)})' if notes else estimator


def _identity(run: Mapping[str, Any]) -> tuple:
  run = {'fill': 'mean', 'input': 'image', **run}
  return tuple(
    int(run[key]) if key in _WHOLE else str(run[key] or '') for key in IDENTITY
  )


def _name(fault: str, runs: Iterable[tuple]) -> list[str]:
  """One sentence per cell, `fault` filled with the seeds concerned."""
  seeds = collections.defaultdict(set)
  for *cell, seed in runs:
    seeds[tuple(cell)].add(seed)
  sentences = []
  for (source, *cell), numbers in sorted(seeds.items()):
    noun = 'seed' if len(numbers) == 1 else 'seeds'
    listed = ', '.join(map(str, sorted(numbers)))
    what = fault.format(f'{noun} {listed}')
    sentences.append(f'{source}: {cell_name(*cell)} {what}.')
  return sentences
