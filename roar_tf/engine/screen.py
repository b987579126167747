"""The status of some work as text: one screen, 80 columns."""

import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence

from roar_tf.engine import status
from roar_tf.engine.graph import Graph
from roar_tf.engine.heartbeat import Record
from roar_tf.engine.status import Row, Status
from roar_tf.engine.storage import Snapshot
from roar_tf.engine.unit import Artefact

WIDTH = 80
MOST_PROCESSES = 6
"""Processes at work that are shown."""
MOST_LOST = 3
"""Lost ones that are shown, and ended ones."""
MOST_FAILURES = 3
MOST_LINES = 5
"""Lines of one failure."""

_COLUMNS = '{:6} {:>9} {:>8} {:>8} {:>9} {:>9} {:>12} {:>12}'


def show(
  title: str,
  root: str,
  folder: str,
  goals: Iterable[Artefact],
  price_per_hour: float | None = None,
) -> str:
  """Returns how far some goals are at this moment.

  Args:
    title: what the work is called.
    root: the directory below which all artefacts lie.
    folder: the directory of the heartbeats.
    goals: artefacts that were asked for.
    price_per_hour: of a device.
  """
  # Before the markers: what ends meanwhile is shown as done.
  records, damaged = status.read(folder)
  now = time.time()
  graph = Graph(goals, Snapshot(root), checks=False)
  state = status.summarise(status.units(graph), records, now)
  moment = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))
  head = [f'{title}, {moment}', f'in {root}', '']
  return '\n'.join([*map(_fit, head), text(state, damaged, price_per_hour)])


def text(
  state: Status,
  damaged: Sequence[str] = (),
  price_per_hour: float | None = None,
) -> str:
  """Returns a status as text.

  Args:
    state: the status.
    damaged: sentences about heartbeats that could not be read.
    price_per_hour: of a device.
  """
  titles = 'done', 'running', 'failed', 'left', 'all', 'rate', 'time left'
  lines = [
    _COLUMNS.format('stage', *titles),
    *(_row(row, bool(state.alive)) for row in state.rows),
    '',
    *_wrapped(f'Time left: {_time_left(state)}.'),
    _cost(state.device_hours, price_per_hour),
    '',
    *_processes(state),
    *_failures(state),
    *(line for sentence in damaged for line in _wrapped(sentence)),
  ]
  return '\n'.join(_fit(line).rstrip() for line in lines)


def _row(row: Row, is_worked_on: bool) -> str:
  left = rate = ''
  if row.is_done:
    left = 'done'
  elif row.seconds is not None:
    left, rate = duration(row.seconds), _rate(row.rate)
  elif is_worked_on:
    left = 'unknown'
  counts = row.done, row.running, row.failed, row.left, row.total
  return _COLUMNS.format(row.stage, *map('{:,}'.format, counts), rate, left)


def _time_left(state: Status) -> str:
  rows = [row for row in state.rows if not row.is_done]
  if not rows:
    return 'none, all is done'
  if not state.alive:
    return 'unknown, nobody works on it'
  end = ''
  # A single last unit, such as a report, takes no time that matters.
  if len(rows) > 1 and rows[-1].seconds is None and rows[-1].total == 1:
    end = f', then the {rows.pop().stage}'
  unknown = [row.stage for row in rows if row.seconds is None]
  if unknown:
    return f'unknown, nothing was measured yet of: {", ".join(unknown)}'
  return f'about {duration(sum(row.seconds for row in rows))}{end}'


def _cost(hours: float, price: float | None) -> str:
  if price is None:
    return (
      f'So far: {hours:,.2f} device-hours (their cost with --price_per_hour).'
    )
  return (
    f'Cost so far: {hours * price:,.2f} for {hours:,.2f} device-hours at '
    f'{price:,g}.'
  )


def _processes(state: Status) -> Iterator[str]:
  yield (
    f'Processes: {len(state.alive)} alive, {len(state.lost)} lost, '
    f'{len(state.ended)} ended'
  )
  # Those that have been at one thing for longest are the most interesting.
  alive = sorted(state.alive, key=_since)
  for record in alive[:MOST_PROCESSES]:
    yield f'  {_name(record)}, heartbeat {_ago(state.now, record.updated)}'
    yield f'    {_work(record, state.now)}'
  if len(alive) > MOST_PROCESSES:
    yield f'  and {len(alive) - MOST_PROCESSES} more at work'
  for record in state.lost[: -MOST_LOST - 1 : -1]:
    ago = _ago(state.now, record.updated)
    yield f'  lost: {_name(record)}, heartbeat {ago}'
    # Until then it is known what it did.
    yield f'    {_work(record, record.updated)}'
  for record in state.ended[: -MOST_LOST - 1 : -1]:
    ago = _ago(state.now, record.finished)
    yield f'  ended {ago}: {_name(record)}: {record.reason}'
  others = sum(max(0, len(s) - MOST_LOST) for s in (state.lost, state.ended))
  if others:
    yield f'  and {others} more that are lost or ended'


def _since(record: Record) -> float:
  """Returns when a process began what it has been at for longest."""
  return min((begun for *_, begun in record.current), default=record.updated)


def _name(record: Record) -> str:
  name = f'{record.host}, process {record.pid}'
  if record.num_workers > 1:
    name += f', worker {record.worker} of {record.num_workers}'
  if record.devices > 1:
    name += f', {record.devices} devices'
  return name


def _work(record: Record, now: float) -> str:
  """Returns what a process is at."""
  if not record.current:
    return f'{record.stage}: between units' if record.stage else 'begins'
  stage, unit, begun = min(record.current, key=lambda row: row[2])
  more = len(record.current) - 1
  end = f', and {more} more' if more else ''
  return f'{stage} {unit} for {duration(now - begun)}{end}'


def _failures(state: Status) -> Iterator[str]:
  causes = [failure for failure in state.failures if not failure.missing]
  shown = (causes or state.failures)[:MOST_FAILURES]
  if not shown:
    return
  failed = sum(row.failed for row in state.rows)
  yield ''
  yield f'Failed and not made since: {failed:,} units; the newest:'
  for failure in shown:
    words = ' '.join(failure.text.split())
    yield from _wrapped(f'  {_ago(state.now, failure.at)}: {words}', MOST_LINES)
  if 0 < len(causes) < len(state.failures):
    yield '  Others lack the inputs that these would have made.'


def _wrapped(words: str, most: int | None = None) -> list[str]:
  return textwrap.wrap(
    words,
    WIDTH,
    subsequent_indent='    ',
    max_lines=most,
    placeholder=' ...',
    break_on_hyphens=False,
  )


def _fit(line: str) -> str:
  """Returns a line that fits: what is too much is cut out of its middle.

  It is also without what would move a terminal's cursor.
  """
  line = ''.join(c if c.isprintable() else '?' for c in line)
  half = (WIDTH - 3) // 2
  is_long = len(line) > WIDTH
  return f'{line[: WIDTH - 3 - half]}...{line[-half:]}' if is_long else line


def _ago(now: float, then: float) -> str:
  return f'{duration(now - then)} ago'


def duration(seconds: float) -> str:
  """Returns a time such as '42 s', '3 h 12 min'; clocks differ, so >= 0."""
  seconds = max(0, round(seconds))
  if seconds < 60:
    return f'{seconds} s'
  minutes = seconds // 60
  if minutes < 60:
    return f'{minutes} min'
  hours, minutes = divmod(minutes, 60)
  if hours < 24:
    return f'{hours} h {minutes} min'
  days, hours = divmod(hours, 24)
  return f'{days} d {hours} h' if days < 100 else f'{days:,} d'


def _rate(rate: float) -> str:
  """Returns a rate such as '3.2/s' or '14.1/h'."""
  units = ('s', 1), ('min', 60), ('h', 3600)
  unit, seconds = next((u for u in units if rate * u[1] >= 1), units[-1])
  number = f'{rate * seconds:,.1f}' if rate < 1000 else 'over 1,000'
  return f'{number}/{unit}'
