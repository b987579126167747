"""Progress of long work: bars in a terminal, log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable

import tqdm

_log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that inner work may take before it gets a bar of its own."""
LOG_EVERY = 60.0
"""Seconds between log lines of inner work."""


def bar(total: int, what: str, unit: str, inner: bool = False) -> tqdm.tqdm:
  """Returns a progress bar with rate and remaining time, a context manager.

  Args:
    total: how many units of work there are.
    what: what is being done.
    unit: what is counted.
    inner: whether it is part of a unit of another bar; it is then shown only
      if it takes a while, and disappears when it is done.
  """
  return tqdm.tqdm(
    total=total,
    desc=what,
    unit=f' {unit}',
    leave=not inner,
    delay=PATIENCE if inner else 0,
    disable=not sys.stderr.isatty(),
    dynamic_ncols=True,
  )


def logged(bar_: tqdm.tqdm, what: str) -> Callable[[int], None]:
  """Returns a function that advances a bar, and the log where it is hidden."""
  done, last = 0, time.monotonic()

  def advance(count: int) -> None:
    nonlocal done, last
    done += count
    bar_.update(count)
    if bar_.disable and time.monotonic() - last > LOG_EVERY:
      last = time.monotonic()
      _log.info('%s: %d of %d', what, done, bar_.total)

  return advance


def say(text: str) -> None:
  """Prints a line on stdout, without breaking a bar on the same terminal."""
  with tqdm.tqdm.external_write_mode():
    print(text, flush=True)
