"""Tests of heartbeats: complete at any moment, and never in the work's way."""

import json
import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from roar_tf import errors
from roar_tf.engine import Share, files, heartbeat
from roar_tf.engine.heartbeat import Counts, Event, Heartbeat, Record
from roar_tf.engine.unit import Outcome

MADE, KEPT = Outcome('made'), Outcome('kept')


@pytest.fixture
def folder(tmp_path):
  return f'{tmp_path}/status/mine'


@pytest.fixture
def often(monkeypatch):
  monkeypatch.setattr(heartbeat, 'EVERY', 0.01)


def _read(path):
  return heartbeat.parse(files.read(path))


def _wait(condition, seconds=20):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'it did not come'
    time.sleep(0.005)


def test_what_a_process_did_can_be_read_back(folder, monkeypatch):
  monkeypatch.setattr('socket.gethostname', lambda: 'a/b c')
  monkeypatch.setattr('time.time', lambda: 1000.0)
  beat = Heartbeat(folder, Share(1, 3))
  assert not files.names_in(folder)  # Nothing before it is entered.
  with beat:
    beat.plan('rank', 6)
    beat.uses(4)
    for name, outcome in (
      ('a', Outcome('made', seconds=5.0)),
      ('b', KEPT),
      ('c', Outcome('failed', 'c: file x is damaged.')),
      ('d', Outcome('missing', 'd: y is not there yet.')),
      ('e', Outcome('left')),
    ):
      beat.begin('rank', name)
      beat.end('rank', name, outcome)
    # What ends too soon is not told to begin.
    beat.end('train', 'g', Outcome('made', seconds=0.25))
  assert files.names_in(folder) == [os.path.basename(beat.path)]
  record = _read(beat.path)
  assert record == Record(
    *('a/b c', os.getpid(), record.machine, 1000.0, 1000.0, 'all done', 1, 3),
    devices=4,
    stages={'rank': Counts(1, 5.0, 2), 'train': Counts(1, 0.25, 0)},
    failures=[
      Event('rank', 'c', 1000.0, 'c: file x is damaged.', False),
      Event('rank', 'd', 1000.0, 'd: y is not there yet.', True),
    ],
  )


def test_it_beats_while_a_unit_takes_long(folder, often):
  with Heartbeat(folder, Share()) as beat:
    beat.begin('train', 'long')
    _wait(lambda: os.path.exists(beat.path) and _read(beat.path).current)
    first = _read(beat.path)
    _wait(lambda: _read(beat.path).updated > first.updated + 0.1)
    assert _read(beat.path).current == first.current
    assert not _read(beat.path).reason
  assert _read(beat.path).reason


def test_it_writes_no_more_often_than_asked(folder, monkeypatch):
  writes, publish = [], files.publish
  monkeypatch.setattr(files, 'publish', lambda *a: writes.append(publish(*a)))
  with Heartbeat(folder, Share()) as beat:
    for number in range(50_000):  # As many as a resumed study has.
      beat.end('shards', f'{number}', KEPT)
    for number in range(1000):
      beat.begin('train', f'{number}')
      beat.end('train', f'{number}', MADE)
  assert len(writes) <= 3  # At the beginning, after some seconds, at the end.
  assert _read(beat.path).stages['train'].made == 1000
  # However much was done, the file stays small.
  assert os.path.getsize(beat.path) < 5000


@pytest.mark.parametrize(
  'error, reason',
  [
    (errors.PreemptedError('stopped before x.'), 'stopped by a signal'),
    (errors.UnitsFailedError('3 failed'), 'some units failed'),
    (errors.UsageError('a: 1 there\nmore'), 'UsageError: a: 1 there'),
    (KeyboardInterrupt(), 'KeyboardInterrupt: '),
  ],
)
def test_it_says_how_a_process_ended_and_lets_the_error_pass(
  error, reason, folder
):
  beat = Heartbeat(folder, Share())
  with pytest.raises(type(error)), beat:
    beat.begin('train', 'a')
    raise error
  record = _read(beat.path)
  assert (record.reason, record.current) == (reason, [])


def test_causes_are_not_displaced_by_their_consequences(folder):
  with Heartbeat(folder, Share()) as beat:
    beat.end('model', 'm', Outcome('failed', 'm: the loss became nan'))
    for number in range(500):
      text = f'{number}: {"x" * 9999}'
      beat.end('train', f'{number}', Outcome('missing', text))
    for number in range(3):
      beat.end('train', f'late {number}', Outcome('failed', 'x'))
  record = _read(beat.path)
  units = [failure.unit for failure in record.failures]
  assert set(units[:4]) == {'m', 'late 0', 'late 1', 'late 2'}
  assert len(units) == heartbeat.FAILURES and '499' in units
  assert record.stages['train'].failed == 503
  assert os.path.getsize(beat.path) < 25_000


@pytest.mark.parametrize(
  'error', [OSError(28, 'No space left on device'), ValueError()]
)
def test_a_file_that_cannot_be_written_is_logged_once_and_harms_nobody(
  error, folder, often, monkeypatch, caplog
):
  tries = []

  def fails(*_):
    tries.append(1)
    raise error

  monkeypatch.setattr(files, 'publish', fails)
  monkeypatch.setattr(logging.getLogger('roar_tf'), 'propagate', True)
  with Heartbeat(folder, Share()) as beat:
    beat.begin('train', 'a')
    _wait(lambda: len(tries) > 3)
    beat.end('train', 'a', MADE)
  (entry,) = caplog.records
  assert beat.path in entry.getMessage()


def test_storage_that_hangs_does_not_hold_up_the_work(
  folder, often, monkeypatch
):
  release = threading.Event()
  monkeypatch.setattr(files, 'publish', lambda *_: release.wait(60))
  start = time.monotonic()
  with Heartbeat(folder, Share()) as beat:
    beat.begin('train', 'a')
    beat.end('train', 'a', MADE)
  assert time.monotonic() - start < 10
  release.set()


def test_threads_may_tell_side_by_side(folder, often):
  with Heartbeat(folder, Share()) as beat:

    def work(thread):
      for number in range(300):
        beat.begin('train', f'{thread} {number}')
        beat.end('train', f'{thread} {number}', MADE)

    files.in_parallel(work, range(8))
  _wait(lambda: _read(beat.path).stages['train'].made == 2400)


@pytest.mark.parametrize('machine', ['this', 'another', ''])
def test_a_process_that_was_killed_is_lost_at_once(machine, folder):
  program = (
    'import sys, time\n'
    'from roar_tf.engine import Share, heartbeat\n'
    'with heartbeat.Heartbeat(sys.argv[1], Share()) as beat:\n'
    '  print(beat.path, flush=True)\n'
    '  time.sleep(60)\n'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', program, folder], stdout=subprocess.PIPE, text=True
  )
  path = process.stdout.readline().strip()
  _wait(lambda: os.path.exists(path))
  record = _read(path)
  assert record.pid == process.pid and record.state(time.time()) == 'alive'
  process.kill()
  process.communicate()
  if machine != 'this':
    record.machine = machine
  state = 'lost' if machine == 'this' else 'alive'
  assert record.state(time.time()) == state


# --- damaged ones -------------------------------------------------------------

GOOD = {
  'version': heartbeat.VERSION,
  **dict(host='vm', pid=7, machine='', started=1000.25, updated=1012),
  **dict(reason='', worker=0, num_workers=1, devices=2, more='of the future'),
  'current': [
    {'stage': 'train', 'unit': 'b', 'at': 9.5, 'text': '', 'missing': False}
  ],
  'stages': {'train': {'made': 1, 'seconds': 4.5, 'failed': 0}},
  'failures': [],
}


def test_a_heartbeat_is_read_without_what_it_has_besides():
  assert heartbeat.parse(json.dumps(GOOD).encode()) == Record(
    *('vm', 7, '', 1000.25, 1012.0),
    devices=2,
    current=[Event('train', 'b', 9.5)],
    stages={'train': Counts(1, 4.5, 0)},
  )


@pytest.mark.parametrize(
  'change, words',
  [
    ({'version': 1}, 'version 1, not 2'),
    ({'pid': '7'}, 'pid'),
    ({'devices': -1}, 'devices'),
    ({'devices': True}, 'devices'),
    ({'updated': float('nan')}, 'updated'),
    ({'started': 10**400}, 'started'),
    ({'current': {}}, 'current'),
    ({'current': [None]}, 'None as current'),
    ({'stages': {'train': 3}}, '3 as train'),
    ({'failures': [{'stage': 'train'}]}, 'lacks at'),
  ],
)
def test_a_damaged_heartbeat_is_refused(change, words):
  with pytest.raises(ValueError, match=words):
    heartbeat.parse(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize('data', [b'', b'{', b'[]', b'\xff\xfe'])
def test_what_is_no_heartbeat_is_refused(data):
  with pytest.raises(ValueError):
    heartbeat.parse(data)
