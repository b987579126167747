"""Files on local disks and on object stores: read, published, listed, removed.

Every module that touches storage calls these functions. Local paths go through
`os`; URLs of object stores go through `tf.io.gfile`, and TensorFlow is imported
when the first URL is met.

*Publication:* a file appears under its name complete or not at all. It is
written aside, and then renamed on a local disk, or uploaded as one object to an
object store. What lies on a local disk when a file named DONE appears there is
still there after a power failure.
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
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence

from roar_tf import errors

# Before TensorFlow is imported, which would take for five seconds what it knew
# of an object for true, although others write it.
os.environ.setdefault('GCS_STAT_CACHE_MAX_AGE', '0')

ASIDE = re.compile(r'.+\.tmp-[0-9a-f]{32}')
"""Names of what `publishing` writes aside."""
STORES = ('gs://', 's3://')
"""What URLs of object stores begin with."""
URL = re.compile(r'[A-Za-z][\w+.-]*://')
_REQUESTS = 16
"""Requests side by side: an object store answers each after a while."""


# --- paths ------------------------------------------------------------------


def is_remote(path: str) -> bool:
  """Whether a path is on an object store.

  Raises:
    UsageError: it is a URL of something else. What is written there might be
      seen half written.
  """
  if path.startswith(STORES):
    return True
  if URL.match(path):
    raise errors.UsageError(f'{path} {NO_STORE}')
  return False


NO_STORE = (
  'is no local path and no URL of an object store, which begins with gs:// or, '
  'where an `import` line of gin brings it, with s3://.'
)


def gfile(path: str):
  """Returns `tf.io.gfile`, which serves URLs.

  Raises:
    UsageError: TensorFlow is not installed, or does not know such URLs.
  """
  try:
    import tensorflow as tf
  except ModuleNotFoundError as e:
    raise errors.UsageError(
      f'{path} is a URL, which TensorFlow opens: install roar_tf[cpu], '
      'roar_tf[cuda] or roar_tf[tpu].'
    ) from e
  scheme = path.partition('://')[0]
  if scheme not in tf.io.gfile.get_registered_schemes():
    raise errors.UsageError(
      f'{path}: TensorFlow opens no {scheme}:// as it is installed here; '
      'install what brings it (tensorflow-io for s3) and add its `import` line '
      'to a --gin_file, or use gs:// or a local directory.'
    )
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
    return gfile(path).exists(path)
  return os.path.exists(path)


def is_directory(path: str) -> bool:
  """Whether there is such a directory."""
  if is_remote(path):
    return gfile(path).isdir(path)
  return os.path.isdir(path)


def names_in(path: str) -> list[str]:
  """Returns what a directory holds, sorted; nothing if it is not there."""
  try:
    names = gfile(path).listdir(path) if is_remote(path) else os.listdir(path)
  except missing_errors():
    return []
  # Object stores end the names of directories in a slash.
  return sorted(name.rstrip('/') for name in names)


def walk(path: str) -> Iterator[str]:
  """Yields the paths of all files below a directory."""
  walking = gfile(path).walk(path) if is_remote(path) else os.walk(path)
  for folder, _, names in walking:
    yield from (f'{folder.rstrip("/")}/{name}' for name in names)


def size(path: str) -> int:
  """Returns the bytes of a file."""
  if is_remote(path):
    return gfile(path).stat(path).length
  return os.stat(path).st_size


def modified(path: str) -> float:
  """Returns when a file was written last, in seconds since 1970."""
  if is_remote(path):
    return gfile(path).stat(path).mtime_nsec / 1e9
  return os.stat(path).st_mtime


# --- reading ----------------------------------------------------------------


def opened(path: str):
  """Opens a file to read its bytes, as the built-in `open` does."""
  return gfile(path).GFile(path, 'rb') if is_remote(path) else open(path, 'rb')


def read(path: str) -> bytes:
  """Returns the content of a file."""
  with opened(path) as file:
    # TensorFlow would read as much as there was some seconds ago.
    return b''.join(_blocks(file)) if is_remote(path) else file.read()


def _blocks(file) -> Iterator[bytes]:
  while block := file.read(1 << 20):
    yield block


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
  except (ValueError, RecursionError) as e:
    raise errors.DataError(
      f'{path} is damaged ({e}); delete its directory and run the same command '
      'again.'
    ) from e


def sha256(path: str) -> str:
  """Returns the SHA-256 of a file, in hexadecimal."""
  digest = hashlib.sha256()
  with opened(path) as file:
    for block in _blocks(file):
      digest.update(block)
  return digest.hexdigest()


def checksums(directory: str, names: Iterable[str]) -> dict[str, str]:
  """Returns the SHA-256 of some files of a directory, by name."""
  return {name: sha256(f'{directory}/{name}') for name in names}


# --- writing ----------------------------------------------------------------


def make_directory(path: str) -> None:
  """Creates a directory and those above it; object stores need none."""
  if not is_remote(path):
    os.makedirs(path or '.', exist_ok=True)


@contextlib.contextmanager
def publishing(path: str, commits: bool = False) -> Iterator[str]:
  """Yields a local name to write to; the file appears when all went well.

  Two workers that publish the same path both succeed, and since units are pure
  functions of their inputs they publish the same bytes.

  Args:
    path: where the file appears.
    commits: whether it says that other files of its folder are there: these
      then outlive a power failure if it does.
  """
  folder, name = os.path.split(path)
  if is_remote(path):
    with tempfile.TemporaryDirectory() as local:
      aside = os.path.join(local, name)
      yield aside
      gfile(path).copy(aside, path, overwrite=True)
    return
  make_directory(folder)
  aside = f'{path}.tmp-{uuid.uuid4().hex}'
  try:
    yield aside
    _sync(aside)
    if commits:
      _sync(folder)
    os.replace(aside, path)
    if commits:
      _sync(folder)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(aside)


def _sync(path: str) -> None:
  """Has a local file, or the names in a directory, reach the disk."""
  handle = os.open(path or '.', os.O_RDONLY)
  try:
    os.fsync(handle)
  except OSError as e:  # Some network file systems know no such call.
    if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
      raise
  finally:
    os.close(handle)


def publish(path: str, data: bytes, commits: bool = False) -> None:
  """Publishes `data` at `path`; see `publishing`."""
  with publishing(path, commits) as name, open(name, 'wb') as file:
    file.write(data)


def publish_first(path: str, data: bytes) -> bytes:
  """Publishes `data` at a local path unless there is a file already.

  Returns:
    What is there: the data of whoever came first, for all who do this at once.
  """
  aside = f'{path}.tmp-{uuid.uuid4().hex}'
  publish(aside, data)
  try:
    os.link(aside, path)
  except FileExistsError:
    pass
  except OSError:  # The file system has no links.
    if not os.path.exists(path):
      os.replace(aside, path)
  finally:
    remove(aside)
  return read(path)


def publish_json(path: str, value) -> None:
  """Publishes a value as readable JSON with sorted keys."""
  publish(path, as_json(value))


def as_json(value) -> bytes:
  """Returns a value as readable JSON with sorted keys."""
  return (json.dumps(value, indent=1, sort_keys=True) + '\n').encode()


def remove(path: str) -> None:
  """Removes a file or a directory tree if it is there."""
  if is_remote(path):
    store = gfile(path)
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
