"""Tests of what a source is."""

import dataclasses
import json

import pytest

from roar_tf import errors
from roar_tf.datasets.source import Source

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


def test_shards_cover_every_split_once():
  for count, per_shard in ((120, 50), (120, 120), (120, 1000), (7, 1), (7, 3)):
    source = dataclasses.replace(
      TINY, train_images=count, images_per_shard=per_shard
    )
    bounds = source.shard_bounds('train')
    assert [b for _, b in bounds] == [a for a, _ in bounds[1:]] + [count]
    assert bounds[0][0] == 0
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= per_shard


def test_a_subset_is_the_first_images_of_train_and_all_of_test():
  source = dataclasses.replace(TINY, train_subset=51)
  assert source.shard_bounds('train')[-1][1] == source.count('train') == 51
  assert source.count('test') == 60
  for subset in (0, 121, -1):
    with pytest.raises(errors.UsageError, match='Source.train_subset'):
      dataclasses.replace(TINY, train_subset=subset)


def test_settings_hold_every_field_that_changes_values():
  keys = {'image_key': 'picture', 'label_key': 'species', 'id_key': 'tfds_id'}
  settings = dataclasses.replace(TINY, **keys).settings()
  assert settings.pop('source') == 'tiny'
  fields = {f.name for f in dataclasses.fields(Source)}
  fields -= {'name', 'min_completeness', 'unreadable'}
  assert set(settings) == {f'Source.{name}' for name in fields}
  # Datasets that were made before there were keys are what they were.
  assert set(TINY.settings()) == {
    'source',
    *(f'Source.{name}' for name in fields - set(keys)),
  }


def test_settings_in_json_are_a_source_again():
  other = dataclasses.replace(TINY, train_subset=7, id_key='tfds_id')
  for source in (TINY, other):
    settings = json.loads(json.dumps(source.settings()))
    assert Source.from_settings(settings) == source


def test_a_folder_that_was_moved_has_the_same_settings():
  here, there = (
    dataclasses.replace(TINY, tfds_name=None, folder=folder)
    for folder in ('/here', '~/there/')
  )
  assert here.settings() == there.settings() != TINY.settings()
  again = Source.from_settings(here.settings())
  assert again.settings() == here.settings()


@pytest.mark.parametrize(
  'name, other',
  [
    ('my-data.v2', 'my_data_v2.gin'),
    ('MyData', 'mydata.gin'),
    ('2cats', 'my_2cats.gin'),
    ('größe', 'gr_e.gin'),
    ('_cats', 'cats.gin'),
    ('cats\n', 'cats.gin'),
    ('', 'my_data.gin'),
    ('original', 'my_original.gin'),
    ('remove', 'my_remove.gin'),
    ('grad_pixel_remove_90', 'my_grad_pixel_remove_90.gin'),
  ],
)
def test_a_gin_file_whose_name_is_no_source_is_refused(name, other):
  with pytest.raises(errors.UsageError, match='rename') as caught:
    dataclasses.replace(TINY, name=name)
  assert other in str(caught.value)


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'folder': '/images'}, 'Source.folder'),
    ({'tfds_name': None}, 'Source.folder'),
    ({'unreadable': 'ignore'}, 'Source.unreadable'),
    ({'preprocessing': 'crop'}, 'Source.preprocessing'),
    ({'resize_short_side': 0}, 'Source.resize_short_side'),
    (
      {'preprocessing': 'resize_crop', 'resize_short_side': 7},
      'Source.resize_short_side=7',
    ),
    (
      {'preprocessing': 'resize_crop', 'image_shape': (8, 8, 1)},
      '3 channels',
    ),
    ({'preprocessing': 'resize_crop'}, 'Source.truth = False'),
    ({'images_per_shard': 1, 'train_images': 10**9}, 'images_per_shard=1'),
    ({'image_shape': (8, 8, 2)}, '1 or 3 channels'),
    ({'tfds_name': None, 'folder': 'f', 'label_key': 'y'}, 'Source.label_key'),
    ({'truth': 'False'}, 'Source.truth must be True or False'),
    ({'train_subset': '7'}, 'Source.train_subset'),
  ],
)
def test_a_source_that_cannot_be_is_refused(changes, words):
  with pytest.raises(errors.UsageError, match=words):
    dataclasses.replace(TINY, **changes)
