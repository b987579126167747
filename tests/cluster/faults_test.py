"""A study on a Ray cluster that loses a node and its driver on the way."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

import pytest

# Before Ray is imported: it listens on the loopback device, and tells nobody.
os.environ.setdefault('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
ray = pytest.importorskip('ray')

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODE = {'include_dashboard': False, 'node_ip_address': '127.0.0.1'}
LONGEST = 1800
"""Seconds; a quickstart takes minutes on two cores."""


@contextlib.contextmanager
def _cluster():
  """Yields a cluster that no process here is connected to, and its nodes."""
  from ray import cluster_utils

  cluster = cluster_utils.Cluster()
  cluster.add_node(num_cpus=0, **NODE)
  nodes = [cluster.add_node(num_cpus=1, **NODE) for _ in range(2)]
  try:
    yield cluster, nodes
  finally:
    cluster.shutdown()


def _study(root, *flags) -> subprocess.Popen:
  tool = ROOT / 'tools' / 'roar_study.py'
  return subprocess.Popen(
    [sys.executable, str(tool), '--study=quickstart', f'--workspace={root}']
    + list(flags),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )


def _runs(root) -> int:
  return len(list(pathlib.Path(root).glob('runs/*/*/*/*/DONE')))


def _wait_for_runs(process, root, count: int) -> None:
  end = time.monotonic() + LONGEST
  while _runs(root) < count:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end
    time.sleep(0.2)


SHORT = (
  "--gin_bindings=Study.estimators = ('random', 'grad', 'oracle')",
  '--gin_bindings=Study.thresholds = (70,)',
)


@pytest.mark.slow
@pytest.mark.parametrize('shorter', [SHORT, ()], ids=['short', 'whole'])
def test_a_study_survives_a_node_and_its_driver(shorter, tmp_path, artefacts):
  alone = _study(tmp_path / 'alone', *shorter)
  out, err = alone.communicate(timeout=LONGEST)
  assert alone.returncode == 0, err
  total = _runs(tmp_path / 'alone')
  assert total > (10 if shorter else 100)
  root = tmp_path / 'cluster'
  with _cluster() as (cluster, nodes):
    flags = ('--executor=ray', f'--ray_address={cluster.address}', *shorter)
    driver = _study(root, *flags)
    _wait_for_runs(driver, root, total // 4)
    cluster.remove_node(nodes[0], allow_graceful=False)
    died_at = _runs(root)
    _wait_for_runs(driver, root, total // 2)
    driver.kill()
    _, err = driver.communicate()
    assert driver.returncode == -9, err
    restarted_at = _runs(root)
    assert died_at < restarted_at < total
    driver = _study(root, *flags)
    again, err = driver.communicate(timeout=LONGEST)
    assert driver.returncode == 0, err
  print('node died at', died_at, 'driver at', restarted_at, 'of', total)
  found, expected = artefacts(root), artefacts(tmp_path / 'alone')
  del found['.identity']
  # What TFDS prepares itself is not ours, and not the same twice.
  found, expected = (
    {n: v for n, v in some.items() if not n.startswith('tfds/planted_patch/')}
    for some in (found, expected)
  )
  assert sorted(found) == sorted(expected)
  assert [n for n in found if found[n] != expected[n]] == []
  # The tables, and with them all accuracies.
  table = again[again.index('planted_patch, remove') :].split('Report:')[0]
  assert table in out
