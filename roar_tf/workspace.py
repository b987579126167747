"""The workspace: the one directory, local or remote, that holds all artefacts.

This is the only module that builds paths. It also holds the two rules that
make work resumable:

* *Publication.* A file appears under its name complete or not at all: written
  aside and renamed on a local disk, written as one object on an object store.
* *Commitment.* A DONE marker, written last, says that an artefact is finished
  and which configuration made it. Asking for the artefact under another
  configuration is an error that names the difference, never silent reuse.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow as tf

from roar_tf import errors

VERSION = '1.0.0'
"""Version of every dataset in the workspace (a TFDS version)."""
DONE = 'DONE'
"""Name of an artefact's marker; that of a shard is `<shard>.DONE`."""

_DEPTHS = {'tfds': 3, 'models': 1, 'runs': 4, 'reports': 1}
"""How deep artefacts lie below the folders of the root."""
_ASIDE = re.compile(r'.+\.tmp-[0-9a-f]{32}')
"""Names of what `publishing` writes aside."""
_REQUESTS = 16
"""Directories listed at once: an object store answers each after a while."""


class Workspace:
  """Paths below one root; `root` may be any `tf.io.gfile` URL."""

  def __init__(self, root: str):
    if not root:
      raise errors.UsageError('--workspace is empty; name a directory.')
    self.root = root.rstrip('/') or '/'

  @classmethod
  def of_tfds(cls, directory: str) -> 'Workspace':
    """Returns the workspace whose property `tfds` is a directory.

    Raises:
      UsageError: no workspace has such a one.
    """
    root, name = os.path.split(directory.rstrip('/'))
    if name != 'tfds':
      raise errors.UsageError(
        f'data_dir={directory} is not the folder "tfds" of a workspace, where '
        'cells are made from rankings; give WORKSPACE/tfds.'
      )
    return cls(root or '.')

  def make(self) -> None:
    """Creates the root; raises UsageError when it cannot be written."""
    probe = f'{self.root}/.write-{uuid.uuid4().hex}'
    try:
      tf.io.gfile.makedirs(self.root)
      with tf.io.gfile.GFile(probe, 'w') as f:
        f.write('')
      tf.io.gfile.remove(probe)
    except (OSError, tf.errors.OpError) as e:
      if is_full(e):
        raise
      raise errors.UsageError(
        f'--workspace={self.root} cannot be written ({_reason(e)}); choose '
        'another directory or fix its permissions.'
      ) from e

  def identity(self, make: bool = False) -> str | None:
    """Returns a word by which processes see that they share this workspace.

    Args:
      make: whether to give it one if it has none.
    """
    path = f'{self.root}/.identity'
    if make and not tf.io.gfile.exists(path):
      write_atomic(path, uuid.uuid4().hex.encode())
    if not tf.io.gfile.exists(path):
      return None
    return read_bytes(path).decode(errors='replace')

  def check_there(self) -> None:
    """Raises UsageError if there is no such directory."""
    if not tf.io.gfile.isdir(self.root):
      raise errors.UsageError(
        f'--workspace={self.root} is no directory; name one that a study made.'
      )

  @property
  def tfds(self) -> str:
    """What `tfds.load` takes as `data_dir`."""
    return f'{self.root}/tfds'

  def dataset(self, source: str, config: str) -> str:
    """Directory of one dataset: `original`, a ranking or a cell."""
    return f'{self.tfds}/roar_{source}/{config}/{VERSION}'

  def shard(
    self, source: str, config: str, split: str, index: int, count: int
  ) -> str:
    """File of one shard, named as TFDS wants it."""
    return (
      f'{self.dataset(source, config)}/roar_{source}-{split}'
      f'.tfrecord-{index:05d}-of-{count:05d}'
    )

  def model(self, source: str) -> str:
    """Directory of the explained model of a source."""
    return f'{self.root}/models/{source}'

  def scores(self, source: str, estimator: str) -> str:
    """Record of an estimator whose scores of a source come from files."""
    return f'{self.root}/scores/{source}/{estimator}.json'

  def external_estimators(self) -> set[str]:
    """Names of all estimators whose scores come from files."""
    records = tf.io.gfile.glob(self.scores('*', '*'))
    return {os.path.basename(path).removesuffix('.json') for path in records}

  def run(self, study: str, source: str, cell: str, seed: int) -> str:
    """Directory of one retraining run."""
    return f'{self.root}/runs/{study}/{source}/{cell}/seed_{seed}'

  def report(self, study: str) -> str:
    """Directory of a study's report."""
    return f'{self.root}/reports/{study}'

  def heartbeat(self, study: str, process: str) -> str:
    """File in which a process says what it does for a study."""
    return f'{self.root}/status/{study}/{process}.json'

  def heartbeats(self, study: str) -> list[str]:
    """Files of all processes that have worked on a study."""
    folder = f'{self.root}/status/{study}'
    names = [name for name in names_in(folder) if name.endswith('.json')]
    return [f'{folder}/{name}' for name in names]

  def all_heartbeats(self) -> list[str]:
    """Files of all processes that have worked on any study."""
    studies = names_in(f'{self.root}/status')
    return [path for study in studies for path in self.heartbeats(study)]

  def relative(self, path: str) -> str:
    """A path as messages show it: relative to the root."""
    return path.removeprefix(self.root + '/')

  def artefacts(self) -> Iterator[str]:
    """Yields the directories that datasets, models, runs and reports have."""
    for folder, depth in _DEPTHS.items():
      for path in _folders_below(f'{self.root}/{folder}', depth):
        # Beside ours, TFDS may keep what it has prepared.
        if folder != 'tfds' or self.source_of(path):
          yield path

  def source_of(self, path: str) -> str | None:
    """Returns the source whose artefact a directory is, None for a report."""
    kind, *parts = self.relative(path).split('/')
    if kind == 'tfds':
      name = parts[0].removeprefix('roar_')
      return name if name != parts[0] else None
    place = {'models': 0, 'runs': 1}.get(kind)
    return None if place is None else parts[place]

  def aside(self) -> Iterator[str]:
    """Yields the files that processes are writing, or were when killed."""
    for folder in (*_DEPTHS, 'status'):
      for place, _, names in tf.io.gfile.walk(f'{self.root}/{folder}'):
        yield from (
          f'{place.rstrip("/")}/{name}'
          for name in names
          if _ASIDE.fullmatch(name)
        )


def _folders_below(path: str, depth: int) -> Iterator[str]:
  if not tf.io.gfile.isdir(path):
    return
  if depth == 0:
    yield path
    return
  for name in names_in(path):
    yield from _folders_below(f'{path}/{name}', depth - 1)


def names_in(path: str) -> list[str]:
  """Returns what a directory holds, in order; nothing if it is not there."""
  if not tf.io.gfile.isdir(path):
    return []
  # Object stores end the names of directories in a slash.
  return sorted(name.rstrip('/') for name in tf.io.gfile.listdir(path))


class Listings:
  """Says of many files whether they are there, `path in listings`.

  A directory is listed once, when it is first asked for, and not looked at
  again: for a moment's picture of thousands of files in hundreds of them.
  """

  def __init__(self):
    self._names = {}

  def look(self, paths: Iterable[str]) -> None:
    """Lists the directories of some files side by side."""
    folders = {os.path.dirname(path) for path in paths} - self._names.keys()
    with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as pool:
      lists = pool.map(_set_of_names, folders)
      self._names.update(zip(folders, lists, strict=True))

  def __contains__(self, path: str) -> bool:
    folder, name = os.path.split(path)
    if folder not in self._names:
      self._names[folder] = _set_of_names(folder)
    return name in self._names[folder]


def _set_of_names(path: str) -> set[str]:
  try:
    return set(tf.io.gfile.listdir(path))
  except tf.errors.NotFoundError:
    return set()


# --- publication ------------------------------------------------------------


def is_remote(path: str) -> bool:
  """Whether a path is on an object store (a URL)."""
  return '://' in path


@contextlib.contextmanager
def publishing(path: str) -> Iterator[str]:
  """Yields a name to write to; the file appears at `path` when all went well.

  Two workers that publish the same path both succeed, and since units are pure
  functions of their inputs they publish the same bytes.
  """
  tf.io.gfile.makedirs(os.path.dirname(path))
  if is_remote(path):  # One object is written at once or not at all.
    yield path
    return
  aside = f'{path}.tmp-{uuid.uuid4().hex}'
  try:
    yield aside
    tf.io.gfile.rename(aside, path, overwrite=True)
  finally:
    if tf.io.gfile.exists(aside):
      tf.io.gfile.remove(aside)


def write_atomic(path: str, data: bytes) -> None:
  """Publishes `data` at `path`."""
  with publishing(path) as name, tf.io.gfile.GFile(name, 'wb') as f:
    f.write(data)


def read_bytes(path: str) -> bytes:
  """Returns the content of a file."""
  with tf.io.gfile.GFile(path, 'rb') as f:
    return f.read()


def write_json(path: str, value) -> None:
  """Publishes a value as readable JSON with sorted keys."""
  write_atomic(path, _json(value))


def _json(value) -> bytes:
  return (json.dumps(value, indent=1, sort_keys=True) + '\n').encode()


def read_json(path: str):
  """Returns the value of a JSON file; raises DataError if it is damaged."""
  try:
    return json.loads(read_bytes(path))
  except ValueError as e:
    raise errors.DataError(
      f'{path} is damaged ({e}); delete its directory and run the same command '
      'again.'
    ) from e


def read_many(paths: Sequence[str]) -> list[bytes | None]:
  """Returns the contents of files, side by side; None where one is gone."""

  def read(path: str) -> bytes | None:
    try:
      return read_bytes(path)
    except tf.errors.NotFoundError:
      return None

  with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as pool:
    return list(pool.map(read, paths))


def remove(path: str) -> None:
  """Removes a file or a directory tree if it is there."""
  if tf.io.gfile.isdir(path):
    tf.io.gfile.rmtree(path)
  elif tf.io.gfile.exists(path):
    tf.io.gfile.remove(path)


def sha256(path: str) -> str:
  """Returns the SHA-256 of a file, in hexadecimal."""
  digest = hashlib.sha256()
  with tf.io.gfile.GFile(path, 'rb') as f:
    while block := f.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()


def checksums(directory: str, names: Iterable[str]) -> dict[str, str]:
  """Returns the SHA-256 of some files of a directory, by name."""
  return {name: sha256(f'{directory}/{name}') for name in names}


# --- commitment -------------------------------------------------------------


def digest(fingerprint: Mapping) -> str:
  """Returns the SHA-256 of a fingerprint's canonical JSON."""
  text = json.dumps(fingerprint, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(stage: str, version: int, settings: Mapping, inputs: Mapping):
  """Returns what makes an artefact what it is, as a JSON value.

  Args:
    stage: name of the stage.
    version: raised when the stage's code changes what it writes.
    settings: every setting that changes values, by the name the user knows.
    inputs: digest of every input's fingerprint, by name.
  """
  value = {
    'stage': stage,
    'version': version,
    'settings': dict(settings),
    'inputs': dict(inputs),
  }
  return json.loads(json.dumps(value))  # Tuples become lists, as when read.


def write_done(path: str, fingerprint_: Mapping, **facts) -> None:
  """Commits an artefact: writes its DONE marker.

  Args:
    path: the marker's path.
    fingerprint_: as `fingerprint` makes it.
    **facts: JSON values to record, not compared: contents, environment.
  """
  value = {'fingerprint': fingerprint_, 'digest': digest(fingerprint_), **facts}
  write_atomic(path, _sealed(value))


def _sealed(value: Mapping) -> bytes:
  """Returns a marker as it is written: with the checksum of all the rest."""
  return _json({**value, 'checksum': digest(value)})


def read_done(path: str) -> dict | None:
  """Returns a DONE marker's content, or None where there is none.

  Raises:
    DataError: any bit of it is not as it was written.
  """
  if not tf.io.gfile.exists(path):
    return None
  data = read_bytes(path)
  try:
    value = json.loads(data)
    del value['checksum']
    intact = _sealed(value) == data
  except (ValueError, KeyError, TypeError):
    intact = False
  if not intact:
    raise errors.DataError(
      f'{path} is damaged, or older than the checksums of markers; delete it '
      'and run the same command again.'
    )
  return value


def require(path: str) -> dict:
  """Returns a DONE marker's content; raises MissingInputsError without one."""
  done = read_done(path)
  if done is None:
    raise errors.MissingInputsError(
      f'{path} is not there yet: run the stages before this one first, or wait '
      'for the workers that do.'
    )
  return done


def is_done(path: str, fingerprint_: Mapping) -> bool:
  """Whether the artefact is finished under exactly this configuration.

  Raises:
    UsageError: it is finished under another one; the differences are named.
  """
  done = read_done(path)
  if done is None:
    return False
  if done['fingerprint'] == fingerprint_:
    return True
  changes = '; '.join(differences(done['fingerprint'], fingerprint_))
  raise errors.UsageError(
    f'{path} was made with other settings ({changes}): ask for those settings, '
    'use another --workspace, or delete that directory to make it anew.'
  )


def check_settings(
  path: str, stage: str, version: int, settings: Mapping
) -> None:
  """Compares a DONE marker, if there is one, before its inputs are known.

  Raises:
    UsageError: the artefact was made with other settings.
  """
  done = read_done(path)
  if done is not None:
    inputs = done['fingerprint']['inputs']
    is_done(path, fingerprint(stage, version, settings, inputs))


def differences(old: Mapping, new: Mapping) -> Iterator[str]:
  """Yields sentences such as 'steps: 10 there, 20 asked for'."""
  if old.get('version') != new.get('version'):
    yield (
      f'made by version {old.get("version")} of stage {new["stage"]}, this is '
      f'version {new["version"]}'
    )
  for part in ('settings', 'inputs'):
    before, after = old.get(part, {}), new.get(part, {})
    for name in sorted({*before, *after}):
      if before.get(name) != after.get(name):
        if part == 'inputs':
          yield f'its input {name} has changed'
        else:
          was, now = before.get(name), after.get(name)
          yield f'{name}: {was!r} there, {now!r} asked for'


# --- faults of the disk ------------------------------------------------------


def is_full(error: BaseException) -> bool:
  """Whether an error says that the disk is full."""
  import errno

  return getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT) or any(
    words in str(error) for words in ('No space left', 'Disk quota exceeded')
  )


def describe_full(error: BaseException) -> str:
  """Returns what to say of a full disk: the file without room, and advice."""
  # Python's errors carry a name, TensorFlow's begin with it.
  named = re.search(r'(\S+); (No space left|Disk quota)', str(error))
  path = getattr(error, 'filename', None) or (named[1] if named else '')
  place = f': no room for {path}' if path else ''
  return (
    f'the disk is full{place}; free some space and run the same command again.'
  )


def _reason(error: BaseException) -> str:
  return getattr(error, 'strerror', None) or str(error).splitlines()[0]
