"""Tests of the dataset `original` and of its mean and standard deviation."""

import fractions
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from roar_tf import engine, errors
from roar_tf.engine import files, markers
from roar_tf.study import (
  context,
  experiment,
  paths,
  report,
  source,
  stages,
)


def _manifest(root, name='tiny'):
  path = f'{root}/tfds/roar_{name}/original/{paths.VERSION}/manifest.json'
  return files.read_json(path)


def _original(root):
  return {
    split: {
      name: value.numpy()
      for name, value in tfds.load(
        'roar_tiny/original',
        split=split,
        data_dir=f'{root}/tfds',
        batch_size=-1,
      ).items()
    }
    for split in ('train', 'test')
  }


def test_mean_and_std_are_those_of_numpy_over_train(finished, raw):
  manifest = _manifest(finished)
  images = raw['train']['image'].astype(np.float64)
  # Sums of whole numbers are exact in float64, so the mean must be equal.
  assert manifest['mean'] == images.mean((0, 1, 2)).tolist()
  np.testing.assert_allclose(
    manifest['std'], images.std((0, 1, 2)), rtol=1e-13, atol=0
  )
  for channel in range(3):
    values = raw['train']['image'][..., channel].ravel().tolist()
    mean = fractions.Fraction(sum(values), len(values))
    variance = fractions.Fraction(sum(v * v for v in values), len(values))
    assert manifest['std'][channel] == float(variance - mean**2) ** 0.5


def test_the_manifest_lists_every_shard_with_its_checksum(finished):
  manifest = _manifest(finished)
  assert manifest['images'] == {'train': 120, 'test': 60}
  folder = finished / 'tfds/roar_tiny/original' / paths.VERSION
  shards = list(folder.glob('*.tfrecord-?????-of-?????'))
  assert len(manifest['shards']) == len(shards) == 5
  recorded = {contents['sha256'] for contents in manifest['shards'].values()}
  assert recorded == {files.sha256(str(path)) for path in shards}
  # Only a dataset that is never whole says what is missing.
  assert 'completeness' not in manifest


def test_original_holds_every_image_unchanged(finished, raw):
  ids = []
  for split, found in _original(finished).items():
    expected = raw[split]
    order = np.argsort(found['id'])
    assert found['image'].dtype == np.uint8
    assert [i.decode() for i in found['id'][order]] == sorted(expected['id'])
    for name in ('image', 'label', 'truth'):
      np.testing.assert_array_equal(found[name][order], expected[name])
    ids += found['id'].tolist()
  assert len(set(ids)) == len(ids) == 180


@pytest.mark.parametrize('per_shard', [33, 1000])
def test_sharding_changes_neither_statistics_nor_images(
  per_shard, tiny, finished, raw, tmp_path, make
):
  binding = f'Source.images_per_shard = {per_shard}'
  make(tiny.pipeline(tmp_path, binding), 'source')
  manifest, expected = _manifest(tmp_path), _manifest(finished)
  assert len(manifest['shards']) == -(-120 // per_shard) + -(-60 // per_shard)
  for name in ('mean', 'std', 'images'):
    assert json.dumps(manifest[name]) == json.dumps(expected[name])
  found = _original(tmp_path)['train']
  np.testing.assert_array_equal(
    found['image'][np.argsort(found['id'])], raw['train']['image']
  )


def test_a_subset_has_statistics_of_its_own(tiny, raw, tmp_path, make):
  make(tiny.pipeline(tmp_path, 'Source.train_subset = 33'), 'source')
  images = raw['train']['image'][:33].astype(np.float64)
  assert _manifest(tmp_path)['mean'] == images.mean((0, 1, 2)).tolist()
  assert _manifest(tmp_path)['images'] == {'train': 33, 'test': 60}


@pytest.fixture
def alone(work, tmp_path):
  """Function that makes `original` of a gin file of a source, with no study.

  It returns the workspace's root.
  """

  def run(gin: str, *bindings: str, name='w', **how):
    (tmp_path / 'tiny.gin').write_text(gin)
    (loaded,) = experiment.load(
      dataset=str(tmp_path / 'tiny.gin'), gin_bindings=bindings
    )
    root = tmp_path / name
    of_source = stages.Stages(
      context.Context(
        paths.Workspace(str(root)), loaded, str(tmp_path / 'data')
      )
    )
    work(of_source, [of_source.source.original], **how)
    return root

  return run


@pytest.fixture
def stored(tmp_path, store_dataset):
  """Function that stores ids and labels and returns the gin file of a source.

  It has four images in each split, two in a shard.
  """

  def store(ids=None, labels=((0, 1, 0, 1), (0, 1, 0, 1))):
    features = {
      'image': tfds.features.Image(shape=(4, 4, 1), encoding_format='png'),
      'label': tfds.features.ClassLabel(names=['cat', 'dog']),
    }
    splits = {}
    for i, split in enumerate(('train', 'test')):
      splits[split] = {
        'image': np.full((4, 4, 4, 1), 9, np.uint8),
        'label': list(labels[i]),
      }
      if ids:
        features['id'] = tfds.features.Text()
        splits[split]['id'] = list(ids[i])
    store_dataset(tmp_path / 'data', 'flat', '1.0.0', splits, features)
    return (
      "include 'train/small_images.gin'\n"
      "Source.tfds_name = 'flat'\nSource.image_shape = (4, 4, 1)\n"
      'Source.num_classes = 2\nSource.train_images = 4\n'
      'Source.test_images = 4\nSource.images_per_shard = 2\n'
    )

  return store


REPEATED = {
  'in one shard': ('aabc', 'defg', 'a'),
  'in two shards': ('abca', 'defg', 'a'),
  'in both splits': ('abcd', 'efgb', 'b'),
}


@pytest.mark.parametrize('where', REPEATED)
def test_ids_that_several_images_share_are_refused(where, stored, alone):
  *ids, twin = REPEATED[where]
  gin = stored(ids)
  with pytest.raises(errors.UsageError) as caught:
    alone(gin)
  for words in (f'id "{twin}"', 'Source.id_key = "tfds_id"', 'roar_tiny/orig'):
    assert words in str(caught.value)
  # The way out that it names.
  root = alone(gin, "Source.id_key = 'tfds_id'", name='other')
  assert _manifest(root)['images'] == {'train': 4, 'test': 4}


def test_of_several_workers_the_last_one_finds_ids_of_two_shards(stored, alone):
  gin = stored(('abcd', 'efgb'))
  alone(gin, share=engine.Share(0, 2))
  with pytest.raises(errors.UsageError, match='id "b"'):
    alone(gin, share=engine.Share(1, 2))


def test_ids_of_shards_without_keys_are_read(stored, alone, monkeypatch):
  gin = stored(('abcd', 'efgb'))
  write = markers.write
  monkeypatch.setattr(
    markers,
    'write',
    lambda path, print_, facts: write(
      path, print_, {k: v for k, v in facts.items() if k != 'keys'}
    ),
  )
  with pytest.raises(errors.UsageError, match='id "b"'):
    alone(gin)


def test_classes_are_counted_and_those_without_images_are_told(
  stored, alone, capsys
):
  root = alone(stored(labels=((0, 0, 0, 0), (1, 0, 1, 1))))
  assert _manifest(root)['labels'] == {'train': [4, 0], 'test': [1, 3]}
  said = capsys.readouterr().out.splitlines()
  (line,) = [s for s in said if ' of 2 classes ' in s]
  assert line.startswith('tiny: 1 of 2 classes have no train image')
  assert line.endswith(': dog')


@pytest.mark.parametrize(
  'manifest, chance',
  [
    ({'labels': {'train': [9, 1], 'test': [1, 3]}}, 0.75),
    ({'labels': {'train': [9, 1], 'test': [200, 200]}}, 1 / 2),
    ({}, 1 / 3),  # Made before classes were counted.
    (None, 1 / 3),  # Gone.
  ],
)
def test_chance_is_the_share_of_the_most_frequent_test_class(
  manifest, chance, tiny, tmp_path
):
  of_source = tiny.pipeline(tmp_path).context
  if manifest is not None:
    path = pathlib.Path(of_source.manifest_path)
    files.publish_json(str(path), manifest)
    named = files.checksums(str(path.parent), [path.name])
    markers.write(f'{path.parent}/{markers.DONE}', {}, {'files': named})
  assert report.chance(of_source) == chance


def test_a_channel_without_contrast_can_be_normalised(
  tmp_path, store_dataset, alone
):
  images = np.full((4, 4, 4, 1), 9, np.uint8)
  features = {
    'image': tfds.features.Image(shape=(4, 4, 1), encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=2),
  }
  values = {'image': images, 'label': [0, 1, 0, 1]}
  store_dataset(
    tmp_path / 'data',
    'flat',
    '1.0.0',
    {'train': values, 'test': values},
    features,
  )
  root = alone(
    "include 'train/small_images.gin'\n"
    "Source.tfds_name = 'flat'\nSource.image_shape = (4, 4, 1)\n"
    'Source.num_classes = 2\nSource.train_images = 4\n'
    'Source.test_images = 4\nSource.images_per_shard = 3\n'
  )
  assert _manifest(root)['mean'] == [9.0]
  assert _manifest(root)['std'] == [1.0]


def test_a_folder_of_images_of_all_sizes_becomes_original(tmp_path, alone):
  ids = []
  for split, count in (('train', 5), ('test', 3)):
    for i in range(count):
      path = tmp_path / 'images' / split / f'class_{i % 2}' / f'{i}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      image = np.full((10 + 7 * i, 40 - 5 * i, 3), (i, 10 * i, 255), np.uint8)
      path.write_bytes(tf.io.encode_png(image).numpy())
      ids.append(f'{split}/class_{i % 2}/{i}.png')
  root = alone(
    "include 'train/small_images.gin'\n"
    f"Source.folder = '{tmp_path / 'images'}'\n"
    "Source.preprocessing = 'resize_crop'\nSource.resize_short_side = 16\n"
    'Source.image_shape = (14, 14, 3)\nSource.num_classes = 2\n'
    'Source.train_images = 5\nSource.test_images = 3\n'
    'Source.images_per_shard = 2\n'
  )
  found = _original(root)
  assert found['train']['image'].shape == (5, 14, 14, 3)
  assert sorted(
    i.decode() for values in found.values() for i in values['id']
  ) == sorted(ids)
  manifest = _manifest(root)
  assert manifest['images'] == {'train': 5, 'test': 3}
  assert manifest['mean'] == [2, 20, 255]
  assert manifest['std'] == [2**0.5, 200**0.5, 1]


@pytest.mark.parametrize('values', [1, 500])
def test_the_size_of_batches_changes_nothing(
  values, tiny, finished, tmp_path, monkeypatch, make
):
  monkeypatch.setattr(source, 'BATCH_VALUES', values)
  make(tiny.pipeline(tmp_path), 'source')
  assert _manifest(tmp_path) == _manifest(finished)


def test_a_folder_that_was_moved_or_is_gone_is_the_same(
  photographs, tmp_path, make
):
  make(photographs.tiny.pipeline(tmp_path / 'w'), 'source')
  moved = tmp_path / 'moved'
  photographs.folder.rename(moved)
  binding = f'Source.folder = {str(moved)!r}'
  pipeline = photographs.tiny.pipeline(tmp_path / 'w', binding)
  assert make(pipeline, 'source').made == {}
  shutil.rmtree(moved)
  pipeline = photographs.tiny.pipeline(tmp_path / 'w', binding)
  assert make(pipeline, 'source').made == {}


@pytest.mark.parametrize('change', ['rename', 'replace'])
def test_a_folder_whose_files_were_changed_is_noticed(
  change, photographs, tmp_path, make
):
  make(photographs.tiny.pipeline(tmp_path / 'w'), 'source')
  path = photographs.folder / 'train/class_1/03.jpg'
  if change == 'rename':
    path.rename(path.with_name('zz.jpg'))
  else:
    path.write_bytes(path.read_bytes() + b'more')
  with pytest.raises(errors.UsageError, match='names and sizes of the files'):
    make(photographs.tiny.pipeline(tmp_path / 'w'), 'source')
