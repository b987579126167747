"""A whole study on gs://, through TensorFlow's own client, whatever happens."""

import os
import signal
import subprocess
import sys
import time

import fake_gcs
import pytest
from study_bench import LONGEST, ROOT, Bench

WORKSPACE = '--workspace=gs://bucket/w'
STUMBLES = {
  'upload': [None, 500, None, fake_gcs.CUT, 429, 1.0],
  'start': [None, None, 429, fake_gcs.CUT],
  'list': [None, 500, None, 429, fake_gcs.CUT, 2.0],
  'read': [None, fake_gcs.CUT, 500, 1.0],
}


@pytest.fixture
def begin(tiny):
  """Function that starts a tool on the workspace in the bucket."""

  def start(name, *flags):
    tool = str(ROOT / 'tools' / f'{name}.py')
    return subprocess.Popen(
      [sys.executable, tool, WORKSPACE, *flags],
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return start


@pytest.fixture
def end():
  """Function that waits for a tool and returns what it printed."""

  def wait(process, status=0):
    out, err = process.communicate(timeout=LONGEST)
    assert process.returncode == status, err
    assert 'Traceback' not in err
    return out

  return wait


@pytest.fixture
def downloaded(gcs, tmp_path, artefacts):
  """Function that returns artefacts in the bucket, as `artefacts` does."""

  def read(root='w'):
    files = gcs.files(root)
    for name, data in files.items():
      path = tmp_path / root / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(data)
    found = artefacts(tmp_path / root)
    return {name: data for name, data in found.items() if name in files}

  return read


@pytest.fixture
def bench(gcs, tiny, finished, artefacts, downloaded):
  """The study in the bucket, as a `Bench`."""

  class InBucket(Bench):
    def markers(self):
      return {name for name in gcs.files('w') if name.endswith('DONE')}

  flags = [f'--study={tiny.study}', *tiny.flags('gs://bucket/w')]
  return InBucket(flags, 'w', downloaded, artefacts(finished))


def _wait_for_runs(process, gcs, count):
  latest = time.monotonic() + LONGEST
  while len([n for n in gcs.files('w/runs') if n.endswith('DONE')]) < count:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < latest
    time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize('signal_', [signal.SIGTERM, signal.SIGKILL])
def test_a_study_on_gs_ends_with_the_bytes_of_one_on_a_disk(
  signal_, gcs, begin, end, downloaded, tiny, finished, artefacts
):
  study = [f'--study={tiny.study}', f'--data_dir={tiny.data_dir}']
  for kind, faults in STUMBLES.items():
    gcs.faults[kind] += 2 * faults
  first = begin('roar_study', *study)
  _wait_for_runs(first, gcs, 1)
  first.send_signal(signal_)
  end(first, 75 if signal_ == signal.SIGTERM else -signal_)
  verify = begin('roar_shards', '--verify')
  assert 'all intact' in end(verify)
  for kind, faults in STUMBLES.items():
    gcs.faults[kind] += faults
  gcs.listed_after = 1.0
  both = [
    begin('roar_study', *study, f'--worker={n}', '--num_workers=2')
    for n in range(2)
  ]
  for worker in both:  # One may wait in vain for what the other makes.
    worker.communicate(timeout=LONGEST)
  gcs.listed_after = 0.0
  assert 'Report:' in end(begin('roar_study', *study))
  assert downloaded() == artefacts(finished)
  assert 'all intact' in end(begin('roar_shards', '--verify'))
  status = end(begin('roar_study', *study, '--status'))
  assert f'{int(signal_ == signal.SIGKILL)} lost' in status
  before = dict(gcs.blobs)
  end(begin('roar_study', *study))
  changed = {n for n, blob in gcs.blobs.items() if before.get(n) != blob}
  assert all(name.startswith('w/status/') for name in changed)


@pytest.mark.slow
def test_thirty_kills_on_gs_change_no_byte(gcs, bench):
  kills = bench.kill(30, lambda folder: gcs.remove(f'w/{folder}'))
  print(f'kills after work of each stage: {dict(kills)}')
  print(f'requests: {gcs.requests.total()}, {dict(gcs.requests)}')
  assert set(kills) >= {'source', 'model', 'rank', 'shards', 'train'}


@pytest.mark.slow
def test_a_server_that_fails_every_tenth_request_changes_no_byte(gcs, bench):
  gcs.any_faults = fake_gcs.every_tenth()
  for commands in range(1, 10):  # noqa: B007
    process = bench.start()
    _, err = process.communicate(timeout=2 * LONGEST)
    bench.check_whole()
    assert 'Traceback' not in err
    if process.returncode == 0:
      break
  bench.check_equal()
  failed = gcs.failed.total()
  print(f'{commands} commands; {failed} of {gcs.requests.total()} requests')
  print(f'failed: {dict(gcs.failed)}; requests: {dict(gcs.requests)}')
  assert failed >= gcs.requests.total() // 10 > 50
  assert {fault for _, fault in gcs.failed} == {500, 429, fake_gcs.CUT}
