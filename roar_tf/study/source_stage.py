"""Stage source: TFDS to `original` shards, mean and std of the train split.

Images that cannot be decoded are in no shard if `Source.unreadable` is `skip`.
The fingerprint of a shard names those that it lacks: a shard that lacks none is
the same under both choices, and its fingerprint too.
"""

import math
import os

import numpy as np

from roar_tf import errors, shards, workspace
from roar_tf.cells import ORIGINAL
from roar_tf.datasets.reader import Reader, check_completeness
from roar_tf.datasets.source import SPLITS
from roar_tf.study import datasets_stage, progress
from roar_tf.study.context import Context
from roar_tf.study.units import Target, Unit

VERSION = 1
BATCH = 512
BATCH_VALUES = 1 << 24
"""Of a batch; eight bytes each while they are summed: 100 images of 224."""
_LEFT_OUT = 'Source.unreadable'
"""Setting under which a fingerprint names what was left out."""


def units(context: Context) -> list[Unit]:
  """Returns one unit per shard and one that completes the dataset."""
  source = context.experiment.source
  settings = source.settings()
  made = [
    _shard_unit(context, settings, split, index)
    for split, index in context.all_shards()
  ]
  target = Target(context.dataset_done(ORIGINAL), 'source', VERSION, settings)
  last = datasets_stage.finalise_unit(
    context,
    target,
    ORIGINAL,
    source.layout,
    lambda contents: _write_manifest(context, contents),
  )
  return [*made, last]


def _shard_unit(context, settings, split, index) -> Unit:
  source = context.experiment.source
  path = context.shard_path(ORIGINAL, split, index)
  target = Target(
    context.shard_done(ORIGINAL, split, index),
    'source',
    VERSION,
    {**settings, 'split': split, 'shard': index},
    found=(_LEFT_OUT,) if source.unreadable == 'skip' else (),
  )
  name = f'{source.name} {ORIGINAL} {split} {index}'

  def work(pending):
    reader = context.cached(
      ('reader',),
      lambda: Reader(source, context.data_dir, context.workspace.tfds),
    )
    start, stop = source.shard_bounds(split)[index]
    size = int(np.clip(BATCH_VALUES // np.prod(source.image_shape), 1, BATCH))
    left_out = [] if source.unreadable == 'skip' else None
    sums = np.zeros([2, source.image_shape[2]], np.int64)
    with shards.writing(path) as writer:
      for batch in reader.batches(split, start, stop, size, left_out):
        writer.write(source.layout.serialize(batch))
        pixels = batch['image'].astype(np.int64)
        sums[0] += pixels.sum((0, 1, 2))
        sums[1] += (pixels**2).sum((0, 1, 2))
    ((_, fingerprint),) = pending
    if left_out:
      progress.say(
        f'{name}: {len(left_out)} of {stop - start} images cannot be decoded '
        f'and are left out: {", ".join(left_out)}'
      )
      found = {**fingerprint['settings'], _LEFT_OUT: {'skip': left_out}}
      fingerprint = {**fingerprint, 'settings': found}
    # One shard carries it, so that the last unit needs no TFDS.
    completeness = reader.completeness() if index == 0 else {}
    target.commit(
      fingerprint,
      **({'completeness': completeness[split]} if completeness else {}),
      contents=writer.contents,
      pixel_sums=sums[0].tolist(),
      pixel_square_sums=sums[1].tolist(),
    )

  return Unit(name, (target,), work)


def _write_manifest(context: Context, contents) -> list[str]:
  """Writes the exact mean and std of the train split, counts and checksums.

  Returns:
    The name of the file.

  Raises:
    DataError: no image of a split could be decoded.
    UsageError: too few images of a dataset that is never whole could be.
  """
  source = context.experiment.source
  images, unreadable = dict.fromkeys(SPLITS, 0), {}
  for (split, _), done in contents.items():
    images[split] += done['contents']['records']
    if lacking := done['fingerprint']['settings'].get(_LEFT_OUT):
      unreadable.setdefault(split, []).extend(lacking['skip'])
  directory = os.path.dirname(context.manifest_path)
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
  train = [d for (split, _), d in contents.items() if split == 'train']
  height, width, _ = source.image_shape
  count = images['train'] * height * width
  # Integers throughout, so that sharding cannot change a bit.
  sums = [sum(c) for c in zip(*(d['pixel_sums'] for d in train), strict=True)]
  squares = [
    sum(c) for c in zip(*(d['pixel_square_sums'] for d in train), strict=True)
  ]
  variances = [
    (q * count - s * s) / (count * count)
    for s, q in zip(sums, squares, strict=True)
  ]
  workspace.write_json(
    context.manifest_path,
    {
      **({'completeness': completeness} if completeness else {}),
      **({'unreadable': unreadable} if unreadable else {}),
      'mean': [s / count for s in sums],
      # A channel without any contrast cannot be normalised by it.
      'std': [math.sqrt(v) or 1.0 for v in variances],
      'images': images,
      'shards': {
        f'{split} {index}': done['contents']
        for (split, index), done in contents.items()
      },
    },
  )
  return [os.path.basename(context.manifest_path)]


def _completeness(contents, unreadable) -> dict[str, dict]:
  """Returns what a dataset lacks, images that were left out included."""
  record = {}
  for (split, _), done in contents.items():
    if found := done.get('completeness'):
      lost = unreadable.get(split, [])
      record[split] = {
        **found,
        'present': found['present'] - len(lost),
        **(
          {'undecodable': [*found.get('undecodable', ()), *lost]}
          if lost
          else {}
        ),
      }
  return record
