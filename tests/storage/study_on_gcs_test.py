"""A whole study on gs://, through TensorFlow's own client, whatever happens."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import fake_gcs
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKSPACE = '--workspace=gs://bucket/w'
LONGEST = 600
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
  """Function that returns the artefacts in the bucket, as `artefacts` does."""

  def read():
    for name, data in gcs.files('w').items():
      path = tmp_path / 'w' / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(data)
    return artefacts(tmp_path / 'w')

  return read


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
  assert ('lost' in status) == (signal_ == signal.SIGKILL)
  before = dict(gcs.blobs)
  end(begin('roar_study', *study))
  changed = {n for n, blob in gcs.blobs.items() if before.get(n) != blob}
  assert all(name.startswith('w/status/') for name in changed)
