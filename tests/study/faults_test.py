"""No fault changes a byte, whoever executes a study.

Every executor meets every fault: processes are killed, stopped, race for the
same units, find a full disk, or may not write. The same command is then given
again, and the workspace must hold the bytes of an undisturbed one, markers
included. Whatever stands under its final name must hold them at any time.
"""

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from study_bench import LONGEST, Bench

from roar_tf.engine import verify
from roar_tf.study import repairs
from roar_tf.study.paths import Workspace

STAGES = ('source', 'model', 'rank', 'shards', 'train', 'report')


def _threads(bench) -> list[list[tuple[str, ...]]]:
  return [[('--parallel=2',)]]


def _workers(bench) -> list[list[tuple[str, ...]]]:
  """Two workers share every stage; the report is nobody's."""
  workers = [f'--worker={n}' for n in range(2)]
  return [
    [(f'--stage={stage}', '--num_workers=2', worker) for worker in workers]
    for stage in STAGES
  ]


def _race(bench) -> list[list[tuple[str, ...]]]:
  return [[('--parallel=1',), ('--parallel=1',)]]


def _ray(bench) -> list[list[tuple[str, ...]]]:
  return [[('--executor=ray', '--ray_address=local', '--parallel=2')]]


EXECUTORS = {'threads': _threads, 'workers': _workers, 'race': _race}
"""Functions that return steps: lists of commands that run side by side."""


def _undisturbed(bench, steps) -> None:
  for commands in steps:
    bench.finish(*commands)


def _signalled(bench, steps, number: int, times: int) -> None:
  """Ends the first process of every step a few times, amid its work."""
  rng = random.Random(len(steps) * number)
  for commands in steps:
    for _ in range(times):
      processes = [bench.start(*flags) for flags in commands]
      goal = len(bench.markers()) + rng.randint(1, 9)
      end = time.monotonic() + 120
      while processes[0].poll() is None and time.monotonic() < end:
        if len(bench.markers()) >= goal:
          break
        time.sleep(0.01)
      time.sleep(rng.uniform(0, 0.2))
      processes[0].send_signal(number)
      for process in processes:
        process.communicate(timeout=LONGEST)
      # A signal may come before the command listens.
      wanted = (75, -number) if number == signal.SIGTERM else (-number,)
      assert processes[0].returncode in (*wanted, 0, 1)
      bench.check_whole()
    bench.finish(*commands)


def _killed(bench, steps) -> None:
  _signalled(bench, steps, signal.SIGKILL, 3 if len(steps) == 1 else 1)


def _stopped(bench, steps) -> None:
  _signalled(bench, steps, signal.SIGTERM, 1)


@contextlib.contextmanager
def _small_disk(place, size):
  """Yields a function that changes the size of a disk mounted at `place`."""
  command = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(place)]
  if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
    pytest.skip('only root may mount a small disk')
  try:
    yield lambda size: subprocess.run(
      ['mount', '-o', f'remount,size={size}', str(place)], check=True
    )
  finally:
    subprocess.run(['umount', '--lazy', str(place)], check=True)


def _on_a_full_disk(bench, steps) -> None:
  place = bench.root
  place.mkdir()
  with _small_disk(place, '600k') as resize:
    bench.root = place / 'workspace'
    bench.flags.append(f'--workspace={bench.root}')
    for commands in steps:
      full = []
      for process in [bench.start(*flags) for flags in commands]:
        _, err = process.communicate(timeout=LONGEST)
        assert 'Traceback' not in err
        assert process.returncode in (0, 1), err
        full.append(process.returncode and 'the disk is full' in err)
      bench.check_whole()
      if any(full):
        resize('50m')
      bench.finish(*commands)
    bench.check_equal()


def _without_permission(bench, steps) -> None:
  """A dataset's folder may not be written to while its stage runs."""
  *others, _ = STAGES
  for stage in others[:2]:
    bench.finish((f'--stage={stage}',))
  directory = bench.root / 'tfds/roar_tiny/ranking_grad_pixel/1.0.0'
  directory.mkdir(parents=True)
  directory.chmod(0o555)
  try:
    prefix = _bound_by_permissions(directory)
    process = bench.start('--stage=rank', prefix=prefix)
    _, err = process.communicate(timeout=LONGEST)
  finally:
    directory.chmod(0o755)
  assert process.returncode == 1, err
  assert 'Traceback' not in err
  failures = [line for line in err.splitlines() if 'ermission' in line]
  assert failures and all(str(directory) in line for line in failures)
  bench.check_whole()
  _undisturbed(bench, steps)


def _bound_by_permissions(directory) -> list[str]:
  """Returns what a command begins with, lest root write where none may."""
  for prefix in ([], ['setpriv', '--bounding-set=-dac_override']):
    write = ['sh', '-c', 'echo > "$0/probe"', str(directory)]
    if prefix and not shutil.which(prefix[0]):
      continue
    done = subprocess.run([*prefix, *write], capture_output=True, text=True)
    (directory / 'probe').unlink(missing_ok=True)
    if 'Permission denied' in done.stderr:
      return prefix
  pytest.skip('this user writes whatever permissions say; `setpriv` is no help')


FAULTS = {
  'nothing': _undisturbed,
  'SIGKILL': _killed,
  'SIGTERM': _stopped,
  'full_disk': _on_a_full_disk,
  'permission': _without_permission,
}
CASES = [
  *((executor, fault) for executor in EXECUTORS for fault in FAULTS),
  ('ray', 'nothing'),
  ('ray', 'SIGTERM'),
  ('ray', 'SIGKILL'),
]


@pytest.mark.slow
@pytest.mark.parametrize('executor, fault', CASES)
def test_no_fault_changes_a_byte(
  executor, fault, tiny, finished, tmp_path, artefacts
):
  root = tmp_path / 'w'
  bench = Bench(
    [f'--study={tiny.study}', *tiny.flags(root)],
    root,
    artefacts,
    artefacts(finished),
  )
  if executor == 'ray':
    pytest.importorskip('ray')
  steps = {**EXECUTORS, 'ray': _ray}[executor](bench)
  FAULTS[fault](bench, steps)
  if fault != 'full_disk':  # Its disk is gone.
    bench.check_equal()
  assert not list(root.rglob('checkpoint*'))


def test_a_stopped_study_saves_and_goes_on(
  tiny, finished, damaged, artefacts, tool
):
  """The one fault that is tried in every run of the tests."""
  shutil.rmtree(damaged / 'runs')
  bench = Bench(
    [f'--study={tiny.study}', *tiny.flags(damaged)],
    damaged,
    artefacts,
    artefacts(finished),
  )
  process, end = bench.start(), time.monotonic() + 120
  while not list(damaged.glob('runs/*/*/*/*/DONE')):
    assert process.poll() is None and time.monotonic() < end
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 75, err
  assert 'the same command again' in err
  assert 'Traceback' not in err
  assert 1 <= len(list(damaged.glob('runs/**/result.json'))) < 10
  # Not in a process of its own again: TensorFlow takes seconds to start.
  outcome = tool('roar_study', *bench.flags)
  assert outcome.status == 0, outcome.err
  bench.check_equal()


@pytest.mark.slow
def test_a_hundred_kills_change_no_byte(tiny, finished, tmp_path, artefacts):
  """Whatever is finished is deleted in part, so that there is work to kill."""
  root = tmp_path / 'w'
  bench = Bench(
    [f'--study={tiny.study}', *tiny.flags(root)],
    root,
    artefacts,
    artefacts(finished),
  )
  bench.kill(100, lambda folder: shutil.rmtree(root / folder))


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_found(damaged, flip):
  rng, every = random.Random(6), repairs.folders(Workspace(str(damaged)))
  covered = [
    path
    for folder in every
    for path in sorted(pathlib.Path(folder).iterdir())
    if path.is_file()
    and path.name not in ('timing.json', 'config.gin')
    and '/reports/' not in folder
  ]
  assert len(covered) > 50
  for _ in range(1000):
    path = rng.choice(covered)
    bit = rng.randrange(8 * path.stat().st_size)
    flip(path, bit)
    findings = verify.verify([str(path.parent)], layout=repairs.LAYOUT)
    assert [d.path for d in findings.damages] == [str(path)], (path, bit)
    flip(path, bit)


# --- a cluster that loses a node --------------------------------------------

SHORT = (
  "--gin_bindings=Study.estimators = ('random', 'grad', 'oracle')",
  '--gin_bindings=Study.thresholds = (70,)',
)


@contextlib.contextmanager
def _cluster():
  """Yields a cluster that no process here is connected to, and its nodes."""
  # Before Ray is imported: it listens on the loopback device, and tells nobody.
  os.environ.setdefault('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')
  os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
  pytest.importorskip('ray')
  from ray import cluster_utils

  node = {'include_dashboard': False, 'node_ip_address': '127.0.0.1'}
  cluster = cluster_utils.Cluster()
  cluster.add_node(num_cpus=0, **node)
  nodes = [cluster.add_node(num_cpus=1, **node) for _ in range(2)]
  try:
    yield cluster, nodes
  finally:
    cluster.shutdown()


def _wait_for_runs(process, root, count: int) -> None:
  end = time.monotonic() + 3 * LONGEST
  while len(list(root.glob('runs/*/*/*/*/DONE'))) < count:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end
    time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize('shorter', [SHORT, ()], ids=['short', 'whole'])
def test_quickstart_survives_a_node_and_its_driver(
  shorter, tmp_path, artefacts
):
  study = ['--study=quickstart', *shorter]
  alone = Bench([*study, f'--workspace={tmp_path}/a'], tmp_path, artefacts, {})
  out, err = alone.start().communicate(timeout=3 * LONGEST)
  assert 'Report:' in out, err
  root = tmp_path / 'b'
  expected = {
    name: data
    for name, data in artefacts(tmp_path / 'a').items()
    # What TFDS prepares itself is not ours, and not the same twice.
    if not name.startswith('tfds/planted_patch/')
  }
  total = sum('/seed_' in name and name.endswith('DONE') for name in expected)
  bench = Bench([*study, f'--workspace={root}'], root, artefacts, expected)
  with _cluster() as (cluster, nodes):
    flags = ('--executor=ray', f'--ray_address={cluster.address}')
    driver = bench.start(*flags)
    _wait_for_runs(driver, root, total // 4)
    cluster.remove_node(nodes[0], allow_graceful=False)
    _wait_for_runs(driver, root, total // 2)
    driver.kill()
    driver.communicate()
    again, err = bench.start(*flags).communicate(timeout=3 * LONGEST)
  shutil.rmtree(root / 'tfds/planted_patch', ignore_errors=True)
  bench.check_equal()
  # The tables, and with them all accuracies.
  table = re.search(r'planted_patch, remove.*?(?=Report:)', again, re.S)
  assert table and table[0] in out, err
