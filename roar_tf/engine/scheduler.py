"""The one loop that makes goals: ready, submit, settle, retry, stop."""

import collections
import dataclasses
import heapq
import logging
import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Protocol

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.engine.graph import Graph
from roar_tf.engine.pools import Pool
from roar_tf.engine.storage import Snapshot
from roar_tf.engine.unit import (
  FAILED,
  KEPT,
  LEFT,
  MISSING,
  Artefact,
  Outcome,
  Unit,
)

_log = logging.getLogger(__name__)

PAUSES = (1.0, 10.0, 60.0)
"""Seconds before a unit is tried again. What was made on another machine may be
a minute late on a network file system."""
_PATIENCE = 1.0
"""Seconds between two looks at signals and at what other machines say."""


class Observer(Protocol):
  """Who is told of the work while it goes on: progress bars, heartbeats."""

  def plan(self, stage: str, units: int) -> None:
    """Is told of every stage, before any work, how many units it has."""

  def uses(self, devices: int) -> None:
    """Is told how many devices the units share; see `Pool`."""

  def begin(self, stage: str, unit: str) -> None:
    """Is told of a unit that begins."""

  def end(self, stage: str, unit: str, outcome: Outcome) -> None:
    """Is told of every unit that has ended, or was finished before."""


@dataclasses.dataclass(frozen=True)
class Share:
  """Which units are this worker's, of several that share the work.

  Attributes:
    worker: this worker, from 0.
    workers: how many there are.
  """

  worker: int = 0
  workers: int = 1

  def holds(self, unit: Unit) -> bool:
    """Whether a unit is for this worker. All try to complete what is light."""
    return unit.light or unit.number % self.workers == self.worker


def make(
  goals: Iterable[Artefact],
  snapshot: Snapshot,
  pool: Callable[[], Pool],
  *,
  within: Container[str] | None = None,
  trusts: bool = False,
  share: Share = Share(),
  observers: Sequence[Observer] = (),
  stop: Callable[[], bool] = lambda: False,
) -> None:
  """Makes goals and what they need; what is finished is kept.

  Args:
    goals: artefacts that are asked for.
    snapshot: what is there.
    pool: returns where units run; called when there is something to do.
    within: names of the stages that may work; None for all.
    trusts: whether what other stages made is taken as it is.
    share: which units are this worker's.
    observers: told of every unit.
    stop: whether a signal asked to stop.

  Raises:
    UsageError: an artefact was made with other settings, or can never be made.
    UnitsFailedError: some units failed; the rest was done as far as it could.
    PreemptedError: stopped by a signal after saving.
  """
  graph = Graph(goals, snapshot, within=within, trusts=trusts)
  own = {i for i, node in enumerate(graph.nodes) if share.holds(node.unit)}
  _announce(graph, own, observers)
  if not any(graph.nodes[index].pending for index in own):
    return
  units = pool()
  waiting = (graph.nodes[index].unit for index in graph.waiting())
  for stage in dict.fromkeys(unit.makes[0].stage for unit in waiting):
    stage.check()
  work = _Work(graph, snapshot, own, units, share.workers > 1, observers)
  work.run(stop)
  if work.failures:
    lines = '\n  '.join(work.failures)
    raise errors.UnitsFailedError(
      f'{len(work.failures)} of the units failed, the rest is done:\n  {lines}'
    )


def _announce(
  graph: Graph, own: Container[int], observers: Sequence[Observer]
) -> None:
  """Tells observers what there is, and which units were finished before."""
  nodes = [node for index, node in enumerate(graph.nodes) if index in own]
  totals = collections.Counter(node.unit.stage for node in nodes)
  for observer in observers:
    for stage in graph.stages:
      observer.plan(stage, totals[stage])
    for node in nodes:
      if not node.pending:
        observer.end(node.unit.stage, node.unit.name, Outcome(KEPT))


class _Work:
  """The units of a graph on their way."""

  def __init__(
    self,
    graph: Graph,
    snapshot: Snapshot,
    own: Container[int],
    pool: Pool,
    is_shared: bool,
    observers: Sequence[Observer],
  ):
    self._graph, self._snapshot = graph, snapshot
    self._own, self._pool = own, pool
    self._is_shared, self._observers = is_shared, observers
    self.failures: list[str] = []
    # Heaps: what comes first in a stage goes first, as that unlocks the most.
    self._ready: dict[str, list[int]] = {stage: [] for stage in graph.stages}
    self._begin_later(graph.ready())
    self._later: list[tuple[float, int]] = []
    self._running: dict[object, int] = {}
    self._tries = collections.Counter()
    self._ending: errors.RoarError | None = None

  def run(self, stop: Callable[[], bool]) -> None:
    """Makes all units; see `make`."""
    self._pool.agree()
    for observer in self._observers:
      observer.uses(self._pool.devices)
    while self._running or not self._ending and self._left():
      if stop():
        self._end(
          errors.PreemptedError('stopped; run the same command again to go on.')
        )
      self._submit()
      if self._running:
        self._settle_ended()
      else:
        time.sleep(0.1)  # Until something may be tried again, or has room.
    if self._ending:
      raise self._ending

  def _left(self) -> bool:
    """Whether there is, or may come, something to begin."""
    return bool(any(self._ready.values()) or self._later or self._look_again())

  def _look_again(self) -> bool:
    """Looks whether other workers have made what own units wait for.

    Units that still wait do without what they do not require, or are given up:
    whoever makes their inputs last, or the same command later, does them.
    """
    waiting = [i for i in self._graph.waiting() if i in self._own]
    absent = {m for index in waiting for m in self._graph.waits_for(index)}
    snapshot = self._snapshot.anew()
    snapshot.look(absent)
    there = [marker for marker in sorted(absent) if snapshot.exists(marker)]
    self._begin_later(self._graph.settle(there)[0])
    if not any(self._ready.values()):
      for index in waiting:
        if self._graph.waits_for(index):
          self._wait_no_more(index)
    return any(self._ready.values())

  def _wait_no_more(self, index: int) -> None:
    """Ends, or begins, a unit that waits for what others have not made yet."""
    unit = self._graph.nodes[index].unit
    lacking = self._graph.forget(index)
    if not lacking:
      self._begin_later([index])
    elif unit.light and self._is_shared:
      self._count(index, Outcome(LEFT))
    else:
      why = (
        f'{lacking[0]} is not there yet: run the stages before this one first, '
        'or wait for the workers that do.'
      )
      self._count(index, Outcome(MISSING, f'{unit.name}: {why}'))

  def _end(self, error: errors.RoarError) -> None:
    """Begins nothing more, and has the units that run save and end."""
    if not self._ending:
      self._ending = error
      for handle in self._running:
        self._pool.cancel(handle)

  def _submit(self) -> None:
    """Hands to the pool what is ready, as far as there is room."""
    now = time.monotonic()
    while self._later and self._later[0][0] <= now:
      self._begin_later([heapq.heappop(self._later)[1]])
    running = collections.Counter(
      self._graph.nodes[index].unit.stage for index in self._running.values()
    )
    for stage, ready in self._ready.items():
      while ready and not self._ending and self._pool.has_room(stage, running):
        index = heapq.heappop(ready)
        node = self._graph.nodes[index]
        running[stage] += 1
        if not self._pool.queues:
          self._tell_begin(stage, node.unit.name)
        unit = node.unit.only(artefact.marker for artefact in node.pending)
        self._running[self._pool.submit(unit)] = index

  def _settle_ended(self) -> None:
    """Waits for units that end, and finds what that makes ready."""
    ended = self._pool.wait(list(self._running), _PATIENCE)
    running = {self._graph.nodes[i].unit.name for i in self._running.values()}
    for observer in self._observers:
      observer.uses(self._pool.devices)
    for stage, name in self._pool.begun():
      if name in running:  # News of one that has ended may come late.
        self._tell_begin(stage, name)
    for handle in sorted(ended, key=self._running.get):
      index = self._running.pop(handle)
      try:
        self._settle(index, self._pool.outcome(handle))
      except (errors.UsageError, errors.PreemptedError) as e:
        self._end(e)

  def _settle(self, index: int, outcome: Outcome) -> None:
    """Counts a unit that has ended, or has it tried again."""
    unit = self._graph.nodes[index].unit
    may_pass = outcome.failure and outcome.passing
    if may_pass and self._ending:
      return  # It was stopped, or the same command, run again, tries it again.
    if may_pass and self._tries[index] < self._pool.retries:
      pause = PAUSES[min(self._tries[index], len(PAUSES) - 1)]
      self._tries[index] += 1
      _log.info('again in %.0f s: %s', pause, outcome.failure)
      heapq.heappush(self._later, (time.monotonic() + pause, index))
      return
    if outcome.state == MISSING and unit.light and self._is_shared:
      outcome = Outcome(LEFT)
    self._count(index, outcome)

  def _count(self, index: int, outcome: Outcome) -> None:
    """Notes what became of a unit, and what that makes of others."""
    self._tell_end(index, outcome)
    made = [a.marker for a in self._graph.nodes[index].pending]
    lost = []
    if outcome.state in (FAILED, MISSING, LEFT):
      # A unit that failed may have made some of its artefacts.
      lost = [marker for marker in made if not files.exists(marker)]
    ready, hopeless = self._graph.settle(made, lost)
    self._begin_later(ready)
    name = self._graph.nodes[index].unit.name
    for other in hopeless:
      unit = self._graph.nodes[other].unit
      if other not in self._own:
        continue
      if outcome.state == LEFT and unit.light:
        self._tell_end(other, outcome)
      else:
        why = f'{unit.name}: not begun, since {name} is not finished.'
        self._tell_end(other, Outcome(MISSING, why))

  def _begin_later(self, indices: Iterable[int]) -> None:
    for index in indices:
      if index in self._own:
        stage = self._graph.nodes[index].unit.stage
        heapq.heappush(self._ready[stage], index)

  def _tell_begin(self, stage: str, unit: str) -> None:
    for observer in self._observers:
      observer.begin(stage, unit)

  def _tell_end(self, index: int, outcome: Outcome) -> None:
    if outcome.failure:
      self.failures.append(outcome.failure)
    unit = self._graph.nodes[index].unit
    for observer in self._observers:
      observer.end(unit.stage, unit.name, outcome)
