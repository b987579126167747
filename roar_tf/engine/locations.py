"""What users call paths: a home, a local file, the URL of an object store."""

import os
import re
import threading

from roar_tf import errors
from roar_tf.engine import files

PATIENCE = 60.0
"""Seconds in which an object store must give its first answer."""
_UNUSABLE = re.compile('[\0\n\r\ud800-\udfff]')
_reached: set[str] = set()
_REMEDY = (
  'check the name, the network, and the credentials ("gcloud auth '
  'application-default login", or the variable GOOGLE_APPLICATION_CREDENTIALS).'
)


def located(path: str, what: str) -> str:
  """Returns what a user calls a path as all other functions take it.

  A `~` is expanded, and file:///x is /x.

  Args:
    path: a local path or a URL.
    what: what the message calls the flag or gin parameter that it is from.

  Raises:
    UsageError: it cannot be a path here.
  """
  if path.startswith('file:///'):
    path = path.removeprefix('file://')
  found = os.path.expanduser(path)
  if _UNUSABLE.search(found):
    raise errors.UsageError(
      f'{what}={path!r} holds a line break, or is not UTF-8; rename it.'
    )
  if files.URL.match(found) and not found.startswith(files.STORES):
    raise errors.UsageError(f'{what}={path} {files.NO_STORE}')
  if found in files.STORES:
    raise errors.UsageError(f'{what}={path} names no bucket.')
  if found.startswith('~'):
    raise errors.UsageError(
      f'{what}={path}: there is no user {found[1:].partition("/")[0]} whose '
      'home it could be in; write ./~ for a file that is called so.'
    )
  return found


def whole(path: str) -> str:
  """Returns a path from the root of the file system on, or a URL as it is."""
  return path if files.is_remote(path) else os.path.abspath(path)


def check_reachable(path: str, what: str) -> None:
  """Has an object store answer once; local paths need no answer.

  Args:
    path: a local path or a URL.
    what: see `located`.

  Raises:
    UsageError: it does not answer, or refuses.
  """
  bucket = '/'.join(path.split('/')[:3])
  if not files.is_remote(path) or bucket in _reached:
    return
  try:
    files.gfile(path)  # Imports TensorFlow, for which no store can be blamed.
  except errors.UsageError as e:
    raise errors.UsageError(f'{what}={e}') from e  # It begins with the path.
  answers: list[Exception | None] = []

  def ask() -> None:
    try:
      files.exists(path)
      answers.append(None)
    except Exception as e:
      answers.append(e)

  # TensorFlow tries for many minutes, and cannot be interrupted.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(PATIENCE)
  if not answers:
    why = f'no answer within {PATIENCE:.0f} seconds'
  elif answers[0] is None:
    _reached.add(bucket)
    return
  else:
    why = files.reason(answers[0])
  raise errors.UsageError(f'{what}={path} cannot be reached ({why}): {_REMEDY}')
