"""`roar_tf.load_results`: what a report has written, as DataFrames."""

from __future__ import annotations

import os

from roar_tf import errors
from roar_tf.analysis import results, statistics
from roar_tf.analysis.study_results import Results
from roar_tf.engine import files, locations
from roar_tf.study.paths import Workspace

_RUNS, _STATISTICS = 'results.csv', 'statistics.csv'


def load_results(
  workspace: str | os.PathLike, study: str | None = None
) -> Results:
  """Returns the results of a study, whose report is written.

      results = roar_tf.load_results('workspace', 'quickstart')
      results.table()

  Args:
    workspace: the directory or URL that the study was run in; or, without
      `study`, the folder of a report, or its results.csv.
    study: name of the study, or its gin file; it may be left out if the
      workspace has one report.

  Raises:
    UsageError: there is no such workspace, study or file, or no report yet.
    DataError: a table is damaged.
  """
  path = locations.located(os.fspath(workspace), 'workspace').rstrip('/')
  locations.check_reachable(path, 'workspace')
  if study is None and path.endswith('.csv'):
    folder, name = os.path.split(path)
    return _read(folder, name)
  if study is None and files.exists(f'{path}/{_RUNS}'):
    return _read(path)
  if not files.is_directory(path):
    raise errors.UsageError(
      f'there is no workspace {path}: give the directory that the study was '
      'run in (--workspace), or a folder that holds results.csv.'
    )
  return _read(_report(Workspace(path), study))


def _report(workspace: Workspace, study: str | None) -> str:
  """Returns the folder of a report; of the only one if none is named."""
  root = workspace.root
  known = [
    name
    for name in files.names_in(f'{root}/reports')
    if files.exists(f'{workspace.report(name)}/{_RUNS}')
  ]
  if study is None:
    if len(known) == 1:
      return workspace.report(known[0])
    if known:
      raise errors.UsageError(
        f'{root} has several studies: name one of {", ".join(known)}, as in '
        f'load_results({root!r}, "{known[0]}").'
      )
  name = os.path.basename(study or '').removesuffix('.gin')
  if name in known:
    return workspace.report(name)
  begun = files.names_in(f'{root}/runs')
  if name in begun or (not study and begun):
    name = name or begun[0]
    raise errors.UsageError(
      f'{root} has runs of study "{name}" and no report yet: "roar_report '
      f'--study={study or name} --workspace={root}" makes one of the runs that '
      'are finished.'
    )
  if not known:
    raise errors.UsageError(
      f'{root} has no report of any study: give the --workspace of a study '
      'that has finished.'
    )
  raise errors.UsageError(
    f'{root} has no study "{name}".{errors.nearest(name, known)} It has: '
    f'{", ".join(known)}.'
  )


def _read(folder: str, name: str = _RUNS) -> Results:
  """Returns the results in a folder.

  Args:
    folder: of a report.
    name: of the table of runs, beside which that of statistics may lie.

  Raises:
    UsageError: there is no such table, or it has several studies.
  """
  path = os.path.join(folder, name)
  if not files.exists(path):
    raise errors.UsageError(f'there is no file {path}.')
  runs = results.read_csv(path)
  studies = sorted(set(runs['study']))
  if len(studies) != 1:
    raise errors.UsageError(
      f'{path} has runs of {len(studies)} studies ({errors.few(studies)}), and '
      'results are those of one: give a file for each.'
    )
  other = os.path.join(folder, _STATISTICS)
  numbers = statistics.read_csv(other) if files.exists(other) else None
  if numbers is None:
    numbers = statistics.none()
  return Results(studies[0], folder, runs, numbers)
