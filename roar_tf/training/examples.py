"""The examples of one split, in memory.

Datasets of small images fit in memory decoded. `streams.Stream` is the same for
those that do not; both hand out the same batches in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from roar_tf import randomness
from roar_tf.lazy import tf
from roar_tf.training.order import Order, Piece, Share, in_turn

MEMORY_BOUND = 4 << 30
"""Bytes of decoded images up to which a split is held in memory."""

TYPES = {'image': 'uint8', 'label': 'int32', 'key': 'int32', 'epoch': 'int32'}
"""What a batch holds, and of which type."""


class Batches:
  """Batches of a split in memory, as rows: nothing is copied to make them.

  Iterating yields the batches that `Stream` would hand out.
  """

  def __init__(self, examples: Examples, pieces: Iterable[Piece], share: Share):
    """Describes batches.

    Args:
      examples: the split.
      pieces: positions, from the start of a batch.
      share: the part of every batch that this host takes.
    """
    self.split = examples.tensors
    self._size = share.per_replica
    self._parts = _rows(examples.counts, pieces, share)
    self._left = np.empty([2, 0], np.int32)

  def take(self, count: int) -> np.ndarray:
    """Returns the next `count` batches of this host, fewer at the end.

    Returns:
      int32 [2, batches, B]: rows of the split, and epochs.
    """
    wanted, parts = count * self._size, [self._left]
    while sum(part.shape[1] for part in parts) < wanted:
      part = next(self._parts, None)
      if part is None:
        break
      parts.append(part)
    joined = np.concatenate(parts, axis=1)
    taken, self._left = joined[:, :wanted], joined[:, wanted:]
    return taken.reshape(2, -1, self._size)

  def __iter__(self) -> Iterator[dict[str, tf.Tensor]]:
    """Yields the batches that are left."""
    while (taken := self.take(1)).size:
      rows, epoch = (tf.constant(values[0]) for values in taken)
      yield gathered(self.split, rows, epoch)


def _rows(
  counts: Sequence[int], pieces: Iterable[Piece], share: Share
) -> Iterator[np.ndarray]:
  """Yields rows and epochs int32 [2, n] of a host, a piece at a time."""
  first = np.cumsum([0, *counts])
  for piece in pieces:
    joined = np.concatenate(
      [np.arange(first[s], first[s + 1]) for s in piece.shards]
    )
    rows = joined[share.of(piece)]
    yield np.stack([rows, np.full_like(rows, piece.epoch)]).astype(np.int32)


def gathered(split: Mapping[str, tf.Tensor], rows, epoch) -> dict:
  """Returns a batch of a split in memory.

  Args:
    split: see `Examples.tensors`.
    rows: int32 [B].
    epoch: int32 [B], how often each was used before.

  Returns:
    `image` uint8 [B, H, W, C], `label` int32 [B], `key` int32 [B, 2], `epoch`.
  """
  batch = {name: tf.gather(values, rows) for name, values in split.items()}
  return {**batch, 'epoch': epoch}


@dataclasses.dataclass(frozen=True)
class Examples:
  """A split in memory.

  Attributes:
    images: uint8 [N, H, W, C].
    labels: int32 [N].
    keys: int32 [N, 2].
    ids: bytes objects [N].
    shards: examples of every shard of the split; one shard if None.
  """

  images: tf.Tensor
  labels: tf.Tensor
  keys: tf.Tensor
  ids: np.ndarray
  shards: tuple[int, ...] | None = None

  def __len__(self):
    """Returns N."""
    return int(self.images.shape[0])

  @property
  def counts(self) -> tuple[int, ...]:
    """Examples of every shard."""
    return self.shards or (len(self),)

  def first_labels(self, shard: int, count: int) -> np.ndarray:
    """Returns the labels of a shard's first examples, `count` or fewer."""
    start = sum(self.counts[:shard])
    stop = start + min(count, self.counts[shard])
    return np.asarray(self.labels[start:stop])

  @property
  def tensors(self) -> dict[str, tf.Tensor]:
    """What batches are gathered from, by the names that a batch has."""
    return {'image': self.images, 'label': self.labels, 'key': self.keys}

  def training_batches(
    self, order: Order, start: int, stop: int, share: Share
  ) -> Batches:
    """Returns a host's share of positions start..stop-1 of an order.

    Returns:
      Batches of `share.per_replica` examples, see `gathered`.
    """
    return Batches(self, order.pieces(start, stop), share)

  def test_batches(self, share: Share) -> Batches:
    """Returns a host's share of one pass; the last batch is filled up."""
    return Batches(self, in_turn(self.counts, share.batch_size), share)

  def fault(self) -> str:
    """What is wrong with the files that are being read: there are none."""
    return ''


def from_batches(batches, shards: tuple[int, ...] | None = None) -> Examples:
  """Joins batches as `shards.read_batches` yields them, in their order."""
  batches = list(batches)
  # A device has room for what is trained on, not for what is kept for later.
  with tf.device('CPU:0'):
    ids = tf.concat([b['id'] for b in batches], 0)
    return Examples(
      images=tf.concat([b['image'] for b in batches], 0),
      labels=tf.cast(tf.concat([b['label'] for b in batches], 0), tf.int32),
      keys=randomness.keys_of_ids(ids),
      ids=ids.numpy(),
      shards=shards,
    )
