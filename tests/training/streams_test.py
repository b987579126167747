"""Tests of the examples on disk against the same examples in memory."""

import os

import numpy as np
import pytest
import tensorflow as tf
from small_training import SHAPE, make_trainer, network

from roar_tf import errors, masking, randomness, ranking, shards
from roar_tf.training import examples, streams
from roar_tf.training.order import Order, Share

CLASSES = 3
COUNTS = (7, 5, 0, 6, 4)
"""Examples of the shards: 22."""
PLAIN = shards.Layout(image=SHAPE, classes=CLASSES)
RANKED = shards.Layout(levels=(8, 8, 1))


def _write(folder, name, layout, batches):
  paths, contents = [], []
  for index, batch in enumerate(batches):
    paths.append(f'{folder}/{name}-{index}')
    with shards.writing(paths[-1]) as writer:
      writer.write(layout.serialize(batch))
    contents.append(writer.contents)
  return streams.Records(tuple(paths), tuple(contents), layout)


def _masked(images, levels, keys=None):
  return masking.mask(
    images, levels, threshold=30, mode='remove', fill=[1.0, 2.0, 3.0], keys=keys
  )


@pytest.fixture(scope='module')
def batches():
  """One batch per shard."""
  generator = np.random.default_rng(0)
  made = []
  for index, count in enumerate(COUNTS):
    ids = np.array([b'%d/%d' % (index, i) for i in range(count)], object)
    keys = randomness.keys_of_ids(ids)
    scores = generator.normal(size=(count, *SHAPE))
    made.append(
      {
        'image': generator.integers(0, 256, (count, *SHAPE)).astype(np.uint8),
        'label': generator.integers(0, CLASSES, count),
        'id': ids,
        'levels': ranking.levels(scores, keys, 'pixel').numpy(),
      }
    )
  return made


@pytest.fixture(scope='module')
def originals(batches, tmp_path_factory):
  return _write(tmp_path_factory.mktemp('o'), 'original', PLAIN, batches)


@pytest.fixture(scope='module')
def rankings(batches, tmp_path_factory):
  return _write(tmp_path_factory.mktemp('r'), 'ranking', RANKED, batches)


def _memory(batches, masked):
  tensors = [
    {
      'image': tf.constant(
        _masked(b['image'], b['levels']) if masked else b['image']
      ),
      'label': tf.constant(b['label']),
      'id': tf.constant(b['id']),
    }
    for b in batches
  ]
  return examples.from_batches(tensors, COUNTS)


@pytest.fixture(scope='module', params=['originals', 'masked on the fly'])
def pair(request, batches, originals, rankings):
  """The same split on disk and in memory."""
  if request.param == 'originals':
    return streams.Stream(originals), _memory(batches, False)
  return streams.Stream(originals, rankings, _masked), _memory(batches, True)


def _assert_same(one, other):
  one, other = list(one), list(other)
  assert len(one) == len(other) > 0
  for a, b in zip(one, other, strict=True):
    tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def test_tells_its_examples(pair):
  disk, memory = pair
  assert len(disk) == len(memory) == 22
  assert disk.counts == memory.counts == COUNTS
  np.testing.assert_array_equal(disk.ids, memory.ids)
  np.testing.assert_array_equal(disk.labels, memory.labels)
  assert disk.labels.dtype == np.int32
  assert disk.fault() == memory.fault() == ''


@pytest.mark.parametrize('window, start', [(1, 40), (2, 0), (16, 0)])
def test_training_batches_are_those_in_memory(pair, window, start):
  disk, memory = pair
  order, share = Order(COUNTS, window, 'run', 1), Share(8)
  _assert_same(
    disk.training_batches(order, start, 72, share),
    memory.training_batches(order, start, 72, share),
  )


def test_the_batches_of_a_host_are_those_in_memory(pair):
  disk, memory = pair
  order = Order(COUNTS, 2, 'run', 1)
  share = Share(8, 4, range(2, 4))
  _assert_same(
    disk.training_batches(order, 16, 48, share),
    memory.training_batches(order, 16, 48, share),
  )


@pytest.mark.parametrize('batch', [5, 22, 64])
def test_test_batches_cover_the_split_in_its_order(pair, batch):
  disk, memory = pair
  share = Share(batch)
  _assert_same(disk.test_batches(share), memory.test_batches(share))
  found = list(disk.test_batches(share))
  keys = np.concatenate([b['key'] for b in found])
  np.testing.assert_array_equal(keys[:22], memory.keys)
  assert len(keys) == -(-22 // batch) * batch


@pytest.fixture(scope='module')
def trainer():
  return make_trainer(
    network, classes=CLASSES, shuffle_shards=2, augmentation='pad_crop_flip'
  )


def test_training_from_disk_ends_in_the_bits_of_training_from_memory(
  pair, trainer
):
  states = [trainer.train(split, 'run', 5)[0] for split in pair]
  tf.nest.map_structure(np.testing.assert_array_equal, *states)
  outcomes = [trainer.evaluate(states[0], split) for split in pair]
  for name in ('predictions', 'correct', 'in_top5'):
    np.testing.assert_array_equal(*(getattr(o, name) for o in outcomes))


# --- damage -------------------------------------------------------------------


@pytest.mark.parametrize(
  'how, which',
  [
    ('flipped', 'images'),
    ('cut', 'levels'),
    ('missing record', 'images'),
    ('absent', 'levels'),
  ],
)
def test_a_damaged_shard_stops_the_training_and_is_named(
  batches, tmp_path, trainer, how, which
):
  made = {
    'images': _write(tmp_path, 'original', PLAIN, batches),
    'levels': _write(tmp_path, 'ranking', RANKED, batches),
  }
  path = made[which].paths[1]
  size = os.path.getsize(path)
  if how == 'flipped':
    with open(path, 'r+b') as file:
      file.seek(size // 2)
      byte = file.read(1)[0]
      file.seek(size // 2)
      file.write(bytes([byte ^ 4]))
  elif how == 'cut':
    os.truncate(path, size - 3)
  elif how == 'absent':
    os.remove(path)
  else:
    part = {name: value[:-1] for name, value in batches[1].items()}
    short = _write(tmp_path, 'short', made[which].layout, [part])
    os.replace(short.paths[0], path)
  with pytest.raises(errors.DataError) as caught:
    trainer.train(streams.Stream(made['images'], made['levels'], _masked), 1)
  assert path in str(caught.value) and 'damaged' in str(caught.value)


def test_a_ranking_of_other_images_stops_the_training(
  batches, originals, tmp_path, trainer
):
  swapped = [dict(b) for b in batches]
  swapped[1] = {**swapped[1], 'id': swapped[1]['id'][::-1]}
  rankings = _write(tmp_path, 'ranking', RANKED, swapped)
  with pytest.raises(errors.DataError, match='belongs to other images'):
    trainer.train(streams.Stream(originals, rankings, _masked), 1)
