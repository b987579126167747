"""Heartbeats: what a process at work tells those who look at the work.

Each process rewrites one small file of its own every few seconds, so that it
works on object stores too, and nobody waits for anybody. A thread writes, also
while a unit takes hours. What goes wrong with it never reaches the work.

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
import typing
import uuid

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.engine.scheduler import Share
from roar_tf.engine.unit import MADE, MISSING, Outcome

_log = logging.getLogger(__name__)

VERSION = 2
"""Of the file's format."""
EVERY = 10.0
"""Seconds between two writes."""
LOST_AFTER = 180.0
"""Seconds of silence of a lost process: storage may be slow, clocks differ."""
FAILURES = 20
"""Failures that are kept, the newest, but causes before their consequences."""
MOST_TEXT = 1000
"""Characters of a failure that are kept."""


@dataclasses.dataclass(frozen=True)
class Event:
  """A unit began or, if a text says why, failed: `missing` only its inputs."""

  stage: str
  unit: str
  at: float
  text: str = ''
  missing: bool = False


@dataclasses.dataclass
class Counts:
  """Units of a stage that were made, the seconds in them, and units failed."""

  made: int = 0
  seconds: float = 0.0
  failed: int = 0


@dataclasses.dataclass
class Record:
  """What one process says of itself: the keys of the JSON file.

  Attributes:
    host: name of its machine.
    pid: its number there.
    machine: what tells the processes of its machine from those of others; empty
      where nothing does.
    started: when it started.
    updated: when this was written.
    reason: how it ended; empty while it works.
    worker: which of the workers that share the units it is.
    num_workers: how many there are.
    devices: how many devices it uses, of its own machine.
    current: the units that run.
    stages: what it did, by stage.
    failures: the newest ones; `stages` counts all.
  """

  host: str
  pid: int
  machine: str
  started: float
  updated: float
  reason: str = ''
  worker: int = 0
  num_workers: int = 1
  devices: int = 1
  current: list[Event] = dataclasses.field(default_factory=list)
  stages: dict[str, Counts] = dataclasses.field(default_factory=dict)
  failures: list[Event] = dataclasses.field(default_factory=list)

  def state(self, now: float) -> str:
    """Returns whether the process is 'alive', 'lost' or 'ended'."""
    if self.reason:
      return 'ended'
    # Without /proc/1, processes of others cannot be seen there.
    sees = self.machine == _machine() != '' and os.path.exists('/proc/1')
    is_gone = sees and not os.path.exists(f'/proc/{self.pid}')
    return 'lost' if is_gone or now - self.updated > LOST_AFTER else 'alive'


def parse(data: bytes) -> Record:
  """Returns what a heartbeat says.

  Raises:
    ValueError: it is damaged, or of another version; the message says how.
  """
  value = json.loads(data)
  version = value.get('version') if isinstance(value, dict) else None
  if version != VERSION:
    raise ValueError(f'it is of version {version!r:.60}, not {VERSION}')
  return _checked(value, Record, 'heartbeat')


def _checked(value, hint, name: str):
  """Returns a JSON value as what a type hint of `Record` asks for.

  Raises:
    ValueError: it is something else, or a number that is negative or too large.
  """
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if dataclasses.is_dataclass(hint) and type(value) is dict:
    hints = typing.get_type_hints(hint)
    if lacking := sorted(hints.keys() - value.keys()):
      raise ValueError(f'it lacks {lacking[0]}')
    return hint(**{key: _checked(value[key], hints[key], key) for key in hints})
  if origin is list and type(value) is list:
    return [_checked(item, arguments[0], name) for item in value]
  if origin is dict and type(value) is dict:
    return {k: _checked(item, arguments[1], k) for k, item in value.items()}
  is_of_type = type(value) is hint or (hint is float and type(value) is int)
  is_number = hint in (int, float)
  if not is_of_type or is_number and not 0 <= value < 1 << 53:
    raise ValueError(f'it has {value!r:.60} as {name}')
  return hint(value)


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
  also on behalf of work elsewhere. `path` is its file.
  """

  def __init__(self, folder: str, share: Share):
    """Describes this process; nothing is written before it is entered.

    Args:
      folder: the directory of the heartbeats of all who share the work.
      share: which units are this process's.
    """
    host, pid, now = socket.gethostname(), os.getpid(), time.time()
    name = re.sub(r'[^\w.-]', '_', f'{host}-{pid}-{uuid.uuid4().hex[:8]}')
    self.path = f'{folder}/{name}.json'
    self._record = Record(host, pid, _machine(), now, now)
    self._record.worker, self._record.num_workers = share.worker, share.workers
    self._lock = threading.Lock()  # Of the record; never while writing.
    self._ending = threading.Event()
    self._warned = False
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def plan(self, stage: str, units: int) -> None:
    """What there is to do is seen from the markers."""

  def uses(self, devices: int) -> None:
    """See `scheduler.Observer`."""
    with self._lock:
      self._record.devices = devices

  def begin(self, stage: str, unit: str) -> None:
    """See `scheduler.Observer`."""
    with self._lock:
      self._record.current.append(Event(stage, unit, time.time()))

  def end(self, stage: str, unit: str, outcome: Outcome) -> None:
    """See `scheduler.Observer`."""
    record, key, now = self._record, (stage, unit), time.time()
    with self._lock:
      others = [e for e in record.current if (e.stage, e.unit) != key]
      record.current = others
      counts = record.stages.setdefault(stage, Counts())
      if outcome.state == MADE:
        counts.made += 1
        counts.seconds += outcome.seconds
      elif outcome.failure:
        counts.failed += 1
        text, missing = outcome.failure[:MOST_TEXT], outcome.state == MISSING
        record.failures.insert(0, Event(stage, unit, now, text, missing))
        record.failures.sort(key=lambda failure: failure.missing)
        del record.failures[FAILURES:]

  def __enter__(self) -> 'Heartbeat':
    self._thread.start()
    return self

  def __exit__(self, kind, error, trace) -> None:
    with self._lock:
      self._record.current = []
      self._record.reason = _reason(error)
    self._ending.set()
    # The thread writes the end too. Storage that hangs must not hold us up.
    self._thread.join(EVERY)

  def _beat(self) -> None:
    self._write()
    while not self._ending.wait(EVERY):
      self._write()
    self._write()

  def _write(self) -> None:
    with self._lock:
      self._record.updated = time.time()
      value = {'version': VERSION, **dataclasses.asdict(self._record)}
    try:
      files.publish(self.path, (json.dumps(value) + '\n').encode())
    except Exception as e:  # Whatever it is, the work goes on.
      if not self._warned:
        self._warned = True
        _log.warning(
          '%s cannot be written, so --status does not show this process: %s',
          self.path,
          errors.describe(e),
        )


def _reason(error: BaseException | None) -> str:
  """Returns how a process ended, in a few words."""
  if error is None:
    return 'all done'
  if isinstance(error, errors.PreemptedError):
    return 'stopped by a signal'
  if isinstance(error, errors.UnitsFailedError):
    return 'some units failed'
  return f'{type(error).__name__}: {error}'.splitlines()[0][:MOST_TEXT]
