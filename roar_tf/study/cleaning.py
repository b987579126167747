"""What may be deleted from a workspace without losing any result."""

import os
import time

from roar_tf.engine import files, markers
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
