"""What is damaged below a root, and how it is made again.

Every byte that others are made from is covered by a SHA-256. A marker DONE
covers the files of its folder that its fact `files` names, {name: SHA-256}; a
marker <file>.DONE covers that file, by its fact `contents`, {'sha256': ...}; a
marker itself is covered by its own checksum. To repair is to remove what is
damaged and to make it again: units are pure functions of settings and inputs,
so the bytes come back and nothing that was made from them changes.
"""

import concurrent.futures
import dataclasses
import functools
import os
import re
from collections.abc import (
  Callable,
  Container,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)

from roar_tf import errors
from roar_tf.engine import files, markers, progress, scheduler
from roar_tf.engine.graph import Graph, behind
from roar_tf.engine.markers import DONE
from roar_tf.engine.pools import Pool
from roar_tf.engine.scheduler import Observer
from roar_tf.engine.storage import Snapshot
from roar_tf.engine.unit import Artefact


@dataclasses.dataclass(frozen=True)
class Layout:
  """What the names of files tell where markers are missing.

  Attributes:
    parts: matches the whole names of files that have a marker each; those that
      have one are parts in any case.
  """

  parts: re.Pattern = re.compile('(?!)')  # Matches nothing.


@dataclasses.dataclass(frozen=True)
class Damage:
  """One damaged file.

  Attributes:
    path: the file.
    reason: what is wrong with it.
    marker: the marker without which the work behind the file counts as not
      done.
  """

  path: str
  reason: str
  marker: str


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a verification has shown.

  Attributes:
    files: how many files were checked.
    size: the bytes of those that are intact.
    unfinished: how many folders have no DONE yet.
    damages: what is damaged, in the order of the folders.
  """

  files: int
  size: int
  unfinished: int
  damages: list[Damage]

  def __str__(self):
    """Returns the summary of intact folders."""
    text = f'{self.files} files, {self.size:,} bytes: all intact'
    if self.unfinished:
      text += f' (not finished: {self.unfinished} artefacts)'
    return text


@dataclasses.dataclass(frozen=True)
class _Check:
  """A file, its marker, and a function that says what is wrong with it."""

  path: str
  marker: str
  fault: Callable[[], str]


# --- verify -----------------------------------------------------------------


def verify(
  folders: Sequence[str],
  *,
  layout: Layout = Layout(),
  parallel: int = 1,
  stop: Callable[[], bool] = lambda: False,
) -> Findings:
  """Compares every file in some folders with the checksums of markers.

  What is written aside, and what no marker names, is not checked.

  Args:
    folders: the directories of artefacts.
    layout: what the names of files tell.
    parallel: files that are read side by side.
    stop: whether a signal asked to stop.

  Raises:
    PreemptedError: stopped.
  """
  by_folder = files.in_parallel(
    lambda folder: list(_checks(folder, layout)), folders
  )
  checks = [check for checks in by_folder for check in checks]
  finished = {
    os.path.dirname(check.path) for check in checks if _is_done(check)
  }
  damages, size = [], 0

  def examine(check: _Check) -> tuple[str, int]:
    if stop():
      raise errors.PreemptedError(
        'stopped before all was verified; run the same command again.'
      )
    try:
      reason = check.fault()
      return reason, 0 if reason else files.size(check.path)
    except files.storage_errors() as e:  # A bad sector is damage, too.
      return f'it cannot be read ({files.reason(e)})', 0

  with (
    progress.bar(len(checks), 'verify', 'files') as bar,
    concurrent.futures.ThreadPoolExecutor(parallel) as pool,
  ):
    advance = progress.logged(bar, 'verify')
    outcomes = pool.map(examine, checks)
    for check, (reason, length) in zip(checks, outcomes, strict=True):
      size += length
      if reason:
        damages.append(Damage(check.path, reason, check.marker))
      advance(1)
  return Findings(len(checks), size, len(folders) - len(finished), damages)


def _is_done(check: _Check) -> bool:
  return os.path.basename(check.path) == DONE


def _checks(folder: str, layout: Layout) -> Iterator[_Check]:
  """Yields the checks of a folder: its markers, and what they name."""
  names = set(files.names_in(folder))
  done = f'{folder}/{DONE}'
  recorded = _content(done).get('files', {})
  if DONE in names:
    yield _Check(done, done, functools.partial(_marker_fault, done))
  parts = {name for name in (*names, *recorded) if layout.parts.fullmatch(name)}
  parts |= {name[: -len('.DONE')] for name in names if name.endswith('.DONE')}
  for name in sorted({*parts, *recorded}):
    path, sha256 = f'{folder}/{name}', recorded.get(name)
    own = f'{path}.DONE'
    if name not in parts:
      fault = functools.partial(_file_fault, path, sha256)
      yield _Check(path, done, fault)
    elif recorded and not sha256:
      for stray in (path, own):
        if os.path.basename(stray) in names:
          yield _Check(stray, done, lambda: 'it is no part of what DONE names')
    elif recorded or os.path.basename(own) in names:
      yield _Check(own, own, functools.partial(_marker_fault, own, 'contents'))
      fault = functools.partial(_file_fault, path, sha256, own)
      yield _Check(path, own, fault)


def _content(marker: str) -> Mapping:
  """Returns what a marker says, nothing if it is damaged or not there."""
  return markers.intact(marker) or {}


def _marker_fault(path: str, must_hold: str = 'fingerprint') -> str:
  try:
    marker = markers.read(path)
  except errors.DataError:
    return 'it is no marker as roar_tf writes them'
  if marker is None:
    return 'it is missing'
  return '' if must_hold in marker else 'it is the marker of something else'


def _file_fault(path: str, recorded: str | None, own: str = '') -> str:
  """Compares a file with what its folder's marker and its own record."""
  if not files.exists(path):
    return 'it is missing'
  found = files.sha256(path)
  contents = _content(own).get('contents') if own else None
  if contents and contents['sha256'] != found:
    return 'its SHA-256 is not that in its .DONE'
  if recorded and recorded != found:
    return 'its SHA-256 is not that in DONE'
  return ''


def describe(root: str, damages: Sequence[Damage], advice: str) -> str:
  """Returns a message that names every damaged file in a line of its own."""
  lines = [f'{d.path.removeprefix(root + "/")}: {d.reason}' for d in damages]
  noun = 'file is' if len(lines) == 1 else 'files are'
  return '\n  '.join([f'{len(lines)} {noun} damaged; {advice}', *lines])


# --- repair -----------------------------------------------------------------


def repair(
  goals: Iterable[Artefact],
  damages: Sequence[Damage],
  root: str,
  pool: Callable[[], Pool],
  *,
  layout: Layout = Layout(),
  within: Container[str] | None = None,
  observers: Sequence[Observer] = (),
  parallel: int = 1,
  stop: Callable[[], bool] = lambda: False,
) -> list[Damage]:
  """Removes what is damaged and makes exactly that again.

  Args:
    goals: artefacts; what is damaged is made again if it is one of these, or
      one behind them.
    damages: as `verify` returns them.
    root: the directory below which all artefacts lie.
    pool: see `scheduler.make`, like within and observers.
    layout: see `verify`, like parallel.
    stop: whether a signal asked to stop.

  Returns:
    The damages that the goals do not make, left as they are.

  Raises:
    UsageError: what is damaged was made with other settings; nothing was
      removed.
    DataError: what was made again has other bytes than before.
    UnitsFailedError: see `scheduler.make`, like PreemptedError.
  """
  artefacts = {a.marker: a for a in behind(goals, with_parts=True)}
  mended = [d for d in damages if d.marker in artefacts]
  others = [d for d in damages if d.marker not in artefacts]
  if not mended:
    return others
  again = list({d.marker: artefacts[d.marker] for d in mended}.values())
  _refuse_other_settings(again, mended, damages, root, within)
  recorded = {
    artefact.marker: _content(artefact.marker).get('files')
    for artefact in again
    if os.path.basename(artefact.marker) == DONE
  }
  for damage in mended:
    files.remove(damage.marker)  # First: a kill leaves what is not done.
    files.remove(damage.path)
  scheduler.make(
    again,
    Snapshot(root),
    pool,
    within=within,
    observers=observers,
    stop=stop,
  )
  folders = list(dict.fromkeys(os.path.dirname(a.marker) for a in again))
  findings = verify(folders, layout=layout, parallel=parallel, stop=stop)
  different = [d for d in findings.damages if d not in others]
  different += [
    Damage(marker, 'it does not record the checksums of before', marker)
    for marker, before in recorded.items()
    if before and before != _content(marker).get('files')
  ]
  if different:
    advice = (
      'what was made again has other bytes than before, so other versions of '
      'libraries, another device or other settings of threads made it: use '
      'those of before, or delete the directory to make all of it anew:'
    )
    raise errors.DataError(describe(root, different, advice))
  return others


def _refuse_other_settings(again, mended, damages, root, within) -> None:
  """Compares all that `repair` would work from, before it removes anything.

  Raises:
    UsageError: something was made with other settings.
  """
  unreadable = {damage.path for damage in damages}
  snapshot = Snapshot(root, gone=unreadable)
  for artefact in again:
    artefact.check(snapshot.read)
  removed = unreadable | {damage.marker for damage in mended}
  Graph(again, Snapshot(root, gone=removed), within=within)
