"""Heartbeats: what a process at work tells those who look at the work.

Each process has one small file of its own and rewrites it as a whole every few
seconds, so that it works on object stores too, and nobody waits for anybody.
The work only notes what it begins and ends; a thread writes, also while a unit
takes hours. What goes wrong with the file is logged once and never reaches the
work.

All times are seconds since 1970 by the clock of the process.
"""

import dataclasses
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable

from roar_tf import errors
from roar_tf.engine import files, schema
from roar_tf.engine.unit import FAILED, KEPT, MADE, MISSING, Outcome

_log = logging.getLogger(__name__)

VERSION = 1
"""Of the file's format."""
EVERY = 10.0
"""Seconds between two writes."""
RECENT = 100
"""Units per stage whose times are kept, the newest: they give its rate."""
FAILURES = 20
"""Failures that are kept, the newest, but causes before their consequences."""
MOST_TEXT = 1000
"""Characters of a failure that are kept."""


@dataclasses.dataclass(frozen=True)
class Failure:
  """A unit that failed.

  Attributes:
    stage: its stage.
    unit: its name.
    at: when.
    text: its name and what went wrong.
    missing: whether only its inputs were missing.
  """

  stage: str
  unit: str
  at: float
  text: str
  missing: bool


@dataclasses.dataclass
class Counts:
  """What a process did of one stage.

  Attributes:
    made: units that it made.
    kept: units that were finished before.
    failed: units that failed.
    seconds: spent in the units made, summed over those side by side.
    recent: (begun, ended) of the newest units made.
  """

  made: int = 0
  kept: int = 0
  failed: int = 0
  seconds: float = 0.0
  recent: list[tuple[float, float]] = dataclasses.field(default_factory=list)

  def rate(self) -> float | None:
    """Returns units per second over the newest ones, if that was measured."""
    if not self.recent:
      return None
    begun, ended = zip(*self.recent, strict=True)
    span = max(ended) - min(begun)
    return len(self.recent) / span if span > 0 else None


@dataclasses.dataclass
class Record:
  """A heartbeat's content: the fields are the keys of the JSON file.

  Attributes:
    host: name of the machine.
    pid: number of the process on it.
    started: when the process started.
    updated: when this was written.
    finished: when it ended; None while it works.
    reason: how it ended; empty while it works.
    machine: what tells the processes of its machine from those of others; empty
      where nothing does.
    worker: which of the workers that share the units it is.
    num_workers: how many there are.
    devices: how many devices it uses, of its own machine.
    helper: whether it only takes part in units that another process counts.
    stage: what it is at; empty before the first unit.
    current: (stage, unit, begun) of what runs now.
    stages: what it did, by stage.
    failures: the newest failures; `stages` counts all.
  """

  host: str
  pid: int
  started: float
  updated: float
  finished: float | None = None
  reason: str = ''
  machine: str = ''
  worker: int = 0
  num_workers: int = 1
  devices: int = 1
  helper: bool = False
  stage: str = ''
  current: list[tuple[str, str, float]] = dataclasses.field(
    default_factory=list
  )
  stages: dict[str, Counts] = dataclasses.field(default_factory=dict)
  failures: list[Failure] = dataclasses.field(default_factory=list)


def parse(data: bytes) -> Record:
  """Returns what a heartbeat says.

  Raises:
    ValueError: it is damaged, or of another version; the message says how.
  """
  value = json.loads(data)
  version = value.get('version') if isinstance(value, dict) else None
  if version != VERSION:
    raise ValueError(f'it is of version {version!r}, not {VERSION}')
  return schema.parse(value, Record, 'a heartbeat')


def is_gone(record: Record) -> bool:
  """Whether a process was one of this machine, and is there no more."""
  if not record.machine or record.machine != _machine():
    return False
  try:
    os.kill(record.pid, 0)
  except PermissionError:  # Somebody else's.
    return False
  except (ProcessLookupError, OverflowError):
    return True
  return False


def _machine() -> str:
  """Returns what processes share that see each other under their numbers."""
  try:
    boot = files.read('/proc/sys/kernel/random/boot_id').decode().strip()
    return f'{boot} {os.stat("/proc/self/ns/pid").st_ino}'
  except OSError:  # It is no Linux.
    return ''


class Heartbeat:
  """Writes a process's heartbeat while it is used as a context manager.

  An observer (see `scheduler.Observer`), one a process; any thread may tell it,
  also on behalf of work elsewhere.

  Attributes:
    path: its file.
  """

  def __init__(
    self,
    folder: str,
    *,
    worker: int = 0,
    num_workers: int = 1,
    every: float = EVERY,
    clock: Callable[[], float] = time.time,
  ):
    """Describes this process; nothing is written before it is entered.

    Args:
      folder: the directory of the heartbeats of all who share the work.
      worker: see `Record`.
      num_workers: see `Record`.
      every: seconds between two writes.
      clock: returns the seconds since 1970.
    """
    host = socket.gethostname()
    process = f'{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}'
    self.path = folder + '/' + re.sub(r'[^\w.-]', '_', process) + '.json'
    self._every, self._clock = every, clock
    self._record = Record(
      host,
      os.getpid(),
      started=clock(),
      updated=clock(),
      machine=_machine(),
      worker=worker,
      num_workers=num_workers,
    )
    self._current: dict[tuple[str, str], float] = {}
    self._lock = threading.Lock()  # Of everything above; never while writing.
    self._ending = threading.Event()
    self._warned = False
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def plan(self, stage: str, units: int) -> None:
    """What there is to do is seen from the markers."""

  def uses(self, devices: int, helps: bool) -> None:
    """See `scheduler.Observer`."""
    with self._lock:
      self._record.devices, self._record.helper = devices, helps

  def begin(self, stage: str, unit: str) -> None:
    """See `scheduler.Observer`."""
    with self._lock:
      self._record.stage = stage
      self._current[stage, unit] = self._now()

  def end(self, stage: str, unit: str, outcome: Outcome) -> None:
    """See `scheduler.Observer`."""
    now = self._now()
    with self._lock:
      begun = round(now - outcome.seconds, 3)  # Unless it was told.
      begun = self._current.pop((stage, unit), begun)
      counts = self._record.stages.setdefault(stage, Counts())
      if outcome.state == KEPT:
        counts.kept += 1
      elif outcome.state == MADE:
        counts.made += 1
        counts.seconds += now - begun
        counts.recent.append((begun, now))
        del counts.recent[:-RECENT]
      elif outcome.state in (FAILED, MISSING):
        counts.failed += 1
        text, missing = outcome.failure[:MOST_TEXT], outcome.state == MISSING
        failures = self._record.failures
        failures.insert(0, Failure(stage, unit, now, text, missing))
        failures.sort(key=lambda failure: failure.missing)
        del failures[FAILURES:]

  def _now(self) -> float:
    return round(self._clock(), 3)  # Files stay small.

  def __enter__(self) -> 'Heartbeat':
    self._thread.start()
    return self

  def __exit__(self, kind, error, trace) -> None:
    with self._lock:
      self._current.clear()
      self._record.finished = self._now()
      self._record.reason = _reason(error)
    self._ending.set()
    # The thread writes the end too. Storage that hangs must not hold us up.
    self._thread.join(self._every)

  def _beat(self) -> None:
    ending = False
    while not ending:
      self._write()
      ending = self._ending.wait(self._every)
    self._write()

  def _write(self) -> None:
    try:
      files.publish(self.path, self._content())
    except Exception as e:  # Whatever it is, the work goes on.
      if not self._warned:
        self._warned = True
        _log.warning(
          '%s cannot be written (%s): --status will not show this process; '
          'the work goes on.',
          self.path,
          str(e).splitlines()[0] if str(e) else type(e).__name__,
        )

  def _content(self) -> bytes:
    with self._lock:
      self._record.updated = self._now()
      self._record.current = [
        (*unit, begun) for unit, begun in self._current.items()
      ]
      value = {'version': VERSION, **dataclasses.asdict(self._record)}
    return (json.dumps(value) + '\n').encode()


def _reason(error: BaseException | None) -> str:
  """Returns how a process ended, in a few words."""
  if error is None:
    return 'all done'
  if isinstance(error, errors.PreemptedError):
    return 'stopped by a signal'
  if isinstance(error, errors.UnitsFailedError):
    return 'some units failed'
  lines = str(error).splitlines() or ['']
  return f'{type(error).__name__}: {lines[0]}'[:MOST_TEXT]
