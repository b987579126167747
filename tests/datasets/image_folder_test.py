"""Tests of folders of images as sources."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.datasets.reader import Reader
from roar_tf.datasets.source import Source


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
