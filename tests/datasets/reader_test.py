"""Tests of what the reader of sources gives, and accepts."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from roar_tf import errors
from roar_tf.datasets import splits
from roar_tf.datasets.reader import Reader
from roar_tf.datasets.source import Source
from roar_tf.study import experiment

TINY = Source(
  'tiny',
  tfds_name='tiny',
  image_shape=(8, 8, 3),
  num_classes=3,
  train_images=120,
  test_images=60,
  truth=True,
  images_per_shard=50,
)
LABEL = tfds.features.ClassLabel(num_classes=2)


def _decoded(ids):
  return [i.decode() for i in ids]


@pytest.fixture
def odd(tmp_path, store_dataset):
  """Function that stores a dataset `odd` and returns its source's reader."""

  def make(features, values, test=None, **changes):
    store_dataset(
      tmp_path,
      'odd',
      '1.0.0',
      {'train': values, 'test': test or values},
      features,
    )
    source = Source(
      'mine',
      **{
        'tfds_name': 'odd',
        'image_shape': (4, 4, 3),
        'num_classes': 2,
        'train_images': 4,
        'test_images': 4,
        'images_per_shard': 2,
        **changes,
      },
    )
    return Reader(source, str(tmp_path), str(tmp_path / 'own'))

  return make


def _images(dtype=np.uint8, shape=(4, 4, 3)):
  return np.arange(4 * np.prod(shape)).reshape(4, *shape).astype(dtype)


def _image_feature(shape=(4, 4, 3), **options):
  return tfds.features.Image(shape=shape, encoding_format='png', **options)


def test_examples_come_unchanged_and_in_order(tiny, raw, read):
  reader = Reader(TINY, tiny.data_dir, '/nowhere')
  for split in ('train', 'test'):
    found = read(reader, split, 0, TINY.count(split), 7)
    assert found['image'].dtype == np.uint8
    for name in ('image', 'label', 'truth'):
      np.testing.assert_array_equal(found[name], raw[split][name])
    assert _decoded(found['id']) == raw[split]['id'].tolist()


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'test_images': 61}, 'Source.test_images'),
    ({'num_classes': 5}, 'Source.num_classes'),
    ({'test_split': 'validation'}, 'Source.test_split'),
    ({'tfds_name': 'tiny:7.0.0'}, 'tiny:7.0.0'),
    ({'tfds_name': 'no_such_dataset'}, 'no_such_dataset'),
  ],
)
def test_a_dataset_that_is_not_what_gin_says_is_refused(changes, words, tiny):
  source = dataclasses.replace(TINY, **changes)
  with pytest.raises(errors.UsageError, match=words) as caught:
    Reader(source, tiny.data_dir, '/nowhere')
  assert '--dataset=tiny' in str(caught.value)


def test_a_dataset_that_cannot_be_downloaded_is_named(tmp_path, monkeypatch):
  def offline(*args, **kwargs):
    raise ConnectionError('Network is unreachable')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', offline)
  (loaded,) = experiment.load(dataset='fashion_mnist')
  with pytest.raises(errors.UsageError, match='unreachable.*tfds build'):
    Reader(loaded.source, str(tmp_path), '/nowhere')


def test_an_image_of_another_shape_is_named(odd, read):
  reader = odd(
    {'image': _image_feature((None, None, 3)), 'label': LABEL},
    {'image': _images(shape=(4, 5, 3)), 'label': [0, 1, 0, 1]},
  )
  with pytest.raises(errors.UsageError, match='tfrecord-00000-of-00001__0'):
    read(reader, 'train', 0, 4)


@pytest.mark.parametrize(
  'image, label, changes, words',
  [
    (_image_feature((4, 5, 3)), LABEL, {}, 'image_shape'),
    # Stored as they are they would be read back as something else.
    (_image_feature(dtype=np.uint16), LABEL, {}, 'uint8'),
    (
      _image_feature((4, 4, 4)),
      LABEL,
      {'image_shape': (4, 4, 4)},
      '1 or 3 channels',
    ),
    (
      _image_feature(),
      tfds.features.Sequence(LABEL, length=2),
      {},
      'several labels per image',
    ),
    (_image_feature(), tfds.features.Scalar(np.int64), {}, 'no classes but'),
  ],
)
def test_features_of_other_kinds_are_refused(
  image, label, changes, words, odd, read
):
  images = np.zeros((4, *image.shape), image.np_dtype)
  labels = np.zeros((4, *label.shape), np.int64)
  with pytest.raises(errors.UsageError, match=words):
    reader = odd(
      {'image': image, 'label': label},
      {'image': images, 'label': labels},
      **changes,
    )
    read(reader, 'train', 0, 4)


@pytest.mark.parametrize('lacking', ['image', 'label', 'truth'])
def test_a_dataset_without_a_needed_feature_is_refused(lacking, odd):
  features = {'image': _image_feature(), 'label': LABEL}
  values = {'image': _images(), 'label': [0, 1, 0, 1]}
  features['renamed'] = features.pop(lacking, tfds.features.Scalar(np.int64))
  values['renamed'] = values.pop(lacking, [0, 1, 0, 1])
  with pytest.raises(errors.UsageError, match=f'"{lacking}"'):
    odd(features, values, truth=True)


@pytest.mark.parametrize('preprocessing', ['none', 'resize_crop'])
def test_an_unreadable_image_is_named_by_its_id(preprocessing, odd, read):
  files = [
    tf.io.encode_jpeg(image).numpy() for image in _images(shape=(224, 224, 3))
  ]
  files[2] = files[2][: len(files[2]) // 2]
  features = {
    'image': tfds.features.Image(shape=(None, None, 3)),
    'label': LABEL,
    'id': tfds.features.Text(),
  }
  values = {'image': files, 'label': [0, 1, 0, 1], 'id': ['a', 'b', 'c', 'd']}
  reader = odd(
    features,
    values,
    image_shape=(224, 224, 3),
    preprocessing=preprocessing,
  )
  assert _decoded(read(reader, 'train', 0, 2)['id']) == ['a', 'b']
  with pytest.raises(errors.DataError, match='"train".*image c cannot be'):
    read(reader, 'train', 0, 4)


def test_whole_numbers_as_ids_become_texts(odd):
  features = {
    'image': _image_feature(),
    'label': LABEL,
    'id': tfds.features.Scalar(np.int64),
  }
  values = {'image': _images(), 'label': [0, 1, 0, 1], 'id': [7, 8, 9, 10]}
  (batch,) = odd(features, values).batches('train', 0, 4, 4)
  assert _decoded(batch['id']) == ['7', '8', '9', '10']


@pytest.mark.parametrize(
  'feature, values',
  [
    (tfds.features.Tensor(shape=(2,), dtype=np.int64), np.zeros((4, 2), int)),
    (tfds.features.Scalar(np.float32), np.zeros(4, np.float32)),
    (tfds.features.Scalar(np.bool_), np.zeros(4, bool)),
    (tfds.features.FeaturesDict({'a': np.int64}), {'a': np.arange(4)}),
    (tfds.features.Sequence(np.int64, length=1), np.zeros((4, 1), int)),
  ],
  ids=['vector', 'float', 'bool', 'dict', 'sequence'],
)
def test_what_can_be_no_id_is_refused_and_can_be_left(feature, values, odd):
  features = {'image': _image_feature(), 'label': LABEL, 'id': feature}
  arrays = {'image': _images(), 'label': [0, 1, 0, 1], 'id': values}
  with pytest.raises(errors.UsageError, match='"id".*Source.id_key'):
    odd(features, arrays)


def test_ids_of_tfds_take_the_place_of_others(odd, read):
  features = {
    'image': _image_feature(),
    'label': LABEL,
    'id': tfds.features.Text(),
    'number': tfds.features.Scalar(np.uint64),
  }
  values = {'image': _images(), 'label': [0, 1, 0, 1], 'id': ['one'] * 4}
  values['number'] = np.array([7, 8, 9, 2**64 - 1], np.uint64)
  own = read(odd(features, values, id_key='tfds_id'), 'train', 0, 4)['id']
  assert len(set(own)) == 4 and own[3].endswith(
    b'train.tfrecord-00000-of-00001__3'
  )


def test_features_of_other_names_are_read(odd, read):
  features = {
    'picture': _image_feature(),
    'species': LABEL,
    'number': tfds.features.Scalar(np.uint64),
  }
  values = {
    'picture': _images(),
    'species': [0, 1, 1, 0],
    'number': np.array([7, 8, 9, 2**64 - 1], np.uint64),
  }
  keys = {'image_key': 'picture', 'label_key': 'species', 'id_key': 'number'}
  reader = odd(features, values, **keys)
  found = read(reader, 'train', 0, 4)
  np.testing.assert_array_equal(found['image'], values['picture'])
  assert found['label'].tolist() == values['species']
  assert _decoded(found['id']) == ['7', '8', '9', str(2**64 - 1)]
  for key in keys:
    source = dataclasses.replace(reader._source, **{key: 'nmber'})
    with pytest.raises(
      errors.UsageError, match=f'"nmber".*Source.{key}.*number, picture, spec'
    ):
      Reader(source, str(reader._builder.data_path.parent.parent), '/nowhere')


SLICES = {
  ('train[:50%]', 'train[50%:]'): [[0, 1], [2, 3]],
  ('train[3:]', 'train[:3]'): [[3], [0, 1, 2]],
  ('train[:1]+train[2:]', 'train[1:2]'): [[0, 2, 3], [1]],
  ('train', 'test[-1:]'): [[0, 1, 2, 3], [3]],
}


@pytest.mark.parametrize('names', SLICES, ids=str)
def test_slices_of_tfds_divide_a_dataset(names, odd, read):
  features = {'image': _image_feature(), 'label': LABEL}
  values = {'image': _images(), 'label': [0, 1, 0, 1]}
  wanted = dict(zip(('train', 'test'), SLICES[names], strict=True))
  counts = {f'{split}_images': len(w) for split, w in wanted.items()}
  splits = dict(zip(('train_split', 'test_split'), names, strict=True))
  reader = odd(features, values, **counts, **splits)
  for split, rows in wanted.items():
    found = read(reader, split, 0, len(rows))
    np.testing.assert_array_equal(found['image'], values['image'][rows])
    last = read(reader, split, len(rows) - 1, len(rows))
    assert last['id'].tolist() == found['id'].tolist()[-1:]


@pytest.mark.parametrize(
  'names, counts, words',
  [
    (('train[:3]', 'train[2:]'), (3, 2), 'images 2..2 of split "train" are'),
    (('train', 'train'), (4, 4), 'images 0..3 of split "train" are taken'),
    (('train+train', 'test'), (8, 4), 'taken twice'),
    (('train[:50%]', 'train[50%:]'), (3, 2), 'has 2 images.*train_images'),
    (('train[:', 'test'), (4, 4), 'Source.train_split.*slices'),
    (('train[3:1]', 'test'), (4, 4), 'Source.train_images'),
    (('train[:9]', 'test'), (4, 4), 'Source.train_split'),
    (('trian', 'test'), (4, 4), 'no split "trian".*it has'),
  ],
)
def test_slices_that_overlap_or_are_none_are_refused(names, counts, words, odd):
  features = {'image': _image_feature(), 'label': LABEL}
  values = {'image': _images(), 'label': [0, 1, 0, 1]}
  changes = dict(zip(('train_split', 'test_split'), names, strict=True))
  changes |= dict(zip(('train_images', 'test_images'), counts, strict=True))
  with pytest.raises(errors.UsageError, match=words) as caught:
    odd(features, values, **changes)
  assert len(str(caught.value).splitlines()) == 1


def test_a_dataset_without_splits_is_told():
  with pytest.raises(errors.UsageError, match='no split "train".*has none'):
    splits.Splits(TINY, {}, {}, '')


def test_a_dataset_prepared_as_array_record_is_told(odd, tmp_path):
  features = {'image': _image_feature(), 'label': LABEL}
  reader = odd(features, {'image': _images(), 'label': [0, 1, 0, 1]})
  info = tmp_path / 'odd/1.0.0/dataset_info.json'
  info.write_text(
    info.read_text()
    .replace('"tfrecord"', '"array_record"')
    .replace('FILEFORMAT', 'FILE_FORMAT')
  )
  with pytest.raises(errors.UsageError, match='array_record.*file_format=tfr'):
    Reader(reader._source, str(tmp_path), '/nowhere')


def test_labels_that_are_no_class_are_refused(odd, read):
  # TFDS marks unlabelled test images by -1.
  features = {'image': _image_feature(), 'label': LABEL}
  values = {'image': _images(), 'label': [0, 1, 0, 1]}
  reader = odd(features, values, {**values, 'label': [-1, -1, -1, -1]})
  read(reader, 'train', 0, 4)
  with pytest.raises(errors.UsageError, match='label'):
    read(reader, 'test', 0, 4)


def test_an_image_of_another_shape_is_never_left_out(odd):
  images = [tf.io.encode_png(image).numpy() for image in _images()]
  images[1] = b'damaged'
  images[3] = tf.io.encode_png(_images(shape=(4, 5, 3))[0]).numpy()
  reader = odd(
    {'image': _image_feature((None, None, 3)), 'label': LABEL},
    {'image': images, 'label': [0, 1, 0, 1]},
  )
  with pytest.raises(errors.UsageError, match='Source.image_shape'):
    list(reader.batches('train', 0, 4, 2, []))


def test_missing_manual_files_are_named_with_their_place(tmp_path):
  manual = tmp_path / 'downloads/manual'
  (loaded,) = experiment.load(dataset='imagenet2012')
  message = f'put into {manual} .*train.tar and ILSVRC2012_img_val.tar'
  with pytest.raises(errors.UsageError, match=message):
    Reader(loaded.source, str(tmp_path), '/nowhere')


def test_grey_images_become_rgb_when_they_are_cropped(odd, read):
  reader = odd(
    {'image': _image_feature((None, None, 1)), 'label': LABEL},
    {'image': _images(shape=(6, 9, 1)), 'label': [0, 1, 0, 1]},
    preprocessing='resize_crop',
    resize_short_side=6,
    image_shape=(6, 5, 3),
  )
  found = read(reader, 'train', 0, 4)['image']
  expected = _images(shape=(6, 9, 1))[:, :, 2:7]
  np.testing.assert_array_equal(found, np.repeat(expected, 3, axis=-1))
