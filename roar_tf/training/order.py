"""The order in which examples are used: random-access streams of positions.

A split is a row of shards; an example is (shard, row). Nothing here reads data:
the same order serves splits in memory and on disk.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from roar_tf import randomness


@dataclasses.dataclass(frozen=True)
class Piece:
  """Consecutive positions that are read from the same shards.

  Attributes:
    start: position of the first.
    epoch: how often these examples were used before.
    shards: the shards to read, joined in this order.
    rows: int [n], places among the joined records, one per position.
  """

  start: int
  epoch: int
  shards: tuple[int, ...]
  rows: np.ndarray


@dataclasses.dataclass(frozen=True)
class Share:
  """The part of every batch that one host reads.

  Attributes:
    batch_size: examples of a batch, over all replicas.
    replicas: number of replicas; each takes as many consecutive examples.
    local: the replicas of this host.
  """

  batch_size: int
  replicas: int = 1
  local: range = range(1)

  @property
  def per_replica(self) -> int:
    """Examples of a batch that one replica takes."""
    return self.batch_size // self.replicas

  def of(self, piece: Piece) -> np.ndarray:
    """Returns those rows of a piece that this host reads, in their order."""
    places = np.arange(piece.start, piece.start + len(piece.rows))
    replicas = places % self.batch_size // self.per_replica
    mine = (replicas >= self.local.start) & (replicas < self.local.stop)
    return piece.rows[mine]


class Order:
  """The order of all training examples.

  Position p is in epoch p // N. In every epoch the shards are drawn in a random
  order, `window` of them at a time, and the examples of a window are shuffled
  together; if the window holds all shards, an epoch is one permutation of all
  examples. All of it is drawn from (seed words, epoch), so any position can be
  resumed. Batches run on across epochs: an epoch is exactly N positions.
  """

  def __init__(self, counts: Sequence[int], window: int, *seed_words):
    """Describes an order.

    Args:
      counts: examples of every shard.
      window: shards that are shuffled together, 1 or more.
      *seed_words: integers and strings that identify the run.
    """
    self._counts = tuple(counts)
    self._window = window
    self._words = seed_words

  def pieces(self, start: int, stop: int) -> Iterator[Piece]:
    """Yields the pieces of positions start..stop-1."""
    count = sum(self._counts)
    for epoch in range(start // count, -(-stop // count)):
      position = epoch * count
      for index, shards in enumerate(self._windows(epoch)):
        size = sum(self._counts[s] for s in shards)
        first, last = max(start - position, 0), min(stop - position, size)
        if first < last:
          rows = self._shuffled(epoch, index, size)[first:last]
          yield Piece(position + first, epoch, shards, rows)
        position += size

  def _windows(self, epoch: int) -> list[tuple[int, ...]]:
    if self._window >= len(self._counts):
      return [tuple(range(len(self._counts)))]
    shards = self._generator(epoch).permutation(len(self._counts)).tolist()
    return [
      tuple(shards[i : i + self._window])
      for i in range(0, len(shards), self._window)
    ]

  def _shuffled(self, epoch: int, window: int, size: int) -> np.ndarray:
    alone = self._window >= len(self._counts)
    generator = self._generator(epoch, *([] if alone else [window]))
    return generator.permutation(size)

  def _generator(self, *words) -> np.random.Generator:
    return randomness.generator(randomness.Purpose.ORDER, *self._words, *words)


def classes_together(
  labels: Sequence[np.ndarray], window: int
) -> tuple[float, float]:
  """Returns how many classes shards that are shuffled together have.

  Args:
    labels: those of the first few examples of some shards.
    window: shards that are shuffled together, fewer than there are.

  Returns:
    How many classes a window has of these labels, on average, and how many it
    would have if their examples were in no order.
  """
  generator = np.random.default_rng(0)
  every = np.concatenate(labels)
  counts = []
  for _ in range(16):
    shards = generator.permutation(len(labels))[:window]
    together = np.concatenate([labels[s] for s in shards])
    mixed = generator.permutation(every)[: len(together)]
    counts.append([len(np.unique(values)) for values in (together, mixed)])
  return tuple(np.mean(counts, axis=0).tolist())


def in_turn(counts: Sequence[int], batch_size: int) -> Iterator[Piece]:
  """Yields the pieces of one pass in the order of the shards.

  The last batch is filled with copies of the last example, so that every batch
  has one shape.
  """
  position = 0
  for shard, count in enumerate(counts):
    if count:
      yield Piece(position, 0, (shard,), np.arange(count))
      position, last = position + count, (shard, count)
  rows = np.full(-position % batch_size, last[1] - 1)
  yield Piece(position, 0, (last[0],), rows)
