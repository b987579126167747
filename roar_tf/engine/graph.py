"""What must be done for some goals: artefacts, grouped in units, and who waits.

A goal is an artefact that somebody asks for. Its inputs are made where they are
missing; an intermediate artefact only where a reader of it is unfinished.
"""

import collections
import dataclasses
from collections.abc import (
  Collection,
  Container,
  Iterable,
  Iterator,
  Sequence,
)

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.engine.storage import Snapshot
from roar_tf.engine.unit import Artefact, Stage, Unit


@dataclasses.dataclass(frozen=True)
class Node:
  """One unit in a graph.

  Attributes:
    unit: the unit.
    pending: its artefacts that are unfinished, or must be compared again once
      their inputs are there; none of a finished unit.
  """

  unit: Unit
  pending: tuple[Artefact, ...]


class Graph:
  """The units behind some goals, in the order of their stages.

  Attributes:
    nodes: the units; a unit is named by its index in this list.
    stages: names of the stages that have units, in an order in which none
      reads what a later one makes.
  """

  def __init__(
    self,
    goals: Iterable[Artefact],
    snapshot: Snapshot,
    *,
    within: Container[str] | None = None,
    checks: bool = True,
    trusts: bool = False,
    everything: bool = False,
  ):
    """Finds what the goals need.

    Args:
      goals: artefacts that are asked for.
      snapshot: what is there.
      within: names of the stages that may work; what others make must be there
        already. None for all.
      checks: whether what is there is compared with what is asked for; False
        only looks whether it is there.
      trusts: whether what stages outside of `within` made is taken as it is.
      everything: whether intermediate artefacts that nobody needs belong to it.

    Raises:
      UsageError: artefacts were made with other settings, or from other
        inputs; of those that differ alike, the first is told.
      DataError: a marker is damaged.
    """
    self._snapshot, self._within, self._checks = snapshot, within, checks
    self._trusts, self._everything = trusts, everything
    self._members: dict[Stage, list[Artefact]] = {}
    self._inside: set[str] = set()
    self._needed: dict[str, bool] = {}
    self._sources: dict[str, tuple[Artefact, ...]] = {}
    self._pending: dict[str, bool] = {}
    self._follows: dict[str, set[str]] = {}
    self._conflicts: dict[str, str] = {}
    goals = list(goals)
    known = list(behind(goals))
    snapshot.look(artefact.marker for artefact in known)
    if checks:
      snapshot.read_all(artefact.marker for artefact in known)
    for goal in goals:
      self._visit(goal, needed=True, of_finished=False)
    mistakes = errors.Mistakes()
    for conflict in self._conflicts.values():
      mistakes.note(conflict)
    mistakes.check()
    self.stages = self._order()
    self.nodes = [
      Node(unit, tuple(a for a in unit.makes if self._is_pending(a)))
      for unit in self._units()
    ]
    self._wait()

  def _units(self) -> Iterable[Unit]:
    """Yields the units in the order of the stages.

    Several stages of one name, such as those of several inputs of a program,
    are numbered through, so that workers share them evenly.
    """
    rank = {name: position for position, name in enumerate(self.stages)}
    counts = collections.Counter()
    for stage in sorted(self._members, key=lambda stage: rank[stage.name]):
      units = stage.units(self._members[stage])
      for unit in units:
        number = counts[stage.name] + unit.number
        yield dataclasses.replace(unit, number=number)
      counts[stage.name] += len(units)

  # --- what is needed --------------------------------------------------------

  def _visit(self, artefact: Artefact, needed: bool, of_finished: bool) -> None:
    """Adds an artefact and, before it, what it is made from.

    Args:
      artefact: the artefact.
      needed: whether somebody unfinished reads it.
      of_finished: whether it is part of something that is committed.
    """
    there = self._snapshot.exists(artefact.marker)
    if artefact.intermediate and not (needed or there or self._everything):
      return
    if self._needed.get(artefact.marker) in (True, needed):
      return
    self._needed[artefact.marker] = needed
    name = artefact.stage.name
    inside = self._within is None or name in self._within
    parts = tuple(artefact.parts().values()) if inside else ()
    if parts:
      self._snapshot.look(part.marker for part in parts)
      if self._checks and not (there and artefact.stage.trusts_parts):
        self._snapshot.read_all(part.marker for part in parts)
    for part in parts:
      self._visit(part, needed or not there, there)
    for source in artefact.inputs.values():
      self._visit(source, not there, False)
    trusted = of_finished and artefact.stage.trusts_parts
    trusted = trusted or (self._trusts and not inside)
    if there and self._checks and not trusted:
      try:
        artefact.check(self._snapshot.read)
      except errors.OtherSettingsError as e:
        # Hundreds of artefacts may differ alike: the first is told.
        self._conflicts.setdefault(e.differences, str(e))
    sources = (*artefact.inputs.values(), *artefact.soft_inputs.values())
    for source in sources:
      if source.stage.name != name:
        self._follows.setdefault(name, set()).add(source.stage.name)
    self._sources[artefact.marker] = (*sources, *parts)
    if inside and artefact.marker not in self._inside:
      self._inside.add(artefact.marker)
      self._members.setdefault(artefact.stage, []).append(artefact)

  def _is_pending(self, artefact: Artefact) -> bool:
    """Whether an artefact is unfinished, or must be compared again."""
    marker = artefact.marker
    if marker not in self._inside:
      return False
    if marker not in self._pending:
      there = self._snapshot.exists(marker)
      self._pending[marker] = not (there and self._is_current(artefact))
    return self._pending[marker]

  def _is_current(self, artefact: Artefact) -> bool:
    """Whether an artefact that is there asks for no look at it later."""
    is_bound = not (artefact.soft_inputs or artefact.varies)
    if is_bound and not self._checks:
      return True
    # What is finished no longer asks for the caches it was made from.
    caches = {a.marker for a in artefact.inputs.values() if a.intermediate}
    if any(
      self._is_pending(source)
      for source in self._sources[artefact.marker]
      if source.marker not in caches
    ):
      return False
    if is_bound:
      return True
    return self._is_equal(artefact) if self._checks else self._has_all(artefact)

  def _is_equal(self, artefact: Artefact) -> bool:
    """Whether it would be made again from what it was made from."""
    read = self._snapshot.read
    try:
      return artefact.is_done(artefact.fingerprint(read), read)
    except errors.MissingInputsError:
      return False  # Its unit will say so.

  def _has_all(self, artefact: Artefact) -> bool:
    """Whether it was made from all its inputs that vary and are there."""
    try:
      marker = self._snapshot.read(artefact.marker)
    except (errors.DataError, *files.storage_errors()):
      return False
    recorded = marker['fingerprint']['inputs'] if marker else {}
    if artefact.varies:
      return recorded.keys() == artefact.inputs.keys()
    return all(
      name in recorded
      for name, source in artefact.soft_inputs.items()
      if self._snapshot.exists(source.marker)
    )

  def _order(self) -> list[str]:
    """Returns the stages, each behind those it reads from."""
    names = dict.fromkeys(stage.name for stage in self._members)
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
      if name not in depths:
        depths[name] = 0  # What reads its own stage does not follow itself.
        before = self._follows.get(name, set()) - {name}
        depths[name] = 1 + max(map(depth, before), default=0)
      return depths[name]

    return sorted(names, key=depth)

  def first(self) -> list[Artefact]:
    """Returns what the first unfinished unit of every stage makes.

    Made alone, with what they need, these tell how long the others will take.
    """
    firsts: dict[str, Node] = {}
    for node in self.nodes:
      if node.pending and not node.unit.light:
        firsts.setdefault(node.unit.stage, node)
    return [artefact for node in firsts.values() for artefact in node.pending]

  # --- who waits for what ----------------------------------------------------

  def _wait(self) -> None:
    """Notes which pending units read what others of them make."""
    makers = {
      artefact.marker: index
      for index, node in enumerate(self.nodes)
      for artefact in node.pending
    }
    self._waits: list[set[str]] = []
    self._readers: dict[str, list[int]] = collections.defaultdict(list)
    for index, node in enumerate(self.nodes):
      reads = {
        source.marker
        for artefact in node.pending
        for source in self._sources[artefact.marker]
        if makers.get(source.marker, index) != index
      }
      self._waits.append(reads)
      for marker in reads:
        self._readers[marker].append(index)

  def ready(self) -> list[int]:
    """Returns the pending units that wait for nothing."""
    return [
      index
      for index, node in enumerate(self.nodes)
      if node.pending and not self._waits[index]
    ]

  def waiting(self) -> list[int]:
    """Returns the units that wait for something."""
    return [index for index, reads in enumerate(self._waits) if reads]

  def waits_for(self, index: int) -> Collection[str]:
    """Returns the markers that a unit waits for."""
    return self._waits[index]

  def forget(self, index: int) -> list[str]:
    """Has a unit wait no more; returns what it waited for and requires."""
    lacking = [m for m in self._waits[index] if self._requires(index, m)]
    self._waits[index] = set()
    return sorted(lacking)

  def settle(
    self, markers: Sequence[str], lost: Container[str] = ()
  ) -> tuple[list[int], list[int]]:
    """Notes that artefacts are there, or never will be.

    Args:
      markers: those of a unit that has ended.
      lost: those of them that are not there.

    Returns:
      The units that are ready now, and those that never will be, since they
      read what is lost, or what such units should have made.
    """
    hopeless = self._without([marker for marker in markers if marker in lost])
    never = [a.marker for index in hopeless for a in self.nodes[index].pending]
    ready = []
    for marker in (*markers, *never):
      for reader in self._readers.get(marker, ()):
        reads = self._waits[reader]
        if marker in reads:
          reads.remove(marker)
          if not reads:
            ready.append(reader)
    return ready, hopeless

  def _without(self, lost: Iterable[str]) -> list[int]:
    """Returns the units that require a lost marker, directly or not."""
    hopeless, lost = set(), list(lost)
    while lost:
      marker = lost.pop()
      for reader in self._readers.get(marker, ()):
        # One that was hopeless before waits for nothing.
        if (
          marker in self._waits[reader]
          and reader not in hopeless
          and self._requires(reader, marker)
        ):
          hopeless.add(reader)
          lost += [artefact.marker for artefact in self.nodes[reader].pending]
    for index in hopeless:
      self._waits[index] = set()
    return sorted(hopeless)

  def _requires(self, index: int, marker: str) -> bool:
    """Whether a unit cannot be made without a marker that it waits for."""
    return not any(
      source.marker == marker
      for artefact in self.nodes[index].pending
      for source in artefact.soft_inputs.values()
    )


def behind(
  goals: Iterable[Artefact], with_parts: bool = False
) -> Iterator[Artefact]:
  """Yields the goals, and all artefacts behind them.

  Args:
    goals: artefacts that are asked for.
    with_parts: whether parts are yielded, too. Large studies have many.
  """
  seen, queue = set(), collections.deque(goals)
  while queue:
    artefact = queue.popleft()
    if artefact.marker not in seen:
      seen.add(artefact.marker)
      yield artefact
      queue.extend(artefact.inputs.values())
      queue.extend(artefact.parts().values() if with_parts else ())
      queue.extend(
        source
        for source in artefact.soft_inputs.values()
        if source.marker not in seen
      )
