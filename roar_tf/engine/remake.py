"""Removing artefacts with everything that was made from them.

The command that made them then makes them anew.
"""

import os
from collections.abc import Callable, Iterable

from roar_tf.engine import files, markers
from roar_tf.engine.graph import behind
from roar_tf.engine.unit import Artefact


def remove(
  goals: Iterable[Artefact],
  is_chosen: Callable[[Artefact], bool],
  folders: Iterable[str],
) -> list[str]:
  """Removes the chosen artefacts behind some goals, and all that reads them.

  What reads them is what the goals say, and whatever else has recorded the seal
  of something that is removed, such as the runs of another study.

  Args:
    goals: artefacts that are asked for.
    is_chosen: whether one behind them is to be removed.
    folders: the directories of all artefacts that there are.

  Returns:
    The directories that were removed.
  """
  known = {artefact.marker: artefact for artefact in behind(goals)}
  reads = {
    marker: {
      a.marker for a in (*one.inputs.values(), *one.soft_inputs.values())
    }
    for marker, one in known.items()
  }
  paths = sorted({*known, *(f'{folder}/{markers.DONE}' for folder in folders)})
  contents = files.in_parallel(markers.intact, paths)
  seals = {p: c['seal'] for p, c in zip(paths, contents, strict=True) if c}
  for path, content in zip(paths, contents, strict=True):
    if content:
      recorded = content['fingerprint']['inputs'].values()
      reads.setdefault(path, set()).update(recorded)
  doomed = [path for path, one in known.items() if is_chosen(one)]
  for path in doomed:  # It grows meanwhile.
    names = {path, seals.get(path)}
    doomed += [p for p in reads if p not in doomed and names & reads[p]]
  removed = []
  for path in reversed(doomed):  # A kill leaves what tells of its readers.
    folder = os.path.dirname(path)
    if files.exists(folder):
      files.remove(path)  # First: a kill leaves nothing that passes for done.
      files.remove(folder)
      removed.append(folder)
  return removed
