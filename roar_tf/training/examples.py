"""The examples of one split, in memory.

Datasets of small images fit in memory decoded. `streams.Stream` is the same for
those that do not; both hand out the same batches in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from roar_tf import randomness
from roar_tf.lazy import tf
from roar_tf.training.order import Order, Piece, Share, in_turn

MEMORY_BOUND = 4 << 30
"""Bytes of decoded images up to which a split is held in memory."""

AHEAD = 4
"""Batches that are ready before they are asked for."""


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

  def training_batches(
    self, order: Order, start: int, stop: int, share: Share
  ) -> tf.data.Dataset:
    """Returns a host's share of positions start..stop-1 of an order.

    Returns:
      Batches of `share.per_replica` examples: `image` uint8 [B, H, W, C],
      `label` int32 [B], `key` int32 [B, 2], `epoch` int32 [B].
    """
    return self._batches(order.pieces(start, stop), share).prefetch(AHEAD)

  def test_batches(self, share: Share) -> tf.data.Dataset:
    """Returns a host's share of one pass; the last batch is filled up."""
    pieces = in_turn(self.counts, share.batch_size)
    return self._batches(pieces, share).prefetch(AHEAD)

  def fault(self) -> str:
    """What is wrong with the files that are being read: there are none."""
    return ''

  def _batches(self, pieces: Iterable[Piece], share: Share) -> tf.data.Dataset:
    first = np.cumsum([0, *self.counts])
    indices, epochs = [np.empty([0], np.int32)], [np.empty([0], np.int32)]
    for piece in pieces:
      rows = share.of(piece)
      joined = np.concatenate(
        [
          np.arange(first[s], first[s + 1], dtype=np.int32)
          for s in piece.shards
        ]
      )
      indices.append(joined[rows])
      epochs.append(np.full(len(rows), piece.epoch, np.int32))
    both = tuple(
      np.concatenate(values).reshape(-1, share.per_replica)
      for values in (indices, epochs)
    )
    return tf.data.Dataset.from_tensor_slices(both).map(
      lambda index, epoch: {
        'image': tf.gather(self.images, index),
        'label': tf.gather(self.labels, index),
        'key': tf.gather(self.keys, index),
        'epoch': epoch,
      }
    )


def from_batches(batches, shards: tuple[int, ...] | None = None) -> Examples:
  """Joins batches as `shards.read_batches` yields them, in their order."""
  batches = list(batches)
  ids = tf.concat([b['id'] for b in batches], 0)
  return Examples(
    images=tf.concat([b['image'] for b in batches], 0),
    labels=tf.cast(tf.concat([b['label'] for b in batches], 0), tf.int32),
    keys=randomness.keys_of_ids(ids),
    ids=ids.numpy(),
    shards=shards,
  )
