"""Integrity of a workspace: what is damaged in it, and how that is mended.

Every byte that others are made from is covered by a SHA-256: files by that in
a DONE marker, a marker by its own checksum. To mend is to remove what is
damaged and to run the ordinary units that make it: they are pure functions of
settings and inputs, so the bytes come back and nothing downstream changes.
"""

import concurrent.futures
import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import tensorflow as tf

from roar_tf import errors, shards, workspace
from roar_tf.cells import ORIGINAL, parse_cell
from roar_tf.study import pipeline, progress
from roar_tf.study.units import Target

_SHARD = re.compile(r'(.+\.tfrecord-\d{5}-of-\d{5})(\.DONE)?')


@dataclasses.dataclass(frozen=True)
class Damage:
  """One damaged file.

  Attributes:
    path: the file.
    reason: what is wrong with it.
    done: the marker without which the work behind the file counts as not done.
  """

  path: str
  reason: str
  done: str


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a verification found.

  Attributes:
    files: how many files were checked.
    size: their bytes.
    unfinished: how many artefacts have no marker yet.
    damages: what is damaged, in the order of the paths.
  """

  files: int
  size: int
  unfinished: int
  damages: list[Damage]

  def __str__(self):
    """Returns the summary of an intact workspace."""
    text = f'{self.files} files, {self.size:,} bytes: all intact'
    if self.unfinished:
      text += f' (not finished: {self.unfinished} artefacts)'
    return text


@dataclasses.dataclass(frozen=True)
class _Check:
  """A file, its marker, and a function that says what is wrong with it."""

  path: str
  done: str
  fault: Callable[[], str]


# --- verify -----------------------------------------------------------------


def folders(place: workspace.Workspace, source: str | None = None) -> list[str]:
  """Returns the directories of all artefacts, or of one source's.

  Raises:
    UsageError: there are none, so that no typing error passes for intact data.
  """
  place.check_there()
  found = list(place.artefacts())
  if source is not None:
    known = {place.source_of(folder) for folder in found} - {None}
    found = [f for f in found if place.source_of(f) == source]
    if not found:
      raise errors.UsageError(
        f'--workspace={place.root} holds nothing of dataset "{source}".'
        f'{errors.nearest(source, known)}'
      )
  if not found:
    raise errors.UsageError(
      f'--workspace={place.root} holds no artefacts; name one that a study '
      'made.'
    )
  return found


def verify(
  folders: Iterable[str],
  *,
  parallel: int = 1,
  stop: Callable[[], bool] = lambda: False,
) -> Findings:
  """Compares every file in some artefacts' directories with its checksums.

  Shards, metadata of datasets, results, predictions, weights and markers are
  checked; what is written aside and what measures time is not.

  Args:
    folders: the directories.
    parallel: files that are read side by side.
    stop: whether a signal asked to stop.

  Raises:
    PreemptedError: stopped.
  """
  checks, unfinished = [], 0
  for folder in folders:
    found = list(_checks(folder))
    checks += found
    unfinished += not any(_is_done_of(c.path, folder) for c in found)
  damages, size = [], 0

  def examine(check: _Check) -> tuple[str, int]:
    if stop():
      raise errors.PreemptedError(
        'stopped before all was verified; run the same command again.'
      )
    try:
      reason = check.fault()
      return reason, 0 if reason else tf.io.gfile.stat(check.path).length
    except (OSError, tf.errors.OpError) as e:  # A bad sector is damage too.
      return f'it cannot be read ({str(e).splitlines()[0]})', 0

  with (
    progress.bar(len(checks), 'verify', 'files') as bar,
    concurrent.futures.ThreadPoolExecutor(parallel) as pool,
  ):
    advance = progress.logged(bar, 'verify')
    outcomes = pool.map(examine, checks)
    for check, (reason, length) in zip(checks, outcomes, strict=True):
      size += length
      if reason:
        damages.append(Damage(check.path, reason, check.done))
      advance(1)
  return Findings(len(checks), size, unfinished, damages)


def _is_done_of(path: str, folder: str) -> bool:
  return path == f'{folder}/{workspace.DONE}'


def _checks(folder: str) -> Iterator[_Check]:
  """Yields the checks of one artefact: its markers and what they record."""
  names = set(workspace.names_in(folder))
  done = f'{folder}/{workspace.DONE}'
  recorded = _content(done).get('files', {})
  # Metadata is written when all shards are there: no dataset half made.
  if workspace.DONE in names or 'dataset_info.json' in names:
    yield _Check(done, done, lambda: _marker_fault(done))
  matches = (_SHARD.fullmatch(name) for name in {*names, *recorded})
  parts = {match[1] for match in matches if match}
  for name in sorted(parts):
    path = f'{folder}/{name}'
    marker = f'{path}.DONE'
    if recorded and name not in recorded:
      for stray in (path, marker):
        if os.path.basename(stray) in names:
          yield _Check(stray, done, lambda: 'it is no part of this dataset')
    elif recorded or os.path.basename(marker) in names:
      yield _Check(marker, marker, _call(_marker_fault, marker, 'contents'))
      yield _Check(path, marker, _call(_shard_fault, path, recorded.get(name)))
  for name in sorted(set(recorded) - parts):
    path = f'{folder}/{name}'
    yield _Check(path, done, _call(_file_fault, path, recorded[name]))


def _call(function, *arguments) -> Callable[[], str]:
  return lambda: function(*arguments)


def _content(marker: str) -> Mapping:
  """Returns what a marker says, nothing if it is damaged or not there."""
  try:
    return workspace.read_done(marker) or {}
  except (errors.DataError, OSError, tf.errors.OpError):
    return {}


def _marker_fault(path: str, must_hold: str = 'fingerprint') -> str:
  try:
    done = workspace.read_done(path)
  except errors.DataError:
    return 'it is no marker as roar_tf writes them'
  if done is None:
    return 'it is missing'
  return '' if must_hold in done else 'it is the marker of something else'


def _shard_fault(path: str, recorded: str | None) -> str:
  """Compares a shard with its own marker and with its dataset's."""
  if not tf.io.gfile.exists(path):
    return 'it is missing'
  contents = _content(f'{path}.DONE').get('contents')
  if contents and (fault := shards.fault(path, contents)):
    return fault
  if recorded is None:
    return ''
  found = contents['sha256'] if contents else workspace.sha256(path)
  return '' if found == recorded else 'its SHA-256 is not that in DONE'


def _file_fault(path: str, recorded: str) -> str:
  if not tf.io.gfile.exists(path):
    return 'it is missing'
  found = workspace.sha256(path)
  return '' if found == recorded else 'its SHA-256 is not that in DONE'


def describe(
  place: workspace.Workspace, damages: Sequence[Damage], advice: str
) -> str:
  """Returns a message that names every damaged file in a line of its own."""
  lines = [f'{place.relative(d.path)}: {d.reason}' for d in damages]
  noun = 'file is' if len(lines) == 1 else 'files are'
  return '\n  '.join([f'{len(lines)} {noun} damaged; {advice}', *lines])


# --- repair -----------------------------------------------------------------


def repair(
  works: Sequence[pipeline.Work],
  stages: Sequence[str],
  damages: Sequence[Damage],
  *,
  parallel: int = 1,
  stop: Callable[[], bool] = lambda: False,
) -> list[Damage]:
  """Removes what is damaged and makes exactly that again.

  Args:
    works: the configuration of what is to be mended.
    stages: stages that the configuration is complete for.
    damages: as `verify` found them.
    parallel: see `pipeline.run`.
    stop: likewise.

  Returns:
    The damages that these works and stages do not make, left as they are.

  Raises:
    UsageError: what is damaged was made with other settings; nothing was
      removed.
    DataError: what was made again has other bytes than before.
    UnitsFailedError: see `pipeline.run`.
  """
  targets = {
    target.done: target
    for stage in stages
    for unit in pipeline.units(works, stage)
    for target in unit.targets
  }
  mended = [d for d in damages if d.done in targets]
  if mended:
    wanted = _with_inputs([d.done for d in mended], targets)
    unreadable = {d.path for d in damages}
    for done in wanted - unreadable:
      targets[done].check_settings()
    before = {d.done: _content(d.done).get('files') for d in mended}
    for damage in mended:
      workspace.remove(damage.done)
      workspace.remove(damage.path)
    pipeline.run(works, stages, only=wanted, parallel=parallel, stop=stop)
    again = dict.fromkeys(os.path.dirname(done) for done in before)
    others = verify(again, parallel=parallel, stop=stop).damages
    others += [
      Damage(done, 'it does not record the checksums of before', done)
      for done, files in before.items()
      if files and done.endswith(f'/{workspace.DONE}')
      if files != _content(done).get('files')
    ]
    if others:
      place = works[0].context.workspace
      advice = (
        'what was made again has other bytes than before, so another '
        'TensorFlow, device or --threads made it: use that one, or delete the '
        'directory to make all of it anew:'
      )
      raise errors.DataError(describe(place, others, advice))
  return [d for d in damages if d.done not in targets]


def _with_inputs(
  damaged: Sequence[str], targets: Mapping[str, Target]
) -> set[str]:
  """Adds all that some targets are made from, however many stages before."""
  found, left = set(), list(damaged)
  while left:
    done = left.pop()
    if done in targets and done not in found:
      found.add(done)
      left += targets[done].inputs.values()
      if done in damaged or not tf.io.gfile.exists(done):
        left += targets[done].reads
  return found


def command(place: workspace.Workspace, damages: Sequence[Damage]) -> str:
  """Returns the command that repairs, as far as the paths tell."""
  flags = {_flags(place, os.path.dirname(d.done)) for d in damages}
  which = flags.pop() if len(flags) == 1 else ('--study=NAME',)
  return shlex.join(
    ['roar_shards', '--repair', f'--workspace={place.root}', *which]
  )


def _flags(place: workspace.Workspace, folder: str) -> tuple[str, ...]:
  kind, *parts = place.relative(folder).split('/')
  if kind in ('runs', 'reports'):
    return (f'--study={parts[0]}',)
  dataset = f'--dataset={place.source_of(folder)}'
  if kind == 'models' or parts[1] == ORIGINAL:
    return (dataset,)
  name = parts[1].removeprefix('ranking_')
  is_ranking = name != parts[1]
  try:
    cell = parse_cell(f'{name}_remove_50' if is_ranking else name)
  except errors.UsageError:  # Somebody's own estimator, and not imported.
    return ('--study=NAME',)
  axes = dataclasses.asdict(cell)
  if is_ranking:
    axes = {n: axes[n] for n in ('estimator', 'granularity')}
  return (dataset, *(f'--{name}={value}' for name, value in axes.items()))
