"""Heartbeats: what a process at work tells those who look at its study.

Each process has one small file of its own below `status/` in the workspace and
rewrites it as a whole every few seconds, so that it works on object stores too,
and nobody waits for anybody. The work only notes what it begins and ends; a
thread writes, also while a unit takes hours. What goes wrong with the file is
logged once and never reaches the work.

All times are seconds since 1970 by the clock of the process.
"""

import collections
import dataclasses
import json
import logging
import math
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable

from roar_tf import errors, workspace

_log = logging.getLogger(__name__)

VERSION = 1
"""Of the file's format."""
EVERY = 10.0
"""Seconds between two writes."""
RECENT = 20
"""Units per stage whose times are kept, the newest: they give its rate."""
FAILURES = 20
"""Failures that are kept, the newest."""
MISSING = 5
"""Likewise, of units that lacked inputs: they must not displace the causes."""
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


@dataclasses.dataclass(frozen=True)
class Counts:
  """What a process did of one stage.

  Attributes:
    made: units worked on.
    kept: units found finished.
    failed: units that failed.
    seconds: spent in the units made, summed over those side by side.
    recent: (begun, ended) of the newest units made.
  """

  made: int
  kept: int
  failed: int
  seconds: float
  recent: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Record:
  """A heartbeat's content.

  Attributes:
    host: name of the machine.
    pid: number of the process on it.
    worker: its --worker.
    num_workers: its --num_workers.
    devices: how many devices it uses, of its own machine.
    helper: whether it only takes part in units that another process counts.
    started: when the process started.
    updated: when this was written.
    finished: when it ended; None while it works.
    reason: how it ended; empty while it works.
    stage: what it is at; empty before the first unit.
    current: (stage, unit, begun) of what runs now.
    stages: what it did, by stage.
    failures: the newest failures; `stages` counts all.
  """

  host: str
  pid: int
  worker: int
  num_workers: int
  devices: int
  helper: bool
  started: float
  updated: float
  finished: float | None
  reason: str
  stage: str
  current: tuple[tuple[str, str, float], ...]
  stages: dict[str, Counts]
  failures: tuple[Failure, ...]


class Heartbeat:
  """Writes a process's heartbeat while it is used as a context manager.

  One per process; `begin` and `end` may be called from any thread, and by a
  driver on behalf of tasks elsewhere.
  """

  def __init__(
    self,
    place: workspace.Workspace,
    study: str,
    *,
    worker: int = 0,
    num_workers: int = 1,
    every: float = EVERY,
    clock: Callable[[], float] = time.time,
  ):
    """Describes this process; nothing is written before it is entered.

    Args:
      place: the workspace.
      study: name of the study.
      worker: see `Record`.
      num_workers: see `Record`.
      every: seconds between two writes.
      clock: returns the seconds since 1970.
    """
    host = socket.gethostname()
    process = f'{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}'
    self.path = place.heartbeat(study, re.sub(r'[^\w.-]', '_', process))
    self._every, self._clock = every, clock
    self._facts = {
      'version': VERSION,
      'study': study,
      'host': host,
      'pid': os.getpid(),
      'worker': worker,
      'num_workers': num_workers,
      'devices': 1,
      'helper': False,
      'started': clock(),
      'finished': None,
      'reason': '',
      'stage': '',
    }
    self._current = {}
    self._stages = {}
    self._failures = {
      missing: collections.deque(maxlen=most)
      for missing, most in ((False, FAILURES), (True, MISSING))
    }
    self._lock = threading.Lock()  # Of everything above; never while writing.
    self._ending = threading.Event()
    self._warned = False
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def uses(self, devices: int, helper: bool = False) -> None:
    """Notes how many devices are used, and by whom; see `Record`."""
    with self._lock:
      self._facts |= {'devices': devices, 'helper': helper}

  def begin(self, stage: str, unit: str) -> None:
    """Notes that a unit begins."""
    now = self._clock()
    with self._lock:
      self._facts['stage'] = stage
      self._current[stage, unit] = now

  def end(self, stage: str, unit: str, kind: str, failure: str = '') -> None:
    """Notes what became of a unit that had begun.

    Args:
      stage: its stage.
      unit: its name.
      kind: `made`, `kept`, `left` (to another), `failed`, `missing` (inputs).
      failure: a sentence, if it failed.
    """
    now = self._clock()
    with self._lock:
      begun = self._current.pop((stage, unit), now)
      if stage not in self._stages:
        recent = collections.deque(maxlen=RECENT)
        self._stages[stage] = Counts(0, 0, 0, 0.0, recent)
      old, failed = self._stages[stage], kind in ('failed', 'missing')
      made = kind == 'made'
      self._stages[stage] = dataclasses.replace(
        old,
        made=old.made + made,
        kept=old.kept + (kind == 'kept'),
        failed=old.failed + failed,
        seconds=old.seconds + (now - begun if made else 0.0),
      )
      if made:
        old.recent.append((begun, now))
      if failed:
        missing, text = kind == 'missing', failure[:MOST_TEXT]
        self._failures[missing].append(Failure(stage, unit, now, text, missing))

  def __enter__(self) -> 'Heartbeat':
    self._thread.start()
    return self

  def __exit__(self, kind, error, trace) -> None:
    with self._lock:
      self._current.clear()
      self._facts |= {'finished': self._clock(), 'reason': _reason(error)}
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
      workspace.write_atomic(self.path, self._content())
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
      stages = {
        name: {**vars(counts), 'recent': list(counts.recent)}
        for name, counts in self._stages.items()
      }
      value = {
        **self._facts,
        'updated': self._clock(),
        'current': [[*name, begun] for name, begun in self._current.items()],
        'stages': stages,
        'failures': [
          vars(failure) for some in self._failures.values() for failure in some
        ],
      }
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


# --- reading ------------------------------------------------------------------


def parse(data: bytes) -> Record:
  """Returns what a heartbeat says.

  Raises:
    ValueError: it is damaged, or of another version; the message says how.
  """
  value = json.loads(data)
  if not isinstance(value, dict):
    raise ValueError('it is no JSON object')
  if value.get('version') != VERSION:
    raise ValueError(
      f'it is of version {value.get("version")!r}, not {VERSION}'
    )
  text, count, moment = str, int, float
  finished = value.get('finished')
  return Record(
    host=_get(value, 'host', text),
    pid=_get(value, 'pid', count),
    worker=_get(value, 'worker', count),
    num_workers=_get(value, 'num_workers', count),
    devices=_get(value, 'devices', count),
    helper=_get(value, 'helper', bool),
    started=_get(value, 'started', moment),
    updated=_get(value, 'updated', moment),
    finished=None if finished is None else _get(value, 'finished', moment),
    reason=_get(value, 'reason', text),
    stage=_get(value, 'stage', text),
    current=tuple(
      _row(row, text, text, moment) for row in _get(value, 'current', list)
    ),
    stages={
      name: Counts(
        made=_get(counts, 'made', count),
        kept=_get(counts, 'kept', count),
        failed=_get(counts, 'failed', count),
        seconds=_get(counts, 'seconds', moment),
        recent=tuple(
          _row(row, moment, moment) for row in _get(counts, 'recent', list)
        ),
      )
      for name, counts in _get(value, 'stages', dict).items()
    },
    failures=tuple(
      Failure(
        stage=_get(failure, 'stage', text),
        unit=_get(failure, 'unit', text),
        at=_get(failure, 'at', moment),
        text=_get(failure, 'text', text),
        missing=_get(failure, 'missing', bool),
      )
      for failure in _get(value, 'failures', list)
    ),
  )


def _get(value, name: str, kind: type):
  if not isinstance(value, dict) or name not in value:
    raise ValueError(f'it lacks {name}')
  return _checked(value[name], name, kind)


def _row(values, *kinds: type) -> tuple:
  if not isinstance(values, list) or len(values) != len(kinds):
    raise ValueError(f'it has {values!r} in a list of {len(kinds)} columns')
  return tuple(
    _checked(v, 'a list', kind) for v, kind in zip(values, kinds, strict=True)
  )


def _checked(value, name: str, kind: type):
  """Returns a value of a kind; numbers are finite and not negative."""
  if kind is float and type(value) is int and abs(value) < 1 << 53:
    value = float(value)
  if type(value) is not kind:
    raise ValueError(f'it has {value!r} as {name}')
  if kind in (int, float) and not (math.isfinite(value) and value >= 0):
    raise ValueError(f'it has {value!r} as {name}')
  return value
