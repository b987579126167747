"""What may be deleted from a workspace without losing any result."""

import os
import time
from collections.abc import Sequence

import tensorflow as tf

from roar_tf import workspace
from roar_tf.study.pipeline import Work

DAY = 24 * 60 * 60
MONTH = 30 * DAY


def clean_shards(works: Sequence[Work]) -> str:
  """Deletes the masked datasets of a study's chosen cells, and nothing else.

  A dataset's marker goes first, then those of its shards, then the files: when
  this is killed, what remains never passes for finished.

  Returns:
    A sentence that says what was freed.
  """
  datasets = files = size = 0
  for work in works:
    place, source = work.context.workspace, work.context.experiment.source
    for cell in work.chosen_cells:
      folder = place.dataset(source.name, cell.name)
      names = workspace.names_in(folder)
      datasets += bool(names)
      for name in sorted(names, key=_markers_first):
        path = f'{folder}/{name}'
        size += tf.io.gfile.stat(path).length
        files += 1
        workspace.remove(path)
      for empty in (folder, os.path.dirname(folder)):
        if tf.io.gfile.isdir(empty) and not workspace.names_in(empty):
          workspace.remove(empty)
  return (
    f'clean: {datasets} masked datasets deleted, {files} files, {size:,} bytes'
  )


def _markers_first(name: str) -> tuple[bool, bool]:
  return name != workspace.DONE, not name.endswith('.DONE')


def clean_temporary(place: workspace.Workspace, age: float = DAY) -> str:
  """Deletes what killed processes left half written.

  And heartbeats of processes that were heard of a month ago for the last time:
  `--status` no longer counts their hours then.

  Args:
    place: the workspace.
    age: seconds since the last write; a process may still write what is newer.

  Returns:
    A sentence that says what was freed.

  Raises:
    UsageError: there is no such workspace.
  """
  place.check_there()
  files = size = kept = 0
  for path in list(place.aside()):
    state = tf.io.gfile.stat(path)
    if time.time() - state.mtime_nsec / 1e9 < age:
      kept += 1
      continue
    workspace.remove(path)
    files += 1
    size += state.length
  silent = 0
  for path in place.all_heartbeats():
    if time.time() - tf.io.gfile.stat(path).mtime_nsec / 1e9 > MONTH:
      workspace.remove(path)
      silent += 1
  return (
    f'clean: {files} temporary files deleted, {size:,} bytes; {kept} are not a '
    'day old'
    + (f'; {silent} heartbeats of a month ago deleted' if silent else '')
  )
