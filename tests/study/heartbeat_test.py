"""Tests of heartbeats: complete at any moment, and never in the work's way."""

import json
import logging
import os
import threading
import time

import pytest
import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.study import heartbeat


class Clock:
  """Seconds that a test moves."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self):
    return self.now


def _read(path):
  return heartbeat.parse(workspace.read_bytes(path))


def _wait(condition, seconds=20):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'it did not come'
    time.sleep(0.005)


@pytest.fixture(params=['local', 'ram'])
def place(request, tmp_path, monkeypatch):
  """A workspace on the disk, and one on what resembles an object store."""
  if request.param == 'local':
    return workspace.Workspace(str(tmp_path / 'w'))
  write = workspace.write_atomic

  def replace(path, data):
    workspace.remove(path)  # Object stores replace; ram:// would append.
    write(path, data)

  monkeypatch.setattr(workspace, 'write_atomic', replace)
  return workspace.Workspace(f'ram://{tmp_path.name}')


def test_what_a_process_did_can_be_read_back(place):
  clock = Clock()
  beat = heartbeat.Heartbeat(
    place, 'mine', worker=1, num_workers=3, clock=clock
  )
  assert not place.heartbeats('mine')  # Nothing before it is entered.
  with beat:
    beat.uses(4, helper=True)
    for name, seconds, kind, failure in (
      ('a', 5.0, 'made', ''),
      ('b', 1.0, 'kept', ''),
      ('c', 2.0, 'failed', 'c: file x is damaged.'),
      ('d', 0.5, 'missing', 'd: y is not there yet.'),
      ('e', 0.5, 'left', ''),
      ('f', 3.0, 'made', ''),
    ):
      beat.begin('rank', name)
      clock.now += seconds
      beat.end('rank', name, kind, failure)
  (path,) = place.heartbeats('mine')
  assert path == beat.path and path in place.all_heartbeats()
  record = _read(path)
  assert (record.pid, record.worker, record.num_workers) == (os.getpid(), 1, 3)
  assert (record.devices, record.helper) == (4, True)
  assert (record.started, record.updated, record.finished) == (1000, 1012, 1012)
  assert (record.stage, record.reason, record.current) == (
    'rank',
    'all done',
    (),
  )
  counts = record.stages['rank']
  assert (counts.made, counts.kept, counts.failed) == (2, 1, 2)
  assert counts.seconds == 8.0
  assert counts.recent == ((1000.0, 1005.0), (1009.0, 1012.0))
  assert record.failures == (
    heartbeat.Failure('rank', 'c', 1008.0, 'c: file x is damaged.', False),
    heartbeat.Failure('rank', 'd', 1008.5, 'd: y is not there yet.', True),
  )


def test_it_beats_while_a_unit_takes_long(tmp_path):
  place = workspace.Workspace(str(tmp_path))
  with heartbeat.Heartbeat(place, 'mine', every=0.02) as beat:
    beat.begin('train', 'long')
    _wait(lambda: place.heartbeats('mine'))
    _wait(lambda: _read(beat.path).current)
    first = _read(beat.path)
    _wait(lambda: _read(beat.path).updated > first.updated + 0.1)
    assert _read(beat.path).current == first.current
    ((stage, unit, begun),) = first.current
    assert (stage, unit) == ('train', 'long') and begun <= first.updated
    assert _read(beat.path).finished is None
  assert not beat._thread.is_alive()
  assert _read(beat.path).finished is not None
  assert os.listdir(os.path.dirname(beat.path)) == [os.path.basename(beat.path)]


def test_a_process_at_work_writes_no_more_often_than_asked(
  tmp_path, monkeypatch
):
  writes, write = [], workspace.write_atomic
  monkeypatch.setattr(
    workspace, 'write_atomic', lambda *a: writes.append(write(*a))
  )
  beat = heartbeat.Heartbeat(workspace.Workspace(str(tmp_path)), 'mine')
  with beat:
    for number in range(1000):
      beat.begin('train', f'{number}')
      beat.end('train', f'{number}', 'made')
  assert len(writes) <= 3  # At the beginning, after some seconds, at the end.
  assert _read(beat.path).stages['train'].made == 1000
  # However much was done, the file stays small.
  assert os.path.getsize(beat.path) < 3000


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
  error, reason, tmp_path
):
  beat = heartbeat.Heartbeat(workspace.Workspace(str(tmp_path)), 'mine')
  with pytest.raises(type(error)), beat:
    beat.begin('train', 'a')
    raise error
  record = _read(beat.path)
  assert (record.reason, record.current) == (reason, ())


def test_causes_are_not_displaced_by_their_consequences(tmp_path):
  beat = heartbeat.Heartbeat(workspace.Workspace(str(tmp_path)), 'mine')
  with beat:
    beat.begin('model', 'm')
    beat.end('model', 'm', 'failed', 'm: the loss became nan')
    for number in range(500):
      beat.begin('train', f'{number}')
      beat.end('train', f'{number}', 'missing', f'{number}: {"x" * 9999}')
  record = _read(beat.path)
  assert record.failures[0].unit == 'm'
  assert record.failures[-1].unit == '499'
  assert record.stages['train'].failed == 500
  assert os.path.getsize(beat.path) < 10_000


@pytest.mark.parametrize(
  'error',
  [
    OSError(28, 'No space left on device'),
    PermissionError(13, 'Permission denied'),
    tf.errors.ResourceExhaustedError(None, None, 'x; No space left on device'),
    ValueError(),
  ],
)
def test_a_file_that_cannot_be_written_is_logged_once_and_harms_nobody(
  error, tmp_path, monkeypatch, caplog
):
  tries = []

  def fails(*_):
    tries.append(1)
    raise error

  monkeypatch.setattr(workspace, 'write_atomic', fails)
  monkeypatch.setattr(logging.getLogger('roar_tf'), 'propagate', True)
  place = workspace.Workspace(str(tmp_path))
  with heartbeat.Heartbeat(place, 'mine', every=0.01) as beat:
    beat.begin('train', 'a')
    _wait(lambda: len(tries) > 3)
    beat.end('train', 'a', 'made')
  (entry,) = caplog.records
  assert beat.path in entry.getMessage()
  assert 'the work goes on' in entry.getMessage()


def test_a_file_in_the_place_of_the_folder_harms_nobody(tmp_path):
  (tmp_path / 'status').write_text('mine')
  with heartbeat.Heartbeat(workspace.Workspace(str(tmp_path)), 'mine') as beat:
    beat.begin('train', 'a')
  assert (tmp_path / 'status').read_text() == 'mine'


def test_storage_that_hangs_does_not_hold_up_the_work(tmp_path, monkeypatch):
  release = threading.Event()
  monkeypatch.setattr(workspace, 'write_atomic', lambda *_: release.wait(60))
  start = time.monotonic()
  place = workspace.Workspace(str(tmp_path))
  with heartbeat.Heartbeat(place, 'mine', every=0.05) as beat:
    beat.begin('train', 'a')
    beat.end('train', 'a', 'made')
  assert time.monotonic() - start < 10
  release.set()


def test_threads_may_tell_side_by_side(tmp_path):
  beat = heartbeat.Heartbeat(
    workspace.Workspace(str(tmp_path)), 'mine', every=0.001
  )

  def work(thread):
    for number in range(300):
      beat.begin('train', f'{thread} {number}')
      beat.end('train', f'{thread} {number}', 'made')

  with beat:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  assert _read(beat.path).stages['train'].made == 2400


def test_processes_have_files_of_their_own(tmp_path, monkeypatch):
  monkeypatch.setattr('socket.gethostname', lambda: 'a/b c')
  place = workspace.Workspace(str(tmp_path))
  beats = [heartbeat.Heartbeat(place, 'mine') for _ in range(2)]
  for beat in beats:
    with beat:
      pass
  assert len(place.heartbeats('mine')) == 2
  assert _read(beats[0].path).host == 'a/b c'


def _content(tmp_path):
  beat = heartbeat.Heartbeat(workspace.Workspace(str(tmp_path)), 'mine')
  with beat:
    beat.begin('train', 'a')
    beat.end('train', 'a', 'made')
    beat.begin('train', 'b')
    beat.end('train', 'b', 'failed', 'b: why')
  return json.loads(workspace.read_bytes(beat.path))


@pytest.mark.parametrize(
  'change, words',
  [
    ({'version': 2}, 'version 2'),
    ({'pid': '7'}, 'pid'),
    ({'devices': -1}, 'devices'),
    ({'devices': True}, 'devices'),
    ({'updated': float('nan')}, 'updated'),
    ({'started': 10**400}, 'started'),
    ({'finished': 'yes'}, 'finished'),
    ({'current': [['train', 'b']]}, 'columns'),
    ({'current': [['train', 'b', None]]}, 'None'),
    ({'stages': []}, 'stages'),
    ({'stages': {'train': 3}}, 'lacks made'),
    ({'failures': ['x']}, 'lacks stage'),
  ],
)
def test_a_damaged_heartbeat_is_refused(change, words, tmp_path):
  value = _content(tmp_path)
  heartbeat.parse(json.dumps(value).encode())
  with pytest.raises(ValueError, match=words):
    heartbeat.parse(json.dumps({**value, **change}).encode())
  for name in set(value) - {'finished', 'study'}:
    lacking = {k: v for k, v in value.items() if k != name}
    with pytest.raises(ValueError, match=name):
      heartbeat.parse(json.dumps(lacking).encode())


@pytest.mark.parametrize('data', [b'', b'{', b'[]', b'\xff\xfe', b'3'])
def test_what_is_no_heartbeat_is_refused(data):
  with pytest.raises(ValueError):
    heartbeat.parse(data)
