"""What is done, who works on the rest and how long it will take: one screen.

What is done is what has a marker, whoever made it. What runs, has failed and
how long units take is what the processes say (`heartbeat`).
"""

import collections
import textwrap
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from roar_tf.engine import files, heartbeat, locations
from roar_tf.engine.graph import Graph
from roar_tf.engine.heartbeat import Counts, Event, Record
from roar_tf.engine.storage import Snapshot
from roar_tf.engine.unit import Artefact

WIDTH = 80
SHOWN = {'alive': 6, 'lost': 3, 'ended': 3}
"""Processes that are shown of each state."""
MOST_FAILURES = 3
MOST_LINES = 3
"""Of one failure, or of whatever is longer than a line."""

_STATES = 'done', 'running', 'failed', 'left'
_COLUMNS = '{:6} {:>9} {:>8} {:>8} {:>9} {:>9} {:>12} {:>12}'


def show(
  title: str,
  root: str,
  folder: str,
  goals: Iterable[Artefact],
  price: float | None = None,
) -> str:
  """Returns how far some goals are at this moment, in lines of 80 columns.

  Args:
    title: what the work is called.
    root: the directory below which all artefacts lie.
    folder: the directory of the heartbeats.
    goals: artefacts that were asked for.
    price: of an hour of a device.
  """
  # Before the markers: what ends meanwhile is shown as done.
  records, damaged = read(folder)
  now = time.time()
  graph = Graph(goals, Snapshot(root), checks=False)
  units = {stage: {} for stage in graph.stages}
  for node in graph.nodes:
    units[node.unit.stage][node.unit.name] = not node.pending
  moment = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))
  head = [f'{title}, {moment}', f'in {locations.whole(root)}', '']
  return '\n'.join([*head, text(units, records, now, damaged, price)])


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


def text(
  units: Mapping[str, Mapping[str, bool]],
  records: Sequence[Record],
  now: float,
  damaged: Sequence[str] = (),
  price: float | None = None,
) -> str:
  """Returns the status of some work as text.

  Args:
    units: whether each unit is done, by stage and name.
    records: what the processes say.
    now: seconds since 1970.
    damaged: sentences about heartbeats that could not be read.
    price: of an hour of a device.
  """
  processes = {'alive': [], 'lost': [], 'ended': []}
  for record in sorted(records, key=lambda record: -record.updated):
    processes[record.state(now)].append(record)
  alive = processes['alive']
  running = {(e.stage, e.unit) for record in alive for e in record.current}
  failures = {}  # The last one of each unit that is not done.
  events = (failure for record in records for failure in record.failures)
  for failure in sorted(events, key=lambda failure: failure.at):
    if not units.get(failure.stage, {}).get(failure.unit, True):
      failures[failure.stage, failure.unit] = failure
  counts = {
    stage: _count(stage, names, running, failures, records)
    for stage, names in units.items()
  }
  mean = {**means(records), **means(alive)}  # Who is alive knows best.
  every = sum(counts.values(), collections.Counter())
  left = {n: count['running'] + count['left'] for n, count in counts.items()}
  times = seconds_left(mean, left, every['running']) if alive else {}
  seconds = sum(max(0.0, r.updated - r.started) * r.devices for r in records)
  hours = seconds / 3600
  cost = ' (their cost with --price_per_hour).'
  if price is not None:
    cost = f', cost {hours * price:,.2f} at {price:,g} an hour.'
  lines = [
    _COLUMNS.format('stage', 'units', *_STATES, 'each takes', 'time left'),
    *(_row(n, counts[n], mean.get(n), times.get(n)) for n in units),
    _row('all', every, None, sum(times.values()) if times else None),
    '',
    f'So far: {hours:,.2f} device-hours' + cost,
    '',
    *_processes(processes, now),
    *_failures(failures.values(), every['failed'], now),
    *damaged,
  ]
  return '\n'.join(part for line in lines for part in _wrapped(line))


def _count(
  stage: str,
  names: Mapping[str, bool],
  running: Container[tuple[str, str]],
  failures: Container[tuple[str, str]],
  records: Sequence[Record],
) -> collections.Counter:
  """Returns how many units of a stage are in which of `_STATES`."""
  counts = collections.Counter()
  for name, is_done in names.items():
    if is_done:
      counts['done'] += 1
    elif (stage, name) in running:
      counts['running'] += 1
    else:
      counts['failed' if (stage, name) in failures else 'left'] += 1
  for record in records:  # Of many failures a process names the newest.
    named = sum(failure.stage == stage for failure in record.failures)
    failed = record.stages.get(stage, Counts()).failed - named
    unnamed = max(0, min(counts['left'], failed))
    counts['failed'] += unnamed
    counts['left'] -= unnamed
  return counts


def means(records: Iterable[Record]) -> dict[str, float]:
  """Returns the mean seconds of the units made, by stage, if there are any."""
  made, seconds = collections.Counter(), collections.Counter()
  for record in records:
    for stage, counts in record.stages.items():
      made[stage] += counts.made
      seconds[stage] += counts.seconds
  return {stage: seconds[stage] / made[stage] for stage in made if made[stage]}


def seconds_left(
  mean: Mapping[str, float], units: Mapping[str, int], side_by_side: int
) -> dict[str, float]:
  """Returns how long units take, by stage, where the mean of one is known."""
  return {
    stage: mean[stage] * number / max(1, min(side_by_side, number))
    for stage, number in units.items()
    if stage in mean
  }


def _row(
  stage: str,
  counts: collections.Counter,
  mean: float | None,
  seconds: float | None,
) -> str:
  """Returns a line of the table."""
  takes = left = ''
  if mean is not None:
    takes = f'{mean:.1f} s' if mean < 60 else duration(mean)
  if counts['done'] == counts.total():
    left = 'done'
  elif seconds is not None:
    left = duration(seconds)
  numbers = counts.total(), *(counts[state] for state in _STATES)
  return _COLUMNS.format(stage, *map('{:,}'.format, numbers), takes, left)


def _processes(
  processes: Mapping[str, Sequence[Record]], now: float
) -> Iterator[str]:
  """Yields who works, was lost or has ended, the last heard of first."""
  numbers = (f'{len(group)} {state}' for state, group in processes.items())
  yield f'Processes: {", ".join(numbers)}'
  for state, group in processes.items():
    if state == 'alive':  # What has been at one thing for longest may hang.
      group = sorted(group, key=lambda r: r.current[0].at if r.current else now)
    for record in group[: SHOWN[state]]:
      name = f'  {state}: {record.host}, process {record.pid}'
      if record.num_workers > 1:
        name += f', worker {record.worker} of {record.num_workers}'
      if record.devices > 1:
        name += f', {record.devices} devices'
      yield f'{name}, heartbeat {duration(now - record.updated)} ago'
      yield f'    {record.reason or _work(record)}'
    if len(group) > SHOWN[state]:
      yield f'  and {len(group) - SHOWN[state]:,} more {state}'


def _work(record: Record) -> str:
  """Returns what a process was at when it was last heard of."""
  if not record.current:
    return 'between units' if record.stages else 'begins'
  event = record.current[0]  # In the order in which they began.
  others = len(record.current) - 1
  text = f'{event.stage} {event.unit} for {duration(record.updated - event.at)}'
  return text + (f', and {others:,} more' if others else '')


def _failures(
  failures: Iterable[Event], count: int, now: float
) -> Iterator[str]:
  """Yields the newest failures, causes before what follows from them."""
  newest = sorted(failures, key=lambda event: (event.missing, -event.at))
  if newest:
    yield ''
    yield f'Failed and not made since: {count:,} units; the newest:'
  for failure in newest[:MOST_FAILURES]:
    words = ' '.join(failure.text.split())
    yield f'  {duration(now - failure.at)} ago: {words}'


def _wrapped(line: str) -> list[str]:
  """Returns a line in lines that fit, without what would move a cursor."""
  line = ''.join(c if c.isprintable() else '?' for c in line)
  return textwrap.wrap(
    line,
    WIDTH,
    subsequent_indent='      ',
    max_lines=MOST_LINES,
    placeholder=' ...',
    break_on_hyphens=False,
  ) or ['']


def duration(seconds: float) -> str:
  """Returns a time such as '42 s', '3 h 12 min'; clocks differ, so >= 0."""
  seconds = max(0, round(seconds))
  minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
  if days:
    return f'{days:,} d {hours % 24} h'
  if hours:
    return f'{hours} h {minutes % 60} min'
  return f'{minutes} min' if minutes else f'{seconds} s'
