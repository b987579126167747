"""The Ray executor: every unit is a task that waits for its inputs alone.

This process, the driver, decides what is ready (`graph`), hands it to Ray and
counts what became of it. Tasks whose node dies begin again on another one, and
trainings go on from their checkpoints. The driver may die, too: the same
command, run again, finds all that is committed.
"""

import collections
import contextlib
import heapq
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from roar_tf import errors
from roar_tf.cluster.connection import Cluster
from roar_tf.cluster.graph import Graph
from roar_tf.cluster.worker import Result, Task
from roar_tf.study import progress
from roar_tf.study.executor import Outcome, Tally
from roar_tf.study.units import Unit

_log = logging.getLogger(__name__)

PAUSES = (1.0, 10.0, 60.0)
"""Seconds before a unit is tried again. What was made on another machine may be
a minute late on a network file system."""
MOST_TASKS = 1000
"""Tasks of one stage that Ray knows of at once."""


def execute(
  cluster: Cluster,
  units: Mapping[str, Sequence[Unit]],
  finished: Callable[[str, Tally], None],
  stop: Callable[[], bool] = lambda: False,
  heartbeat=None,
) -> None:
  """Makes the units of some stages on a cluster.

  A unit begins when its inputs were made, whatever else there is to do in their
  stages. If one fails, those that read it fail, and the rest is done.

  Args:
    cluster: the cluster.
    units: by stage, in the order of the stages.
    finished: told of every stage that has ended.
    stop: whether a signal asked to stop.
    heartbeat: told of units as they begin, `begin(stage, name)`, and end,
      `end(stage, name, kind, failure)`, and of devices, `uses(count)`; or None.

  Raises:
    UsageError: an artefact was made with other settings, or a node cannot do
      what it is asked.
    PreemptedError: stopped; trainings were saved.
  """
  with contextlib.ExitStack() as bars:
    _Execution(cluster, units, finished, bars, heartbeat).run(stop)


class _Execution:
  """Units on their way, by their place in the list of all."""

  def __init__(self, cluster, units, finished, bars, heartbeat):
    self._heartbeat = heartbeat
    self._looked = float('-inf')
    self._cluster = cluster
    self._units = [unit for some in units.values() for unit in some]
    self._stages = [stage for stage, some in units.items() for _ in some]
    self._graph = Graph(self._units)
    self._finished = finished
    self._bars = bars
    self._counts = {
      stage: _Count(stage, len(some)) for stage, some in units.items()
    }
    # Heaps: the first of a study goes first, as that unlocks the most.
    self._ready = self._graph.first()
    self._later: list[tuple[float, int]] = []
    self._flying = {}
    self._tries = collections.Counter()
    self._seen: set[int] = set()
    self._said: set[str] = set()
    self._ending: errors.RoarError | None = None
    for stage, some in units.items():
      if not some:
        finished(stage, Tally())

  def run(self, stop: Callable[[], bool]) -> None:
    """Makes them all; see `execute`."""
    if self._heartbeat:
      self._cluster.watch()
    while self._flying or not self._ending and (self._ready or self._later):
      if stop() and not self._ending:
        self._end(
          errors.PreemptedError('stopped; run the same command again to go on.')
        )
      if not self._ending:
        self._submit()
      if not self._flying:  # Until something may be tried again.
        time.sleep(0.1)
      else:
        ended = self._cluster.wait(list(self._flying), timeout=1.0)
        self._tell_begun()
        for reference in ended:
          index = self._flying.pop(reference)
          name = self._units[index].name
          self._settle(index, self._cluster.result(reference, name))
    if self._ending:
      raise self._ending

  def _tell_begun(self) -> None:
    if self._heartbeat:
      if time.monotonic() - self._looked > 10:  # A cluster may grow.
        self._looked = time.monotonic()
        self._heartbeat.uses(self._cluster.devices())
      flying = {self._units[index].name for index in self._flying.values()}
      for stage, name in self._cluster.begun():
        if name in flying:  # News of one that has ended may come late.
          self._heartbeat.begin(stage, name)

  def _end(self, error: errors.RoarError) -> None:
    """Begins nothing more, and has the tasks that run save and end."""
    if not self._ending:
      self._ending = error
      for reference in self._flying:
        self._cluster.cancel(reference)

  def _submit(self) -> None:
    """Hands to the cluster what is ready."""
    now = time.monotonic()
    while self._later and self._later[0][0] <= now:
      heapq.heappush(self._ready, heapq.heappop(self._later)[1])
    flying = collections.Counter(self._stages[i] for i in self._flying.values())
    waiting = []
    while self._ready:
      index = heapq.heappop(self._ready)
      stage, unit = self._stages[index], self._units[index]
      if flying[stage] >= MOST_TASKS:
        waiting.append(index)
        continue
      flying[stage] += 1
      self._counts[stage].begin(self._bars)
      look = self._may_be_done(index)
      dones = tuple(target.done for target in unit.targets)
      reference = self._cluster.submit(
        Task(stage, unit.name, dones, look), light=look or unit.shared
      )
      self._flying[reference] = index
    self._ready = waiting  # In order, so a heap.

  def _may_be_done(self, index: int) -> bool:
    """Whether to look before devices are taken, which costs a new process."""
    if index in self._seen or not self._cluster.accelerates(
      self._stages[index]
    ):
      return False
    self._seen.add(index)
    return all(tf.io.gfile.exists(t.done) for t in self._units[index].targets)

  def _settle(self, index: int, result: Result) -> None:
    """Counts a unit that has ended, or has it tried again."""
    unit, count = self._units[index], self._counts[self._stages[index]]
    count.tally.step_seconds += result.step_seconds
    for line in result.said.splitlines():
      if line not in self._said:  # Every process says it.
        self._said.add(line)
        progress.say(line)
    if result.kind in ('made', 'kept'):
      if result.kind == 'made':
        count.tally.unit_seconds += result.seconds
        _log.info('%s: done on %s', unit.name, result.node)
      self._count(index, Outcome(result.kind))
      self._go_on(index)
    elif result.kind == 'refused':
      self._end(errors.UsageError(result.text))
    elif result.kind == 'work':
      heapq.heappush(self._ready, index)
    elif self._ending:
      pass  # It was stopped, or would have been tried again.
    elif result.again and self._tries[index] < self._cluster.retries:
      pause = PAUSES[min(self._tries[index], len(PAUSES) - 1)]
      self._tries[index] += 1
      _log.info('again in %.0f s: %s', pause, result.text)
      heapq.heappush(self._later, (time.monotonic() + pause, index))
    else:
      kind = 'missing' if result.kind == 'missing' else 'failed'
      self._count(index, Outcome(kind, result.text))
      # A unit that failed may have made some of its artefacts.
      dones = [target.done for target in unit.targets]
      self._go_on(index, [d for d in dones if not tf.io.gfile.exists(d)])

  def _go_on(self, index: int, lost: Sequence[str] = ()) -> None:
    """Finds what a unit's end makes ready, or forbids."""
    ready, hopeless = self._graph.settle(index, lost)
    for other in ready:
      heapq.heappush(self._ready, other)
    for other in hopeless:
      text = f'not begun, since {self._units[index].name} failed.'
      name = self._units[other].name
      self._count(other, Outcome('missing', f'{name}: {text}'))

  def _count(self, index: int, outcome: Outcome) -> None:
    stage = self._stages[index]
    count = self._counts[stage]
    if self._heartbeat:
      name = self._units[index].name
      self._heartbeat.end(stage, name, outcome.kind, outcome.failure)
    if count.is_last(outcome):
      self._finished(stage, count.tally)


class _Count:
  """How far a stage is; its bar appears when it begins."""

  def __init__(self, stage: str, total: int):
    self.tally = Tally()
    self._stage, self._total, self._left = stage, total, total
    self._start, self._bar = None, None

  def begin(self, bars: contextlib.ExitStack) -> None:
    """Notes that a unit begins."""
    if self._start is None:
      self._start = time.monotonic()
      what = f'{self._stage:>6}'
      self._bar = bars.enter_context(progress.bar(self._total, what, 'units'))

  def is_last(self, outcome: Outcome) -> bool:
    """Counts a unit; returns whether it was the last."""
    self.tally.add(outcome)
    self._left -= 1
    if self._bar is not None:
      self._bar.update()
    if self._left == 0 and self._start is not None:
      self.tally.seconds = time.monotonic() - self._start
      self._bar.close()
    return self._left == 0
