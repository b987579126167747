"""Tests of pools: threads, and hosts that do units together."""

import threading

import pytest

from roar_tf import engine


def test_units_run_side_by_side(bench):
  barrier = threading.Barrier(3, timeout=20)
  write = bench.write

  def together(artefact):
    barrier.wait()  # Passes only when three are inside.
    return write(artefact)

  bench.write = together
  for name in 'abcdef':
    bench.add(name)
  log = bench.make(pool=engine.ThreadPool(3))
  assert log.counts() == {'made': 6}


def test_every_marker_records_the_facts_of_a_pool(bench):
  bench.add('a')
  pool = engine.ThreadPool(facts=lambda: {'environment': 'toy'}, devices=4)
  log = bench.make(pool=pool)
  marker = engine.markers.read(bench.marker('a'))
  assert marker['environment'] == 'toy' and 'text' in marker['files']
  assert log.used == {4}


class Hosts:
  """Two hosts of one program: threads, which share a disk."""

  def __init__(self, bench, together):
    self._barrier, self._collective = (
      threading.Barrier(2, timeout=20) for _ in range(2)
    )
    self._bench, self._together = bench, together
    self._write = bench.write
    self._local = threading.local()
    self.worked = {True: [], False: []}

  def _work(self, artefact):
    self.worked[self._local.is_chief].append(self._bench.name_of(artefact))
    if artefact.stage.name in self._together:
      self._collective.wait()
    return self._write(artefact)

  def make(self):
    """Makes all; returns what the observers of both hosts were told."""
    logs, self._bench.write = {}, self._work

    def host(is_chief):
      self._local.is_chief = is_chief
      pool = engine.LockstepPool(
        self._together, is_chief, self._barrier.wait, devices=8
      )
      logs[is_chief] = self._bench.make(pool=pool)

    threads = [threading.Thread(target=host, args=[v]) for v in (True, False)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    self._bench.write = self._write
    return logs[True], logs[False]


@pytest.fixture
def hosts(bench):
  bench.add('origin', 'first')
  for number in range(3):
    bench.add(f'u{number}', 'together', ['origin'])
  bench.add('sum', 'last', ['u1'], soft=['u0', 'u2'])
  return Hosts(bench, {'together'})


def test_hosts_do_units_together_and_the_first_one_all_others(bench, hosts):
  chief, helper = hosts.make()
  assert bench.there() == set(bench.artefacts)
  assert hosts.worked[True] == ['origin', 'u0', 'u1', 'u2', 'sum']
  assert hosts.worked[False] == ['u0', 'u1', 'u2']
  assert chief.counts() == helper.counts() == {'made': 5}
  assert chief.used == helper.used == {8}
  # Who waits takes as long as who works: means hold on all hosts.
  assert helper.outcomes['origin'].seconds > 0
  one = bench.contents()
  bench.delete('origin', 'u0', 'u1', 'u2', 'sum')
  bench.make()
  assert bench.contents() == one


def test_hosts_agree_on_what_has_failed(bench, hosts):
  bench.errors['u0'] = ValueError('no luck')
  chief, helper = hosts.make()
  assert chief.states == helper.states
  assert chief.counts() == {'made': 4, 'failed': 1}
  assert bench.there() == {'origin', 'u1', 'u2', 'sum'}
  bench.delete('origin', 'u1', 'u2', 'sum')
  bench.errors = {'origin': ValueError('no luck')}
  chief, helper = hosts.make()
  assert chief.counts() == helper.counts() == {'failed': 1, 'missing': 4}
  assert 'origin: ValueError: no luck' in chief.error
  assert 'origin: the first host has not finished it' in helper.error


def _system(root, groups, **files):
  """Makes the files of a system in which this process is in some groups."""
  for name, text in {'proc/self/cgroup': groups, **files}.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return str(root)


V2 = {'sys/fs/cgroup/a/cpu.max': '250000 100000\n'}
V1 = 'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_'


@pytest.mark.parametrize(
  'groups, files, expected',
  [
    ('0::/\n', {'sys/fs/cgroup/cpu.max': 'max 100000\n'}, 64),
    ('0::/\n', {'sys/fs/cgroup/cpu.max': '400000 100000\n'}, 4),
    ('0::/\n', {'sys/fs/cgroup/cpu.max': '50000 100000\n'}, 1),
    ('0::/\n', {'sys/fs/cgroup/cpu.max': '9900000 100000\n'}, 64),
    ('0::/a/b\n', {**V2, 'sys/fs/cgroup/a/b/cpu.max': 'max 100000\n'}, 2),
    (
      '4:cpu,cpuacct:/docker/x\n0::/\n',
      {f'{V1}quota_us': '300000\n', f'{V1}period_us': '100000\n'},
      3,
    ),
    (
      '4:cpu,cpuacct:/\n',
      {f'{V1}quota_us': '-1\n', f'{V1}period_us': '100000\n'},
      64,
    ),
    ('3:cpuset:/\n', {}, 64),
  ],
)
def test_a_container_with_a_quota_of_cores_gets_no_more(
  groups, files, expected, tmp_path, monkeypatch
):
  monkeypatch.setattr(
    'os.sched_getaffinity', lambda _: range(64), raising=False
  )
  assert engine.cores(_system(tmp_path, groups, **files)) == expected
  assert engine.cores(str(tmp_path / 'no system')) == 64
