"""Some runs of a study, by what identifies them or by their number."""

import dataclasses
from collections.abc import Sequence

from roar_tf import errors
from roar_tf.analysis import results
from roar_tf.study import pipeline, report_inputs
from roar_tf.study.grid import Run

KEYS = tuple(c for c in results.COLUMNS if c in results.IDENTITY)
"""What --only asks for: the columns of results.csv that identify a run."""


def only(
  works: Sequence[pipeline.Work], conditions: Sequence[str]
) -> list[pipeline.Work]:
  """Returns the works of a study with some of their runs chosen.

  Args:
    works: of the whole study.
    conditions: texts such as `estimator:grad,threshold:90`. Values of one key
      are alternatives, and different keys must all hold. A value is what
      results.csv says in the column of that name; the estimator of the
      unmodified images is `original`.

  Raises:
    UsageError: no key, or nothing of the study, is called so.
  """
  wanted = _parsed(conditions)
  runs = [(run, report_inputs.identity(run)) for run in _runs(works)]
  for key, values in wanted.items():
    known = list(dict.fromkeys(str(columns[key]) for _, columns in runs))
    for value in values:
      if value not in known:
        raise errors.UsageError(
          f'--only={key}:{value}: no run of the study has that {key}.'
          f'{errors.nearest(value, known)} Known: '
          f'{", ".join(filter(None, known))}.'
        )
  chosen = [
    run
    for run, columns in runs
    if all(str(columns[key]) in values for key, values in wanted.items())
  ]
  if not chosen:
    raise errors.UsageError(
      f'--only={",".join(conditions)}: the study has runs with each of these, '
      'and none with all of them; --list prints all runs.'
    )
  return _choosing(works, chosen)


def number(works: Sequence[pipeline.Work], index: int) -> list[pipeline.Work]:
  """Returns the works of a study with one run chosen, by its number.

  Args:
    works: of the whole study.
    index: the number that --list prints.

  Raises:
    UsageError: there is no such run.
  """
  runs = _runs(works)
  if not 0 <= index < len(runs):
    raise errors.UsageError(
      f'--run={index}: the study has {len(runs)} runs, numbered from 0 to '
      f'{len(runs) - 1}; --list prints them.'
    )
  return _choosing(works, [runs[index]])


def numbered(works: Sequence[pipeline.Work]) -> list[tuple[int, object, Run]]:
  """Returns (number, context, run) of the chosen runs.

  Numbers count all runs of the study.
  """
  every = [
    (work, run, work.is_chosen(run)) for work in works for run in work.runs
  ]
  return [
    (index, work.context, run)
    for index, (work, run, chosen) in enumerate(every)
    if chosen
  ]


def _parsed(conditions: Sequence[str]) -> dict[str, list[str]]:
  """Returns the values asked for, by key."""
  wanted = {}
  for part in ','.join(conditions).split(','):
    key, colon, value = (word.strip() for word in part.partition(':'))
    if not (colon and value):
      raise errors.UsageError(
        f'--only={",".join(conditions)}: "{part}" is not KEY:VALUE, as in '
        '--only=estimator:grad,threshold:90.'
      )
    if key not in KEYS:
      raise errors.UsageError(
        f'--only={part}: there is no key "{key}".{errors.nearest(key, KEYS)} '
        f'Known: {", ".join(KEYS)}.'
      )
    wanted.setdefault(key, []).append(value)
  return wanted


def _runs(works: Sequence[pipeline.Work]) -> list[Run]:
  """Returns all runs of a study; raises UsageError if there are none."""
  runs = [run for work in works for run in work.runs]
  if not runs:
    raise errors.UsageError(
      'the study has no runs; its gin file must name estimators, thresholds '
      'and seeds.'
    )
  return runs


def _choosing(works, runs: list[Run]) -> list[pipeline.Work]:
  chosen = frozenset(runs)
  return [dataclasses.replace(work, chosen=chosen) for work in works]
