"""Reads a source from TFDS, and checks that it is what its gin file says."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from roar_tf import errors
from roar_tf.datasets import crop, image_folder, preparing, splits
from roar_tf.datasets.source import SPLITS, TFDS_ID, Source
from roar_tf.lazy import tf, tfds

_NAMED = 10
"""How many classes a message names."""


class _Fault(NamedTuple):
  """An image that cannot be decoded: its place in a range, id, and error."""

  place: int
  id: str
  error: errors.DataError


class Reader:
  """Reads a source from TFDS or from a folder.

  Attributes:
    classes: names of the classes.
    ignored: what lies in a folder and is not read, a phrase or empty.

  Raises:
    UsageError: there is no such dataset, or it is not what the source says.
  """

  def __init__(self, source: Source, data_dir: str | None, own_dir: str):
    """Opens the dataset; a generated one is prepared under `own_dir`."""
    self._source, self.ignored = source, ''
    self._where = f'{source.origin} of --dataset={source.name}'
    if source.folder:
      what = f'gin parameter Source.folder of --dataset={source.name}'
      self._folder = image_folder.Folder(source.folder, what)
      sizes = {name: len(ids) for name, ids in self._folder.ids.items()}
      infos = None
      features, self.classes = ('image', 'label'), self._folder.classes
      self.ignored = self._folder.ignored
    else:
      directory = own_dir if source.generated else data_dir
      self._builder = preparing.opened(source, directory)
      infos = self._builder.info.splits
      sizes = {name: infos[name].num_examples for name in infos}
      features = self._builder.info.features
    self._check_features(features)
    self._check_completeness()
    self._splits = splits.Splits(source, sizes, infos, self.ignored)
    if not source.folder:
      self.classes = getattr(features[source.label_key], 'names', None) or []
      self._check_image(features[source.image_key])
      self._check_label(features[source.label_key])
    self._check_classes()

  def _check_features(self, features) -> None:
    """Refuses a dataset that lacks a feature that is read."""
    source, keys = self._source, ['image_key', 'label_key']
    needed = {f'Source.{key}': getattr(source, key) for key in keys}
    if source.truth:
      needed['Source.truth'] = 'truth'
    if source.id_key not in (None, TFDS_ID):
      needed['Source.id_key'] = source.id_key
    for parameter, name in needed.items():
      if name not in features:
        raise errors.UsageError(
          f'{self._where} has no feature "{name}" (gin parameter {parameter}); '
          'ROAR needs classified images. It has '
          f'{", ".join(sorted(features))}.'
        )
    name = source.id_key or 'id'
    if source.folder or name not in features:
      return
    feature = features[name]
    if not (
      feature.shape == ()
      and (feature.tf_dtype.is_integer or feature.tf_dtype == tf.string)
    ):
      raise errors.UsageError(
        f'{self._where}: its feature "{name}" ({type(feature).__name__}) is no '
        'id, since ids are strings or whole numbers; choose another feature by '
        "gin parameter Source.id_key, or TFDS's own ids by Source.id_key = "
        f'"{TFDS_ID}".'
      )

  def _check_image(self, feature) -> None:
    where, shape = self._where, feature.shape
    single = isinstance(shape, tuple) and len(shape) == 3
    if not single or shape[-1] not in (1, 3, None):
      raise errors.UsageError(
        f'{where} has images of shape {shape}; ROAR needs (height, '
        'width, channels) with 1 or 3 channels.'
      )
    if feature.np_dtype != np.uint8:
      raise errors.UsageError(
        f'{where} has {np.dtype(feature.np_dtype).name} images; ROAR needs '
        'uint8.'
      )
    encoded = isinstance(feature, tfds.features.Image)
    if self._source.preprocessing != 'none' and not encoded:
      raise errors.UsageError(
        f'{where} stores its images as {type(feature).__name__}; '
        f'Source.preprocessing = "{self._source.preprocessing}" needs encoded '
        'images.'
      )

  def _check_label(self, feature) -> None:
    where = self._where
    # A sequence of classes has `num_classes` too.
    if feature.shape != ():
      raise errors.UsageError(
        f'{where} has several labels per image; ROAR needs exactly one.'
      )
    if getattr(feature, 'num_classes', None) is None:
      raise errors.UsageError(
        f'{where} has labels that are no classes but {type(feature).__name__}; '
        'ROAR needs a ClassLabel.'
      )

  def _check_classes(self) -> None:
    names, classes = self.classes, self._source.num_classes
    if len(names) != classes:
      more = ', ...' if len(names) > _NAMED else ''
      raise errors.UsageError(
        f'{self._where} has {len(names)} classes ({", ".join(names[:_NAMED])}'
        f'{more}), gin parameter Source.num_classes says {classes}.'
      )

  def completeness(self) -> dict[str, dict]:
    """Returns what the dataset's builder says is missing, by our splits.

    A builder of a dataset that is never whole records, for every split, the
    numbers `expected`, `listed` and `present` and whatever else it knows, as
    `info.metadata['completeness']`. Empty for all other datasets.
    """
    if self._source.folder:
      return {}
    record = (self._builder.info.metadata or {}).get('completeness', {})
    names = {split: self._source.split_name(split) for split in SPLITS}
    if not record.keys() >= set(names.values()):  # Gin slices the splits.
      return {}
    return {split: record[name] for split, name in names.items()}

  def _check_completeness(self) -> None:
    """Refuses too few images; tells how to use those of an incomplete dataset.

    Shards are counted out before any data is looked at. So the number of images
    that are here becomes part of the configuration instead of being found out.
    """
    source, record = self._source, self.completeness()
    if record:
      check_completeness(source, record, str(self._builder.data_dir))
    if any(
      r['present'] != getattr(source, f'{split}_images')
      for split, r in record.items()
    ):
      bindings = ' '.join(
        f"--gin_bindings='Source.{split}_images = {found['present']}'"
        for split, found in record.items()
      )
      raise errors.UsageError(
        f'{self._where} has {_counts(record)}; to use them, add {bindings} to '
        'every command.'
      )

  def batches(
    self,
    split: str,
    start: int,
    stop: int,
    size: int,
    left_out: list[str] | None = None,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields examples start..stop-1 of a split, in TFDS's order.

    Args:
      split: `train` or `test`.
      start: the first example.
      stop: the one after the last.
      size: examples in a batch, at most.
      left_out: receives the ids of images that cannot be decoded; their
        examples are not yielded. If None, the first such image is an error.

    Raises:
      UsageError: an image has another shape than the source says, or a label
        is no class.
      DataError: an image cannot be decoded; it is named by its id.
    """
    try:
      whole = self.encoded(split, start, stop)
      for batch in self._prepared(split, whole, size):
        yield batch
        start += len(batch['id'])
      return
    except errors.UsageError:
      raise
    except (ValueError, tf.errors.InvalidArgumentError) as e:
      faults = self._faults(split, start, stop)
      faults = list(
        faults if left_out is not None else itertools.islice(faults, 1)
      )
      if not faults:
        raise errors.UsageError(
          f'{self._where_in(split)} cannot be read ({str(e).splitlines()[0]}).'
        ) from e
      if left_out is None:
        raise faults[0].error from e
    left_out += [fault.id for fault in faults]
    places = tf.constant([fault.place for fault in faults], tf.int64)
    rest = (
      self.encoded(split, start, stop)
      .enumerate()
      .filter(lambda place, _: tf.reduce_all(place != places))
      .map(lambda _, example: example)
    )
    yield from self._prepared(split, rest, size)

  def _prepared(
    self, split: str, dataset: tf.data.Dataset, size: int
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches of examples from `encoded`, ready for use."""
    source = self._source

    def standard(example):
      return {**example, 'image': self.prepare(example['image'])}

    for batch in dataset.map(standard).batch(size).as_numpy_iterator():
      wrong = ~np.isin(batch['label'], np.arange(source.num_classes))
      if wrong.any():
        index = int(np.argmax(wrong))
        raise errors.UsageError(
          f'{self._where_in(split)}: example '
          f'{batch["id"][index].decode(errors="replace")} has label '
          f'{batch["label"][index]}, not one of '
          f'0..{source.num_classes - 1}; ROAR needs labels.'
        )
      yield batch

  def encoded(self, split: str, start: int, stop: int) -> tf.data.Dataset:
    """Returns examples start..stop-1 of a split, images as they are stored."""
    source, parts = self._source, self._splits.range(split, start, stop)
    if source.folder:
      first, *more = (self._folder.examples(*part) for part in parts)
      return functools.reduce(tf.data.Dataset.concatenate, more, first)
    dataset = self._builder.as_dataset(
      split='+'.join(f'{name}[{low}:{high}]' for name, low, high in parts),
      shuffle_files=False,
      read_config=tfds.ReadConfig(
        interleave_cycle_length=1, add_tfds_id=True, try_autocache=False
      ),
      decoders={source.image_key: tfds.decode.SkipDecoding()},
    )
    id_key = source.id_key or (
      'id' if 'id' in self._builder.info.features else TFDS_ID
    )

    def used(example):
      kept = {
        'image': example[source.image_key],
        'label': example[source.label_key],
        'id': _text(example[id_key]),
      }
      if source.truth:
        kept['truth'] = example['truth']
      return kept

    return dataset.map(used)

  def digest(self, split: str, start: int, stop: int) -> str:
    """Returns what names and sizes of files examples start..stop-1 have.

    Only the images of a folder are files.
    """
    parts = self._splits.range(split, start, stop)
    return ' '.join(self._folder.digest(*part) for part in parts)

  def _decoded(self, encoded) -> tf.Tensor:
    """Returns a stored image, of any size, as uint8 [H, W, C]."""
    source = self._source
    if source.preprocessing == 'resize_crop':
      return crop.decode(encoded)
    if source.folder:
      return crop.decode(encoded, source.image_shape[2], dct_method='')
    feature = self._builder.info.features[source.image_key]
    return feature.decode_example(encoded)

  def prepare(self, encoded) -> tf.Tensor:
    """Returns a stored image as uint8 of the source's shape."""
    source, image = self._source, self._decoded(encoded)
    if source.preprocessing == 'resize_crop':
      height, width, _ = source.image_shape
      image = crop.resize_crop(image, source.resize_short_side, height, width)
    return tf.ensure_shape(image, source.image_shape)

  def _where_in(self, split: str) -> str:
    return f'{self._source.origin}, split "{self._source.split_name(split)}"'

  def _faults(self, split: str, start: int, stop: int) -> Iterator[_Fault]:
    """Yields what cannot be decoded among examples start..stop-1 of a split.

    A pipeline of TensorFlow does not tell the example that stopped it, so they
    are tried one by one, and only once it was stopped.

    Raises:
      UsageError: an image has another shape than the source says.
    """
    source, where = self._source, self._where_in(split)
    for place, example in enumerate(self.encoded(split, start, stop)):
      name = example['id'].numpy().decode(errors='replace')
      try:
        image = self._decoded(example['image'])
      except (ValueError, tf.errors.InvalidArgumentError) as e:
        # Without the names of graph nodes that TensorFlow adds.
        text = getattr(e, 'message', str(e)).splitlines()[0]
        text = re.sub(r'\{\{.*?\}\} *| *\[Op:.*', '', text)
        error = errors.DataError(
          f'{where}: image {name} cannot be decoded ({text}); replace it, '
          'prepare the dataset again, or leave out all such images with '
          '--gin_bindings=\'Source.unreadable = "skip"\'.'
        )
        yield _Fault(place, name, error)
        continue
      shape = tuple(image.shape)
      if source.preprocessing == 'none' and shape != tuple(source.image_shape):
        raise errors.UsageError(
          f'{where}: image {name} has shape {shape}, gin parameter '
          f'Source.image_shape says {source.image_shape}; '
          f'{_advice(source, shape)}.'
        )


def _advice(source: Source, shape: tuple[int, int, int]) -> str:
  """Returns what may be done about an image of another shape than wanted."""
  height, width, channels = source.image_shape
  if shape[:2] == (height, width):
    return f'set Source.image_shape = {shape}'
  if channels == 3:
    return (
      'for images of several sizes set Source.preprocessing = "resize_crop"'
    )
  return (
    f'for images of several sizes set Source.image_shape = ({height}, {width}, '
    '3) and Source.preprocessing = "resize_crop"'
  )


def check_completeness(
  source: Source, record: Mapping[str, Mapping], directory: str
) -> None:
  """Raises UsageError if too many of a dataset's images are missing.

  Args:
    source: the source.
    record: as from `Reader.completeness`.
    directory: what holds the dataset as it is.
  """
  least = source.min_completeness
  if any(r['present'] < least * r['expected'] for r in record.values()):
    raise errors.UsageError(
      f'{source.origin} of --dataset={source.name} has {_counts(record)}, less '
      f'than the share that gin parameter Source.min_completeness={least} asks '
      f'for: lower it, or get more of them, delete {directory} and run the '
      'same command again.'
    )


def _counts(record: Mapping[str, Mapping]) -> str:
  return ' and '.join(
    f'{found["present"]} of {found["expected"]} {split} images'
    for split, found in record.items()
  )


def _text(ids: tf.Tensor) -> tf.Tensor:
  return ids if ids.dtype == tf.string else tf.strings.as_string(ids)
