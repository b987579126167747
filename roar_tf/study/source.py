"""Stage source: TFDS to `original` shards, mean and std of the train split.

Images that cannot be decoded are in no shard if `Source.unreadable` is `skip`.
The fingerprint of a shard names those that it lacks: a shard that lacks none is
the same under both choices, and its fingerprint too.

That of a shard of a folder has a digest of the names and sizes of its files, so
that what was changed is noticed, wherever the folder lies now. Where there is
no folder any more, what was made from it stays valid.

Whatever is random about an image depends on its id, so no two may share one.
Every marker has the keys of its shard's ids, eight bytes each, and the unit
that completes the dataset compares all of them. It has the classes of its
images too, four bytes each, so that who needs those of a whole split reads no
images.
"""

import base64
import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from roar_tf import engine, errors, randomness, shards
from roar_tf.cells import ORIGINAL
from roar_tf.datasets.source import SPLITS, TFDS_ID
from roar_tf.engine import files, locations, markers, progress
from roar_tf.study.context import Cache, Context
from roar_tf.study.dataset import Dataset, DatasetStage, Shard

BATCH = 512
BATCH_VALUES = 1 << 24
"""Of a batch; eight bytes each while they are summed: 100 images of 224."""
_LEFT_OUT = 'Source.unreadable'
"""Setting under which a fingerprint names what was left out."""
_FILES = 'names and sizes of the files in Source.folder'
"""Setting that holds a digest of them."""
_NAMED = 10
"""How many classes a warning names."""


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
    source = self.context.source
    settings = {**whole.settings, 'split': split, 'shard': index}
    discovered = [_LEFT_OUT] if source.unreadable == 'skip' else []
    if source.folder and self._folder_is_there:
      bounds = source.shard_bounds(split)[index]
      settings[_FILES] = self._reader.digest(split, *bounds)
    elif source.folder:
      discovered.append(_FILES)
    return dataclasses.replace(
      super().shard(whole, split, index, number),
      settings=settings,
      discovered=tuple(discovered),
    )

  @functools.cached_property
  def _folder_is_there(self) -> bool:
    folder = self.context.source.folder
    return files.is_directory(
      locations.located(folder, 'gin parameter Source.folder')
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

    def opened():
      source = context.source
      reader = Reader(source, context.data_dir, context.workspace.tfds)
      if reader.ignored:
        progress.say(
          f'{source.origin} of {source.name}: not read: {reader.ignored}'
        )
      return reader

    return self._readers.get('reader', opened)

  def write(self, artefacts: Sequence[Shard]) -> Iterator[engine.Made]:
    """Writes a shard, and sums its pixels for mean and std."""
    (shard,) = artefacts
    source = self.context.source
    start, stop = source.shard_bounds(shard.split)[shard.index]
    size = int(np.clip(BATCH_VALUES // np.prod(source.image_shape), 1, BATCH))
    left_out = [] if source.unreadable == 'skip' else None
    sums = np.zeros([2, source.image_shape[2]], np.int64)
    labels, ids = [], []
    path = self.context.shard_path(ORIGINAL, shard.split, shard.index)
    with shards.writing(path) as writer:
      for batch in self._reader.batches(
        shard.split, start, stop, size, left_out
      ):
        writer.write(source.layout.serialize(batch))
        labels += batch['label'].tolist()
        ids += batch['id'].tolist()
        pixels = batch['image'].astype(np.int64)
        sums[0] += pixels.sum((0, 1, 2))
        sums[1] += (pixels**2).sum((0, 1, 2))
      self._check_ids(ids)
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
      'labels': np.bincount(labels, minlength=source.num_classes).tolist(),
      'keys': base64.b64encode(_keys(ids)).decode(),
      'classes_of_images': base64.b64encode(
        np.array(labels, np.int32).tobytes()
      ).decode(),
    }
    # One shard carries them, so that the last unit needs no TFDS.
    if shard.index == 0:
      facts['classes'] = self._reader.classes
      if completeness := self._reader.completeness():
        facts['completeness'] = completeness[shard.split]
    yield engine.Made(shard, facts)

  def _check_ids(self, ids: Sequence[bytes]) -> None:
    """Raises UsageError if ids are not unique, and names the first twin."""
    source, known = self.context.source, set()
    for id_ in ids:
      if id_ in known:
        raise errors.UsageError(
          f'{source.origin} of --dataset={source.name}: several images have '
          f'the id "{id_.decode(errors="replace")}", and would share all that '
          'is random; name a feature whose values differ by gin parameter '
          f'Source.id_key, or take the ids of TFDS by Source.id_key = '
          f'"{TFDS_ID}", delete {self.context.directory(ORIGINAL)} and run the '
          'same command again.'
        )
      known.add(id_)

  def _check_all_ids(self, contents: Mapping[tuple[str, int], Mapping]) -> None:
    """Raises UsageError if images of different shards have the same id."""
    keys = {
      part: np.frombuffer(base64.b64decode(marker['keys']), np.int64)
      if 'keys' in marker  # Or else the shard was made before there were any.
      else np.frombuffer(_keys(self.ids(part)), np.int64)
      for part, marker in contents.items()
    }
    every = np.sort(np.concatenate(list(keys.values())))
    # Ids that differ may share a key, if hardly ever: see what they are.
    for twin in np.unique(every[1:][every[1:] == every[:-1]]):
      ids = [
        id_
        for part in contents
        if twin in keys[part]
        for id_, key in zip(self.ids(part), keys[part], strict=True)
        if key == twin
      ]
      self._check_ids(ids)

  def ids(self, part: tuple[str, int]) -> list[bytes]:
    """Returns the ids in a finished shard, given as (split, index)."""
    batches = self.context.batches(ORIGINAL, shards.Layout(), *part, BATCH)
    return [id_ for batch in batches for id_ in batch['id'].numpy().tolist()]

  def keys_and_labels(self, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the keys int32 [N, 2] and classes int32 [N] of a split's images.

    Raises:
      MissingInputsError: a shard was not made yet.
    """
    parts = self.context.all_shards(split)
    paths = [self.context.shard_marker(ORIGINAL, *part) for part in parts]
    columns = []
    for part, marker in zip(
      parts, files.in_parallel(markers.require, paths), strict=True
    ):
      names = ('keys', 'classes_of_images')
      if all(name in marker for name in names):
        column = [
          np.frombuffer(base64.b64decode(marker[name]), np.int32)
          for name in names
        ]
      else:  # The shard was made before markers had them.
        column = self._read_keys_and_labels(part)
      columns.append(column)
    keys, labels = (np.concatenate(c) for c in zip(*columns, strict=True))
    return keys.reshape(-1, 2), labels

  def _read_keys_and_labels(self, part: tuple[str, int]) -> list[np.ndarray]:
    layout = shards.Layout(classes=self.context.source.num_classes)
    ids, labels = [], []
    for batch in self.context.batches(ORIGINAL, layout, *part, BATCH):
      ids += batch['id'].numpy().tolist()
      labels += batch['label'].numpy().tolist()
    return [np.frombuffer(_keys(ids), np.int32), np.array(labels, np.int32)]

  def class_name(self, label: int) -> str:
    """Returns the name of a class, or its number where it has none."""
    marker = markers.require(self.context.shard_marker(ORIGINAL, 'train', 0))
    names = marker.get('classes', [])
    return names[label] if label < len(names) else str(label)

  def write_more(
    self, contents: Mapping[tuple[str, int], Mapping]
  ) -> list[str]:
    """Writes the manifest: exact mean and std, counts and checksums.

    Raises:
      DataError: no image of a split could be decoded.
      UsageError: too few images of a dataset that is never whole could be, or
        images share an id.
    """
    from roar_tf.datasets.reader import check_completeness

    self._check_all_ids(contents)
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
    if completeness:
      check_completeness(
        source, completeness, f'{directory} and the prepared dataset'
      )
    labels = _labels(contents)
    names = contents['train', 0].get('classes', [])
    for warning in _warnings(labels, names):
      progress.say(f'{source.name}: {warning}')
    height, width, _ = source.image_shape
    train = [m for (split, _), m in contents.items() if split == 'train']
    mean, std = _mean_and_std(train, images['train'] * height * width)
    files.publish_json(
      path,
      {
        **({'completeness': completeness} if completeness else {}),
        **({'unreadable': unreadable} if unreadable else {}),
        **({'labels': labels} if labels else {}),
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


def _keys(ids: Sequence[bytes]) -> bytes:
  """Returns the keys of ids, eight bytes each; see `randomness`."""
  return randomness.keys_of_ids(ids).numpy().tobytes() if ids else b''


def _labels(
  contents: Mapping[tuple[str, int], Mapping],
) -> dict[str, list[int]]:
  """Returns how many images of every class the splits have.

  It is empty where a shard was made before markers counted classes.
  """
  if not all('labels' in marker for marker in contents.values()):
    return {}
  return {
    split: np.sum(
      [m['labels'] for (s, _), m in contents.items() if s == split], 0
    ).tolist()
    for split in SPLITS
  }


def _warnings(
  labels: Mapping[str, Sequence[int]], names: Sequence[str]
) -> Iterator[str]:
  """Yields what is odd about the classes of a dataset.

  Args:
    labels: of `_labels`.
    names: of the classes.
  """
  for split, count, text in (
    ('train', 0, 'have no train image, and no model can learn them'),
    ('train', 1, 'have a single train image'),
    ('test', 0, 'have no test image'),
  ):
    numbers = np.flatnonzero(np.array(labels.get(split, [])) == count)
    if len(numbers):
      named = [names[n] if n < len(names) else str(n) for n in numbers[:_NAMED]]
      more = ', ...' if len(numbers) > _NAMED else ''
      total = len(labels[split])
      yield (
        f'{len(numbers)} of {total} classes {text}: {", ".join(named)}{more}'
      )


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
