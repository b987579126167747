"""Tests of folders of images as sources."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from roar_tf import errors
from roar_tf.datasets.reader import Reader
from roar_tf.datasets.source import Source

ENDINGS = ('jpg', 'png', 'JPEG', 'PNG')


def _decoded(ids):
  return [i.decode() for i in ids]


def _folder(root, files=None):
  """Writes images of different sizes as <split>/<class>/<name>."""
  files = files or ('cat/b.jpg', 'cat/a.png', 'dog/a.JPEG', 'dog/c.jpg')
  for split in ('train', 'val'):
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
    test_split='val',
    images_per_shard=3,
  )


def test_a_folder_of_class_folders_is_a_source(tmp_path, read):
  reader = Reader(_folder(tmp_path / 'images'), None, '/nowhere')
  for split, folder in (('train', 'train'), ('test', 'val')):
    found = read(reader, split, 0, 4)
    assert found['image'].shape == (4, 12, 14, 3)
    shades = {
      f'{folder}/cat/b.jpg': (0, 0),
      f'{folder}/cat/a.png': (0, 50),
      f'{folder}/dog/a.JPEG': (1, 100),
      f'{folder}/dog/c.jpg': (1, 150),
    }
    assert sorted(_decoded(found['id'])) == sorted(shades)
    for name, label, image in zip(
      _decoded(found['id']), found['label'], found['image'], strict=True
    ):
      assert (label, image[0, 0, 0]) == shades[name]
    part = read(reader, split, 1, 3)
    assert part['id'].tolist() == found['id'].tolist()[1:3]
    np.testing.assert_array_equal(part['image'], found['image'][1:3])


def test_ids_and_order_of_a_folder_do_not_depend_on_where_it_is(
  tmp_path, monkeypatch, read
):
  found = []
  for place in ('here', 'there/and deeper'):
    source = _folder(tmp_path / place)
    found.append(read(Reader(source, None, '/nowhere'), 'train', 0, 4)['id'])
  source = dataclasses.replace(source, folder='~/here/')
  monkeypatch.setenv('HOME', str(tmp_path))
  found.append(read(Reader(source, None, '/nowhere'), 'train', 0, 4)['id'])
  assert found[0].tolist() == found[1].tolist() == found[2].tolist()


def _saved(path, mode='RGB', frames=1, kind=None, **options):
  """Writes an image of noise and returns it as RGB uint8 [16, 20, 3]."""
  noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
  image = Image.fromarray(noise).convert(mode)
  if frames > 1:
    options |= {'save_all': True, 'append_images': [image.rotate(90)]}
  path.parent.mkdir(parents=True, exist_ok=True)
  image.save(path, kind, **options)
  return np.array(Image.open(path).convert('RGB'))


def test_order_and_classes_are_those_of_tfds(tmp_path):
  generator = np.random.default_rng(0)
  names = {
    f'{generator.choice(["b", "B", "a 1"])}/{i}.{generator.choice(ENDINGS)}'
    for i in generator.integers(0, 10**6, 40)
  }
  source = _folder(tmp_path, files=sorted(names))
  source = dataclasses.replace(source, num_classes=3)
  reader = Reader(source, None, '/nowhere')
  expected = tfds.ImageFolder(str(tmp_path))
  assert reader.classes == expected.info.features['label'].names
  for split, name in (('train', 'train'), ('test', 'val')):
    found = list(reader.encoded(split, 0, source.count(split)))
    examples = expected._split_examples[name]
    assert [e['id'].numpy().decode() for e in found] == [
      os.path.relpath(e.image_path, tmp_path) for e in examples
    ]
    assert [int(e['label']) for e in found] == [
      reader.classes.index(e.label) for e in examples
    ]


@pytest.mark.parametrize(
  'options',
  [
    {'lossless': True},
    {'quality': 80},
    {'mode': 'RGBA', 'lossless': True},
    {'mode': 'L', 'lossless': True},
  ],
  ids=str,
)
@pytest.mark.parametrize('name', ['w.webp', 'w.png'])
def test_webp_is_read_by_its_content(name, options, tmp_path, read):
  source = _folder(tmp_path, files=('cat/a.png', 'dog/b.jpg'))
  shape = {'preprocessing': 'none', 'image_shape': (16, 20, 3)}
  source = dataclasses.replace(source, train_images=1, **shape)
  for path in tmp_path.glob('train/*/*'):
    path.unlink()
  pixels = _saved(tmp_path / 'train/cat' / name, kind='WEBP', **options)
  found = read(Reader(source, None, '/nowhere'), 'train', 0, 1)
  np.testing.assert_array_equal(found['image'][0], pixels)


@pytest.mark.parametrize('preprocessing', ['none', 'resize_crop'])
def test_what_is_no_image_of_one_frame_is_named_and_can_be_skipped(
  preprocessing, tmp_path, read
):
  names = [f'{"cat" if i % 2 else "dog"}/{i}.png' for i in range(8)]
  source = _folder(tmp_path, files=names)
  shape = (16, 20, 3) if preprocessing == 'none' else (16, 16, 3)
  source = dataclasses.replace(
    source, preprocessing=preprocessing, image_shape=shape
  )
  for path in tmp_path.glob('train/*/*'):
    _saved(path)
  bad = [tmp_path / 'train' / name for name in names[:6]]
  _saved(bad[0], frames=2, kind='WEBP')
  _saved(bad[1], frames=2, kind='GIF')
  _saved(bad[2], kind='BMP')
  bad[3].write_bytes(b'<html>404</html>')
  bad[4].write_bytes(b'')
  bad[5].write_bytes(b'RIFF\x10\0\0\0WEBPVP8 ')
  reader = Reader(source, None, '/nowhere')
  left_out = []
  batches = list(reader.batches('train', 0, 8, 3, left_out))
  assert sorted(left_out) == sorted(f'train/{name}' for name in names[:6])
  assert sum(len(batch['id']) for batch in batches) == 2
  with pytest.raises(errors.DataError, match=f'image {left_out[0]} cannot'):
    list(reader.batches('train', 0, 8, 3))


def test_grey_images_of_one_channel_are_a_source(tmp_path, read):
  source = _folder(tmp_path, files=('cat/a.png', 'dog/b.png'))
  images = {}
  for path in tmp_path.glob('*/*/*'):
    images[str(path.relative_to(tmp_path))] = _saved(path, 'L')[..., :1]
  shape = {'preprocessing': 'none', 'image_shape': (16, 20, 1)}
  source = dataclasses.replace(source, **shape)
  found = read(Reader(source, None, '/nowhere'), 'train', 0, 2)
  for name, image in zip(_decoded(found['id']), found['image'], strict=True):
    np.testing.assert_array_equal(image, images[name])
  # Of images of several sizes, the advice is one that can be followed.
  Image.new('L', (9, 9)).save(tmp_path / 'train/cat/a.png')
  with pytest.raises(errors.UsageError) as caught:
    read(Reader(source, None, '/nowhere'), 'train', 0, 2)
  assert 'Source.image_shape = (16, 20, 3)' in str(caught.value)
  dataclasses.replace(
    source,
    preprocessing='resize_crop',
    resize_short_side=20,
    image_shape=(16, 20, 3),
  )


def test_litter_is_no_class_and_no_image(tmp_path):
  source = _folder(tmp_path)
  expected = [e['id'] for e in Reader(source, None, '').encoded('train', 0, 4)]
  for name in (
    '.git/objects/a.png',
    '__MACOSX/train/cat/._b.jpg',
    'train/.ipynb_checkpoints/b-checkpoint.jpg',
    'train/cat/.ipynb_checkpoints/b.jpg',
    'train/cat/._b.jpg',
    'train/dog/Thumbs.db',
    'train/.DS_Store',
    'val/@eaDir/b.jpg',
  ):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'litter')
  reader = Reader(source, None, '')
  assert reader.classes == ['cat', 'dog'] and not reader.ignored
  assert [e['id'] for e in reader.encoded('train', 0, 4)] == expected


@pytest.mark.parametrize(
  'name, words',
  [
    ('train/cat/more/1.jpg', 'nested folders'),
    ('train/.birds/1.jpg', 'hidden folders'),
    ('train/cat/.1.jpg', 'hidden files'),
    ('train/cat/1.bmp', 'no JPEG, PNG or WebP'),
    ('train/cat/1.tiff', 'no JPEG, PNG or WebP'),
    ('train/1.jpg', 'images in no folder of a class'),
    ('train/cat/link.jpg', 'links that lead nowhere'),
  ],
)
def test_what_lies_in_a_folder_and_is_not_read_is_named(name, words, tmp_path):
  source = _folder(tmp_path)
  path = tmp_path / name
  path.parent.mkdir(parents=True, exist_ok=True)
  if 'link' in name:
    path.symlink_to('/no/where')
  else:
    path.write_bytes(b'')
  ignored = Reader(source, None, '').ignored
  assert words in ignored
  assert os.path.commonprefix([name, ignored.split('(')[1]]) in (
    name,
    f'{os.path.dirname(name)}/',
  )
  # Whoever counted it is told, too.
  more = dataclasses.replace(source, train_images=5)
  with pytest.raises(errors.UsageError, match=f'has 4 images.*{words}'):
    Reader(more, None, '')


def test_classes_are_named_where_they_are_not_as_many_as_gin_says(tmp_path):
  source = dataclasses.replace(_folder(tmp_path), num_classes=5)
  with pytest.raises(errors.UsageError, match=r'has 2 classes \(cat, dog\)'):
    Reader(source, None, '')


def test_a_name_in_latin_1_is_told(tmp_path):
  source = _folder(tmp_path)
  with open(os.fsencode(tmp_path) + b'/train/cat/stra\xdfe.jpg', 'wb'):
    pass
  with pytest.raises(errors.UsageError, match=r'stra\\xdfe.jpg.*rename it'):
    Reader(source, None, '')


def test_a_folder_may_have_the_signs_of_patterns_in_its_name(tmp_path, read):
  source = _folder(tmp_path / 'my [new] *data?')
  assert len(read(Reader(source, None, ''), 'train', 0, 4)['id']) == 4


def test_a_folder_is_listed_without_tensorflow(tmp_path):
  # A finished study is run again where it is not installed.
  _folder(tmp_path)
  program = (
    'import sys; sys.modules["tensorflow"] = None\n'
    'from roar_tf.datasets.reader import Reader\n'
    'from roar_tf.datasets.source import Source\n'
    f'source = Source("mine", folder={str(tmp_path)!r}, num_classes=2,\n'
    '  image_shape=(8, 8, 3), train_images=4, test_images=4,\n'
    '  test_split="val", images_per_shard=3)\n'
    'print(len(Reader(source, None, "").digest("train", 0, 3)))\n'
  )
  output = subprocess.check_output([sys.executable, '-c', program])
  assert output == b'64\n'


def test_a_folder_of_one_split_is_sliced(tmp_path):
  source = _folder(tmp_path)
  slices = {'train_split': 'train[:75%]', 'test_split': 'train[75%:]'}
  source = dataclasses.replace(source, train_images=3, test_images=1, **slices)
  reader = Reader(source, None, '')
  whole = Reader(_folder(tmp_path), None, '')
  found = [
    e['id'].numpy()
    for split in ('train', 'test')
    for e in reader.encoded(split, 0, source.count(split))
  ]
  assert found == [e['id'].numpy() for e in whole.encoded('train', 0, 4)]


@pytest.mark.parametrize('size', [1, 7])
def test_exactly_the_unreadable_images_are_left_out(size, tmp_path, read):
  files = [f'{"cat" if i % 2 else "dog"}/{i:02d}.jpg' for i in range(12)]
  source = _folder(tmp_path, files=files)
  reader = Reader(source, None, '/nowhere')
  whole = read(reader, 'train', 0, 12)
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


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'folder': '/no/where'}, 'Source.folder.*"/no/where"'),
    ({'train_images': 5}, 'Source.train_images'),
    ({'test_split': 'test'}, 'no split "test"'),
    ({'num_classes': 3}, 'Source.num_classes'),
    ({'truth': True, 'preprocessing': 'none'}, 'no feature "truth"'),
  ],
)
def test_a_folder_that_is_not_what_gin_says_is_refused(
  changes, words, tmp_path
):
  source = dataclasses.replace(_folder(tmp_path), **changes)
  with pytest.raises(errors.UsageError, match=words):
    Reader(source, None, '/nowhere')


def test_a_folder_without_images_where_they_belong_is_refused(tmp_path):
  source = _folder(tmp_path / 'images')
  # A level too deep.
  moved = dataclasses.replace(source, folder=str(tmp_path / 'images/train'))
  with pytest.raises(errors.UsageError, match='train/cat/1.jpg'):
    Reader(moved, None, '/nowhere')
