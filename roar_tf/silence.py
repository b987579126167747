"""Silence of what C++ code writes to the process's stderr itself."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def silent() -> Iterator[None]:
  """Sends what is written to stderr to nowhere; errors still raise."""
  sys.stderr.flush()
  saved = os.dup(2)
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(saved, 2)
    os.close(saved)
    os.close(nowhere)
