"""The status of a study as text: one screen, 80 columns."""

import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence

from roar_tf.study import pipeline, status
from roar_tf.study.heartbeat import Failure, Record
from roar_tf.study.status import Line, Status

WIDTH = 80
MOST_PROCESSES = 6
"""Processes at work that are shown; as many lost and ended ones together."""
MOST_FAILURES = 3
MOST_LINES = 5
"""Lines of one failure."""

_COLUMNS = '{:6} {:>9} {:>8} {:>8} {:>9} {:>9} {:>12} {:>12}'


def of_study(
  works: Sequence[pipeline.Work], price_per_hour: float | None = None
) -> str:
  """Returns the status of a study at this moment.

  Args:
    works: all of the study, as its command line configures it.
    price_per_hour: of a device.
  """
  place = works[0].context.workspace
  study = works[0].context.experiment.study.name
  # Before the markers: what ends meanwhile is shown as done.
  records, damaged = status.read(place, study)
  now = time.time()
  found = status.summarise(status.done_units(works), records, now)
  head = [f'Study {study}, {_moment(found.now)}', f'in {place.root}', '']
  return '\n'.join(
    [*(_cut(line) for line in head), text(found, damaged, price_per_hour)]
  )


def text(
  found: Status,
  damaged: Sequence[str] = (),
  price_per_hour: float | None = None,
) -> str:
  """Returns a status as text.

  Args:
    found: the status.
    damaged: sentences about heartbeats that could not be read.
    price_per_hour: of a device.
  """
  lines = [
    _COLUMNS.format(
      'stage', 'done', 'running', 'failed', 'left', 'all', 'rate', 'time left'
    ),
    *(_row(line, bool(found.alive)) for line in found.lines),
    '',
    *_wrapped(f'Time left: {_time_left(found)}.'),
    *_wrapped(_cost(found.device_hours, price_per_hour)),
    '',
    *_processes(found),
    *_failures(found),
  ]
  for sentence in damaged:
    lines += _wrapped(sentence)
  return '\n'.join(line.rstrip() for line in lines)


def _row(line: Line, is_worked_on: bool) -> str:
  if not line.total:
    left = 'not needed'
  elif line.is_done:
    left = 'done'
  elif line.seconds is None:
    left = 'unknown' if is_worked_on else ''
  else:
    left = duration(line.seconds)
  rate = '' if line.rate is None or line.is_done else _rate(line.rate)
  counts = line.done, line.running, line.failed, line.left, line.total
  return _COLUMNS.format(
    line.stage, *(f'{count:,}' for count in counts), rate, left
  )


def _time_left(found: Status) -> str:
  open_ = [line for line in found.lines if not line.is_done]
  if not open_:
    return 'none, all is done'
  if not found.alive:
    return 'unknown, nobody works on it'
  unknown = [line.stage for line in open_ if line.seconds is None]
  if unknown == ['report'] and len(open_) > 1:
    unknown, end = [], ', then the report'
  else:
    end = ''
  if unknown:
    return f'unknown, nothing was measured yet of: {", ".join(unknown)}'
  seconds = sum(line.seconds for line in open_ if line.seconds is not None)
  return f'about {duration(seconds)}{end}'


def _cost(hours: float, price: float | None) -> str:
  if price is None:
    return (
      f'So far: {hours:,.2f} device-hours (their cost with --price_per_hour).'
    )
  return (
    f'Cost so far: {hours * price:,.2f} for {hours:,.2f} device-hours at '
    f'{price:,g}.'
  )


def _processes(found: Status) -> Iterator[str]:
  yield (
    f'Processes: {len(found.alive)} alive, {len(found.lost)} lost, '
    f'{len(found.ended)} ended'
  )
  # Those that have been at one thing for longest are the most interesting.
  alive = sorted(found.alive, key=_since)
  for record in alive[:MOST_PROCESSES]:
    yield from _process(record, found.now, '')
  if len(alive) > MOST_PROCESSES:
    yield f'  and {len(alive) - MOST_PROCESSES} more at work'
  lost = found.lost[::-1][: MOST_PROCESSES // 2]
  for record in lost:
    yield from _process(record, found.now, 'lost: ')
  ended = found.ended[::-1][: MOST_PROCESSES // 2]
  for record in ended:
    yield _cut(
      f'  ended {_ago(found.now, record.finished)}: {_name(record)}: '
      f'{record.reason}'
    )
  silent = len(found.lost) + len(found.ended) - len(lost) - len(ended)
  if silent:
    yield f'  and {silent} more that are lost or ended'


def _process(record: Record, now: float, prefix: str) -> Iterator[str]:
  devices = f', {record.devices} devices' if record.devices > 1 else ''
  yield _cut(
    f'  {prefix}{_name(record)}{devices}, heartbeat {_ago(now, record.updated)}'
  )
  if not record.current:
    yield f'    {record.stage}: between units' if record.stage else '    begins'
    return
  stage, unit, begun = min(record.current, key=lambda row: row[2])
  # Of a lost one it is known until its last heartbeat only.
  end = f' for {duration((record.updated if prefix else now) - begun)}'
  if len(record.current) > 1:
    end += f', and {len(record.current) - 1} more'
  start = f'    {_plain(stage)} '
  yield start + _cut(unit, WIDTH - len(start) - len(end)) + end


def _since(record: Record) -> float:
  return min((begun for *_, begun in record.current), default=record.updated)


def _name(record: Record) -> str:
  worker = (
    f', worker {record.worker} of {record.num_workers}'
    if record.num_workers > 1
    else ''
  )
  return f'{record.host}, process {record.pid}{worker}'


def _failures(found: Status) -> Iterator[str]:
  failed = sum(line.failed for line in found.lines)
  causes = [f for f in found.failures if not f.missing]
  shown = (causes or list(found.failures))[:MOST_FAILURES]
  if not shown:
    return
  yield ''
  yield f'Failed and not made since: {failed:,} units; the newest:'
  for failure in shown:
    yield from _failure(failure, found.now)
  missing = len(found.failures) - len(causes)
  if causes and missing:
    yield '  Others lack the inputs that these would have made.'


def _failure(failure: Failure, now: float) -> list[str]:
  words = ' '.join(failure.text.split())
  return _wrapped(f'  {_ago(now, failure.at)}: {words}', MOST_LINES)


def _wrapped(words: str, most: int | None = None) -> list[str]:
  return textwrap.wrap(
    _plain(words),
    WIDTH,
    subsequent_indent='    ',
    max_lines=most,
    placeholder=' ...',
    break_on_hyphens=False,
  )


def _cut(words: str, width: int = WIDTH) -> str:
  """Returns words that fit: what is too much is cut out of their middle."""
  words = _plain(words)
  if len(words) <= width:
    return words
  half = (width - 3) // 2
  return f'{words[: width - 3 - half]}...{words[len(words) - half :]}'


def _plain(words: Iterable[str]) -> str:
  """Returns words without what would move a terminal's cursor."""
  return ''.join(c if c.isprintable() else '?' for c in words)


def _moment(now: float) -> str:
  return time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))


def _ago(now: float, then: float) -> str:
  return f'{duration(now - then)} ago'


def duration(seconds: float) -> str:
  """Returns a time such as '42 s', '3 h 12 min'; clocks differ, so >= 0."""
  seconds = max(0, round(seconds))
  minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
  if seconds < 60:
    return f'{seconds} s'
  if minutes < 60:
    return f'{minutes} min'
  if days < 1:
    return f'{hours} h {minutes % 60} min'
  if days < 100:
    return f'{days} d {hours % 24} h'
  return f'{days:,} d'


def _rate(rate: float) -> str:
  """Returns a rate such as '3.2/s' or '14.1/h'."""
  units = ('s', 1), ('min', 60), ('h', 3600)
  unit, seconds = next((u for u in units if rate * u[1] >= 1), units[-1])
  number = f'{rate * seconds:,.1f}' if rate < 1000 else 'over 1,000'
  return f'{number}/{unit}'
