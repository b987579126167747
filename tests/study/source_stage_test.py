"""Tests of the dataset `original` and of its mean and standard deviation."""

import fractions
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from roar_tf import workspace
from roar_tf.study import pipeline, source_stage


def _manifest(root):
  path = f'{root}/tfds/roar_tiny/original/{workspace.VERSION}/manifest.json'
  return workspace.read_json(path)


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
  folder = finished / 'tfds/roar_tiny/original' / workspace.VERSION
  files = sorted(p for p in folder.iterdir() if '.tfrecord' in p.name)
  files = [p for p in files if p.suffix != '.DONE']
  assert len(manifest['shards']) == len(files) == 5
  found = {contents['sha256'] for contents in manifest['shards'].values()}
  assert found == {workspace.sha256(str(p)) for p in files}
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
  per_shard, tiny, finished, raw, tmp_path
):
  works = tiny.works(tmp_path, f'Source.images_per_shard = {per_shard}')
  pipeline.run(works, ['source'])
  manifest, expected = _manifest(tmp_path), _manifest(finished)
  assert len(manifest['shards']) == -(-120 // per_shard) + -(-60 // per_shard)
  for name in ('mean', 'std', 'images'):
    assert json.dumps(manifest[name]) == json.dumps(expected[name])
  found = _original(tmp_path)['train']
  np.testing.assert_array_equal(
    found['image'][np.argsort(found['id'])], raw['train']['image']
  )


def test_a_subset_has_statistics_of_its_own(tiny, raw, tmp_path):
  pipeline.run(tiny.works(tmp_path, 'Source.train_subset = 33'), ['source'])
  images = raw['train']['image'][:33].astype(np.float64)
  assert _manifest(tmp_path)['mean'] == images.mean((0, 1, 2)).tolist()
  assert _manifest(tmp_path)['images'] == {'train': 33, 'test': 60}


def test_a_channel_without_contrast_can_be_normalised(tmp_path, store_dataset):
  from roar_tf.study import context, experiment

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
  (tmp_path / 'tiny.gin').write_text(
    "include 'train/small_images.gin'\n"
    "Source.tfds_name = 'flat'\nSource.image_shape = (4, 4, 1)\n"
    'Source.num_classes = 2\nSource.train_images = 4\n'
    'Source.test_images = 4\nSource.images_per_shard = 3\n'
  )
  (loaded,) = experiment.load(dataset=str(tmp_path / 'tiny.gin'))
  place = workspace.Workspace(str(tmp_path / 'w'))
  one = context.Context(place, loaded, str(tmp_path / 'data'))
  pipeline.run([pipeline.Work(one, [])], ['source'])
  assert _manifest(tmp_path / 'w')['mean'] == [9.0]
  assert _manifest(tmp_path / 'w')['std'] == [1.0]


def test_a_folder_of_images_of_all_sizes_becomes_original(tmp_path):
  from roar_tf.study import context, experiment

  ids = []
  for split, count in (('train', 5), ('test', 3)):
    for i in range(count):
      path = tmp_path / 'images' / split / f'class_{i % 2}' / f'{i}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      image = np.full((10 + 7 * i, 40 - 5 * i, 3), (i, 10 * i, 255), np.uint8)
      path.write_bytes(tf.io.encode_png(image).numpy())
      ids.append(f'{split}/class_{i % 2}/{i}.png')
  (tmp_path / 'tiny.gin').write_text(
    "include 'train/small_images.gin'\n"
    f"Source.folder = '{tmp_path / 'images'}'\n"
    "Source.preprocessing = 'resize_crop'\nSource.resize_short_side = 16\n"
    'Source.image_shape = (14, 14, 3)\nSource.num_classes = 2\n'
    'Source.train_images = 5\nSource.test_images = 3\n'
    'Source.images_per_shard = 2\n'
  )
  (loaded,) = experiment.load(dataset=str(tmp_path / 'tiny.gin'))
  place = workspace.Workspace(str(tmp_path / 'w'))
  pipeline.run([pipeline.Work(context.Context(place, loaded), [])], ['source'])
  found = _original(tmp_path / 'w')
  assert found['train']['image'].shape == (5, 14, 14, 3)
  assert sorted(
    i.decode() for values in found.values() for i in values['id']
  ) == sorted(ids)
  manifest = _manifest(tmp_path / 'w')
  assert manifest['images'] == {'train': 5, 'test': 3}
  assert manifest['mean'] == [2, 20, 255]
  assert manifest['std'] == [2**0.5, 200**0.5, 1]


@pytest.mark.parametrize('values', [1, 500])
def test_the_size_of_batches_changes_nothing(
  values, tiny, finished, tmp_path, monkeypatch
):
  monkeypatch.setattr(source_stage, 'BATCH_VALUES', values)
  pipeline.run(tiny.works(tmp_path), ['source'])
  assert _manifest(tmp_path) == _manifest(finished)
