"""Tests of what is made of markers, heartbeats and the time."""

import dataclasses
import json
import re
import shutil
import time

import pytest

from roar_tf import workspace
from roar_tf.study import heartbeat, status, status_text
from roar_tf.study.heartbeat import Counts, Failure, Record

NOW = 1_000_000.0
UNITS = {
  'rank': {'r0': True, 'r1': True},
  'train': {f't{n}': n < 4 for n in range(20)},
  'report': {'report of mine': False},
}


def _record(**changes) -> Record:
  record = Record(
    host='node',
    pid=7,
    worker=0,
    num_workers=1,
    devices=1,
    helper=False,
    started=NOW - 3600,
    updated=NOW - 5,
    finished=None,
    reason='',
    stage='train',
    current=(),
    stages={},
    failures=(),
  )
  return dataclasses.replace(record, **changes)


def _counts(recent=(), failed=0) -> Counts:
  return Counts(len(recent), 0, failed, 1.0, tuple(recent))


def _line(found, stage):
  (line,) = [line for line in found.lines if line.stage == stage]
  return line


def _numbers(line):
  return line.done, line.running, line.failed, line.left, line.total


def test_columns_add_up_and_units_count_once():
  alive = _record(
    current=(
      ('train', 't4', NOW - 60),
      ('train', 't0', NOW - 60),  # Done since.
      ('train', 'other', NOW - 60),  # Of another selection of sources.
    )
  )
  again = _record(current=(('train', 't4', NOW - 9), ('train', 't5', NOW - 9)))
  lost = _record(updated=NOW - 999, current=(('train', 't6', NOW - 1000),))
  failed = _record(
    finished=NOW - 50,
    failures=(
      Failure('train', 't1', NOW - 90, 't1: was done since', False),
      Failure('train', 't5', NOW - 80, 't5: is tried again', False),
      Failure('train', 't7', NOW - 70, 't7: failed', False),
    ),
  )
  found = status.summarise(UNITS, [alive, again, lost, failed], NOW)
  assert _numbers(_line(found, 'train')) == (4, 2, 1, 13, 20)
  assert _numbers(_line(found, 'rank')) == (2, 0, 0, 0, 2)
  assert [f.unit for f in found.failures] == ['t7', 't5']
  assert [len(x) for x in (found.alive, found.lost, found.ended)] == [2, 1, 1]


def test_failures_that_are_only_counted_count_too():
  failures = (Failure('train', 't9', NOW - 1, 't9: x', True),)
  record = _record(
    finished=NOW, stages={'train': _counts(failed=7)}, failures=failures
  )
  found = status.summarise(UNITS, [record], NOW)
  assert _numbers(_line(found, 'train')) == (4, 0, 7, 9, 20)
  record = dataclasses.replace(record, stages={'train': _counts(failed=999)})
  found = status.summarise(UNITS, [record], NOW)
  assert _numbers(_line(found, 'train')) == (4, 0, 16, 0, 20)


def test_the_time_left_is_that_of_the_rate_of_all_who_are_alive():
  # Two a minute, and one a minute.
  fast = _record(
    stages={'train': _counts([(NOW - 120, NOW - 90), (NOW - 90, NOW - 60)])},
    current=(('train', 't4', NOW - 60),),
  )
  slow = _record(stages={'train': _counts([(NOW - 120, NOW - 60)])})
  line = _line(status.summarise(UNITS, [fast, slow], NOW), 'train')
  assert line.rate == pytest.approx(3 / 60)
  assert line.seconds == pytest.approx(16 / (3 / 60))
  # A third of whom nothing is known yet is taken for one like the others; one
  # that takes part in the units of another, for none.
  news = [_record(), _record(helper=True)]
  line = _line(status.summarise(UNITS, [fast, slow, *news], NOW), 'train')
  assert line.rate == pytest.approx(3 * 1.5 / 60)
  # Who has ended or was lost works no more, but tells how fast it went.
  gone = [
    dataclasses.replace(fast, finished=NOW - 10),
    dataclasses.replace(slow, updated=NOW - 900),
  ]
  line = _line(status.summarise(UNITS, [*gone, _record()], NOW), 'train')
  assert line.rate == pytest.approx(1.5 / 60)
  line = _line(status.summarise(UNITS, gone, NOW), 'train')
  assert (line.rate, line.seconds) == (None, None)


def test_units_side_by_side_count_by_the_clock():
  recent = [(NOW - 100, NOW - 50)] * 4 + [(NOW - 50, NOW)] * 4
  record = _record(stages={'train': _counts(recent)})
  line = _line(status.summarise(UNITS, [record], NOW), 'train')
  assert line.rate == pytest.approx(8 / 100)


def test_nothing_is_guessed():
  record = _record(stage='rank', stages={'rank': _counts([(0.0, 1.0)])})
  found = status.summarise(UNITS, [record], NOW)
  assert _line(found, 'train').seconds is None
  assert 'Time left: unknown, nothing was measured yet of: train' in (
    status_text.text(found)
  )
  # Units that took no time, by a clock that stands still.
  record = _record(stages={'train': _counts([(5.0, 5.0)])})
  found = status.summarise(UNITS, [record], NOW)
  assert _line(found, 'train').seconds is None
  found = status.summarise(UNITS, [], NOW)
  assert 'unknown, nobody works on it' in status_text.text(found)


def test_what_it_cost_counts_all_processes_and_devices():
  records = [
    _record(devices=4, started=NOW - 7205),  # Two hours until its last beat.
    _record(finished=NOW - 5 * 3600, started=NOW - 6 * 3600),
    _record(updated=NOW - 36000, started=NOW - 36000 - 1800),  # Lost.
    _record(started=NOW + 50),  # A clock that went back.
  ]
  found = status.summarise(UNITS, records, NOW)
  assert found.device_hours == pytest.approx(4 * 2 + 1 + 0.5)
  assert 'Cost so far: 23.75 for 9.50 device-hours at 2.5.' in (
    status_text.text(found, price_per_hour=2.5)
  )
  assert 'So far: 9.50 device-hours' in status_text.text(found)


@pytest.mark.parametrize(
  'age, group',
  [(-9999, 'alive'), (0, 'alive'), (180, 'alive'), (181, 'lost')],
)
def test_who_is_silent_for_long_is_lost(age, group):
  record = _record(updated=NOW - age, current=(('train', 't4', NOW + 99),))
  found = status.summarise(UNITS, [record], NOW)
  assert getattr(found, group) == (record,)
  # Clocks that differ give no negative times.
  assert f'heartbeat {status_text.duration(max(0, age))} ago' in (
    status_text.text(found)
  )
  assert not re.search(r'-\d', status_text.text(found))


@pytest.mark.parametrize(
  'seconds, words',
  [
    (-5, '0 s'),
    (59.4, '59 s'),
    (60, '1 min'),
    (3599, '59 min'),
    (3600, '1 h 0 min'),
    (90061, '1 d 1 h'),
    (9e9, '104,166 d'),
  ],
)
def test_durations_are_short(seconds, words):
  assert status_text.duration(seconds) == words


def test_a_big_study_fits_on_one_screen():
  units = {
    stage: {f'{stage} {n}': n % 2 == 0 for n in range(200_000)}
    for stage in status.STAGES
  }
  long = 'imagenet2012/' + 'sg_sq_' * 20 + 'grad_pixel_remove_90/seed_3\x1b[2J'
  failures = [
    Failure('train', f'train {n}', NOW - n, f'train {n}: {"why " * 300}', False)
    for n in (1, 3, 5, 7, 9)
  ]
  failures.append(Failure('train', 'train 11', NOW, 'train 11: no x', True))
  many = [
    _record(
      host='node-' * 30,
      pid=n,
      devices=8,
      num_workers=3000,
      current=tuple(('train', long, NOW - 1e6) for _ in range(16)),
      stages={'train': _counts([(NOW - 1e7, NOW)])},
      failures=tuple(failures),
    )
    for n in range(50)
  ]
  many += [dataclasses.replace(r, updated=NOW - 1e5) for r in many]
  many += [dataclasses.replace(r, finished=1.0, reason='x' * 99) for r in many]
  found = status.summarise(units, many, NOW)
  text = status_text.text(found, ['/w/status/x.json is left out (y).'], 123.45)
  lines = text.splitlines()
  assert max(map(len, lines)) <= 80
  assert len(lines) <= 60
  assert all(line.isprintable() for line in lines)
  assert 'Processes: 50 alive, 50 lost, 100 ended' in text
  assert 'and 44 more at work' in text
  assert 'Failed and not made since: 5 units' not in text  # 6, one is missing.
  assert 'train 1: why' in text and 'train 11' not in text
  assert 'Others lack the inputs' in text
  assert '/w/status/x.json' in text


# --- a real workspace ---------------------------------------------------------


def _done(works):
  units = status.done_units(works)
  return {s: (sum(u.values()), len(u)) for s, u in units.items()}


EXPECTED = {
  'source': 6,
  'model': 1,
  'rank': 7,
  'shards': 14,
  'train': 10,
  'report': 1,
}


def test_what_is_done_is_what_has_markers(tiny, finished, damaged, tmp_path):
  assert _done(tiny.works(finished)) == {s: (n, n) for s, n in EXPECTED.items()}
  assert _done(tiny.works(tmp_path / 'none')) == {
    s: (0, n) for s, n in EXPECTED.items()
  }
  shutil.rmtree(damaged / 'runs/small/tiny/original/seed_1')
  next(damaged.glob('tfds/*/grad_pixel_remove_30/*/*00001*.DONE')).unlink()
  next(damaged.glob('tfds/*/ranking_grad_pixel/*/DONE')).unlink()
  (damaged / 'models/tiny/DONE').rename(damaged / 'models/tiny/DONE.tmp')
  assert _done(tiny.works(damaged)) == {
    'source': (6, 6),
    'model': (0, 1),
    'rank': (6, 7),
    'shards': (13, 14),
    'train': (9, 10),
    'report': (1, 1),
  }


def test_a_report_is_done_when_it_has_all_runs(tiny, finished, damaged):
  runs = damaged / 'runs/small/tiny/original/seed_1'
  marker = damaged / 'reports/small/DONE'
  done = workspace.read_done(str(marker))
  del done['digest'], done['environment']
  fingerprint = done.pop('fingerprint')
  inputs = fingerprint['inputs']
  fingerprint['inputs'] = {n: d for n, d in inputs.items() if 'seed_1' not in n}
  workspace.write_done(str(marker), fingerprint)
  assert _done(tiny.works(damaged))['report'] == (0, 1)
  shutil.rmtree(runs)
  assert _done(tiny.works(damaged))['report'] == (0, 1)
  marker.write_text('{')
  assert _done(tiny.works(damaged))['report'] == (0, 1)


def test_masked_datasets_that_nobody_needs_are_no_units(tiny, damaged):
  for cell in damaged.glob('tfds/roar_tiny/*_remove_*'):
    shutil.rmtree(cell)
  assert _done(tiny.works(damaged))['shards'] == (0, 0)
  shutil.rmtree(damaged / 'runs/small/tiny/grad_pixel_remove_30/seed_0')
  # Five shards and the dataset, of one cell.
  assert _done(tiny.works(damaged))['shards'] == (0, 6)
  on_the_fly = tiny.works(damaged, "Study.masking = 'ranking'")
  assert _done(on_the_fly)['shards'] == (0, 0)


def test_a_damaged_heartbeat_is_named_and_the_others_shown(tmp_path):
  place = workspace.Workspace(str(tmp_path))
  assert status.read(place, 'mine') == ([], [])
  beats = [heartbeat.Heartbeat(place, 'mine') for _ in range(3)]
  for beat in beats:
    with beat:
      beat.begin('train', 'a')
  value = json.loads(workspace.read_bytes(beats[0].path))
  workspace.write_json(beats[0].path, {**value, 'pid': 'x'})
  workspace.write_atomic(beats[1].path, b'{"version": 1, "host"')
  folder = tmp_path / 'status/mine'
  (folder / f'a.json.tmp-{"0a" * 16}').write_text('half')
  records, damaged = status.read(place, 'mine')
  assert len(records) == 1
  assert sorted(sentence.split()[0] for sentence in damaged) == sorted(
    place.relative(beat.path) for beat in beats[:2]
  )
  found = status.summarise(UNITS, records, time.time())
  text = status_text.text(found, damaged)
  assert 'is left out' in text and '1 ended' in text
