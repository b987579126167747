"""Tests of sources with images that cannot be decoded."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from roar_tf import errors
from roar_tf.engine import files, markers
from roar_tf.study import paths

SKIP = "Source.unreadable = 'skip'"
BROKEN = ('train/class_1/03.jpg', 'train/class_0/08.jpg', 'test/class_0/02.jpg')


def _manifest(root):
  path = f'tfds/roar_photographs/original/{paths.VERSION}/manifest.json'
  return files.read_json(f'{root}/{path}')


def _dones(root):
  folder = pathlib.Path(root) / 'tfds/roar_photographs/original'
  return {p.name: markers.read(str(p)) for p in folder.rglob('*DONE')}


def _left_out(done):
  settings = done['fingerprint']['settings']
  return settings.get('Source.unreadable', {'skip': []})['skip']


def test_unreadable_images_are_left_out_counted_and_listed(
  photographs, tmp_path, capsys, make
):
  whole = tmp_path / 'whole'
  make(photographs.tiny.pipeline(whole), 'source')
  assert 'unreadable' not in _manifest(whole)
  photographs.damage(*BROKEN)
  root = tmp_path / 'w'
  pipeline = photographs.tiny.pipeline(root, SKIP)
  make(pipeline, 'source')

  manifest = _manifest(root)
  assert manifest['images'] == {'train': 18, 'test': 7}
  assert sorted(manifest['unreadable']['train']) == sorted(BROKEN[:2])
  assert manifest['unreadable']['test'] == [BROKEN[2]]
  dones = _dones(root)
  ids = [i for done in dones.values() for i in _left_out(done)]
  assert sorted(ids) == sorted(BROKEN)
  said = [s for s in capsys.readouterr().out.splitlines() if 'left out' in s]
  assert all(any(i in line for line in said) for i in BROKEN)
  assert len(said) == sum(bool(_left_out(done)) for done in dones.values())

  counts = [pipeline.context.images(split) for split in ('train', 'test')]
  assert counts == [18, 7]
  images = []
  for split in ('train', 'test'):
    found, expected = (
      {
        i: image
        for i, image in tfds.as_numpy(
          tfds.load(
            'roar_photographs/original',
            split=split,
            data_dir=f'{folder}/tfds',
          ).map(lambda example: (example['id'], example['image']))
        )
      }
      for folder in (root, whole)
    )
    for i in BROKEN:
      expected.pop(i.encode(), None)
    assert found.keys() == expected.keys()
    for i, image in expected.items():
      np.testing.assert_array_equal(found[i], image)
    images.append(np.stack(list(found.values())).astype(np.float64))
  assert manifest['mean'] == images[0].mean((0, 1, 2)).tolist()
  np.testing.assert_allclose(
    manifest['std'], images[0].std((0, 1, 2)), rtol=1e-13
  )


def test_what_lacks_nothing_is_the_same_whatever_was_asked_for(
  photographs, tmp_path, make
):
  photographs.damage(BROKEN[2])
  make(photographs.tiny.pipeline(tmp_path), 'source', fails=BROKEN[2])
  before = _dones(tmp_path)
  assert len(before) == 5  # Of six shards; and no dataset.
  skip = photographs.tiny.pipeline(tmp_path, SKIP)
  make(skip, 'source')
  after = _dones(tmp_path)
  assert len(after) == 7
  assert {name: after[name] for name in before} == before
  assert make(skip, 'source').made == {}
  with pytest.raises(errors.UsageError) as caught:
    make(photographs.tiny.pipeline(tmp_path), 'source')
  for words in ('Source.unreadable', "'skip'", BROKEN[2]):
    assert words in str(caught.value)


def test_a_dataset_that_has_been_repaired_is_another_one(
  photographs, tmp_path, make
):
  photographs.damage(*BROKEN)
  seals = set()
  for i in range(3):
    make(photographs.tiny.pipeline(tmp_path, SKIP), 'source')
    seals.add(_dones(tmp_path)['DONE']['seal'])
    photographs.repair(BROKEN[i])
    shutil.rmtree(tmp_path / 'tfds')
  assert len(seals) == 3


def test_a_split_without_a_readable_image_is_refused(
  photographs, tmp_path, make
):
  photographs.damage(*(f'test/class_{i % 2}/{i:02d}.jpg' for i in range(8)))
  counts = make(
    photographs.tiny.pipeline(tmp_path, SKIP),
    'source',
    fails=['none of the 8 test images', str(photographs.folder)],
  )
  assert len(counts.failures) == 1
