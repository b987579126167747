"""The examples of one dataset in memory, and the order in which they train.

Datasets of small images fit in memory decoded; a cell larger than
`MEMORY_BOUND` bytes is refused.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from roar_tf import randomness

MEMORY_BOUND = 4 << 30
"""Bytes of decoded images that one split may take."""


@dataclasses.dataclass(frozen=True)
class Examples:
  """A split in memory.

  Attributes:
    images: uint8 [N, H, W, C].
    labels: int32 [N].
    keys: int32 [N, 2].
    ids: bytes objects [N].
  """

  images: tf.Tensor
  labels: tf.Tensor
  keys: tf.Tensor
  ids: np.ndarray

  def __len__(self):
    """Returns N."""
    return int(self.images.shape[0])


def from_batches(batches) -> Examples:
  """Joins batches as `shards.read_batches` yields them, in their order."""
  batches = list(batches)
  ids = tf.concat([b['id'] for b in batches], 0)
  return Examples(
    images=tf.concat([b['image'] for b in batches], 0),
    labels=tf.cast(tf.concat([b['label'] for b in batches], 0), tf.int32),
    keys=randomness.keys_of_ids(ids),
    ids=ids.numpy(),
  )


class Order:
  """The order of all training examples: a random-access stream.

  Position p of the stream is example `permutation(epoch)[p % N]` with epoch
  p // N, a permutation drawn from (seed words, epoch). Batches run on across
  epochs, so an epoch is exactly N positions and any step can be resumed.
  """

  def __init__(self, count: int, *seed_words):
    self._count = count
    self._words = seed_words
    self._cache = {}

  def positions(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (indices int32, epochs int32) of positions start..stop-1."""
    positions = np.arange(start, stop, dtype=np.int64)
    epochs, within = np.divmod(positions, self._count)
    indices = np.empty(positions.shape, np.int32)
    for epoch in np.unique(epochs):
      here = epochs == epoch
      indices[here] = self._permutation(int(epoch))[within[here]]
    return indices, epochs.astype(np.int32)

  def _permutation(self, epoch: int) -> np.ndarray:
    if epoch not in self._cache:
      self._cache = {e: p for e, p in self._cache.items() if e == epoch - 1}
      generator = randomness.generator(
        randomness.Purpose.ORDER, *self._words, epoch
      )
      self._cache[epoch] = generator.permutation(self._count)
    return self._cache[epoch]
