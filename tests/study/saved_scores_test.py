"""Tests of `roar_tf.save_scores`: what it writes, resumes and refuses."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import errors, score_files
from roar_tf.study import saved_scores


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
  """A workspace that holds the tiny dataset; a file holds 50 images' scores."""
  monkeypatch.setattr(saved_scores, '_IMAGES_PER_FILE', 50)
  part = 'tfds/roar_tiny/original'
  shutil.copytree(finished / part, tmp_path / 'workspace' / part)
  return tmp_path / 'workspace'


class Brightness:
  """Scores an image by itself; counts images, and stops after so many."""

  def __init__(self, most=1000):
    self.images, self.most = 0, most

  def __call__(self, images):
    assert images.dtype == np.uint8 and len(images) <= 20
    if self.images + len(images) > self.most:
      raise KeyboardInterrupt
    self.images += len(images)
    return images.astype(np.float32)


def _save(place, function, **how):
  how = {'batch_size': 20, 'version': '1', **how}
  return roar_tf.save_scores(place, 'tiny', 'mine', function, **how)


def test_every_image_is_scored_once_also_after_an_interruption(
  place, raw, capsys
):
  first = Brightness(most=130)
  with pytest.raises(KeyboardInterrupt):
    _save(place, first)
  folder = place / 'scores/tiny/mine'
  written = {p.name: p.read_bytes() for p in folder.iterdir()}
  assert sorted(written) == [
    'about.json',
    'train-00000000-00000050.npz',
    'train-00000050-00000100.npz',
    'train-00000100-00000120.npz',
  ]
  again = Brightness()
  assert _save(place, again) == str(folder)
  assert again.images == 60  # The test split alone.
  assert f'--scores={folder} --estimators=mine' in capsys.readouterr().out
  for name, data in written.items():
    assert (folder / name).read_bytes() == data
  found = score_files.ScoreFiles(str(folder), (8, 8, 3))
  assert len(found) == 180
  for split in ('train', 'test'):
    ids = [id_.encode() for id_ in raw[split]['id']]
    np.testing.assert_array_equal(found.rows(ids), raw[split]['image'])
  last = Brightness(most=0)
  _save(place, last)
  assert last.images == 0


def test_labels_splits_and_another_directory(place, raw, tmp_path):
  def of_label(images, labels):
    return (
      tf.ones(images.shape[:3]) * tf.cast(labels, tf.float32)[:, None, None]
    )

  folder = _save(
    place, of_label, labels=True, splits=['test'], directory=tmp_path / 'there'
  )
  found = score_files.ScoreFiles(folder, (8, 8, 3))
  assert folder == str(tmp_path / 'there') and len(found) == 60
  ids = [id_.encode() for id_ in raw['test']['id']]
  np.testing.assert_array_equal(
    found.rows(ids)[:, 0, 0, 0], raw['test']['label']
  )
  assert not (place / 'scores').exists()


def _dark(images):
  return -images.astype(np.float16)


def _twice(images):
  return 2.0 * images


def test_scores_of_another_function_or_of_other_images_are_refused(place):
  _save(place, _dark, version=None, splits=['test'])
  _save(place, _dark, version=None)
  with pytest.raises(errors.UsageError, match='another function: delete'):
    _save(place, _twice, version=None)
  with pytest.raises(errors.UsageError, match='another .*version of function'):
    _save(place, _dark)
  about = place / 'scores/tiny/mine/about.json'
  seal = '"original": "'
  about.write_text(about.read_text().replace(seal, f'{seal}0'))
  with pytest.raises(errors.UsageError, match='another original: delete it'):
    _save(place, _dark, version=None)
  about.unlink()
  with pytest.raises(errors.UsageError, match='did not write'):
    _save(place, _dark, version=None)


@pytest.mark.parametrize(
  ('returned', 'words'),
  [
    (lambda x: x.transpose(0, 3, 1, 2), r'channels last.*found \(20, 3, 8, 8'),
    (lambda x: x[:1], r'found \(1, 8, 8, 3\)'),
    (lambda x: None, 'real numbers'),
    (lambda x: x / np.zeros(1), 'finite scores.*"train_000"'),
  ],
)
@pytest.mark.filterwarnings('ignore:(divide|invalid)')
def test_what_is_no_score_is_refused(returned, words, place):
  with pytest.raises(ValueError, match=words):
    _save(place, returned)
  assert not [*place.glob('scores/*/*/*.npz*')]
  # Nothing is saved yet: the function may be corrected.
  _save(place, _dark, version=None, splits='test')


def test_mistakes_are_told_before_anything_is_scored(place):
  for how, words in (
    ({'source': 'tinny'}, 'Did you mean "tiny"'),
    ({'name': 'grad'}, "'grad' exists already"),
    ({'name': 'shuffle_x'}, 'choose another name'),
    ({'splits': ['val']}, "train, test, found 'val'"),
    ({'batch_size': 0}, 'batch_size'),
    ({'function': 'mine'}, "function must be called .*'mine'"),
  ):
    given = {'source': 'tiny', 'name': 'mine', 'function': _dark, **how}
    with pytest.raises(errors.UsageError, match=words):
      roar_tf.save_scores(place, **given)
  assert not (place / 'scores').exists()
