"""Tests of what is made of markers, heartbeats and the time."""

import dataclasses
import re

import pytest

from roar_tf.engine import files, heartbeat, screen, status
from roar_tf.engine.heartbeat import Counts, Failure, Record

NOW = 1_000_000.0
UNITS = {
  'rank': {'r0': True, 'r1': True},
  'train': {f't{n}': n < 4 for n in range(20)},
  'report': {'report of mine': False},
}


def _record(**changes) -> Record:
  fields = {'pid': 7, 'started': NOW - 3600, 'updated': NOW - 5}
  return Record('node', **{**fields, 'stage': 'train', **changes})


def _counts(recent=(), failed=0) -> Counts:
  return Counts(len(recent), 0, failed, 1.0, list(recent))


def _row(state, stage='train'):
  (row,) = [row for row in state.rows if row.stage == stage]
  return row


def _numbers(row):
  return row.done, row.running, row.failed, row.left, row.total


def test_columns_add_up_and_units_count_once():
  alive = _record(
    current=[
      ('train', 't4', NOW - 60),
      ('train', 't0', NOW - 60),  # Done since.
      ('train', 'other', NOW - 60),  # Of other goals.
    ]
  )
  again = _record(current=[('train', 't4', NOW - 9), ('train', 't5', NOW - 9)])
  lost = _record(updated=NOW - 999, current=[('train', 't6', NOW - 1000)])
  failed = _record(
    finished=NOW - 50,
    failures=[
      Failure('train', 't1', NOW - 90, 't1: was done since', False),
      Failure('train', 't5', NOW - 80, 't5: is tried again', False),
      Failure('train', 't7', NOW - 70, 't7: failed', False),
      Failure('train', 't7', NOW - 75, 't7: failed before', False),
      Failure('train', 'other', NOW - 70, 'other: failed', False),
    ],
  )
  state = status.summarise(UNITS, [alive, again, lost, failed], NOW)
  assert _numbers(_row(state)) == (4, 2, 1, 13, 20)
  assert _numbers(_row(state, 'rank')) == (2, 0, 0, 0, 2)
  assert [f.text for f in state.failures] == [
    *('t7: failed', 't5: is tried again')
  ]
  assert [len(x) for x in (state.alive, state.lost, state.ended)] == [2, 1, 1]


def test_failures_that_are_only_counted_count_too():
  failures = [Failure('train', 't9', NOW - 1, 't9: x', True)]
  for count, numbers in ((7, (4, 0, 7, 9, 20)), (999, (4, 0, 16, 0, 20))):
    record = _record(
      finished=NOW, stages={'train': _counts(failed=count)}, failures=failures
    )
    state = status.summarise(UNITS, [record], NOW)
    assert _numbers(_row(state)) == numbers


def test_the_time_left_is_that_of_the_rate_of_all_who_are_alive():
  # Two a minute, and one a minute.
  fast = _record(
    stages={'train': _counts([(NOW - 120, NOW - 90), (NOW - 90, NOW - 60)])},
    current=[('train', 't4', NOW - 60)],
  )
  slow = _record(stages={'train': _counts([(NOW - 120, NOW - 60)])})
  row = _row(status.summarise(UNITS, [fast, slow], NOW))
  assert row.rate == pytest.approx(3 / 60)
  assert row.seconds == pytest.approx(16 / (3 / 60))
  # A third of whom nothing is known yet is taken for one like the others; one
  # that takes part in the units of another, for none.
  news = [_record(), _record(helper=True)]
  row = _row(status.summarise(UNITS, [fast, slow, *news], NOW))
  assert row.rate == pytest.approx(3 * 1.5 / 60)
  # Who has ended or was lost works no more, but tells how fast it went.
  gone = [
    dataclasses.replace(fast, finished=NOW - 10),
    dataclasses.replace(slow, updated=NOW - 900),
  ]
  row = _row(status.summarise(UNITS, [*gone, _record()], NOW))
  assert row.rate == pytest.approx(1.5 / 60)
  row = _row(status.summarise(UNITS, gone, NOW))
  assert (row.rate, row.seconds) == (None, None)


@pytest.mark.parametrize(
  'stage, recent, words',
  [
    ('rank', (0.0, 1.0), 'unknown, nothing was measured yet of: train.'),
    # By a clock that stands still.
    ('train', (5.0, 5.0), 'unknown, nothing was measured yet of: train.'),
    ('train', (NOW - 60, NOW), 'about 16 min, then the report.'),
  ],
)
def test_nothing_is_guessed(stage, recent, words):
  record = _record(stages={stage: _counts([recent])})
  text = screen.text(status.summarise(UNITS, [record], NOW))
  assert f'Time left: {words}' in text


def test_what_was_not_measured_is_named_in_full():
  names = [f'stage_{n}_of_many' for n in range(9)]
  units = {name: {'a': False, 'b': False} for name in names}
  text = screen.text(status.summarise(units, [_record()], NOW))
  assert all(name in text.split('Time left: ')[1] for name in names)


def test_all_is_done_when_all_is_done():
  text = screen.text(status.summarise({'rank': {'r0': True}}, [], NOW))
  assert 'Time left: none, all is done.' in text
  assert re.search(r'rank +1 +0 +0 +0 +1 +done\n', text)


def test_what_it_cost_counts_all_processes_and_devices():
  records = [
    _record(devices=4, started=NOW - 7205),  # Two hours until its last beat.
    _record(finished=NOW - 18000, updated=NOW - 18000, started=NOW - 21600),
    _record(updated=NOW - 36000, started=NOW - 36000 - 1800),  # Lost.
    _record(started=NOW + 50),  # A clock that went back.
  ]
  state = status.summarise(UNITS, records, NOW)
  assert state.device_hours == pytest.approx(4 * 2 + 1 + 0.5)
  assert 'Cost so far: 23.75 for 9.50 device-hours at 2.5.' in (
    screen.text(state, price_per_hour=2.5)
  )
  assert 'So far: 9.50 device-hours (their cost with' in screen.text(state)


@pytest.mark.parametrize(
  'age, group',
  [(-9999, 'alive'), (0, 'alive'), (180, 'alive'), (181, 'lost')],
)
def test_who_is_silent_for_long_is_lost(age, group):
  record = _record(updated=NOW - age, current=[('train', 't4', NOW + 99)])
  state = status.summarise(UNITS, [record], NOW)
  assert getattr(state, group) == [record]
  # Clocks that differ give no negative times.
  text = screen.text(state)
  assert f'heartbeat {screen.duration(max(0, age))} ago' in text
  assert not re.search(r'-\d', text)


def test_who_was_killed_on_this_machine_is_lost_at_once(monkeypatch):
  monkeypatch.setattr(heartbeat, 'is_gone', lambda record: record.pid == 7)
  alive, ended = _record(pid=8), _record(finished=NOW)
  state = status.summarise(UNITS, [_record(), alive, ended], NOW)
  assert (state.lost, state.alive) == ([_record()], [alive])
  assert state.ended == [ended]


def test_durations_are_short():
  seconds = (-5, 59.4, 60, 3599, 3600, 90061, 9e9)
  assert [screen.duration(s) for s in seconds] == [
    *('0 s', '59 s', '1 min', '59 min', '1 h 0 min', '1 d 1 h', '104,166 d')
  ]


def test_what_is_at_work_is_named():
  record = _record(
    current=[('train', 't5', NOW - 5), ('train', 't4', NOW - 21)],
    worker=3,
    num_workers=16,
    devices=8,
    stages={'train': _counts([(NOW - 60, NOW)] * 5)},
  )
  idle = [_record(stage=''), _record(updated=NOW - 300)]
  ended = _record(finished=NOW - 60, reason='some units failed')
  state = status.summarise(UNITS, [record, *idle, ended], NOW)
  lines = screen.text(state).splitlines()
  assert lines[0].split()[:5] == 'stage done running failed left'.split()
  assert re.fullmatch(r'train +4 +2 +0 +14 +20 +5.0/min +3 min', lines[2])
  start = lines.index('Processes: 2 alive, 1 lost, 1 ended')
  assert lines[start + 1 :] == [
    '  node, process 7, worker 3 of 16, 8 devices, heartbeat 5 s ago',
    '    train t4 for 21 s, and 1 more',
    '  node, process 7, heartbeat 5 s ago',
    '    begins',
    '  lost: node, process 7, heartbeat 5 min ago',
    '    train: between units',
    '  ended 1 min ago: node, process 7: some units failed',
  ]


def test_much_work_fits_on_one_screen():
  units = {
    stage: {f'{stage} {n}': n % 2 == 0 for n in range(20_000)}
    for stage in ('source', 'model', 'rank', 'shards', 'train', 'report')
  }
  long = 'imagenet2012/' + 'sg_sq_' * 20 + 'grad_pixel_remove_90/seed_3\x1b[2J'
  failures = [
    Failure('train', f'train {n}', NOW - n, f'train {n}: {"why " * 300}', False)
    for n in (1, 3, 5, 7, 9)
  ]
  failures.append(Failure('train', 'train 11', NOW, 'train 11: no x', True))
  many = [
    Record(
      *('node-' * 30, n, NOW - 3600, NOW - 5),
      devices=8,
      num_workers=3000,
      stage='train',
      current=[('train', long, NOW - 1e6) for _ in range(16)],
      stages={'train': _counts([(NOW - 1e7, NOW)])},
      failures=failures,
    )
    for n in range(50)
  ]
  many += [dataclasses.replace(r, updated=NOW - 1e5) for r in many]
  many += [dataclasses.replace(r, finished=1.0, reason='x' * 99) for r in many]
  state = status.summarise(units, many, NOW)
  text = screen.text(state, ['/w/status/x.json is left out (y).'], 123.45)
  lines = text.splitlines()
  assert max(map(len, lines)) <= 80
  assert len(lines) <= 60
  assert all(line.isprintable() for line in lines)
  assert 'Processes: 50 alive, 50 lost, 100 ended' in text
  assert 'and 44 more at work' in text and 'and 144 more that are lost' in text
  assert 'for 11 d 13 h, and 15 more' in text
  assert 'Failed and not made since: 5 units' not in text  # 6, one is missing.
  assert 'train 1: why' in text and 'train 11' not in text
  assert 'Others lack the inputs' in text
  assert '/w/status/x.json' in text


# --- a real directory ---------------------------------------------------------


def test_what_is_done_is_what_has_markers(bench):
  for name in 'ab':
    parts = [f'{name}/{n}' for n in range(2)]
    for part in parts:
      bench.add(part, 'parts', intermediate=True)
    bench.add(name, 'wholes', parts=parts, intermediate=True)
    bench.add(f'read {name}', 'read', [name])
  bench.add('sum', 'sum', soft=['read a', 'read b'])
  goals = ('read a', 'read b', 'sum')

  def done():
    stages = status.units(bench.graph(*goals, checks=False))
    return {s: (sum(u.values()), len(u)) for s, u in stages.items()}

  assert done() == {
    **{'parts': (0, 4), 'wholes': (0, 2), 'read': (0, 2), 'sum': (0, 1)}
  }
  bench.make('read a', 'sum')
  assert done() == {
    **{'parts': (2, 4), 'wholes': (1, 2), 'read': (1, 2), 'sum': (0, 1)}
  }
  bench.make(*goals)
  bench.delete('a', 'b')  # Caches that nobody needs are no units.
  assert done() == {'read': (2, 2), 'sum': (1, 1)}
  bench.delete('read a')
  assert done()['sum'] == (0, 1) and done()['wholes'] == (0, 1)


def test_a_screen_shows_work_as_it_goes_on(bench):
  folder = f'{bench.root}/status/mine'
  shown = []

  def show():
    goals = bench.artefacts.values()
    shown.append(screen.show('Toys', bench.root, folder, goals, 2.0))

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
  with heartbeat.Heartbeat(folder) as beat:
    bench.make(observers=[beat])
  show()
  assert 'nobody works on it' in shown[0] and f'in {bench.root}\n' in shown[0]
  assert re.search(r'toy +1 +1 +1 +0 +3 ', shown[1])
  assert 'Processes: 1 alive' in shown[1] and 'toy c for 0 s' in shown[1]
  assert '0 s ago: b: ValueError: no luck' in shown[1]
  assert re.search(r'toy +2 +0 +1 +0 +3\n', shown[2])
  assert 'ended 0 s ago' in shown[2] and 'all done' in shown[2]


def test_a_damaged_heartbeat_is_named_and_the_others_shown(tmp_path):
  assert status.read(f'{tmp_path}/none') == ([], [])
  beats = [heartbeat.Heartbeat(str(tmp_path)) for _ in range(3)]
  for beat in beats:
    with beat:
      beat.begin('train', 'a')
  files.publish(beats[0].path, b'[' * 100_000)
  files.publish(beats[1].path, b'{"version": 1, "host"')
  (tmp_path / f'a.json.tmp-{"0a" * 16}').write_text('half')
  records, damaged = status.read(str(tmp_path))
  assert len(records) == 1
  assert sorted(sentence.split()[0] for sentence in damaged) == sorted(
    beat.path for beat in beats[:2]
  )
  text = screen.text(status.summarise(UNITS, records, NOW), damaged)
  assert 'is left out' in text and '1 ended' in text
