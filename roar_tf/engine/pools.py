"""Where units run: in threads of this process, or on all hosts of a program.

`ray_pool` has a third pool. A pool only runs units; the scheduler decides which
are ready, and what their outcomes mean.
"""

import concurrent.futures
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.engine.unit import FAILED, MADE, Outcome, Unit, attempt


class Pool(Protocol):
  """What the scheduler asks of a pool.

  Attributes:
    retries: how often a unit may begin again after a failure that may pass.
    devices: how many devices the units share.
    queues: whether units may wait in the pool before they begin; `begun` then
      tells when they do.
  """

  retries: int
  devices: int
  queues: bool

  def has_room(self, stage: str, running: Mapping[str, int]) -> bool:
    """Whether a unit of a stage may be submitted beside those that run."""

  def submit(self, unit: Unit):
    """Begins a unit; returns a handle of it, which can be hashed."""

  def wait(self, handles: Collection, timeout: float) -> list:
    """Returns the handles of units that have ended, once there is one."""

  def outcome(self, handle) -> Outcome:
    """Returns what became of a unit that has ended.

    Raises:
      UsageError: nothing of the work can be done as it is asked for.
      PreemptedError: it was stopped after saving.
    """

  def cancel(self, handle) -> None:
    """Has a unit save and end, or never begin."""

  def begun(self) -> list[tuple[str, str]]:
    """Returns (stage, name) of queued units that began since last asked."""

  def agree(self) -> None:
    """Waits until all processes that share the units have come this far."""


class ThreadPool:
  """Units side by side in threads of this process.

  They share compiled functions, and since each is a pure function of its inputs
  running several side by side changes no byte.
  """

  retries = 0
  queues = False

  def __init__(
    self,
    size: int = 1,
    facts: Callable[[], Mapping] = dict,
    devices: int = 1,
  ):
    """Describes a pool.

    Args:
      size: units side by side.
      facts: see `unit.attempt`.
      devices: see `Pool`.
    """
    self._size, self._facts, self.devices = size, facts, devices
    self._threads = concurrent.futures.ThreadPoolExecutor(size)

  def has_room(self, stage: str, running: Mapping[str, int]) -> bool:
    """See `Pool`."""
    return sum(running.values()) < self._size

  def submit(self, unit: Unit) -> concurrent.futures.Future:
    """See `Pool`."""
    return self._threads.submit(attempt, unit, self._facts)

  def wait(self, handles: Collection, timeout: float) -> list:
    """See `Pool`."""
    ended, _ = concurrent.futures.wait(
      handles, timeout, concurrent.futures.FIRST_COMPLETED
    )
    return list(ended)

  def outcome(self, handle: concurrent.futures.Future) -> Outcome:
    """See `Pool`."""
    if handle.cancelled():
      raise errors.PreemptedError('stopped before it began.')
    return handle.result()

  def cancel(self, handle: concurrent.futures.Future) -> None:
    """Units that run are finished, or save when their signal arrives."""
    handle.cancel()

  def begun(self) -> list[tuple[str, str]]:
    """Nothing: units begin when they are submitted."""
    return []

  def agree(self) -> None:
    """Threads have nobody to wait for."""


class LockstepPool(ThreadPool):
  """Units of one program on several hosts, one at a time, in one order.

  All hosts do the units of the stages that their devices share. The first host
  does all others and writes all markers, while the rest wait for it.
  """

  def __init__(
    self,
    together: Collection[str],
    is_chief: bool,
    barrier: Callable[[], None],
    facts: Callable[[], Mapping] = dict,
    devices: int = 1,
  ):
    """Describes a pool.

    Args:
      together: names of the stages whose units all hosts do.
      is_chief: whether this is the first host.
      barrier: returns when all hosts have called it.
      facts: see `unit.attempt`.
      devices: see `Pool`.
    """
    super().__init__(1, facts, devices)
    self._together, self._barrier = together, barrier
    self._is_chief = is_chief

  def submit(self, unit: Unit) -> concurrent.futures.Future:
    """Runs a unit; returns when all hosts are through with it."""
    future = concurrent.futures.Future()
    try:
      future.set_result(self._run(unit))
    except BaseException as e:
      future.set_exception(e)
    return future

  def _run(self, unit: Unit) -> Outcome:
    if self._is_chief or unit.stage in self._together:
      outcome = attempt(unit, self._facts, commits=self._is_chief)
      self._barrier()
      return outcome
    start = time.monotonic()
    self._barrier()
    if all(files.exists(artefact.marker) for artefact in unit.makes):
      return Outcome(MADE, seconds=time.monotonic() - start)
    return Outcome(FAILED, f'{unit.name}: the first host has not finished it.')

  def agree(self) -> None:
    """Waits for all hosts: they must have seen the same workspace."""
    self._barrier()


def cores(root: str = '') -> int:
  """Returns how many CPU cores this process may keep busy, at least one.

  They are those that it may run on, or fewer where a container has a quota.

  Args:
    root: what the paths of the system begin with; tests have their own.
  """
  if hasattr(os, 'sched_getaffinity'):
    count = len(os.sched_getaffinity(0))
  else:
    count = os.cpu_count() or 1
  return max(1, min([count, *map(int, _quotas(root))]))


def _quotas(root: str) -> Iterator[float]:
  """Yields the cores that each control group (v1 or v2) allows this process."""
  mounts = f'{root}/sys/fs/cgroup'
  for line in _lines(f'{root}/proc/self/cgroup'):
    _, controllers, group = line.split(':', 2)
    if not controllers:
      tops, limits = [mounts, f'{mounts}/unified'], ['cpu.max']
    elif 'cpu' in controllers.split(','):
      tops = [f'{mounts}/{controllers}', f'{mounts}/cpu']
      limits = ['cpu.cfs_quota_us', 'cpu.cfs_period_us']
    else:
      continue
    # In a container the group that it has for itself is the top.
    names = [name for name in group.split('/') if name]
    folders = ['/'.join(names[:n]) for n in range(len(names) + 1)]
    for folder in (f'{top}/{name}' for top in tops for name in folders):
      words = [
        word
        for limit in limits
        for line in _lines(f'{folder}/{limit}')
        for word in line.split()
      ]
      if len(words) == 2 and words[0] not in ('max', '-1'):
        yield int(words[0]) / int(words[1])


def _lines(path: str) -> list[str]:
  """Returns the lines of a small file of the system; none if it has none."""
  try:
    return files.read(path).decode().splitlines()
  except OSError:
    return []
