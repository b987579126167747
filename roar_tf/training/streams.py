"""The examples of one split, on disk: a stream of decoded, masked batches.

Records are read a window of shards at a time (`order.Order`), shuffled while
they are still compressed, then decoded and masked in parallel, ahead of the
step that needs them. A host reads the shards of a window whole and decodes its
own share of every batch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from roar_tf import randomness
from roar_tf import shards as shard_files
from roar_tf.engine import files
from roar_tf.lazy import tf
from roar_tf.training.order import Order, Piece, Share, in_turn

_OTHERS = 'the ranking belongs to other images than "original" holds'

AHEAD = 4
"""Batches that are ready before they are asked for."""
DECODED_TOGETHER = 16
"""Records that one call decodes; a batch is decoded by several."""


@dataclasses.dataclass(frozen=True)
class Records:
  """The shards of one dataset of a split.

  Attributes:
    paths: files of the shards.
    contents: what their DONE markers record of them, see `shards.Writer`.
    layout: what a record holds.
  """

  paths: tuple[str, ...]
  contents: tuple[Mapping, ...]
  layout: shard_files.Layout

  def facts(self) -> dict[str, np.ndarray]:
    """Returns id, and label if there is one, of all records, in their order."""
    layout = shard_files.Layout(classes=self.layout.classes)
    batches = [
      batch
      for path, contents in zip(self.paths, self.contents, strict=True)
      for batch in shard_files.read_batches(
        path, contents['records'], layout, 4096
      )
    ]
    return {
      name: np.concatenate([b[name].numpy() for b in batches])
      for name in batches[0]
    }

  def first_labels(self, shard: int, count: int) -> np.ndarray:
    """Returns the labels of a shard's first records, `count` or fewer."""
    records = self.contents[shard]['records']
    if not records:
      return np.empty([0], np.int32)
    layout = shard_files.Layout(classes=self.layout.classes)
    batches = shard_files.read_batches(
      self.paths[shard], records, layout, count
    )
    return next(iter(batches))['label'].numpy()

  def fault(self) -> str:
    """Returns which shard is damaged and how, empty if none is."""
    for path, contents in zip(self.paths, self.contents, strict=True):
      if not files.exists(path):
        return f'{path} is damaged: it is not there'
      reason = shard_files.fault(path, contents)
      if reason:
        return f'{path} is damaged: {reason}'
    return ''


@dataclasses.dataclass(frozen=True)
class Stream:
  """A split on disk; the counterpart of `examples.Examples`.

  Attributes:
    images: records with image, label and id.
    levels: their ranking, or None where the images are what a model sees.
    masked: `(images, levels, keys) -> images`, with `levels`.
  """

  images: Records
  levels: Records | None = None
  masked: Callable | None = None

  def __len__(self):
    """Returns the number of examples."""
    return sum(self.counts)

  @property
  def counts(self) -> tuple[int, ...]:
    """Examples of every shard."""
    return tuple(c['records'] for c in self.images.contents)

  @functools.cached_property
  def _facts(self) -> dict[str, np.ndarray]:
    """`id` and `label` of all examples, without decoding an image."""
    return self.images.facts()

  @property
  def ids(self) -> np.ndarray:
    """Bytes objects [N]."""
    return self._facts['id']

  @property
  def labels(self) -> np.ndarray:
    """int32 [N]."""
    return self._facts['label'].astype(np.int32)

  def first_labels(self, shard: int, count: int) -> np.ndarray:
    """Returns what `Examples.first_labels` returns."""
    return self.images.first_labels(shard, count)

  def training_batches(
    self, order: Order, start: int, stop: int, share: Share
  ) -> tf.data.Dataset:
    """Returns what `Examples.training_batches` returns."""
    return self._batches(lambda: order.pieces(start, stop), share)

  def test_batches(self, share: Share) -> tf.data.Dataset:
    """Returns what `Examples.test_batches` returns."""
    return self._batches(lambda: in_turn(self.counts, share.batch_size), share)

  def fault(self) -> str:
    """Returns what is wrong with the files, empty if nothing is."""
    fault = self.images.fault() or (self.levels.fault() if self.levels else '')
    if not fault and self.levels:
      if not np.array_equal(self.ids, self.levels.facts()['id']):
        fault = f'{self.levels.paths[0]} and its like are damaged: {_OTHERS}'
    return fault

  def _batches(
    self, pieces: Callable[[], Iterable[Piece]], share: Share
  ) -> tf.data.Dataset:
    """Returns the batches of some pieces."""
    datasets = [r for r in (self.images, self.levels) if r]

    def plan():
      for piece in pieces():
        rows = share.of(piece)
        if len(rows):
          yield np.int32(piece.epoch), np.int32(piece.shards), rows

    def load(epoch, shards, rows):
      """Returns the compressed records of a window, shuffled."""
      records = [_read(r, shards, rows) for r in datasets]
      return (tf.fill(tf.shape(rows), epoch), *records)

    planned = tf.data.Dataset.from_generator(
      plan,
      output_signature=(
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None], tf.int64),
      ),
    )
    return (
      planned.map(load)
      .prefetch(1)  # The next window is read while this one is used.
      .unbatch()
      .batch(DECODED_TOGETHER)
      .map(
        self._decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
      )
      .rebatch(share.per_replica, drop_remainder=True)
      .prefetch(AHEAD)
    )

  def _decoded(self, epochs, images, levels=None):
    """Returns the batch that some records hold."""
    batch = self.images.layout.parse(images)
    keys = randomness.keys_of_ids(batch['id'])
    pixels = batch['image']
    if levels is not None:
      ranking = self.levels.layout.parse(levels)
      same = tf.debugging.assert_equal(
        batch['id'],
        ranking['id'],
        _OTHERS,
      )
      with tf.control_dependencies([same] if same is not None else []):
        pixels = self.masked(pixels, ranking['levels'], keys)
    return {
      'image': pixels,
      'label': tf.cast(batch['label'], tf.int32),
      'key': keys,
      'epoch': epochs,
    }


def _read(records: Records, shards, rows) -> tf.Tensor:
  """Returns some records [n] of some shards, CRCs and counts checked.

  Args:
    records: the dataset.
    shards: int32 [s], which of its shards, joined in this order.
    rows: int64 [n], places among the joined records.
  """
  counts = tf.gather(
    tf.constant([c['records'] for c in records.contents], tf.int64), shards
  )
  # A shard may be empty: nothing in it could be decoded.
  shards = tf.boolean_mask(shards, counts > 0)
  counts = tf.boolean_mask(counts, counts > 0)
  paths = tf.gather(tf.constant(records.paths), shards)

  def whole(path, count):
    """Returns all records of a shard, or fails: none is missed silently."""
    found = shard_files.whole(path, count)
    tf.debugging.assert_equal(
      tf.shape(found, tf.int64)[0], count, 'a shard lacks records'
    )
    return found

  joined = (
    tf.data.Dataset.from_tensor_slices((paths, counts))
    .map(whole, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    .unbatch()
    .batch(tf.reduce_sum(counts))
    .get_single_element()
  )
  return tf.gather(joined, rows)
