"""Tests of TFRecord shards: what is written is read, damage is named."""

import os

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import errors, shards
from roar_tf.engine import files

COUNT = 20
FULL = shards.Layout(
  image=(6, 5, 3), classes=4, levels=(6, 5, 1), truth=(6, 5, 1)
)


def _batch(layout, count=COUNT, seed=0):
  rng = np.random.default_rng(seed)
  batch = {'id': np.array([b'id_%d' % n for n in range(count)], object)}
  if layout.image:
    batch['image'] = rng.integers(0, 256, (count, *layout.image), np.uint8)
  if layout.classes:
    batch['label'] = rng.integers(0, layout.classes, count)
  for name in ('levels', 'truth'):
    if shape := getattr(layout, name):
      batch[name] = rng.integers(0, 101, (count, *shape), np.uint8)
  return batch


def _write(path, layout, batch):
  with shards.writing(str(path)) as writer:
    writer.write(layout.serialize(batch))
  return writer.contents


@pytest.fixture
def shard(tmp_path):
  path = tmp_path / 'roar_x-train.tfrecord-00000-of-00001'
  _write(path, FULL, _batch(FULL))
  return path


def _offsets(path):
  """Returns where the records of a file begin, and its end."""
  data, offsets = path.read_bytes(), [0]
  while offsets[-1] < len(data):
    length = int.from_bytes(data[offsets[-1] : offsets[-1] + 8], 'little')
    offsets.append(offsets[-1] + length + 16)
  return offsets


@pytest.mark.parametrize(
  'layout',
  [
    FULL,
    shards.Layout(image=(6, 5, 1), classes=2),
    shards.Layout(levels=(6, 5, 3)),
  ],
)
@pytest.mark.parametrize('size', [7, COUNT, 1000])
def test_what_is_written_is_read(layout, size, tmp_path):
  path, batch = tmp_path / 'shard', _batch(layout)
  _write(path, layout, batch)
  batches = list(shards.read_batches(str(path), COUNT, layout, size))
  assert len(batches) == -(-COUNT // size)
  assert set(batches[0]) == set(batch)
  for name, value in batch.items():
    found = np.concatenate([b[name] for b in batches])
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


def test_bytes_do_not_depend_on_batches_or_time(tmp_path):
  batch = _batch(FULL)
  contents = _write(tmp_path / 'one', FULL, batch)
  with shards.writing(str(tmp_path / 'two')) as writer:
    for start in range(0, COUNT, 3):
      part = {n: v[start : start + 3] for n, v in batch.items()}
      writer.write(FULL.serialize(part))
  assert (tmp_path / 'one').read_bytes() == (tmp_path / 'two').read_bytes()
  assert writer.contents == contents
  assert contents['records'] == COUNT
  assert contents['sha256'] == files.sha256(str(tmp_path / 'one'))
  # TFDS counts the records without their frames of 16 bytes.
  size = (tmp_path / 'one').stat().st_size
  assert contents['bytes'] == size - 16 * COUNT


@pytest.mark.parametrize('keep', [0, 11, 0.5, -1])
def test_a_truncated_shard_is_named(keep, shard):
  data = shard.read_bytes()
  keep = int(keep * len(data)) if keep == 0.5 else keep
  shard.write_bytes(data[:keep])
  with pytest.raises(errors.DataError, match=str(shard)):
    shards.read(str(shard), COUNT)


@pytest.mark.parametrize('records', [COUNT - 1, COUNT + 1])
def test_a_shard_of_another_length_is_named(records, shard):
  data, offsets = shard.read_bytes(), _offsets(shard)
  whole = (
    data[: offsets[records]] if records < COUNT else data + data[: offsets[1]]
  )
  shard.write_bytes(whole)
  with pytest.raises(errors.DataError, match=f'{shard}.*{records}.*{COUNT}'):
    shards.read(str(shard), COUNT)


def test_a_missing_shard_is_named(shard):
  shard.unlink()
  with pytest.raises(errors.DataError, match=str(shard)):
    shards.read(str(shard), COUNT)


@pytest.mark.parametrize(
  'layout',
  [
    shards.Layout(image=(6, 6, 3), classes=4),
    shards.Layout(levels=(6, 5, 3)),
  ],
)
def test_records_of_another_kind_are_named(layout, shard):
  with pytest.raises(errors.DataError, match=str(shard)):
    list(shards.read_batches(str(shard), COUNT, layout, 8))


def test_records_that_do_not_decode_are_named(tmp_path):
  path, layout = tmp_path / 'shard', shards.Layout(image=(6, 5, 3), classes=4)
  good = tf.train.Example.FromString(layout.serialize(_batch(layout))[0])
  good.features.feature['image'].bytes_list.value[0] = b'no png'
  with shards.writing(str(path)) as writer:
    writer.write([good.SerializeToString()])
  with pytest.raises(errors.DataError, match=str(path)):
    list(shards.read_batches(str(path), 1, layout, 8))


# --- the format ---------------------------------------------------------------


@pytest.mark.parametrize(
  'layout', [FULL, shards.Layout(levels=(6, 5, 3))], ids=['full', 'levels']
)
def test_plain_tfds_features_decode_the_records(layout):
  tfds = pytest.importorskip('tensorflow_datasets')
  # As a reader without roar_tf would write them.
  features = {'id': tfds.features.Text()}
  if layout.image:
    features['image'] = tfds.features.Image(shape=layout.image)
    features['label'] = tfds.features.ClassLabel(num_classes=4)
  for name in ('levels', 'truth'):
    if shape := getattr(layout, name):
      features[name] = tfds.features.Tensor(
        shape=shape, dtype=np.uint8, encoding='zlib'
      )
  batch = _batch(layout)
  for reader in (tfds.features.FeaturesDict(features), layout.tfds_features()):
    for i, record in enumerate(layout.serialize(batch)):
      found = reader.deserialize_example(record)
      assert set(found) == set(batch)
      for name, value in batch.items():
        np.testing.assert_array_equal(found[name], value[i])


def test_ids_may_hold_any_bytes():
  layout = shards.Layout(levels=(1, 1, 1))
  ids = np.array([b'', b'a/\x00\xff', 'naïve'.encode()], object)
  levels = np.ones((3, 1, 1, 1), np.uint8)
  records = layout.serialize({'id': ids, 'levels': levels})
  np.testing.assert_array_equal(layout.parse(records)['id'], ids)


# --- more damage --------------------------------------------------------------


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path):
  layout, path = shards.Layout(levels=(2, 2, 1)), tmp_path / 'shard'
  _write(path, layout, _batch(layout, 3))
  data = path.read_bytes()
  assert 150 < len(data) < 400
  # All of them pass, but take half a minute: the first length, some others.
  others = np.random.default_rng(0).permutation(np.arange(64, 8 * len(data)))
  for bit in [*range(1, 64, 4), *others[:64]]:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    with pytest.raises(errors.DataError, match='/shard '):
      shards.read(str(path), 3)


@pytest.mark.parametrize(
  ('written', 'asked'), [((6, 5, 3), (6, 5, 1)), ((6, 5, 1), (3, 5, 1))]
)
def test_maps_of_a_multiple_size_are_not_taken_for_more_examples(
  written, asked
):
  layout = shards.Layout(levels=written)
  records = layout.serialize(_batch(layout))
  with pytest.raises(errors.DataError, match='/some/shard .*do not decode'):
    shards.parse('/some/shard', records, shards.Layout(levels=asked))


def test_an_interrupted_writer_keeps_the_shard_that_was_there(tmp_path):
  path = tmp_path / 'shard'
  path.write_bytes(b'before')
  with pytest.raises(KeyboardInterrupt):
    with shards.writing(str(path)) as writer:
      writer.write(FULL.serialize(_batch(FULL)))
      assert len(os.listdir(tmp_path)) == 2  # Written aside.
      raise KeyboardInterrupt
  assert os.listdir(tmp_path) == ['shard']
  assert path.read_bytes() == b'before'
