"""TFRecord shards in TFDS layout: write, read, verify.

A `Layout` says what one record holds. Records are `tf.train.Example`s that TFDS
decodes without roar_tf: images as PNG (lossless), level and truth maps as
zlib-compressed uint8 tensors, label as int64, id as bytes. A batch is a dict of
arrays: image uint8 [B, H, W, C], levels and truth uint8 [B, H, W, 1 or C],
label int64 [B], id string [B].
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from roar_tf import errors, lazy
from roar_tf.engine import files
from roar_tf.lazy import tf, tfds


@dataclasses.dataclass(frozen=True)
class Layout:
  """What a record holds besides its id; None where it does not.

  Attributes:
    image: shape (H, W, C) of a uint8 image.
    classes: number of classes of an int64 label.
    levels: shape (H, W, 1 or C) of a uint8 level map.
    truth: shape (H, W, 1) of a uint8 ground-truth map, 1 where evidence is.
  """

  image: tuple[int, int, int] | None = None
  classes: int | None = None
  levels: tuple[int, int, int] | None = None
  truth: tuple[int, int, int] | None = None

  def tfds_features(self):
    """Returns the `tfds.features.FeaturesDict` that reads these records."""
    features = {'id': tfds.features.Text()}
    if self.image:
      features['image'] = tfds.features.Image(
        shape=self.image, dtype=np.uint8, encoding_format='png'
      )
    if self.classes:
      features['label'] = tfds.features.ClassLabel(num_classes=self.classes)
    for name, shape in self._maps():
      features[name] = tfds.features.Tensor(
        shape=shape, dtype=np.uint8, encoding='zlib'
      )
    return tfds.features.FeaturesDict(features)

  def serialize(self, batch: Mapping) -> list[bytes]:
    """Returns one serialized `tf.train.Example` per example of a batch."""
    columns = {'id': [np.asarray(batch['id']).tolist(), _bytes_feature]}
    if self.image:
      pngs = encode_png(tf.convert_to_tensor(batch['image']))
      columns['image'] = [pngs.numpy().tolist(), _bytes_feature]
    if self.classes:
      columns['label'] = [np.asarray(batch['label']).tolist(), _int_feature]
    for name, _ in self._maps():
      compress = compress_levels if name == 'levels' else zlib.compress
      maps = np.ascontiguousarray(np.asarray(batch[name]))
      columns[name] = [[compress(m) for m in maps], _bytes_feature]
    return [
      tf.train.Example(
        features=tf.train.Features(
          feature={
            name: make(values[i]) for name, (values, make) in columns.items()
          }
        )
      ).SerializeToString(deterministic=True)
      for i in range(len(columns['id'][0]))
    ]

  def parse(self, records) -> dict[str, tf.Tensor]:
    """Returns the batch that serialized records [B] hold."""
    return _parser(self)(tf.convert_to_tensor(records, tf.string))

  def _maps(self):
    if self.levels:
      yield 'levels', self.levels
    if self.truth:
      yield 'truth', self.truth


def compress_levels(levels: np.ndarray) -> bytes:
  """Returns a level map as a zlib stream, which any zlib reads.

  Rankings of gradients are noise to deflate's search for repetitions, which
  takes most of its time and spends more bytes than it saves; runs of one value
  are all that it looks for here (measured by benchmarks/rankings.py).

  Args:
    levels: contiguous uint8 [H, W, 1 or C].
  """
  stream = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
  return stream.compress(levels) + stream.flush()


def _bytes_feature(value: bytes) -> tf.train.Feature:
  return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int_feature(value: int) -> tf.train.Feature:
  return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


@lazy.function(reduce_retracing=True)
def encode_png(images: tf.Tensor) -> tf.Tensor:
  """Encodes uint8 [B, H, W, C] as strings [B]."""
  return tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)


@functools.cache
def _parser(layout: Layout):
  """Returns the compiled parser of a layout; traced once per process."""
  spec = {'id': tf.io.FixedLenFeature([], tf.string)}
  if layout.image:
    spec['image'] = tf.io.FixedLenFeature([], tf.string)
  if layout.classes:
    spec['label'] = tf.io.FixedLenFeature([], tf.int64)
  for name, _ in layout._maps():
    spec[name] = tf.io.FixedLenFeature([], tf.string)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
  def parse(records):
    batch = tf.io.parse_example(records, spec)
    if layout.image:
      batch['image'] = tf.map_fn(
        lambda png: tf.ensure_shape(
          tf.io.decode_png(png, layout.image[2]), layout.image
        ),
        batch['image'],
        fn_output_signature=tf.TensorSpec(layout.image, tf.uint8),
      )
    for name, shape in layout._maps():
      raw = tf.io.decode_compressed(batch[name], 'ZLIB')
      flat = tf.io.decode_raw(raw, tf.uint8)
      # With the number of records, so that maps of another size are an error.
      batch[name] = tf.reshape(flat, [tf.shape(records)[0], *shape])
    return batch

  return parse


class Writer:
  """A shard being written.

  Attributes:
    contents: what the shard's DONE marker records, once `writing` has ended:
      number of records, their bytes (as TFDS counts them), the file's SHA-256.
    abandoned: to be set where the shard shall not appear after all.
  """

  def __init__(self, file: tf.io.TFRecordWriter):
    self._file = file
    self.contents = {'records': 0, 'bytes': 0}
    self.abandoned = False

  def write(self, records: Iterable[bytes]) -> None:
    """Appends serialized records."""
    for record in records:
      self._file.write(record)
      self.contents['records'] += 1
      self.contents['bytes'] += len(record)


@contextlib.contextmanager
def writing(path: str) -> Iterator[Writer]:
  """Yields the writer of a shard that appears at `path` when all went well."""
  with (
    contextlib.suppress(_AbandonedError),
    files.publishing(path) as name,
  ):
    with tf.io.TFRecordWriter(name) as file:
      writer = Writer(file)
      yield writer
    if writer.abandoned:
      raise _AbandonedError
    writer.contents['sha256'] = files.sha256(name)


class _AbandonedError(Exception):
  """Ends the publication of a shard that its writer gave up."""


def read(path: str, expected: int) -> tf.Tensor:
  """Returns all serialized records of a shard, their CRCs checked.

  Args:
    path: file of the shard.
    expected: how many records it must hold.

  Returns:
    Strings [expected].

  Raises:
    DataError: a record is damaged, or the count is another. The file is named.
  """
  try:
    records = _read(tf.constant(path), tf.constant(expected, tf.int64))
  except (tf.errors.OpError, OSError) as e:
    raise errors.DataError(
      f'{path} is damaged ({str(e).splitlines()[0]}); {_ADVICE}'
    ) from e
  found = len(records)
  if found != expected:
    more = ' or more' if found > expected else ''
    raise errors.DataError(
      f'{path} holds {found}{more} records where {expected} were written; '
      f'{_ADVICE}'
    )
  return records


def whole(path, count) -> tf.Tensor:
  """Returns the records of a shard, their CRCs checked, in a `tf.function`.

  Args:
    path: its file, a string.
    count: int64, how many it should have; of more, one more is returned.

  Returns:
    Strings [n].
  """
  records = tf.data.TFRecordDataset(path, buffer_size=1 << 22)
  nothing = tf.zeros([0], tf.string)
  return (
    records.batch(count + 1).take(1).reduce(nothing, lambda _, batch: batch)
  )


@lazy.function(reduce_retracing=True)
def _read(path, count):
  """A pipeline that is traced once: making one takes 15 ms."""
  return whole(path, count)


def fault(path: str, contents: Mapping) -> str:
  """Returns what is wrong with a shard, empty if nothing is.

  Args:
    path: file of the shard.
    contents: what its DONE marker records, as `Writer.contents`.
  """
  if files.sha256(path) != contents['sha256']:
    return 'its SHA-256 is not that in its .DONE'
  try:
    records = read(path, contents['records'])
  except errors.DataError:
    return f'it does not hold the {contents["records"]} records of its .DONE'
  sizes = tf.cast(tf.strings.length(records), tf.int64)
  if tf.reduce_sum(sizes) != contents['bytes']:
    return f'its records are not the {contents["bytes"]} bytes of its .DONE'
  return ''


_ADVICE = 'delete it and its .DONE file, and run the same command again.'


def parse(path: str, records, layout: Layout) -> dict[str, tf.Tensor]:
  """Parses records of the shard at `path`; raises DataError naming it."""
  try:
    return layout.parse(records)
  except tf.errors.OpError as e:
    raise errors.DataError(
      f'{path} holds records that do not decode ({e.message.splitlines()[0]}); '
      f'{_ADVICE}'
    ) from e


def read_batches(
  path: str, expected: int, layout: Layout, size: int
) -> Iterator[dict[str, tf.Tensor]]:
  """Yields the batches of a shard, each of at most `size` examples."""
  records = read(path, expected)
  for start in range(0, expected, size):
    yield parse(path, records[start : start + size], layout)
