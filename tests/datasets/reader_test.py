"""Tests of what the reader of sources gives, and accepts."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from roar_tf import errors
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


def _read(reader, split, start, stop, size=7):
  batches = list(reader.batches(split, start, stop, size))
  assert all(len(b['id']) <= size for b in batches)
  return {
    name: np.concatenate([b[name] for b in batches]) for name in batches[0]
  }


def _decoded(ids):
  return [i.decode() for i in ids]


@pytest.fixture(scope='module')
def fashion(tmp_path_factory, store_dataset):
  """Mocked images of Fashion-MNIST where TFDS keeps that dataset."""
  folder = tmp_path_factory.mktemp('fashion')
  splits = {}
  for split, count in (('train', 30), ('test', 12)):
    with tfds.testing.mock_data(num_examples=count):
      mocked = list(tfds.as_numpy(tfds.load('fashion_mnist', split=split)))
    splits[split] = {
      name: np.stack([example[name] for example in mocked])
      for name in ('image', 'label')
    }
  builder = tfds.builder('fashion_mnist', data_dir=folder)
  features = dict(builder.info.features)
  version = str(builder.version)
  store_dataset(folder, 'fashion_mnist', version, splits, features)
  return str(folder), splits


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


def test_examples_come_unchanged_and_in_order(tiny, raw):
  reader = Reader(TINY, tiny.data_dir, '/nowhere')
  for split in ('train', 'test'):
    found = _read(reader, split, 0, TINY.count(split))
    assert found['image'].dtype == np.uint8
    for name in ('image', 'label', 'truth'):
      np.testing.assert_array_equal(found[name], raw[split][name])
    assert _decoded(found['id']) == raw[split]['id'].tolist()


def test_any_range_gives_the_examples_of_the_whole(tiny, raw):
  reader = Reader(TINY, tiny.data_dir, '/nowhere')
  for start, stop in ((0, 1), (37, 53), (119, 120)):
    found = _read(reader, 'train', start, stop)
    np.testing.assert_array_equal(
      found['image'], raw['train']['image'][start:stop]
    )
    assert _decoded(found['id']) == raw['train']['id'][start:stop].tolist()


def test_the_fashion_mnist_that_comes_along_reads_the_dataset_of_tfds(fashion):
  data_dir, splits = fashion
  (loaded,) = experiment.load(
    dataset='fashion_mnist',
    gin_bindings=['Source.train_images = 30', 'Source.test_images = 12'],
  )
  reader = Reader(loaded.source, data_dir, '/nowhere')
  ids = []
  for split, values in splits.items():
    found = _read(reader, split, 0, len(values['label']))
    np.testing.assert_array_equal(found['image'], values['image'])
    np.testing.assert_array_equal(found['label'], values['label'])
    ids += found['id'].tolist()
    # The same ids whatever part is read: randomness hangs on them.
    part = _read(reader, split, 5, 9)
    assert part['id'].tolist() == found['id'].tolist()[5:9]
  # TFDS has no `id` here: the place of the example in its files serves.
  assert len(set(ids)) == 42


def test_another_size_than_pinned_is_named(fashion):
  data_dir, _ = fashion
  (loaded,) = experiment.load(dataset='fashion_mnist')
  with pytest.raises(errors.UsageError) as caught:
    Reader(loaded.source, data_dir, '/nowhere')
  for words in ('fashion_mnist', '"train"', '30', 'train_images', '60000'):
    assert words in str(caught.value)


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'test_images': 61}, ['"test"', '60', 'Source.test_images', '61']),
    ({'num_classes': 5}, ['3 classes', 'Source.num_classes', '5']),
    ({'test_split': 'validation'}, ['"validation"', 'Source.test_split']),
    ({'tfds_name': 'tiny:7.0.0'}, ['tiny:7.0.0', '--data_dir=']),
  ],
)
def test_a_dataset_that_is_not_what_gin_says_is_refused(changes, words, tiny):
  source = dataclasses.replace(TINY, **changes)
  with pytest.raises(errors.UsageError) as caught:
    Reader(source, tiny.data_dir, '/nowhere')
  for word in ['--dataset=tiny', *words]:
    assert word in str(caught.value)


def test_a_dataset_that_tfds_does_not_know_is_named(tmp_path):
  source = dataclasses.replace(TINY, tfds_name='no_such_dataset')
  with pytest.raises(errors.UsageError) as caught:
    Reader(source, str(tmp_path), '/nowhere')
  for words in ('no_such_dataset', '--dataset=tiny', f'--data_dir={tmp_path}'):
    assert words in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_dataset_that_cannot_be_downloaded_is_named(tmp_path, monkeypatch):
  def offline(*args, **kwargs):
    raise ConnectionError('Network is unreachable')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', offline)
  (loaded,) = experiment.load(dataset='fashion_mnist')
  with pytest.raises(errors.UsageError) as caught:
    Reader(loaded.source, str(tmp_path), '/nowhere')
  for words in (
    '"fashion_mnist"',
    f'--data_dir={tmp_path}',
    'Network is unreachable',
    'tfds build fashion_mnist',
  ):
    assert words in str(caught.value)
  assert '\n' not in str(caught.value)


def test_an_image_of_another_shape_is_named(odd):
  reader = odd(
    {'image': _image_feature((None, None, 3)), 'label': LABEL},
    {'image': _images(shape=(4, 5, 3)), 'label': [0, 1, 0, 1]},
  )
  with pytest.raises(errors.UsageError) as caught:
    _read(reader, 'train', 0, 4)
  for words in (
    '"odd"',
    'Source.image_shape',
    '(4, 4, 3)',
    'odd-train.tfrecord-00000-of-00001__0',
    '(4, 5, 3)',
    'Source.preprocessing',
  ):
    assert words in str(caught.value)


@pytest.mark.parametrize('shape', [(4, 5, 3), (4, 4, 1)])
def test_a_pinned_shape_of_the_dataset_must_fit(shape, odd):
  with pytest.raises(errors.UsageError, match='image_shape'):
    reader = odd(
      {'image': _image_feature(shape), 'label': LABEL},
      {'image': _images(shape=shape), 'label': [0, 1, 0, 1]},
    )
    _read(reader, 'train', 0, 4)


def test_images_that_are_not_uint8_are_refused(odd):
  # Stored as they are they would be read back as something else.
  with pytest.raises(errors.UsageError, match='uint8'):
    reader = odd(
      {'image': _image_feature(dtype=np.uint16), 'label': LABEL},
      {'image': _images(np.uint16) * 300, 'label': [0, 1, 0, 1]},
    )
    _read(reader, 'train', 0, 4)


@pytest.mark.parametrize('lacking', ['image', 'label', 'truth'])
def test_a_dataset_without_a_needed_feature_is_refused(lacking, odd):
  features = {'image': _image_feature(), 'label': LABEL}
  values = {'image': _images(), 'label': [0, 1, 0, 1]}
  features['renamed'] = features.pop(lacking, tfds.features.Scalar(np.int64))
  values['renamed'] = values.pop(lacking, [0, 1, 0, 1])
  with pytest.raises(errors.UsageError, match=f'"{lacking}"'):
    odd(features, values, truth=True)


@pytest.mark.parametrize('channels', [2, 4])
def test_images_of_other_channels_than_grey_or_rgb_are_refused(channels, odd):
  shape = (4, 4, channels)
  feature = tfds.features.Tensor(shape=shape, dtype=np.uint8)
  if channels == 4:
    feature = _image_feature(shape)
  with pytest.raises(errors.UsageError, match='1 or 3 channels') as caught:
    odd(
      {'image': feature, 'label': LABEL},
      {'image': _images(shape=shape), 'label': [0, 1, 0, 1]},
      image_shape=shape,
    )
  assert f'(4, 4, {channels})' in str(caught.value)


def test_several_labels_per_image_are_refused(odd):
  labels = tfds.features.Sequence(LABEL, length=2)
  with pytest.raises(errors.UsageError, match='several labels per image'):
    odd(
      {'image': _image_feature(), 'label': labels},
      {'image': _images(), 'label': [[0, 1], [1, 1], [0, 0], [0, 1]]},
    )


def test_labels_that_are_numbers_but_no_classes_are_refused(odd):
  with pytest.raises(errors.UsageError, match='no classes but Scalar'):
    odd(
      {'image': _image_feature(), 'label': tfds.features.Scalar(np.int64)},
      {'image': _images(), 'label': [0, 1, 0, 1]},
    )


@pytest.mark.parametrize('preprocessing', ['none', 'resize_crop'])
def test_an_unreadable_image_is_named_by_its_id(preprocessing, odd):
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
  assert _decoded(_read(reader, 'train', 0, 2)['id']) == ['a', 'b']
  with pytest.raises(errors.DataError) as caught:
    _read(reader, 'train', 0, 4)
  for words in ('"odd"', '"train"', 'image c ', 'cannot be decoded'):
    assert words in str(caught.value)
  assert '{{' not in str(caught.value)
  assert '\n' not in str(caught.value)


def test_whole_numbers_as_ids_become_texts_or_are_refused(odd):
  features = {
    'image': _image_feature(),
    'label': LABEL,
    'id': tfds.features.Scalar(np.int64),
  }
  values = {'image': _images(), 'label': [0, 1, 0, 1], 'id': [7, 8, 9, 10]}
  try:
    reader = odd(features, values)
    (batch,) = reader.batches('train', 0, 4, 4)
  except errors.UsageError as e:
    assert '"id"' in str(e)
    return
  assert _decoded(batch['id']) == ['7', '8', '9', '10']


def test_labels_that_are_no_class_are_refused(odd):
  # TFDS marks unlabelled test images by -1.
  features = {'image': _image_feature(), 'label': LABEL}
  values = {'image': _images(), 'label': [0, 1, 0, 1]}
  reader = odd(features, values, {**values, 'label': [-1, -1, -1, -1]})
  _read(reader, 'train', 0, 4)
  with pytest.raises(errors.UsageError, match='label'):
    _read(reader, 'test', 0, 4)


def test_a_generated_dataset_is_prepared_in_the_workspace(tmp_path):
  (loaded,) = experiment.load(dataset='planted_patch')
  reader = Reader(loaded.source, str(tmp_path / 'data'), str(tmp_path / 'own'))
  found = _read(reader, 'test', 0, 20, size=8)
  assert found['truth'].shape == (20, 16, 16, 1)
  assert set(np.unique(found['truth'])) == {0, 1}
  assert (tmp_path / 'own' / 'planted_patch').is_dir()
  assert not (tmp_path / 'data').exists()


def _folder(root, splits=('train', 'test'), files=None):
  """Writes images of different sizes as <split>/<class>/<name>."""
  files = files or ('cat/b.jpg', 'cat/a.png', 'dog/a.JPEG', 'dog/c.jpg')
  for split in splits:
    for i, name in enumerate(files):
      path = root / split / name
      path.parent.mkdir(parents=True, exist_ok=True)
      image = np.full((20 + i, 30, 3), 50 * i % 256, np.uint8)
      encode = tf.io.encode_png if name.endswith('png') else tf.io.encode_jpeg
      path.write_bytes(encode(image).numpy())
  return Source(
    'mine',
    folder=str(root),
    preprocessing='resize_crop',
    resize_short_side=16,
    image_shape=(12, 14, 3),
    num_classes=2,
    train_images=len(files),
    test_images=len(files),
    train_split=splits[0],
    test_split=splits[-1],
    images_per_shard=3,
  )


def test_a_folder_of_class_folders_is_a_source(tmp_path):
  reader = Reader(_folder(tmp_path / 'images'), None, '/nowhere')
  for split in ('train', 'test'):
    found = _read(reader, split, 0, 4)
    assert found['image'].shape == (4, 12, 14, 3)
    shades = {
      f'{split}/cat/b.jpg': (0, 0),
      f'{split}/cat/a.png': (0, 50),
      f'{split}/dog/a.JPEG': (1, 100),
      f'{split}/dog/c.jpg': (1, 150),
    }
    assert sorted(_decoded(found['id'])) == sorted(shades)
    for name, label, image in zip(
      _decoded(found['id']), found['label'], found['image'], strict=True
    ):
      assert (label, image[0, 0, 0]) == shades[name]
    part = _read(reader, split, 1, 3)
    assert part['id'].tolist() == found['id'].tolist()[1:3]
    np.testing.assert_array_equal(part['image'], found['image'][1:3])


def test_ids_and_order_of_a_folder_do_not_depend_on_where_it_is(
  tmp_path, monkeypatch
):
  found = []
  for place in ('here', 'there/and deeper'):
    source = _folder(tmp_path / place)
    found.append(_read(Reader(source, None, '/nowhere'), 'train', 0, 4)['id'])
  source = dataclasses.replace(source, folder='~/here/')
  monkeypatch.setenv('HOME', str(tmp_path))
  found.append(_read(Reader(source, None, '/nowhere'), 'train', 0, 4)['id'])
  assert found[0].tolist() == found[1].tolist() == found[2].tolist()


def test_the_splits_of_a_folder_may_have_other_names(tmp_path):
  source = _folder(tmp_path, splits=('training', 'val'))
  found = _read(Reader(source, None, '/nowhere'), 'test', 0, 4)
  assert all(i.startswith('val/') for i in _decoded(found['id']))


def test_an_unreadable_file_of_a_folder_is_named(tmp_path):
  source = _folder(tmp_path)
  (tmp_path / 'test/dog/c.jpg').write_bytes(b'<html>404</html>')
  reader = Reader(source, None, '/nowhere')
  _read(reader, 'train', 0, 4)
  with pytest.raises(errors.DataError, match='image test/dog/c.jpg cannot be'):
    _read(reader, 'test', 0, 4)


@pytest.mark.parametrize('size', [1, 3, 7])
def test_exactly_the_unreadable_images_are_left_out(size, tmp_path):
  files = [f'{"cat" if i % 2 else "dog"}/{i:02d}.jpg' for i in range(12)]
  source = _folder(tmp_path, files=files)
  reader = Reader(source, None, '/nowhere')
  whole = _read(reader, 'train', 0, 12)
  places = [0, 4, 5, 11]
  broken = [name for i in places for name in _decoded(whole['id'][[i]])]
  for name, content in zip(
    broken, (b'', b'<html>404</html>', None, b'GIF89a'), strict=True
  ):
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
  left_out = []
  batches = list(reader.batches('train', 0, 12, size, left_out))
  assert left_out == broken
  for name, values in whole.items():
    np.testing.assert_array_equal(
      np.concatenate([batch[name] for batch in batches]),
      np.delete(values, places, axis=0),
    )
  assert list(reader.batches('train', 4, 6, size, left_out)) == []
  assert left_out == [*broken, *broken[1:3]]
  with pytest.raises(errors.DataError, match='Source.unreadable = "skip"'):
    list(reader.batches('train', 0, 12, size))


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


@pytest.mark.parametrize('present', [None, 'something_else.txt'])
def test_missing_manual_files_are_named_with_their_place(present, tmp_path):
  manual = tmp_path / 'downloads/manual'
  if present:
    manual.mkdir(parents=True)
    (manual / present).touch()
  (loaded,) = experiment.load(dataset='imagenet2012')
  with pytest.raises(errors.UsageError) as caught:
    Reader(loaded.source, str(tmp_path), '/nowhere')
  for words in (
    f'put into {manual} ',
    'ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar',
    'run the same command again',
  ):
    assert words in str(caught.value)
  assert '\n' not in str(caught.value)
  assert 'tfds build' not in str(caught.value)


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'folder': '/no/where'}, ['Source.folder', '"/no/where"', 'mine']),
    ({'train_images': 5}, ['4 images', 'Source.train_images', '5']),
    ({'test_split': 'val'}, ['no split "val"', 'train', 'Source.test_split']),
    ({'num_classes': 3}, ['2 classes', 'Source.num_classes', '3']),
    ({'truth': True, 'preprocessing': 'none'}, ['no feature "truth"']),
  ],
)
def test_a_folder_that_is_not_what_gin_says_is_refused(
  changes, words, tmp_path
):
  source = dataclasses.replace(_folder(tmp_path), **changes)
  with pytest.raises(errors.UsageError) as caught:
    Reader(source, None, '/nowhere')
  for word in words:
    assert word in str(caught.value)


def test_a_folder_without_images_where_they_belong_is_refused(tmp_path):
  source = _folder(tmp_path / 'images')
  for wrong in ('empty', 'images/train'):  # The latter a level too deep.
    (tmp_path / wrong).mkdir(exist_ok=True)
    moved = dataclasses.replace(source, folder=str(tmp_path / wrong))
    with pytest.raises(errors.UsageError, match='train/cat/1.jpg'):
      Reader(moved, None, '/nowhere')


def test_grey_images_become_rgb_when_they_are_cropped(odd):
  reader = odd(
    {'image': _image_feature((None, None, 1)), 'label': LABEL},
    {'image': _images(shape=(6, 9, 1)), 'label': [0, 1, 0, 1]},
    preprocessing='resize_crop',
    resize_short_side=6,
    image_shape=(6, 5, 3),
  )
  found = _read(reader, 'train', 0, 4)['image']
  expected = _images(shape=(6, 9, 1))[:, :, 2:7]
  np.testing.assert_array_equal(found, np.repeat(expected, 3, axis=-1))
