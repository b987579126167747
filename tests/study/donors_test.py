"""Tests of donors: of the right class, near, and used evenly."""

import numpy as np
import pytest

from roar_tf.study import donors

KINDS = ('shuffle', 'shuffle_same', 'shuffle_other')


def _donors(kind, labels, shards=1, seed=0):
  """Returns donors, and the shard of every image."""
  labels = np.asarray(labels)
  counts = [len(part) for part in np.array_split(labels, shards)]
  keys = np.random.default_rng(0).integers(-(2**31), 2**31, (len(labels), 2))
  found = donors.donors(
    kind, seed, 'train', counts, keys.astype(np.int32), labels
  )
  return found, np.repeat(np.arange(shards), counts)


def _mixed(classes, count):
  return np.random.default_rng(1).integers(0, classes, count)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
  ('labels', 'shards'),
  [
    ([0, 1, 0, 1], 1),
    ([0, 0, 1, 1], 2),
    (_mixed(10, 3000), 40),
    (np.sort(_mixed(10, 3000)), 40),
    (np.repeat([0, 1], 500), 20),
    (np.repeat([0, 1, 2], [500, 300, 200]), 20),  # Just half of all.
  ],
)
def test_every_map_is_used_once_and_by_another_image(kind, labels, shards):
  labels = np.asarray(labels)
  found, _ = _donors(kind, labels, shards)
  assert (np.sort(found) == np.arange(len(labels))).all()
  assert (found != np.arange(len(labels))).all()
  same = labels[found] == labels
  if kind != 'shuffle':
    assert same.all() if kind == 'shuffle_same' else not same.any()


def test_classes_of_donors_are_those_of_all_images():
  labels = _mixed(4, 4000)
  for kind, among in (('shuffle', 4), ('shuffle_other', 3)):
    found, _ = _donors(kind, labels, 8)
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (labels, labels[found]), 1)
    there = pairs[pairs > 0]
    assert len(there) == 4 * among
    assert there.min() > 0.75 * 4000 / 4 / among


def test_sorted_classes_get_maps_of_many_others():
  labels = np.repeat(np.arange(100), 50)  # Two classes a shard.
  for kind in ('shuffle', 'shuffle_other'):
    found, _ = _donors(kind, labels, 50)
    assert (labels[found] == labels).mean() < 0.1
    others = [len(np.unique(labels[found[labels == c]])) for c in range(100)]
    assert min(others) > 15


def test_a_unit_reads_few_shards():
  for labels in (_mixed(1000, 200_000), np.sort(_mixed(1000, 200_000))):
    for kind, most in (('shuffle', 17), ('shuffle_same', 32)):
      found, shard = _donors(kind, labels, 160)
      read = [len(np.unique(shard[found[shard == s]])) for s in range(160)]
      assert max(read) <= most
  found, shard = _donors('shuffle_other', _mixed(1000, 200_000), 160)
  read = [len(np.unique(shard[found[shard == s]])) for s in range(160)]
  assert max(read) <= 24


def test_a_class_of_more_than_half_uses_the_other_maps_evenly():
  labels = np.repeat([0, 1, 2], [900, 60, 40])
  found, _ = _donors('shuffle_other', labels, 10)
  assert (labels[found] != labels).all()
  assert np.bincount(found, minlength=1000)[900:].max() <= 11


def test_donors_follow_from_seed_split_and_ids():
  labels = _mixed(3, 300)
  first, _ = _donors('shuffle', labels, 5)
  again, _ = _donors('shuffle', labels, 5)
  other, _ = _donors('shuffle', labels, 5, seed=1)
  assert (first == again).all()
  assert (first == other).mean() < 0.05


@pytest.mark.parametrize(
  ('kind', 'labels', 'label'),
  [
    ('shuffle', [2], 2),
    ('shuffle_same', [0, 0, 1, 2, 2], 1),
    ('shuffle_other', [1, 1, 1], 1),
    ('shuffle_other', [1], 1),
  ],
)
def test_an_image_without_any_donor_is_told_by_its_class(kind, labels, label):
  with pytest.raises(donors.NoDonorError) as caught:
    _donors(kind, labels)
  assert caught.value.label == label
