"""Rankings made from rankings: whole level maps, given to other images.

No model is asked, and nothing is scored again. A shuffled ranking holds the
maps of another one, every image that of its donor (`donors`); an oracle of
which a share is random holds the oracle's maps with some levels swapped.
"""

from collections.abc import Iterator

import numpy as np

from roar_tf import engine, errors, randomness, ranking, shards
from roar_tf.engine import progress
from roar_tf.estimators.names import Derivation
from roar_tf.lazy import tf
from roar_tf.study import donors
from roar_tf.study.context import Cache, Context
from roar_tf.study.dataset import Shard
from roar_tf.study.source import Source

BATCH = 128
"""Maps that are swapped, or written, at once."""


class Derived:
  """Writes the shards of rankings that are made from rankings."""

  def __init__(self, context: Context, source: Source):
    self._context, self._source = context, source
    self._images, self._donors = Cache(), Cache()

  def write(
    self, shard: Shard, derivation: Derivation, title: str
  ) -> Iterator[engine.Made]:
    """Writes a shard of a ranking.

    Args:
      shard: its input `ranking` is the other one.
      derivation: how it is made from that.
      title: what a progress bar calls it.

    Raises:
      UsageError: an image has no other one to take a map from.
      DataError: the other ranking is damaged, or that of other images.
    """
    context, part = self._context, (shard.split, shard.index)
    make = self._permuted if derivation.kind == 'permute' else self._shuffled
    with (
      progress.bar(context.records(*part), title, 'images', inner=True) as bar,
      shards.writing(context.shard_path(shard.config, *part)) as writer,
    ):
      advance = progress.logged(bar, title)
      for batch in make(shard, derivation):
        writer.write(shard.layout.serialize(batch))
        advance(len(batch['id']))
    yield engine.Made(shard, {'contents': writer.contents})

  def _permuted(self, shard: Shard, derivation: Derivation) -> Iterator[dict]:
    """Yields the batches of a shard in whose maps a share is swapped."""
    other, part = shard.inputs['ranking'], (shard.split, shard.index)
    batches = self._context.batches(other.config, other.layout, *part, BATCH)
    for batch in batches:
      keys = randomness.keys_of_ids(batch['id'])
      seed = self._context.experiment.seed
      keys = randomness.fold(keys, randomness.Purpose.SEED, seed)
      levels = ranking.permute(batch['levels'], keys, derivation.share)
      yield {**batch, 'levels': levels}

  def _shuffled(self, shard: Shard, derivation: Derivation) -> Iterator[dict]:
    """Yields the batches of a shard with the maps of donors.

    Of the other ranking's shards one is held at a time, and the maps of this
    one.
    """
    starts = np.cumsum([0, *self._counts(shard.split)])
    own = np.arange(*starts[shard.index : shard.index + 2])
    if not own.size:  # None of its images could be decoded.
      return
    ids = self._chosen(shard, shard.index, own - starts[shard.index])['id']
    self._check(shard, ids, own)
    of = self._donors_of(shard.split, derivation)[own]
    holders = np.searchsorted(starts, of, side='right') - 1
    levels = np.empty([len(own), *shard.layout.levels], np.uint8)
    for index in np.unique(holders):
      here = holders == index
      chosen = self._chosen(shard, index, of[here] - starts[index])
      self._check(shard, chosen['id'], of[here])
      levels[here] = chosen['levels']
    for start in range(0, len(own), BATCH):
      rows = slice(start, start + BATCH)
      yield {'id': ids[rows], 'levels': levels[rows]}

  def _chosen(self, shard: Shard, index: int, rows) -> dict:
    """Returns some rows of a shard of the other ranking."""
    other, context = shard.inputs['ranking'], self._context
    part = shard.split, int(index)
    path = context.shard_path(other.config, *part)
    records = shards.read(path, context.records(*part))
    return shards.parse(path, tf.gather(records, rows), other.layout)

  def _check(self, shard: Shard, ids, places) -> None:
    """Raises DataError if a ranking's examples are not the images' ones."""
    keys, _ = self._images_of(shard.split)
    if not np.array_equal(randomness.keys_of_ids(ids), keys[places]):
      raise errors.DataError(
        f'{shard.inputs["ranking"].config} of {self._context.source.name} '
        'belongs to other images than "original" holds; delete it and rank '
        'again.'
      )

  def _counts(self, split: str) -> list[int]:
    """Returns how many images the shards of a split have."""
    parts = self._context.all_shards(split)
    return [self._context.records(*part) for part in parts]

  def _images_of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
    return self._images.get(split, lambda: self._source.keys_and_labels(split))

  def _donors_of(self, split: str, derivation: Derivation) -> np.ndarray:
    """Returns the donors of a split's images, by their places in it."""
    key = split, derivation.kind
    return self._donors.get(key, lambda: self._drawn(split, derivation))

  def _drawn(self, split: str, derivation: Derivation) -> np.ndarray:
    seed, name = self._context.experiment.seed, self._context.source.name
    keys, labels = self._images_of(split)
    try:
      return donors.donors(
        derivation.kind, seed, split, self._counts(split), keys, labels
      )
    except donors.NoDonorError as e:
      class_ = f'class "{self._source.class_name(e.label)}"'
      reason = {
        'shuffle': 'has a single image',
        'shuffle_same': f'has a single image of {class_}',
        'shuffle_other': f'has images of {class_} alone',
      }[derivation.kind]
      raise errors.UsageError(
        f'Estimator "{derivation.kind}_{derivation.ranking}": split "{split}" '
        f'of {name} {reason}, which can take no map from another one; leave '
        f'{derivation.kind}_ out.'
      ) from e
