"""What is done, who works on the rest and how long it will take.

What is done is what has a marker, whoever made it. What runs, has failed and
how fast it goes is what the processes say (`heartbeat`). `screen` shows it.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from roar_tf.engine import files, heartbeat
from roar_tf.engine.graph import Graph
from roar_tf.engine.heartbeat import Failure, Record

LOST_AFTER = 180.0
"""Seconds without a heartbeat after which a process is taken for lost. That
many times what lies between two of them: storage may be slow, clocks differ."""


@dataclasses.dataclass(frozen=True)
class Row:
  """One stage: how many of its units are in which state.

  Attributes:
    stage: its name.
    done: units whose artefacts are all there.
    running: others at which somebody works.
    failed: others at whose last try something went wrong.
    left: all others.
    rate: units per second of all who work; None if nobody works, or nothing was
      measured.
    seconds: that it will take; None likewise.
  """

  stage: str
  done: int
  running: int
  failed: int
  left: int
  rate: float | None
  seconds: float | None

  @property
  def total(self) -> int:
    """How many units there are."""
    return self.done + self.running + self.failed + self.left

  @property
  def is_done(self) -> bool:
    """Whether nothing remains."""
    return self.done == self.total


@dataclasses.dataclass(frozen=True)
class Status:
  """The work at one moment.

  Attributes:
    now: that moment, in seconds since 1970.
    rows: the stages in their order.
    alive: processes at work; all processes in the order of their last news.
    lost: processes that fell silent or were killed.
    ended: processes that said that they ended.
    failures: the last one of each unit that is not done, the newest first.
    device_hours: of all processes.
  """

  now: float
  rows: Sequence[Row]
  alive: Sequence[Record]
  lost: Sequence[Record]
  ended: Sequence[Record]
  failures: Sequence[Failure]
  device_hours: float


def read(folder: str) -> tuple[list[Record], list[str]]:
  """Returns the heartbeats in a folder, and a sentence per damaged one."""
  names = [name for name in files.names_in(folder) if name.endswith('.json')]
  paths = [f'{folder}/{name}' for name in names]
  records, damaged = [], []
  for path, data in zip(paths, files.read_many(paths), strict=True):
    if data is None:  # Deleted since it was listed.
      continue
    try:
      records.append(heartbeat.parse(data))
    except (ValueError, RecursionError) as e:
      damaged.append(f'{path} is left out ({e}); delete it.')
  return records, damaged


def units(graph: Graph) -> dict[str, dict[str, bool]]:
  """Returns whether each unit of a graph is done, by stage and name."""
  stages = {stage: {} for stage in graph.stages}
  for node in graph.nodes:
    stages[node.unit.stage][node.unit.name] = not node.pending
  return stages


def summarise(
  units: Mapping[str, Mapping[str, bool]], records: Sequence[Record], now: float
) -> Status:
  """Returns the status of the work.

  Args:
    units: whether each unit is done, by stage and name.
    records: the heartbeats.
    now: seconds since 1970.
  """
  todo = {
    stage: {name for name, is_done in names.items() if not is_done}
    for stage, names in units.items()
  }
  processes = {'alive': [], 'lost': [], 'ended': []}
  for record in sorted(records, key=lambda record: record.updated):
    processes[_state(record, now)].append(record)
  last = {}  # By unit.
  for failure in sorted(
    (failure for record in records for failure in record.failures),
    key=lambda failure: failure.at,
  ):
    if failure.unit in todo.get(failure.stage, ()):
      last[failure.stage, failure.unit] = failure
  seconds = sum(max(0.0, r.updated - r.started) * r.devices for r in records)
  return Status(
    now=now,
    rows=[
      _row(stage, len(names), todo[stage], records, processes['alive'], last)
      for stage, names in units.items()
    ],
    **processes,
    failures=sorted(last.values(), key=lambda failure: -failure.at),
    device_hours=seconds / 3600,
  )


def _state(record: Record, now: float) -> str:
  """Returns whether a process is alive, lost or ended."""
  if record.finished is not None:
    return 'ended'
  is_silent = now - record.updated > LOST_AFTER
  return 'lost' if is_silent or heartbeat.is_gone(record) else 'alive'


def _row(
  stage: str,
  total: int,
  todo: set[str],
  records: Sequence[Record],
  alive: Sequence[Record],
  failures: Iterable[tuple[str, str]],
) -> Row:
  """Returns the row of a stage."""
  running = todo & {
    unit for record in alive for at, unit, _ in record.current if at == stage
  }
  named = {unit for at, unit in failures if at == stage} - running
  waiting = len(todo) - len(running)
  unnamed = sum(_unnamed(stage, record) for record in records)
  failed = min(waiting, len(named) + unnamed)
  left, rate = waiting - failed, _rate(stage, records, alive)
  seconds = None
  if not todo:
    seconds = 0.0
  elif rate:
    # What failed is not tried again before somebody runs the command again.
    seconds = (len(running) + left) / rate
  done = total - len(todo)
  return Row(stage, done, len(running), failed, left, rate, seconds)


def _unnamed(stage: str, record: Record) -> int:
  """Returns how many failures a process has counted, but no longer names."""
  counts = record.stages.get(stage, heartbeat.Counts())
  named = sum(failure.stage == stage for failure in record.failures)
  return max(0, counts.failed - named)


def _rate(
  stage: str, records: Sequence[Record], alive: Sequence[Record]
) -> float | None:
  """Returns the units per second of all who share a stage, if measured.

  It is the mean rate of those that were measured, preferably of those still
  alive, times the number of those who are at the stage, or if nobody is of all
  who are alive and will come to it.
  """
  workers = [record for record in alive if not record.helper]
  here = [record for record in workers if record.stage == stage] or workers
  for group in (workers, records):
    rates = [
      rate
      for record in group
      if (rate := record.stages.get(stage, heartbeat.Counts()).rate())
    ]
    if rates and here:
      return sum(rates) / len(rates) * len(here)
  return None
