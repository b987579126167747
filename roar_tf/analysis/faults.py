"""Checks and what they find; first of all, faults of the runs themselves."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from roar_tf.analysis import results


@dataclasses.dataclass(frozen=True)
class Check:
  """One check of a study and what came of it: an alarm unless it holds.

  Attributes:
    name: what was checked, see `checks.perform` and `of_runs`.
    source: the source concerned.
    text: one plain sentence.
    value: what was measured.
    allowed: the most it may be.
    holds: whether all is well.
    mode: with the following the curve or cell concerned, empty where the
      check is about more than one.
    granularity: see mode.
    fill: see mode.
    input: see mode.
    estimator: see mode.
    threshold: whole percent, None for more than one cell.
  """

  name: str
  source: str
  text: str
  value: float
  allowed: float
  holds: bool = False
  mode: str = ''
  granularity: str = ''
  fill: str = ''
  input: str = ''
  estimator: str = ''
  threshold: int | None = None


def of_runs(
  frame: pd.DataFrame, expected: Iterable[Mapping[str, Any]] | None = None
) -> list[Check]:
  """Returns alarms about what keeps the frame from being the whole study.

  Args:
    frame: the rows of one study.
    expected: the runs that the study lists, each a mapping with the keys
      `results.IDENTITY` (others are ignored; `fill` and `input` may be left
      out). Without it only the rows themselves are checked.

  Returns:
    One per cell and fault: `missing_runs`, `duplicate_runs` and
    `unlisted_runs`, each `impossible_accuracy` outside 0..1, and
    `unequal_counts` of runs that were trained or tested on another amount than
    most of their source. Their value is how many runs are concerned.
  """
  frame = results.tidy(frame)
  counts = collections.Counter(_identities(frame))
  problems = _faults(
    'duplicate_runs',
    'has {} more than once',
    (run for run in counts if counts[run] > 1),
  )
  if expected is not None:
    listed = {results.identity(run) for run in expected}
    problems += _faults('missing_runs', 'lacks {}', listed - set(counts))
    problems += _faults(
      'unlisted_runs', 'has {}, not listed by the study', set(counts) - listed
    )
  problems += _faults(
    'impossible_accuracy',
    'has no accuracy between 0 and 1 for {}',
    _identities(frame[~frame['accuracy'].between(0, 1)]),
  )
  for column in ('steps', 'test_images'):
    for _, rows in frame.groupby(['source', 'input']):
      usual = rows[column].mode().iloc[0]
      for value, unusual in rows[rows[column] != usual].groupby(column):
        problems += _faults(
          'unequal_counts',
          f'has {column} {value} (most runs {usual}) for {{}}',
          _identities(unusual),
        )
  return problems


def _identities(frame: pd.DataFrame) -> Iterable[tuple]:
  """Returns the values of `results.IDENTITY` of each row."""
  return frame[list(results.IDENTITY)].itertuples(index=False, name=None)


def _faults(name: str, text: str, runs: Iterable[tuple]) -> list[Check]:
  """Returns one alarm per cell, its text filled with the seeds concerned."""
  seeds_of = collections.defaultdict(set)
  for *cell, seed in runs:
    seeds_of[tuple(cell)].add(seed)
  faults = []
  for cell, seeds in sorted(seeds_of.items()):
    noun = 'seed' if len(seeds) == 1 else 'seeds'
    listed = ', '.join(map(str, sorted(seeds)))
    predicate = text.format(f'{noun} {listed}')
    sentence = f'{cell[0]}: {results.cell_name(*cell[1:])} {predicate}.'
    concerned = dict(zip(results.CELL, cell, strict=True))
    numbers = dict(value=len(seeds), allowed=0)
    faults.append(Check(name, text=sentence, **numbers, **concerned))
  return faults
