"""Tests of the builder of Birdsnap on a small archive that is made here."""

import dataclasses
import json
import pathlib
import socket
import unittest

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from roar_tf import config, errors
from roar_tf.datasets import birdsnap
from roar_tf.datasets.reader import Reader
from roar_tf.datasets.source import Source
from roar_tf.study import context, experiment, paths, report, stages

PARTS = (
  'back beak belly breast crown forehead left_cheek left_eye left_leg '
  'left_wing nape right_cheek right_eye right_leg right_wing tail throat'
).split()
BOX = ['bb_x1', 'bb_y1', 'bb_x2', 'bb_y2']
COLUMNS = ['url', 'md5', 'path', 'species_id', *BOX]
COLUMNS += [f'{part}_{axis}' for part in PARTS for axis in 'xy']

# Path, species. As in the archive the case differs from that of `dir`.
TRAIN = {f'Bird_{1 + i % 4}/{i:04d}.jpg': 1 + i % 4 for i in range(8)}
TEST = {'Bird_1/0100.jpg': 1, 'Bird_500/12345.jpg': 500, 'Bird_3/0102.jpg': 3}
SIZE = (6, 6, 3)


def _jpeg(path: str) -> bytes:
  rng = np.random.default_rng(list(path.encode()))
  image = rng.integers(0, 256, SIZE, np.uint8)
  return tf.io.encode_jpeg(image, quality=95).numpy()


def _write_table(path: pathlib.Path, columns, rows) -> None:
  lines = ['\t'.join(map(str, row)) for row in [columns, *rows]]
  path.write_text('\n'.join(lines) + '\n')


def make_archive(folder, images='images', without=(), broken=()) -> None:
  """Writes the archive's tables and the images that are still to be had.

  Args:
    folder: where to.
    images: name of the folder of images.
    without: paths of images that are left out.
    broken: paths of images that end too early.
  """
  folder.mkdir(parents=True, exist_ok=True)
  _write_table(
    folder / 'species.txt',
    ['id', 'common', 'scientific', 'dir'],
    [(i, f"Bird's {i}", f'Avis {i}', f'bird_{i}') for i in range(1, 501)],
  )
  listed = {**TRAIN, **TEST}
  _write_table(
    folder / 'images.txt',
    COLUMNS,
    [
      ('http://x/y.jpg', 'f00d', path, species, *[3] * (len(COLUMNS) - 4))
      for path, species in listed.items()
    ],
  )
  _write_table(folder / 'test_images.txt', ['path'], [(p,) for p in TEST])
  for path in listed:
    file = folder / images / path
    file.parent.mkdir(parents=True, exist_ok=True)
    data = _jpeg(path)
    if path not in without:
      file.write_bytes(data[: len(data) // 2] if path in broken else data)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError('the builder must not use the network')

  monkeypatch.setattr(socket.socket, 'connect', refuse)
  monkeypatch.setattr(socket, 'getaddrinfo', refuse)


@pytest.fixture
def folder(tmp_path):
  """Where the archive unpacks to under the data directory `tmp_path`."""
  return tmp_path / 'downloads' / 'manual' / 'birdsnap'


@pytest.fixture
def small(monkeypatch):
  """Makes this archive the one of the paper."""
  counts = {'train': len(TRAIN), 'test': len(TEST)}
  monkeypatch.setattr(birdsnap, 'EXPECTED', counts)


def _prepare(data_dir):
  builder = tfds.builder('birdsnap', data_dir=data_dir)
  builder.download_and_prepare()
  # As another process finds it.
  return tfds.builder('birdsnap', data_dir=data_dir)


def _ids(builder, split):
  examples = builder.as_dataset(split=split).as_numpy_iterator()
  return sorted(example['id'].decode() for example in examples)


def _source(**changes):
  return Source(
    'birdsnap',
    **{
      'tfds_name': 'birdsnap',
      'builder_module': 'roar_tf.datasets.birdsnap',
      'image_shape': SIZE,
      'num_classes': 500,
      'train_images': len(TRAIN),
      'test_images': len(TEST),
      'min_completeness': 0.5,
      'images_per_shard': 3,
      **changes,
    },
  )


def test_tfds_finds_nothing_wrong_with_the_builder(tmp_path):
  pytest.importorskip('dill')  # tfds.testing wants it for its test cases.
  make_archive(tmp_path)

  class BuilderTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = birdsnap.Birdsnap
    SPLITS = {'train': len(TRAIN), 'test': len(TEST)}
    EXAMPLE_DIR = tmp_path

  cases = unittest.defaultTestLoader.loadTestsFromTestCase(BuilderTest)
  result = unittest.TestResult()
  cases.run(result)
  assert result.testsRun >= 5
  assert not [text for _, text in result.errors + result.failures]


@pytest.mark.parametrize(
  'below, images', [('', 'images'), ('birdsnap', 'download/images')]
)
def test_examples_are_the_files_with_labels_and_names(
  below, images, folder, tmp_path
):
  make_archive(folder.parent / below, images)
  builder = _prepare(tmp_path)
  for split, expected in (('train', TRAIN), ('test', TEST)):
    assert _ids(builder, split) == sorted(expected)
    for example in builder.as_dataset(split=split).as_numpy_iterator():
      path = example['id'].decode()
      assert example['label'] == expected[path] - 1
      np.testing.assert_array_equal(
        example['image'], tf.io.decode_jpeg(_jpeg(path)).numpy()
      )
  names = builder.info.features['label'].names
  assert names == [f"Bird's {i}" for i in range(1, 501)]


def test_what_is_missing_is_left_out_and_recorded(folder, tmp_path):
  gone = ['Bird_2/0001.jpg', 'Bird_4/0007.jpg', 'Bird_1/0100.jpg']
  make_archive(folder, without=gone, broken=['Bird_3/0006.jpg'])
  (folder / 'images/Bird_1/0004.jpg').write_bytes(b'')
  builder = _prepare(tmp_path)
  left_out = {*gone, 'Bird_3/0006.jpg', 'Bird_1/0004.jpg'}
  assert _ids(builder, 'train') == sorted(set(TRAIN) - left_out)
  assert _ids(builder, 'test') == sorted(set(TEST) - left_out)
  assert builder.info.metadata['completeness'] == {
    'train': {
      'expected': 47386,
      'listed': 8,
      'present': 4,
      'missing': gone[:2],
      'undecodable': ['Bird_1/0004.jpg', 'Bird_3/0006.jpg'],
    },
    'test': {
      'expected': 2443,
      'listed': 3,
      'present': 2,
      'missing': gone[2:],
      'undecodable': [],
    },
  }


def test_a_moving_picture_counts_as_undecodable(folder, tmp_path):
  # TFDS would decode it to four dimensions, and the study would stop there.
  make_archive(folder)
  header = b'GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff'
  frame = b',\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00'
  (folder / 'images/Bird_1/0000.jpg').write_bytes(header + 2 * frame + b';')
  record = _prepare(tmp_path).info.metadata['completeness']['train']
  assert record['undecodable'] == ['Bird_1/0000.jpg']


@pytest.mark.parametrize(
  'lacking',
  [
    ['species.txt', 'test_images.txt'],
    ['images.txt', 'species.txt', 'test_images.txt', 'the folder images'],
  ],
)
def test_missing_files_are_named(lacking, folder, tmp_path):
  make_archive(folder)
  for name in lacking:
    (folder / name.removeprefix('the folder ')).rename(tmp_path / name)
  message = f'lacks {", ".join(lacking)} .looked in {folder}'
  with pytest.raises(errors.UsageError, match=message):
    Reader(_source(), str(tmp_path), '/nowhere')


def test_an_empty_manual_directory_is_named(folder, tmp_path):
  with pytest.raises(errors.UsageError, match=f'lacks images.*{folder.parent}'):
    Reader(_source(), str(tmp_path), '/nowhere')


@pytest.mark.parametrize(
  'table, old, new, words',
  [
    ('images.txt', '/0001.jpg', '/0005.jpg', 'lists Bird_2/0005.jpg twice'),
    ('images.txt', '\t500\t', '\t501\t', "unknown species '501'"),
    ('images.txt', '0001.jpg\t', '0001.jpg', '41 instead of 42 columns'),
    ('species.txt', '7\tBird', '8\tBird', 'species 1 to 500'),
    ('test_images.txt', '0100', '0101', 'Bird_1/0101.jpg'),
    ('test_images.txt', 'path', '', 'no columns path'),
  ],
)
def test_a_damaged_table_is_named(table, old, new, words, folder, tmp_path):
  make_archive(folder)
  text = (folder / table).read_text()
  assert old in text
  (folder / table).write_text(text.replace(old, new, 1))
  with pytest.raises(errors.DataError, match=f'{folder / table}.*{words}'):
    Reader(_source(), str(tmp_path), '/nowhere')


def test_what_is_here_is_used_once_the_configuration_says_so(
  folder, tmp_path, small
):
  make_archive(folder, without=['Bird_2/0001.jpg'])
  with pytest.raises(errors.UsageError, match="'Source.train_images = 7'"):
    Reader(_source(), str(tmp_path), '/nowhere')
  source = _source(train_images=7)
  reader = Reader(source, str(tmp_path), '/nowhere')
  ids = [
    i
    for bounds in source.shard_bounds('train')
    for batch in reader.batches('train', *bounds, 2)
    for i in batch['id'].tolist()
  ]
  assert sorted(ids) == sorted(
    path.encode() for path in TRAIN if path != 'Bird_2/0001.jpg'
  )
  assert reader.completeness()['train']['missing'] == ['Bird_2/0001.jpg']


def test_too_little_is_refused_whatever_the_configuration_says(
  folder, tmp_path, small
):
  make_archive(folder, without=['Bird_1/0100.jpg'])
  enough = _source(test_images=2, min_completeness=2 / 3)
  Reader(enough, str(tmp_path), '/nowhere')
  for test_images in (2, 3):
    source = dataclasses.replace(
      enough, test_images=test_images, min_completeness=0.67
    )
    with pytest.raises(errors.UsageError, match='2 of 3 test .*=0.67'):
      Reader(source, str(tmp_path), '/nowhere')


@pytest.mark.parametrize('share', [95, 'all'])
def test_a_completeness_that_is_no_share_is_refused(share):
  with pytest.raises(errors.UsageError, match='Source.min_completeness'):
    _source(min_completeness=share)


@pytest.fixture
def original(tmp_path, work):
  """Function that makes `original` of the archive and returns its context."""

  def make(*bindings, **changes):
    settings = _source(**changes).settings()
    name = settings.pop('source')
    (tmp_path / f'{name}.gin').write_text(
      "include 'train/small_images.gin'\n"
      + ''.join(f'{key} = {value!r}\n' for key, value in settings.items())
    )
    (loaded,) = experiment.load(
      dataset=str(tmp_path / f'{name}.gin'), gin_bindings=bindings
    )
    workspace = paths.Workspace(str(tmp_path / 'workspace'))
    one = context.Context(workspace, loaded, str(tmp_path))
    of_source = stages.Stages(one)
    work(of_source, [of_source.source.original])
    return one

  return make


def test_images_left_out_while_shards_are_made_are_missing_too(
  folder, original, small, monkeypatch
):
  # The builder takes for readable what the crop cannot decode.
  monkeypatch.setattr(birdsnap.Birdsnap, '_is_decodable', lambda *_: True)
  lost = 'Bird_500/12345.jpg'
  make_archive(folder, broken=[lost])
  skip = "Source.unreadable = 'skip'"
  with pytest.raises(errors.UsageError) as caught:
    original(skip, 'Source.min_completeness = 0.67')
  for words in ('2 of 3 test images', 'Source.min_completeness=0.67'):
    assert words in str(caught.value)
  one = original(skip, 'Source.min_completeness = 0.66')
  manifest = json.loads(pathlib.Path(one.manifest_path).read_text())
  assert manifest['images'] == {'train': 8, 'test': 2}
  assert manifest['unreadable'] == {'test': [lost]}
  assert manifest['completeness']['test'] == {
    'expected': 3,
    'listed': 3,
    'present': 2,
    'missing': [],
    'undecodable': [lost],
  }
  facts = dict(report.facts_of_images(one))
  assert facts['images'] == '8 train, 2 test'
  assert '2 found of 3 listed, the paper has 3' in facts['completeness']


def test_a_whole_dataset_has_no_row_on_what_is_missing(folder, original, small):
  make_archive(folder)
  one = original()
  assert dict(report.facts_of_images(one)) == {'images': '8 train, 3 test'}


def test_the_configuration_pins_the_counts_of_the_paper():
  text = pathlib.Path(config.find('datasets', 'birdsnap')).read_text()
  for split, count in birdsnap.EXPECTED.items():
    assert f'Source.{split}_images = {count}\n' in text
  assert f'Source.num_classes = {birdsnap.NUM_CLASSES}\n' in text
