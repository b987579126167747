"""What every source that comes along must give, whatever it is made of.

Nothing is downloaded: a few images in the layout of TFDS, with the features of
its builder, stand for the dataset, and gin's counts are set to theirs.
"""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from roar_tf import config
from roar_tf.datasets import crop
from roar_tf.datasets.reader import Reader
from roar_tf.datasets.source import SPLITS, Source
from roar_tf.study import experiment

COUNTS = {'train': 11, 'test': 7}
FOLDER = Source(
  'folder',
  folder='set by the fixture',
  preprocessing='resize_crop',
  image_shape=(224, 224, 3),
  num_classes=3,
  train_images=COUNTS['train'],
  test_images=COUNTS['test'],
  images_per_shard=4,
)


def _jpeg(height, width, mode='RGB', seed=0):
  pixels = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
  buffer = io.BytesIO()
  image = Image.fromarray(pixels).resize((width, height)).convert(mode)
  image.save(buffer, 'JPEG')
  return buffer.getvalue()


def _jpegs(count):
  """Files of all sizes, tall and wide, grey and coloured."""
  modes = ('RGB', 'L', 'CMYK')
  return [
    _jpeg(40 + 37 * i, 400 - 19 * i, modes[i % 3], seed=i) for i in range(count)
  ]


def _stored(feature, count):
  """Values for any feature of a dataset: texts and numbers that differ."""
  if isinstance(feature, tfds.features.Image):
    if None in feature.shape:
      return _jpegs(count)
    return np.random.default_rng(0).integers(
      0, 256, (count, *feature.shape), np.uint8
    )
  if isinstance(feature, tfds.features.ClassLabel):
    return np.arange(count) % feature.num_classes
  if isinstance(feature, tfds.features.Text):
    return [f'text {i}' for i in range(count)]
  return np.zeros([count, *feature.shape], feature.np_dtype)


def _from_tfds(source, folder, store_dataset):
  """Stores a small dataset under the name and version that gin pins."""
  if source.builder_module:
    __import__(source.builder_module)
  builder = tfds.builder(source.tfds_name, data_dir=folder)
  # A dataset with configurations lies one folder deeper.
  name, *configuration = builder.info.full_name.split('/')[:-1]
  splits, first = {}, 0
  for split, count in COUNTS.items():
    splits[source.split_name(split)] = {
      key: _stored(feature, first + count)[first:]
      for key, feature in builder.info.features.items()
    }
    first += count
  store_dataset(
    folder,
    name,
    str(builder.version),
    splits,
    dict(builder.info.features),
    *configuration,
  )
  return dataclasses.replace(
    source,
    train_images=COUNTS['train'],
    test_images=COUNTS['test'],
    train_subset=None,
  )


def _from_folder(folder):
  for split, count in COUNTS.items():
    for i, encoded in enumerate(_jpegs(count)):
      place = folder / split / f'class {i % 3}'
      place.mkdir(parents=True, exist_ok=True)
      (place / f'{i}.jpg').write_bytes(encoded)
  return dataclasses.replace(FOLDER, folder=str(folder))


@pytest.fixture(
  scope='module', params=[*config.available('datasets'), 'a folder']
)
def opened(request, tmp_path_factory, store_dataset, read):
  """A source, its reader, and all that the reader gives, by split."""
  folder = tmp_path_factory.mktemp('source')
  if request.param == 'a folder':
    source = _from_folder(folder)
  else:
    (loaded,) = experiment.load(dataset=request.param)
    source = loaded.source
    if not source.generated:
      source = _from_tfds(source, folder, store_dataset)
  reader = Reader(source, str(folder), str(folder / 'workspace'))
  found = {
    split: read(reader, split, 0, source.count(split)) for split in SPLITS
  }
  # What is generated here belongs into the workspace.
  assert (folder / 'workspace').exists() == source.generated
  return source, reader, found


def test_shapes_types_counts_and_labels(opened):
  source, _, found = opened
  for split, values in found.items():
    count = source.count(split)
    assert values['image'].shape == (count, *source.image_shape)
    assert values['image'].dtype == np.uint8
    assert values['label'].shape == (count,)
    assert values['label'].dtype == np.int64
    assert set(values['label']) <= set(range(source.num_classes))
    assert len(set(values['label'])) > 1
    assert ('truth' in values) == source.truth
    if source.truth:
      assert values['truth'].shape == (count, *source.image_shape[:2], 1)
      assert set(np.unique(values['truth'])) == {0, 1}


def test_ids_are_unique_texts_across_both_splits(opened):
  source, _, found = opened
  ids = [i for values in found.values() for i in values['id']]
  assert all(isinstance(i, bytes) and i for i in ids)
  assert len(set(ids)) == source.count('train') + source.count('test')


def test_every_part_is_that_part_of_the_whole(opened, read):
  _, reader, found = opened
  for split, values in found.items():
    part = read(reader, split, 2, 6)
    for name, expected in values.items():
      np.testing.assert_array_equal(part[name], expected[2:6])


def test_preprocessing_is_the_same_eagerly_and_inside_a_dataset(opened):
  source, reader, found = opened
  encoded = reader.encoded('test', 0, 5)
  for i, example in enumerate(encoded):
    image = reader.prepare(example['image'])
    assert image.dtype == tf.uint8
    np.testing.assert_array_equal(image, found['test']['image'][i])
    if source.preprocessing == 'resize_crop':
      decoded = crop.decode(example['image'])
      np.testing.assert_array_equal(
        image, crop.resize_crop(decoded, 256, *source.image_shape[:2])
      )


def test_shards_of_large_images_take_100_to_200_megabytes():
  for name in config.available('datasets'):
    (loaded,) = experiment.load(dataset=name)
    if loaded.source.preprocessing == 'resize_crop':
      assert 100e6 <= 100e3 * loaded.source.images_per_shard <= 200e6
