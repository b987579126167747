"""One look at a directory tree: what is there, and what its markers say."""

import os
from collections.abc import Container, Iterable

from roar_tf import errors
from roar_tf.engine import files, markers


class Snapshot:
  """The artefacts below a root as they were at one moment.

  A directory is listed at most once, and only if the one above it holds it; a
  marker is read at most once. So thousands of artefacts in hundreds of
  directories take as many requests as there are directories and markers, and
  many of these are made side by side.
  """

  def __init__(self, root: str, gone: Container[str] = ()):
    """Describes a tree; nothing is looked at yet.

    Args:
      root: the directory below which all artefacts lie.
      gone: files that are taken for missing, such as damaged ones.
    """
    self._root, self._gone = root.rstrip('/'), gone
    self._names: dict[str, frozenset[str]] = {}
    self._markers: dict[str, dict | Exception | None] = {}

  def anew(self) -> 'Snapshot':
    """Returns a later look at the same tree."""
    return Snapshot(self._root)

  def look(self, paths: Iterable[str]) -> None:
    """Lists the directories of some files, level by level."""
    folders = {os.path.dirname(path) for path in paths}
    levels: dict[int, set[str]] = {}
    while folders:
      for folder in folders:
        levels.setdefault(folder.count('/'), set()).add(folder)
      folders = {
        os.path.dirname(folder)
        for folder in folders
        if folder.startswith(self._root + '/')
      } - {folder for level in levels.values() for folder in level}
    for _, level in sorted(levels.items()):
      unknown = [f for f in sorted(level) if f not in self._names]
      there = [f for f in unknown if self._may_hold(f)]
      self._names.update(dict.fromkeys(unknown, frozenset()))
      for folder, names in zip(
        there, files.in_parallel(files.names_in, there), strict=True
      ):
        self._names[folder] = frozenset(names)

  def _may_hold(self, folder: str) -> bool:
    """Whether a directory is there, as far as the one above it tells."""
    if not folder.startswith(self._root + '/'):
      return True
    above, name = os.path.split(folder)
    return name in self._names[above]

  def exists(self, path: str) -> bool:
    """Whether there is such a file."""
    folder, name = os.path.split(path)
    if folder not in self._names:
      self.look([path])
    return name in self._names[folder] and path not in self._gone

  def read_all(self, paths: Iterable[str]) -> None:
    """Reads those of some markers that are there, side by side."""
    paths = list(paths)
    self.look(paths)
    unknown = [
      path
      for path in dict.fromkeys(paths)
      if path not in self._markers and self.exists(path)
    ]
    contents = files.in_parallel(_content, unknown)
    self._markers.update(zip(unknown, contents, strict=True))

  def read(self, path: str) -> dict | None:
    """Returns the content of a marker, or None where there is none.

    Raises:
      DataError: it is damaged.
      OSError: it cannot be read.
    """
    if path not in self._markers:
      self.read_all([path])
    marker = self._markers.get(path)
    if isinstance(marker, Exception):
      raise marker
    return marker


def _content(path: str) -> dict | Exception | None:
  """Returns what a marker holds, or why it cannot be read."""
  try:
    return markers.read(path)
  except (errors.DataError, *files.storage_errors()) as e:
    return e
