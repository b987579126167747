"""Files on local disks and on object stores: read, published, listed, removed.

Every module that touches storage calls these functions. Local paths go through
`os`; URLs go through `tf.io.gfile`, and TensorFlow is imported when the first
URL is met.

*Publication:* a file appears under its name complete or not at all. It is
written aside and renamed on a local disk, and written as one object on an
object store.
"""

import concurrent.futures
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence

from roar_tf import errors

ASIDE = re.compile(r'.+\.tmp-[0-9a-f]{32}')
"""Names of what `publishing` writes aside."""
_REQUESTS = 16
"""Requests side by side: an object store answers each after a while."""


def is_remote(path: str) -> bool:
  """Whether a path is on an object store (a URL)."""
  return '://' in path


def _gfile(path: str):
  """Returns `tf.io.gfile`, which serves URLs.

  Raises:
    UsageError: TensorFlow is not installed.
  """
  try:
    import tensorflow as tf
  except ModuleNotFoundError as e:
    raise errors.UsageError(
      f'{path} is a URL, which TensorFlow opens: install roar_tf[cpu], '
      'roar_tf[cuda] or roar_tf[tpu].'
    ) from e
  return tf.io.gfile


def storage_errors() -> tuple[type[Exception], ...]:
  """Returns the exceptions that storage raises, for an `except` clause.

  They are `OSError` and, where TensorFlow is loaded, its errors.
  """
  return (OSError, *_tensorflow_errors('OpError'))


def missing_errors() -> tuple[type[Exception], ...]:
  """Returns the exceptions that mean that there is no such file."""
  return (
    FileNotFoundError,
    NotADirectoryError,
    *_tensorflow_errors('NotFoundError'),
  )


def _tensorflow_errors(name: str) -> tuple[type[Exception], ...]:
  found = getattr(sys.modules.get('tensorflow'), 'errors', None)
  return (getattr(found, name),) if found else ()


# --- looking ----------------------------------------------------------------


def exists(path: str) -> bool:
  """Whether there is such a file or directory."""
  if is_remote(path):
    return _gfile(path).exists(path)
  return os.path.exists(path)


def is_directory(path: str) -> bool:
  """Whether there is such a directory."""
  if is_remote(path):
    return _gfile(path).isdir(path)
  return os.path.isdir(path)


def names_in(path: str) -> list[str]:
  """Returns what a directory holds, sorted; nothing if it is not there."""
  try:
    names = _gfile(path).listdir(path) if is_remote(path) else os.listdir(path)
  except missing_errors():
    return []
  # Object stores end the names of directories in a slash.
  return sorted(name.rstrip('/') for name in names)


def walk(path: str) -> Iterator[str]:
  """Yields the paths of all files below a directory."""
  walking = _gfile(path).walk(path) if is_remote(path) else os.walk(path)
  for folder, _, names in walking:
    yield from (f'{folder.rstrip("/")}/{name}' for name in names)


def size(path: str) -> int:
  """Returns the bytes of a file."""
  if is_remote(path):
    return _gfile(path).stat(path).length
  return os.stat(path).st_size


def modified(path: str) -> float:
  """Returns when a file was written last, in seconds since 1970."""
  if is_remote(path):
    return _gfile(path).stat(path).mtime_nsec / 1e9
  return os.stat(path).st_mtime


# --- reading ----------------------------------------------------------------


def opened(path: str, mode: str):
  """Opens a file as the built-in `open` does; `mode` is `rb` or `wb`."""
  return _gfile(path).GFile(path, mode) if is_remote(path) else open(path, mode)


def read(path: str) -> bytes:
  """Returns the content of a file."""
  with opened(path, 'rb') as file:
    return file.read()


def read_many(paths: Sequence[str]) -> list[bytes | None]:
  """Returns the contents of files, side by side; None where one is gone."""

  def content(path: str) -> bytes | None:
    try:
      return read(path)
    except missing_errors():
      return None

  return in_parallel(content, paths)


def in_parallel(function, values: Sequence) -> list:
  """Returns a function's values, requests to storage made side by side."""
  if len(values) < 2:
    return [function(value) for value in values]
  with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as pool:
    return list(pool.map(function, values))


def read_json(path: str):
  """Returns the value of a JSON file; raises DataError if it is damaged."""
  try:
    return json.loads(read(path))
  except ValueError as e:
    raise errors.DataError(
      f'{path} is damaged ({e}); delete its directory and run the same command '
      'again.'
    ) from e


def sha256(path: str) -> str:
  """Returns the SHA-256 of a file, in hexadecimal."""
  digest = hashlib.sha256()
  with opened(path, 'rb') as file:
    while block := file.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()


def checksums(directory: str, names: Iterable[str]) -> dict[str, str]:
  """Returns the SHA-256 of some files of a directory, by name."""
  return {name: sha256(f'{directory}/{name}') for name in names}


# --- writing ----------------------------------------------------------------


def make_directory(path: str) -> None:
  """Creates a directory and those above it, where they are not there."""
  if is_remote(path):
    _gfile(path).makedirs(path)
  else:
    os.makedirs(path or '.', exist_ok=True)


@contextlib.contextmanager
def publishing(path: str) -> Iterator[str]:
  """Yields a name to write to; the file appears at `path` when all went well.

  Two workers that publish the same path both succeed, and since units are pure
  functions of their inputs they publish the same bytes.
  """
  make_directory(os.path.dirname(path))
  if is_remote(path):  # One object is written at once or not at all.
    yield path
    return
  aside = f'{path}.tmp-{uuid.uuid4().hex}'
  try:
    yield aside
    os.replace(aside, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(aside)


def publish(path: str, data: bytes) -> None:
  """Publishes `data` at `path`."""
  with publishing(path) as name, opened(name, 'wb') as file:
    file.write(data)


def publish_json(path: str, value) -> None:
  """Publishes a value as readable JSON with sorted keys."""
  publish(path, as_json(value))


def as_json(value) -> bytes:
  """Returns a value as readable JSON with sorted keys."""
  return (json.dumps(value, indent=1, sort_keys=True) + '\n').encode()


def remove(path: str) -> None:
  """Removes a file or a directory tree if it is there."""
  if is_remote(path):
    store = _gfile(path)
    if store.isdir(path):
      store.rmtree(path)
    elif store.exists(path):
      store.remove(path)
  elif os.path.isdir(path):
    shutil.rmtree(path)
  else:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)


# --- faults of the disk -----------------------------------------------------


def is_full(error: BaseException) -> bool:
  """Whether an error says that the disk is full."""
  return getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT) or any(
    words in str(error) for words in ('No space left', 'Disk quota exceeded')
  )


def describe_full(error: BaseException) -> str:
  """Returns what to say of a full disk: the file without room, and advice."""
  # Python's errors carry a name, TensorFlow's begin with it.
  named = re.search(r'(\S+); (No space left|Disk quota)', str(error))
  path = getattr(error, 'filename', None) or (named[1] if named else '')
  where = f': no room for {path}' if path else ''
  return (
    f'the disk is full{where}; free some space and run the same command again.'
  )


def reason(error: BaseException) -> str:
  """Returns what storage says of a failure, in a few words."""
  lines = str(error).splitlines() or [type(error).__name__]
  return getattr(error, 'strerror', None) or lines[0]
