"""Stage source: TFDS to `original` shards, mean and std of the train split.

Images that cannot be decoded are in no shard if `Source.unreadable` is `skip`.
The fingerprint of a shard names those that it lacks: a shard that lacks none is
the same under both choices, and its fingerprint too.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from roar_tf import engine, errors, shards
from roar_tf.cells import ORIGINAL
from roar_tf.datasets.source import SPLITS
from roar_tf.engine import files, progress
from roar_tf.study.context import Cache, Context
from roar_tf.study.dataset import Dataset, DatasetStage, Shard

BATCH = 512
BATCH_VALUES = 1 << 24
"""Of a batch; eight bytes each while they are summed: 100 images of 224."""
_LEFT_OUT = 'Source.unreadable'
"""Setting under which a fingerprint names what was left out."""


class Source(DatasetStage):
  """Crops every image of a TFDS dataset once, and stores it without loss."""

  name = 'source'
  version = 1
  trusts_parts = False  # Only a shard says which images it lacks.

  def __init__(self, context: Context):
    super().__init__(context)
    self._readers = Cache()

  @functools.cached_property
  def original(self) -> Dataset:
    """The dataset of unmodified images, which all others are made from."""
    source = self.context.source
    settings = {**source.settings(), **self.context.experiment.builder}
    return self.dataset(ORIGINAL, source.layout, settings, {})

  def shard(self, whole: Dataset, split: str, index: int, number: int) -> Shard:
    """Returns a shard; it may lack images that cannot be decoded."""
    skips = self.context.source.unreadable == 'skip'
    return dataclasses.replace(
      super().shard(whole, split, index, number),
      settings={**whole.settings, 'split': split, 'shard': index},
      discovered=(_LEFT_OUT,) if skips else (),
    )

  def unit_name(self, shard: Shard) -> str:
    """Returns a name: every shard is a unit."""
    source = self.context.source.name
    return f'{source} {ORIGINAL} {shard.split} {shard.index}'

  @property
  def _reader(self):
    """What reads the source from TFDS; to make it may prepare the dataset."""
    from roar_tf.datasets.reader import Reader

    context = self.context
    return self._readers.get(
      'reader',
      lambda: Reader(context.source, context.data_dir, context.workspace.tfds),
    )

  def write(self, artefacts: Sequence[Shard]) -> Iterator[engine.Made]:
    """Writes a shard, and sums its pixels for mean and std."""
    (shard,) = artefacts
    source = self.context.source
    start, stop = source.shard_bounds(shard.split)[shard.index]
    size = int(np.clip(BATCH_VALUES // np.prod(source.image_shape), 1, BATCH))
    left_out = [] if source.unreadable == 'skip' else None
    sums = np.zeros([2, source.image_shape[2]], np.int64)
    path = self.context.shard_path(ORIGINAL, shard.split, shard.index)
    with shards.writing(path) as writer:
      for batch in self._reader.batches(
        shard.split, start, stop, size, left_out
      ):
        writer.write(source.layout.serialize(batch))
        pixels = batch['image'].astype(np.int64)
        sums[0] += pixels.sum((0, 1, 2))
        sums[1] += (pixels**2).sum((0, 1, 2))
    if left_out:
      progress.say(
        f'{self.unit_name(shard)}: {len(left_out)} of {stop - start} images '
        f'cannot be decoded and are left out: {", ".join(left_out)}'
      )
      settings = {**shard.settings, _LEFT_OUT: {'skip': left_out}}
      shard = dataclasses.replace(shard, settings=settings)
    facts = {
      'contents': writer.contents,
      'pixel_sums': sums[0].tolist(),
      'pixel_square_sums': sums[1].tolist(),
    }
    # One shard carries it, so that the last unit needs no TFDS.
    completeness = self._reader.completeness() if shard.index == 0 else {}
    if completeness:
      facts['completeness'] = completeness[shard.split]
    yield engine.Made(shard, facts)

  def write_more(
    self, contents: Mapping[tuple[str, int], Mapping]
  ) -> list[str]:
    """Writes the manifest: exact mean and std, counts and checksums.

    Raises:
      DataError: no image of a split could be decoded.
      UsageError: too few images of a dataset that is never whole could be.
    """
    from roar_tf.datasets.reader import check_completeness

    source, path = self.context.source, self.context.manifest_path
    images, unreadable = dict.fromkeys(SPLITS, 0), {}
    for (split, _), marker in contents.items():
      images[split] += marker['contents']['records']
      if lacking := marker['fingerprint']['settings'].get(_LEFT_OUT):
        unreadable.setdefault(split, []).extend(lacking['skip'])
    directory = os.path.dirname(path)
    for split, count in images.items():
      if not count:
        raise errors.DataError(
          f'{source.origin}: none of the {source.count(split)} {split} images '
          f'can be decoded; replace them, delete {directory} and run the same '
          'command again.'
        )
    completeness = _completeness(contents, unreadable)
    check_completeness(
      source, completeness, f'{directory} and the prepared dataset'
    )
    height, width, _ = source.image_shape
    train = [m for (split, _), m in contents.items() if split == 'train']
    mean, std = _mean_and_std(train, images['train'] * height * width)
    files.publish_json(
      path,
      {
        **({'completeness': completeness} if completeness else {}),
        **({'unreadable': unreadable} if unreadable else {}),
        'mean': mean,
        'std': std,
        'images': images,
        'shards': {
          f'{split} {index}': marker['contents']
          for (split, index), marker in contents.items()
        },
      },
    )
    return [os.path.basename(path)]


def _mean_and_std(
  shards_: Sequence[Mapping], pixels: int
) -> tuple[list[float], list[float]]:
  """Returns mean and std of every channel, exactly: integers throughout.

  Args:
    shards_: the markers of the shards of train images.
    pixels: how many pixels these have.
  """
  sums, squares = (
    [sum(channel) for channel in zip(*(m[name] for m in shards_), strict=True)]
    for name in ('pixel_sums', 'pixel_square_sums')
  )
  variances = [
    (square * pixels - total * total) / (pixels * pixels)
    for total, square in zip(sums, squares, strict=True)
  ]
  # A channel without any contrast cannot be normalised by it.
  std = [math.sqrt(variance) or 1.0 for variance in variances]
  return [total / pixels for total in sums], std


def _completeness(contents, unreadable) -> dict[str, dict]:
  """Returns what a dataset lacks, images that were left out included."""
  record = {}
  for (split, _), marker in contents.items():
    if counts := marker.get('completeness'):
      lost = unreadable.get(split, [])
      undecodable = [*counts.get('undecodable', ()), *lost]
      record[split] = {**counts, 'present': counts['present'] - len(lost)}
      if lost:
        record[split]['undecodable'] = undecodable
  return record
