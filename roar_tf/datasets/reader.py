"""Reads a source from TFDS, and checks that it is what its gin file says."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from roar_tf import errors
from roar_tf.datasets import crop, image_folder
from roar_tf.datasets.source import SPLITS, Source
from roar_tf.lazy import tf, tfds


class _Fault(NamedTuple):
  """An image that cannot be decoded: its place in a range, id, and error."""

  place: int
  id: str
  error: errors.DataError


class Reader:
  """Reads a source from TFDS or from a folder.

  Raises:
    UsageError: there is no such dataset, or it is not what the source says.
  """

  def __init__(self, source: Source, data_dir: str | None, own_dir: str):
    """Opens the dataset; a generated one is prepared under `own_dir`."""
    self._source = source
    if source.folder:
      what = f'gin parameter Source.folder of --dataset={source.name}'
      self._builder = image_folder.open_folder(source.folder, what)
    else:
      self._open(own_dir if source.generated else data_dir)
    self._check()

  def _open(self, directory: str | None) -> None:
    """Finds a TFDS dataset, and prepares it where that was not done yet."""
    source = self._source
    if source.builder_module:
      importlib.import_module(source.builder_module)
    try:
      self._builder = tfds.builder(source.tfds_name, data_dir=directory)
    except (tfds.core.DatasetNotFoundError, ValueError) as e:
      raise errors.UsageError(
        f'TFDS has no dataset "{source.tfds_name}" for --dataset='
        f'{source.name} (--data_dir={directory or _default_dir()}): '
        f'{str(e).splitlines()[0]}'
      ) from e
    if not self._builder.info.splits:
      self._prepare(directory)

  def _prepare(self, directory: str | None) -> None:
    """Makes the dataset, downloading it where that is needed."""
    quiet = contextlib.ExitStack()
    if self._source.generated:  # Takes a second: nothing to report.
      tfds.disable_progress_bar()
      quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
    try:
      with quiet:
        self._builder.download_and_prepare(file_format='tfrecord')
    except Exception as e:
      # Another worker may have been first.
      again = tfds.builder(self._source.tfds_name, data_dir=directory)
      if again.info.splits:
        self._builder = again
        return
      if isinstance(e, errors.RoarError):  # One of our builders explains it.
        raise
      if isinstance(e, OSError | tf.errors.OpError) and self._source.generated:
        raise
      place = directory or _default_dir()
      text = (str(e) or type(e).__name__).splitlines()[0]
      raise errors.UsageError(
        f'dataset "{self._source.tfds_name}" is not in --data_dir={place} and '
        f'could not be prepared there ({text.split(". Create it")[0]}); '
        f'{self._how_to_prepare(place)}, or name the directory that holds it.'
      ) from e

  def _how_to_prepare(self, place: str) -> str:
    """Says what a user can do about a dataset that could not be prepared."""
    source = self._source
    if manual := self._builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
      return (
        f'put into {place}/downloads/manual what TFDS cannot download '
        f'("{" ".join(manual.split()).rstrip(".")}") and run the same command '
        'again'
      )
    imports = source.builder_module and f' --imports={source.builder_module}'
    return (
      f'prepare it where there is a network, with "tfds build '
      f'{source.tfds_name}{imports or ""} --data_dir=DIR"'
    )

  def _check(self) -> None:
    """Compares what there is with what the source's gin file pins."""
    source, info = self._source, self._builder.info
    where = f'{source.origin} of --dataset={source.name}'
    for name in ('image', 'label', *(('truth',) if source.truth else ())):
      if name not in info.features:
        raise errors.UsageError(
          f'{where} has no feature "{name}"; ROAR needs classified images. It '
          f'has {", ".join(info.features)}.'
        )
    for split in SPLITS:
      name = source.split_name(split)
      if name not in info.splits:
        raise errors.UsageError(
          f'{where} has no split "{name}" (Source.{split}_split); it has '
          f'{", ".join(info.splits)}.'
        )
    self._check_completeness(where)
    for split in SPLITS:
      name = source.split_name(split)
      found = info.splits[name].num_examples
      pinned = getattr(source, f'{split}_images')
      if found != pinned:
        raise errors.UsageError(
          f'{where}: split "{name}" has {found} images, gin parameter '
          f'Source.{split}_images says {pinned}.'
        )
    self._check_image(where, info.features['image'])
    self._check_label(where, info.features['label'])

  def _check_image(self, where: str, feature) -> None:
    shape = feature.shape
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

  def _check_label(self, where: str, feature) -> None:
    # A sequence of classes has `num_classes` too.
    if feature.shape != ():
      raise errors.UsageError(
        f'{where} has several labels per image; ROAR needs exactly one.'
      )
    classes = getattr(feature, 'num_classes', None)
    if classes is None:
      raise errors.UsageError(
        f'{where} has labels that are no classes but {type(feature).__name__}; '
        'ROAR needs a ClassLabel.'
      )
    if classes != self._source.num_classes:
      raise errors.UsageError(
        f'{where} has {classes} classes, gin parameter Source.num_classes says '
        f'{self._source.num_classes}.'
      )

  def completeness(self) -> dict[str, dict]:
    """Returns what the dataset's builder says is missing, by our splits.

    A builder of a dataset that is never whole records, for every split, the
    numbers `expected`, `listed` and `present` and whatever else it knows, as
    `info.metadata['completeness']`. Empty for all other datasets.
    """
    record = (self._builder.info.metadata or {}).get('completeness')
    if not record:
      return {}
    return {split: record[self._source.split_name(split)] for split in SPLITS}

  def _check_completeness(self, where: str) -> None:
    """Refuses too few images; tells how to use those of an incomplete dataset.

    Shards are counted out before any data is looked at. So the number of images
    that are here becomes part of the configuration instead of being found out.
    """
    source, record = self._source, self.completeness()
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
        f'{where} has {_counts(record)}; to use them, add {bindings} to every '
        'command.'
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
          f'{self._where(split)} cannot be read ({str(e).splitlines()[0]}).'
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
          f'{self._where(split)}: example {batch["id"][index].decode()} has '
          f'label {batch["label"][index]}, not one of '
          f'0..{source.num_classes - 1}; ROAR needs labels.'
        )
      yield batch

  def encoded(self, split: str, start: int, stop: int) -> tf.data.Dataset:
    """Returns examples start..stop-1 of a split, images as they are stored."""
    source = self._source
    name = source.split_name(split)
    if source.folder:
      return image_folder.examples(self._builder, name, start, stop)
    dataset = self._builder.as_dataset(
      split=f'{name}[{start}:{stop}]',
      shuffle_files=False,
      read_config=tfds.ReadConfig(
        interleave_cycle_length=1, add_tfds_id=True, try_autocache=False
      ),
      decoders={'image': tfds.decode.SkipDecoding()},
    )

    def used(example):
      kept = {name: example[name] for name in ('image', 'label')}
      kept['id'] = _text(example['id' if 'id' in example else 'tfds_id'])
      if source.truth:
        kept['truth'] = example['truth']
      return kept

    return dataset.map(used)

  def _decoded(self, encoded) -> tf.Tensor:
    """Returns a stored image, of any size, as uint8 [H, W, C]."""
    if self._source.preprocessing == 'resize_crop':
      return crop.decode(encoded)
    return self._builder.info.features['image'].decode_example(encoded)

  def prepare(self, encoded) -> tf.Tensor:
    """Returns a stored image as uint8 of the source's shape."""
    source, image = self._source, self._decoded(encoded)
    if source.preprocessing == 'resize_crop':
      height, width, _ = source.image_shape
      image = crop.resize_crop(image, source.resize_short_side, height, width)
    return tf.ensure_shape(image, source.image_shape)

  def _where(self, split: str) -> str:
    return f'{self._source.origin}, split "{self._source.split_name(split)}"'

  def _faults(self, split: str, start: int, stop: int) -> Iterator[_Fault]:
    """Yields what cannot be decoded among examples start..stop-1 of a split.

    A pipeline of TensorFlow does not tell the example that stopped it, so they
    are tried one by one, and only once it was stopped.

    Raises:
      UsageError: an image has another shape than the source says.
    """
    source, where = self._source, self._where(split)
    for place, example in enumerate(self.encoded(split, start, stop)):
      name = example['id'].numpy().decode()
      try:
        image = self._decoded(example['image'])
      except tf.errors.InvalidArgumentError as e:
        # Without the names of graph nodes that TensorFlow adds.
        text = re.sub(r'\{\{.*?\}\} *| *\[Op:.*', '', e.message.splitlines()[0])
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
          f'Source.image_shape says {tuple(source.image_shape)}; for images of '
          'several sizes set Source.preprocessing = "resize_crop".'
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


def _default_dir() -> str:
  return os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
