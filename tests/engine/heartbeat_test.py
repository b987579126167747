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
from roar_tf.engine import files, heartbeat
from roar_tf.engine.unit import Outcome

MADE, KEPT = Outcome('made'), Outcome('kept')


@pytest.fixture
def folder(tmp_path):
  return f'{tmp_path}/status/mine'


def _read(path):
  return heartbeat.parse(files.read(path))


def _wait(condition, seconds=20):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'it did not come'
    time.sleep(0.005)


def test_what_a_process_did_can_be_read_back(folder, monkeypatch):
  monkeypatch.setattr('socket.gethostname', lambda: 'a/b c')
  now = [1000.0]
  beat = heartbeat.Heartbeat(
    folder, worker=1, num_workers=3, clock=lambda: now[0]
  )
  assert not files.names_in(folder)  # Nothing before it is entered.
  with beat:
    beat.plan('rank', 6)
    beat.uses(4, helps=True)
    for name, seconds, state, failure in (
      ('a', 5.0, 'made', ''),
      ('b', 1.0, 'kept', ''),
      ('c', 2.0, 'failed', 'c: file x is damaged.'),
      ('d', 0.5, 'missing', 'd: y is not there yet.'),
      ('e', 0.5, 'left', ''),
      ('f', 3.0, 'made', ''),
    ):
      beat.begin('rank', name)
      now[0] += seconds
      beat.end('rank', name, Outcome(state, failure))
    # What ends too soon is not told to begin.
    beat.end('train', 'g', Outcome('made', seconds=0.25))
  assert files.names_in(folder) == [os.path.basename(beat.path)]
  record = _read(beat.path)
  assert record == heartbeat.Record(
    *('a/b c', os.getpid(), 1000.0, 1012.0, 1012.0, 'all done'),
    machine=record.machine,
    worker=1,
    num_workers=3,
    devices=4,
    helper=True,
    stage='rank',
    stages={
      'rank': heartbeat.Counts(2, 1, 2, 8.0, [(1000, 1005), (1009, 1012)]),
      'train': heartbeat.Counts(1, 0, 0, 0.25, [(1011.75, 1012)]),
    },
    failures=[
      heartbeat.Failure('rank', 'c', 1008.0, 'c: file x is damaged.', False),
      heartbeat.Failure('rank', 'd', 1008.5, 'd: y is not there yet.', True),
    ],
  )
  assert record.stages['rank'].rate() == 2 / 12


def test_it_beats_while_a_unit_takes_long(folder):
  with heartbeat.Heartbeat(folder, every=0.02) as beat:
    beat.begin('train', 'long')
    _wait(lambda: os.path.exists(beat.path) and _read(beat.path).current)
    first = _read(beat.path)
    _wait(lambda: _read(beat.path).updated > first.updated + 0.1)
    assert _read(beat.path).current == first.current
    assert _read(beat.path).finished is None
  assert not beat._thread.is_alive()
  assert _read(beat.path).finished is not None


def test_it_writes_no_more_often_than_asked(folder, monkeypatch):
  writes, publish = [], files.publish
  monkeypatch.setattr(files, 'publish', lambda *a: writes.append(publish(*a)))
  with heartbeat.Heartbeat(folder) as beat:
    start = time.monotonic()
    for number in range(50_000):  # As many as a resumed study has.
      beat.end('shards', f'{number}', KEPT)
    assert time.monotonic() - start < 5
    for number in range(1000):
      beat.begin('train', f'{number}')
      beat.end('train', f'{number}', MADE)
  assert len(writes) <= 3  # At the beginning, after some seconds, at the end.
  stages = _read(beat.path).stages
  assert (stages['shards'].kept, stages['train'].made) == (50_000, 1000)
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
  beat = heartbeat.Heartbeat(folder)
  with pytest.raises(type(error)), beat:
    beat.begin('train', 'a')
    raise error
  record = _read(beat.path)
  assert (record.reason, record.current) == (reason, [])


def test_causes_are_not_displaced_by_their_consequences(folder):
  with heartbeat.Heartbeat(folder) as beat:
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
  error, folder, monkeypatch, caplog
):
  tries = []

  def fails(*_):
    tries.append(1)
    raise error

  monkeypatch.setattr(files, 'publish', fails)
  monkeypatch.setattr(logging.getLogger('roar_tf'), 'propagate', True)
  with heartbeat.Heartbeat(folder, every=0.01) as beat:
    beat.begin('train', 'a')
    _wait(lambda: len(tries) > 3)
    beat.end('train', 'a', MADE)
  (entry,) = caplog.records
  assert beat.path in entry.getMessage()
  assert 'the work goes on' in entry.getMessage()


def test_storage_that_hangs_does_not_hold_up_the_work(folder, monkeypatch):
  release = threading.Event()
  monkeypatch.setattr(files, 'publish', lambda *_: release.wait(60))
  start = time.monotonic()
  with heartbeat.Heartbeat(folder, every=0.05) as beat:
    beat.begin('train', 'a')
    beat.end('train', 'a', MADE)
  assert time.monotonic() - start < 10
  release.set()


def test_threads_may_tell_side_by_side(folder):
  with heartbeat.Heartbeat(folder, every=0.001) as beat:

    def work(thread):
      for number in range(300):
        beat.begin('train', f'{thread} {number}')
        beat.end('train', f'{thread} {number}', MADE)

    files.in_parallel(work, range(8))
  _wait(lambda: _read(beat.path).stages['train'].made == 2400)


@pytest.mark.parametrize('machine', ['this', 'another', ''])
def test_a_process_that_was_killed_is_gone(machine, folder):
  program = (
    'import sys, time\n'
    'from roar_tf.engine import heartbeat\n'
    'with heartbeat.Heartbeat(sys.argv[1], every=0.01) as beat:\n'
    '  print(beat.path, flush=True)\n'
    '  time.sleep(60)\n'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', program, folder], stdout=subprocess.PIPE, text=True
  )
  path = process.stdout.readline().strip()
  _wait(lambda: os.path.exists(path))
  record = _read(path)
  assert record.pid == process.pid and not heartbeat.is_gone(record)
  process.kill()
  process.communicate()
  if machine != 'this':
    record.machine = machine
  assert heartbeat.is_gone(record) == (machine == 'this')


# --- damaged ones -------------------------------------------------------------

OLD = """{"version": 1, "study": "mine", "host": "vm", "pid": 7, "worker": 0,
"num_workers": 1, "devices": 2, "helper": false, "started": 1000.25,
"finished": null, "reason": "", "stage": "train", "updated": 1012,
"current": [["train", "b", 1009.5]],
"stages": {"train": {"made": 1, "kept": 2, "failed": 1, "seconds": 4.5,
  "recent": [[1001.0, 1005.5]]}},
"failures": [{"stage": "train", "unit": "c", "at": 1006.0, "text": "c: why",
  "missing": false}]}"""
"""As workspaces of before have them."""


def test_a_heartbeat_of_before_is_read():
  assert heartbeat.parse(OLD.encode()) == heartbeat.Record(
    *('vm', 7, 1000.25, 1012.0),
    devices=2,
    stage='train',
    current=[('train', 'b', 1009.5)],
    stages={'train': heartbeat.Counts(1, 2, 1, 4.5, [(1001.0, 1005.5)])},
    failures=[heartbeat.Failure('train', 'c', 1006.0, 'c: why', False)],
  )


@pytest.mark.parametrize(
  'change, words',
  [
    ({'version': 2}, 'version 2'),
    ({'pid': '7'}, 'pid'),
    ({'devices': -1}, 'devices'),
    ({'devices': True}, 'devices'),
    ({'helper': 0}, 'helper'),
    ({'updated': float('nan')}, 'updated'),
    ({'started': 10**400}, 'started'),
    ({'finished': 'yes'}, 'finished'),
    ({'current': {}}, 'current'),
    ({'current': [['train', 'b']]}, 'columns'),
    ({'current': [['train', 'b', None]]}, 'None'),
    ({'stages': []}, 'stages'),
    ({'stages': {'train': 3}}, '3 as train'),
    ({'stages': {'train': {'made': 1.5}}}, '1.5 as made'),
    ({'failures': ['x']}, "'x' as failures"),
    ({'failures': [{'stage': 'train'}]}, 'lacks unit'),
  ],
)
def test_a_damaged_heartbeat_is_refused(change, words):
  value = json.loads(OLD)
  with pytest.raises(ValueError, match=words):
    heartbeat.parse(json.dumps({**value, **change}).encode())
  del value['pid']
  with pytest.raises(ValueError, match='lacks pid'):
    heartbeat.parse(json.dumps(value).encode())


@pytest.mark.parametrize('data', [b'', b'{', b'[]', b'\xff\xfe', b'3'])
def test_what_is_no_heartbeat_is_refused(data):
  with pytest.raises(ValueError):
    heartbeat.parse(data)
