"""What may be deleted from a workspace without losing any result."""

import os
import time
from collections.abc import Sequence

from roar_tf import engine, errors
from roar_tf.engine import files, markers
from roar_tf.engine import remake as remake_
from roar_tf.estimators import registry
from roar_tf.study.paths import Workspace
from roar_tf.study.stages import Pipeline

DAY = 24 * 60 * 60
MONTH = 30 * DAY


def clean_shards(pipeline: Pipeline) -> str:
  """Deletes the masked datasets of a study's chosen runs, and nothing else.

  A dataset's marker goes first, then those of its shards, then the files: when
  this is killed, what remains never passes for finished.

  Returns:
    A sentence that says what was freed.
  """
  datasets = count = size = 0
  folders = dict.fromkeys(
    pipeline.of(run).context.directory(run.cell_name)
    for run in pipeline.chosen
    if run.cell
  )
  for folder in folders:
    names = files.names_in(folder)
    datasets += bool(names)
    for name in sorted(names, key=_markers_first):
      path = f'{folder}/{name}'
      size += files.size(path)
      count += 1
      files.remove(path)
    for empty in (folder, os.path.dirname(folder)):
      if files.is_directory(empty) and not files.names_in(empty):
        files.remove(empty)
  return (
    f'clean: {datasets} masked datasets deleted, {count} files, {size:,} bytes'
  )


def remake(pipeline: Pipeline, names: Sequence[str]) -> str:
  """Deletes what some names stand for, and everything that was made from it.

  Args:
    pipeline: the study, which then makes it anew.
    names: of estimators of the study, for their rankings; that of one of the
      user's own stands for all that are made from it, such as `sg_` and `sq_`.
      A ranking that only other rankings are made from has a name here, too.
      Or of stages, for all that they make of the study.

  Returns:
    A text that names what was deleted.

  Raises:
    UsageError: the study has no such estimator, and there is no such stage.
  """
  chosen = {}
  estimators = dict.fromkeys(
    name
    for estimator in pipeline.study.estimators
    for name in registry.with_those_behind(estimator)
  )
  for estimator in estimators:
    base = registry.find(estimator)
    chosen.setdefault(estimator, set()).add(estimator)
    if base and base.base.code:
      chosen.setdefault(base.base.name, set()).add(estimator)
  known = [*chosen, *pipeline.names]
  for name in names:
    if name not in known:
      raise errors.UsageError(
        f'--remake={name}: the study has no estimator, and there is no stage, '
        f'of that name.{errors.nearest(name, known)} Known: {", ".join(known)}.'
      )
  estimators = {e for name in names for e in chosen.get(name, ())}
  stages = {name for name in names if name not in chosen}

  def is_chosen(artefact: engine.Artefact) -> bool:
    return artefact.stage.name in stages or (
      artefact.stage.name in ('rank', 'rerank')
      and artefact.settings['estimator'] in estimators
    )

  workspace = pipeline.context.workspace
  removed = remake_.remove(
    pipeline.goals(), is_chosen, list(workspace.artefacts())
  )
  lines = sorted(f'  {workspace.relative(folder)}' for folder in removed)
  return '\n'.join([f'remake: {len(removed)} artefacts deleted', *lines])


def _markers_first(name: str) -> tuple[bool, bool]:
  return name != markers.DONE, not name.endswith(f'.{markers.DONE}')


def clean_temporary(workspace: Workspace, age: float = DAY) -> str:
  """Deletes what killed processes left half written.

  And heartbeats of processes that were heard of a month ago for the last time:
  `--status` no longer counts their hours then.

  Args:
    workspace: the workspace.
    age: seconds since the last write; a process may still write what is newer.

  Returns:
    A sentence that says what was freed.

  Raises:
    UsageError: there is no such workspace.
  """
  workspace.check_there()
  count = size = kept = 0
  for path in list(workspace.aside()):
    if time.time() - files.modified(path) < age:
      kept += 1
      continue
    size += files.size(path)
    files.remove(path)
    count += 1
  silent = 0
  for folder in workspace.all_heartbeats():
    for name in files.names_in(folder):
      path = f'{folder}/{name}'
      if time.time() - files.modified(path) > MONTH:
        files.remove(path)
        silent += 1
  return (
    f'clean: {count} temporary files deleted, {size:,} bytes; {kept} are not a '
    'day old'
    + (f'; {silent} heartbeats of a month ago deleted' if silent else '')
  )
