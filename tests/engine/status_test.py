"""Tests of what is made of markers, heartbeats and the time."""

import re

import pytest

from roar_tf.engine import Share, files, heartbeat, status
from roar_tf.engine.heartbeat import Counts, Event, Record

NOW = 1_000_000.0
UNITS = {
  'rank': {'r0': True, 'r1': True},
  'train': {f't{n}': n < 4 for n in range(20)},
  'report': {'report of mine': False},
}


def _record(**changes) -> Record:
  fields = {'pid': 7, 'machine': '', 'started': NOW - 3600, 'updated': NOW - 5}
  return Record('node', **{**fields, **changes})


def _running(*names):
  return [Event('train', name, NOW - 60) for name in names]


def _text(*records, **more):
  return status.text(UNITS, records, NOW, **more)


def _row(text, stage='train'):
  (line,) = [line for line in text.splitlines() if line.startswith(stage)]
  return line.split(maxsplit=6)


def test_columns_add_up_and_units_count_once():
  # One of these is done since, and one is of other goals.
  alive = _record(current=_running('t4', 't0', 'other'))
  again = _record(current=_running('t4', 't5'))
  lost = _record(updated=NOW - 999, current=_running('t6'))
  failed = _record(
    reason='some units failed',
    failures=[
      Event('train', 't1', NOW - 90, 't1: was done since'),
      Event('train', 't5', NOW - 80, 't5: is tried again'),
      Event('train', 't7', NOW - 70, 't7: failed'),
      Event('train', 't7', NOW - 75, 't7: failed before'),
      Event('train', 'other', NOW - 70, 'other: failed'),
    ],
  )
  text = _text(alive, again, lost, failed)
  assert _row(text) == ['train', '20', '4', '2', '1', '13']
  assert _row(text, 'rank')[:6] == ['rank', '2', '2', '0', '0', '0']
  assert _row(text, 'all')[:6] == ['all', '23', '6', '2', '1', '14']
  assert 'Processes: 2 alive, 1 lost, 1 ended' in text
  assert re.findall(r'ago: (t.*)', text) == ['t7: failed', 't5: is tried again']


def test_failures_that_are_only_counted_count_too():
  failures = [Event('train', 't9', NOW - 1, 't9: x', True)]
  for count, numbers in (
    (7, ['4', '0', '7', '9']),
    (99, ['4', '0', '16', '0']),
  ):
    stages = {'train': Counts(failed=count)}
    text = _text(_record(reason='x', stages=stages, failures=failures))
    assert _row(text)[2:6] == numbers


def test_the_time_left_is_the_mean_of_a_unit_times_those_left():
  fast = _record(stages={'train': Counts(3, 90.0)}, current=_running('t4'))
  slow = _record(stages={'train': Counts(1, 110.0)}, current=_running('t5'))
  # 50 s each, two side by side.
  text = _text(fast, slow)
  assert _row(text)[6].split('  ')[0] == '50.0 s'
  assert _row(text)[6].endswith('6 min')
  assert text.count('6 min') == 2  # Of all too: a report is not measured.
  # Who has ended works no more, but tells of what nobody else does.
  slow.reason = 'all done'
  assert _row(_text(fast, slow))[6].split('  ')[0] == '30.0 s'
  fresh = _record(current=_running('t4'))
  assert _row(_text(fresh, slow))[6].split('  ')[0] == '1 min'
  # If nobody works there is no time left, and nothing is guessed.
  assert _row(_text(slow))[6] == '1 min'
  assert len(_row(_text(fresh))) == 6
  assert len(_row(_text(_record(stages={'train': Counts(0, 0.0)})))) == 6


def test_all_is_done_when_all_is_done():
  text = status.text({'rank': {'r0': True}}, [], NOW)
  assert re.search(r'rank +1 +1 +0 +0 +0 +done\nall .* done\n', text)


def test_what_it_cost_counts_all_processes_and_devices():
  records = [
    _record(devices=4, started=NOW - 7205),  # Two hours until its last beat.
    _record(reason='x', updated=NOW - 18000, started=NOW - 21600),
    _record(updated=NOW - 36000, started=NOW - 36000 - 1800),  # Lost.
    _record(started=NOW + 50),  # A clock that went back.
  ]
  cost = 'So far: 9.50 device-hours, cost 23.75 at 2.5 an hour.'
  assert cost in _text(*records, price=2.5)
  assert 'So far: 9.50 device-hours (their cost with' in _text(*records)


@pytest.mark.parametrize(
  'age, state',
  [(-9999, 'alive'), (0, 'alive'), (180, 'alive'), (181, 'lost')],
)
def test_who_is_silent_for_long_is_lost(age, state):
  record = _record(updated=NOW - age, current=[Event('train', 't4', NOW + 99)])
  assert record.state(NOW) == state
  # Clocks that differ give no negative times.
  text = _text(record)
  assert f'heartbeat {status.duration(max(0, age))} ago' in text
  assert not re.search(r'-\d', text)


def test_durations_are_short():
  seconds = (-5, 59.4, 60, 3599, 3600, 90061)
  assert [status.duration(s) for s in seconds] == [
    *('0 s', '59 s', '1 min', '59 min', '1 h 0 min', '1 d 1 h')
  ]


def test_what_is_at_work_is_named():
  record = _record(
    current=_running('t4', 't5'), worker=3, num_workers=16, devices=8
  )
  idle = _record(updated=NOW - 300, stages={'train': Counts()})
  ended = _record(reason='some units failed', updated=NOW - 60)
  lines = _text(idle, ended, _record(), record).splitlines()
  start = lines.index('Processes: 2 alive, 1 lost, 1 ended')
  assert lines[start + 1 :] == [
    '  alive: node, process 7, worker 3 of 16, 8 devices, heartbeat 5 s ago',
    '    train t4 for 55 s, and 1 more',
    '  alive: node, process 7, heartbeat 5 s ago',
    '    begins',
    '  lost: node, process 7, heartbeat 5 min ago',
    '    between units',
    '  ended: node, process 7, heartbeat 1 min ago',
    '    some units failed',
  ]


def test_much_work_fits_on_one_screen():
  units = {
    stage: {f'{stage} {n}': n % 2 == 0 for n in range(20_000)}
    for stage in ('source', 'model', 'rank', 'shards', 'train', 'report')
  }
  long = 'imagenet2012/' + 'sg_sq_' * 8 + 'grad_pixel_remove_90/seed_3\x1b[2J'
  failures = [
    Event('train', f'train {n}', NOW - n, f'train {n}: {"why " * 300}')
    for n in (1, 3, 5, 7, 9)
  ]
  failures.append(Event('train', 'train 11', NOW, 'train 11: no x', True))
  records = [
    _record(
      updated=NOW - silence,
      reason=reason,
      num_workers=3000,
      current=[Event('train', long, NOW - 1e6)] * 16,
      stages={'train': Counts(1, 1e7)},
      failures=failures,
    )
    for silence, reason in ((0, ''), (1e5, ''), (0, 'x' * 99))
    for _ in range(50)
  ]
  damaged = ['/w/status/x.json is left out (y).']
  text = status.text(units, records, NOW, damaged, 123.45)
  lines = text.splitlines()
  assert max(map(len, lines)) <= 80 and len(lines) <= 65
  assert all(line.isprintable() for line in lines)
  assert 'Processes: 50 alive, 50 lost, 50 ended' in text
  assert 'and 44 more alive' in text and 'and 47 more lost' in text
  assert 'for 11 d 13 h, and 15 more' in text
  assert 'train 1: why' in text and 'train 11' not in text  # A consequence.
  assert '/w/status/x.json' in text


# --- a real directory ---------------------------------------------------------


def test_a_screen_shows_work_as_it_goes_on(bench):
  folder = f'{bench.root}/status/mine'
  shown = []

  def show():
    goals = bench.artefacts.values()
    shown.append(status.show('Toys', bench.root, folder, goals, 2.0))

  for name in 'abc':
    bench.add(name)
  bench.errors['b'] = ValueError('no luck')
  write = bench.write

  def slowly(artefact):
    if bench.name_of(artefact) == 'c':
      beat._write()
      show()
    return write(artefact)

  bench.write = slowly
  show()
  with heartbeat.Heartbeat(folder, Share()) as beat:
    bench.make(observers=[beat])
  show()
  assert '0 alive' in shown[0] and f'in {bench.root}\n' in shown[0]
  assert _row(shown[1], 'toy')[1:6] == ['3', '1', '1', '1', '0']
  assert 'Processes: 1 alive' in shown[1] and 'toy c for 0 s' in shown[1]
  assert '0 s ago: b: ValueError: no luck' in shown[1]
  assert _row(shown[2], 'toy')[1:6] == ['3', '2', '0', '1', '0']
  assert '  ended: ' in shown[2] and 'some units failed' not in shown[2]


def test_a_damaged_heartbeat_is_named_and_the_others_shown(tmp_path):
  assert status.read(f'{tmp_path}/none') == ([], [])
  beats = [heartbeat.Heartbeat(str(tmp_path), Share()) for _ in range(4)]
  for beat in beats:
    with beat:
      beat.begin('train', 'a')
  files.publish(beats[0].path, b'[' * 100_000)
  files.publish(beats[1].path, b'{"version": 2, "host"')
  files.publish(beats[2].path, b'{"version": 1, "host": "vm"}')
  (tmp_path / f'a.json.tmp-{"0a" * 16}').write_text('half')
  records, damaged = status.read(str(tmp_path))
  assert len(records) == 1
  assert sorted(sentence.split()[0] for sentence in damaged) == sorted(
    beat.path for beat in beats[:3]
  )
  text = _text(*records, damaged=damaged)
  assert 'it is of version 1, not 2' in text and '1 ended' in text
