"""Which units wait for which: what their targets read, by DONE markers."""

from collections.abc import Container, Iterable, Sequence

from roar_tf.study.units import Unit


class Graph:
  """Units that become ready when what they read was made.

  A marker that no unit here makes is taken to be there: a stage before these
  has made it, or the unit that lacks it will say so.
  """

  def __init__(self, units: Sequence[Unit]):
    self._targets = [[target.done for target in unit.targets] for unit in units]
    makers = {
      done: index for index, dones in enumerate(self._targets) for done in dones
    }
    self._waits = []
    self._readers = {}
    for index, unit in enumerate(units):
      reads = {
        done
        for target in unit.targets
        for done in (*target.inputs.values(), *target.reads)
        if makers.get(done, index) != index
      }
      self._waits.append(reads)
      for done in reads:
        self._readers.setdefault(done, []).append(index)

  def first(self) -> list[int]:
    """Returns the indices of the units that wait for nothing."""
    return [index for index, reads in enumerate(self._waits) if not reads]

  def settle(
    self, index: int, lost: Container[str] = ()
  ) -> tuple[list[int], list[int]]:
    """Notes that a unit has ended.

    Args:
      index: the unit.
      lost: markers that it should have written, and has not.

    Returns:
      The indices of the units that are ready now, and of those that never will
      be, since they read what is lost, or what these should have made.
    """
    dones = self._targets[index]
    hopeless = self._without([done for done in dones if done in lost])
    ready = []
    for done in dones:
      if done in lost:
        continue
      for reader in self._readers.get(done, ()):
        reads = self._waits[reader]
        if done in reads:
          reads.remove(done)
          if not reads:
            ready.append(reader)
    return ready, hopeless

  def _without(self, lost: Iterable[str]) -> list[int]:
    """Returns the units that lack a marker, directly or not, in their order."""
    hopeless, lost = set(), list(lost)
    while lost:
      for reader in self._readers.get(lost.pop(), ()):
        # One that was hopeless before waits for nothing.
        if self._waits[reader] and reader not in hopeless:
          hopeless.add(reader)
          lost += self._targets[reader]
    for index in hopeless:
      self._waits[index] = set()
    return sorted(hopeless)
