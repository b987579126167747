"""The status of a study: what is done, who works on it, how long it will take.

What is done is what has a DONE marker, whoever made it. What runs, has failed
and how fast it goes is what the processes say (`heartbeat`). `read` and
`done_units` look at the workspace; all else is a function of what they found
and of the time, which is an argument.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from roar_tf import errors, workspace
from roar_tf.study import STAGES, heartbeat, pipeline, report_stage, train_stage
from roar_tf.study.heartbeat import Record

LOST_AFTER = 180.0
"""Seconds without a heartbeat after which a process is taken for lost. That
many times what lies between two of them: storage may be slow, clocks differ."""


@dataclasses.dataclass(frozen=True)
class Line:
  """One stage of a study.

  Attributes:
    stage: its name.
    total: how many units it has: those below add up to it.
    done: units whose artefacts are all there.
    running: others at which somebody works.
    failed: others at whose last try something went wrong.
    left: all others.
    rate: units per second of all who work; None if nothing was measured.
    seconds: that it will take; None if nothing was measured or nobody works.
  """

  stage: str
  total: int
  done: int
  running: int
  failed: int
  left: int
  rate: float | None
  seconds: float | None

  @property
  def is_done(self) -> bool:
    """Whether nothing remains."""
    return self.done == self.total


@dataclasses.dataclass(frozen=True)
class Status:
  """A study at one moment.

  Attributes:
    now: that moment, in seconds since 1970.
    lines: the stages in their order.
    alive: processes at work, the oldest first.
    lost: processes that fell silent, the newest last.
    ended: processes that said that they ended, the newest last.
    failures: of units that are not done, the newest first.
    device_hours: of all processes.
  """

  now: float
  lines: tuple[Line, ...]
  alive: tuple[Record, ...]
  lost: tuple[Record, ...]
  ended: tuple[Record, ...]
  failures: tuple[heartbeat.Failure, ...]
  device_hours: float


# --- looking at the workspace -------------------------------------------------


def read(
  place: workspace.Workspace, study: str
) -> tuple[list[Record], list[str]]:
  """Returns the heartbeats of a study, and a sentence per damaged one."""
  records, damaged = [], []
  paths = place.heartbeats(study)
  for path, data in zip(paths, workspace.read_many(paths), strict=True):
    if data is None:  # Deleted since it was listed.
      continue
    try:
      records.append(heartbeat.parse(data))
    except (ValueError, RecursionError) as e:
      name = place.relative(path)
      damaged.append(f'{name} in the workspace is left out ({e}); delete it.')
  return records, damaged


def done_units(works: Sequence[pipeline.Work]) -> dict[str, dict[str, bool]]:
  """Returns whether each unit of a study is done, by stage and name.

  It is done when all its markers are there; what they say is not read, and
  every directory is listed only once. Masked datasets that no run needs any
  more are no units.
  """
  there = workspace.Listings()
  runs = [
    train_stage.done(work.context, run) for work in works for run in work.runs
  ]
  there.look(runs)
  found = {}
  for stage in STAGES[:-1]:
    some = works
    if stage == 'shards':
      there.look(
        work.context.dataset_done(cell.name)
        for work in works
        for cell in work.cells
      )
      some = [work.without_spare_cells(there.__contains__) for work in works]
    units = pipeline.units(some, stage)
    there.look(target.done for unit in units for target in unit.targets)
    found[stage] = {
      unit.name: all(target.done in there for target in unit.targets)
      for unit in units
    }
  first = works[0].context
  study = first.experiment.study.name
  names = [str(run) for work in works for run in work.runs]
  finished = {
    name for name, marker in zip(names, runs, strict=True) if marker in there
  }
  found['report'] = {
    report_stage.unit_name(study): _is_reported(
      first.workspace.report(study), finished
    )
  }
  return found


def _is_reported(folder: str, runs: set[str]) -> bool:
  """Whether there is a report, and of all runs that have finished."""
  try:
    done = workspace.read_done(f'{folder}/{workspace.DONE}')
  except errors.DataError:
    return False  # It is made anew.
  return bool(done) and runs <= done['fingerprint']['inputs'].keys()


# --- what it means ------------------------------------------------------------


def summarise(
  units: Mapping[str, Mapping[str, bool]], records: Iterable[Record], now: float
) -> Status:
  """Returns the status of a study.

  Args:
    units: as `done_units` returns them.
    records: the heartbeats.
    now: seconds since 1970.
  """
  records = sorted(records, key=lambda r: (r.started, r.host, r.pid))
  going = [_still(units, r) for r in records if r.finished is None]
  alive = [r for r in going if now - r.updated <= LOST_AFTER]
  failures = _failures(units, records)
  return Status(
    now=now,
    lines=tuple(
      _line(stage, units[stage], records, alive, failures)
      for stage in STAGES
      if stage in units
    ),
    alive=tuple(alive),
    lost=tuple(
      sorted(
        (r for r in going if now - r.updated > LOST_AFTER),
        key=lambda r: r.updated,
      )
    ),
    ended=tuple(
      sorted(
        (r for r in records if r.finished is not None),
        key=lambda r: r.finished,
      )
    ),
    failures=tuple(failures),
    device_hours=sum(_seconds(r) * r.devices for r in records) / 3600,
  )


def _still(units, record: Record) -> Record:
  """Returns a heartbeat without units that were done since it was written."""
  current = tuple(
    row for row in record.current if not units.get(row[0], {}).get(row[1])
  )
  return dataclasses.replace(record, current=current)


def _seconds(record: Record) -> float:
  """Returns how long a process has worked, by its own clock."""
  end = record.updated if record.finished is None else record.finished
  return max(0.0, end - record.started)


def _failures(units, records) -> list[heartbeat.Failure]:
  """Returns the last failure of every unit that is not done, newest first."""
  last = {}
  for record in records:
    for failure in record.failures:
      key = failure.stage, failure.unit
      if units.get(failure.stage, {}).get(failure.unit):
        continue
      if key not in last or last[key].at < failure.at:
        last[key] = failure
  return sorted(last.values(), key=lambda failure: -failure.at)


def _line(stage, units: Mapping[str, bool], records, alive, failures) -> Line:
  todo = {name for name, done in units.items() if not done}
  running = todo & {
    unit for r in alive for at, unit, _ in r.current if at == stage
  }
  named = todo & {f.unit for f in failures if f.stage == stage}
  waiting = len(todo) - len(running)
  unnamed = sum(_unnamed(stage, record) for record in records)
  failed = min(waiting, len(named - running) + unnamed)
  left = waiting - failed
  rate = _rate(stage, records, alive)
  seconds = None
  if not todo:
    seconds = 0.0
  elif rate and alive:
    # What failed is not tried again before somebody runs the command again.
    seconds = (len(running) + left) / rate
  return Line(
    stage=stage,
    total=len(units),
    done=len(units) - len(todo),
    running=len(running),
    failed=failed,
    left=left,
    rate=rate if alive else None,
    seconds=seconds,
  )


def _unnamed(stage: str, record: Record) -> int:
  """Returns how many failures a process has counted, but no longer names."""
  if stage not in record.stages:
    return 0
  named = sum(failure.stage == stage for failure in record.failures)
  return max(0, record.stages[stage].failed - named)


def _rate(stage: str, records, alive) -> float | None:
  """Returns the units per second of all who share a stage, if measured.

  It is the mean rate of those that were measured, preferably of those still
  alive, times the number of those who are at the stage, or if nobody is of all
  who are alive and will come to it.
  """
  alive = [r for r in alive if not r.helper]
  for group in (alive, records):
    rates = [
      rate for r in group if (rate := _rate_of(r.stages.get(stage))) is not None
    ]
    if rates:
      here = [r for r in alive if r.stage == stage] or alive
      return sum(rates) / len(rates) * len(here)
  return None


def _rate_of(counts: heartbeat.Counts | None) -> float | None:
  """Returns units per second over the newest units of one process."""
  if counts is None or not counts.recent:
    return None
  begun, ended = zip(*counts.recent, strict=True)
  span = max(ended) - min(begun)
  return len(counts.recent) / span if span > 0 else None
