"""Tests of what is trained on: in memory or on disk, masked before or now."""

import shutil

import numpy as np
import pytest

from roar_tf import cells, fills
from roar_tf.engine import markers
from roar_tf.training import order


@pytest.fixture
def read(tiny, damaged):
  """Function that returns (`Stages`, images of the test split of a cell).

  In memory if there is room, else from disk, in batches of another size of
  which the last one is padded.
  """
  of_bound = {
    bound: tiny.pipeline(damaged, memory_bound=bound).stages[0]
    for bound in (None, 0)
  }

  def images(cell, bound=None, masked_now=False, input_='image'):
    stages, ranking = of_bound[bound], None
    if masked_now:
      ranking = stages.rank.ranking(cell.estimator, cell.granularity)
    test = stages.data.examples(cell, ranking, input_)['test']
    if bound is None:
      return stages, np.asarray(test.images)
    batches = [b['image'] for b in test.test_batches(order.Share(7))]
    return stages, np.concatenate(batches)[: len(test)]

  return images


@pytest.mark.parametrize(
  'name',
  [
    'sobel_element_remove_70_noisy_linear',
    'grad_pixel_remove_70_blurred',
    'random_bernoulli_element_keep_50_imagenet_mean',
  ],
)
def test_images_are_those_of_shards_however_they_are_read(
  name, tiny, damaged, make, read
):
  cell = cells.parse_cell(name)
  pipeline = tiny.pipeline(damaged)
  (stages,) = pipeline.stages
  masked = stages.shards.masked(cell)
  make(pipeline, goals=[masked])
  _, expected = read(cell)
  _, on_disk = read(cell, 0)
  _, masked_now = read(cell, None, True)
  _, masked_on_disk = read(cell, 0, True)
  for found in (on_disk, masked_now, masked_on_disk):
    np.testing.assert_array_equal(found, expected)
  _, original = read(None)
  changed = expected != original
  assert 0.45 < changed.mean() <= 0.71
  if cell.fill == 'imagenet_mean':
    fill = np.broadcast_to([124, 116, 104], changed.shape)
    np.testing.assert_array_equal(expected[changed], fill[changed])
  settings = markers.read(masked.marker)['fingerprint']['settings']
  assert fills.settings(cell.fill).items() <= settings.items()


@pytest.mark.parametrize('bound', [None, 0])
@pytest.mark.parametrize('mode', ['remove', 'keep'])
def test_masks_alone_show_where_but_not_what(mode, bound, read):
  """They are 255 where the image stays, and 0 elsewhere."""
  cell = cells.parse_cell(f'grad_pixel_{mode}_30')
  stages, found = read(cell, bound, True, 'maskonly')
  ranking = stages.rank.ranking('grad', 'pixel')
  levels = np.concatenate(
    [
      batch['levels']
      for part in stages.context.all_shards('test')
      for batch in stages.context.batches(
        ranking.config, ranking.layout, *part, 64
      )
    ]
  )
  stays = (levels <= 30) == (mode == 'keep')
  expected = np.broadcast_to(np.where(stays, 255, 0), (60, 8, 8, 3))
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == np.uint8


def test_nothing_is_masked_by_a_truncated_ranking(
  tiny, damaged, make, shard_of
):
  shard = shard_of(damaged, 'ranking_grad_pixel', 'test', 1)
  shard.write_bytes(shard.read_bytes()[:-100])
  for path in damaged.glob('tfds/roar_tiny/grad_pixel_remove_*'):
    shutil.rmtree(path)
  counts = make(tiny.pipeline(damaged), 'shards', fails=str(shard))
  # Of `grad` four of five shards, and no whole dataset.
  assert counts.made == {'shards': 4} and counts.kept == {'shards': 7}
  made = list(damaged.glob('tfds/roar_tiny/grad_pixel_remove_*/*/*DONE'))
  assert len(made) == 2 * 4
