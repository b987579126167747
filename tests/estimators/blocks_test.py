"""Tests of how (image, copy, step) triples fill batches."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from roar_tf.estimators import blocks

SAMPLES, STEPS = 15, 24  # The paper's J, and k - 1: the last step is GRAD.


def _calls(images, copies, steps, block):
  """Returns how many calls are made at the copies, and along their paths."""
  ends = -(-images // block.images) * -(-copies // block.copies)
  return ends, ends * -(-steps // block.steps)


def _evaluated(images, copies, steps, block):
  """Returns rows evaluated, padding and all."""
  ends, paths = _calls(images, copies, steps, block)
  rows = block.images * block.copies
  return ends * rows + paths * rows * block.steps


def _many():
  sizes = (1, 2, 3, 5, 7, 8, 15, 16, 31, 64)
  yield from itertools.product(
    sizes, (1, 2, 3, 4, 7, 15, 50), (0, 1, 2, 5, 24, 99), (1, 2, 3, 7, 32, 256)
  )


def test_no_batch_exceeds_the_bound():
  for images, copies, steps, bound in _many():
    block = blocks.choose(images, copies, steps, bound)
    rows = block.images * block.copies
    assert min(block.images, block.copies, block.steps) >= 1
    assert rows <= bound, (images, copies, steps, bound)
    assert rows * block.steps <= bound, (images, copies, steps, bound)


def test_no_block_is_larger_than_what_there_is():
  for images, copies, steps, bound in _many():
    block = blocks.choose(images, copies, steps, bound)
    assert block.images <= images and block.copies <= copies
    assert block.steps <= max(1, steps)


def _visited(total, at_once):
  """Indices that a loop of whole blocks passes, those beyond the end too."""
  starts = range(0, total, at_once)
  return [start + i for start in starts for i in range(at_once)]


def test_every_triple_is_covered_once_and_no_block_is_all_padding():
  for images, copies, steps, bound in _many():
    block = blocks.choose(images, copies, steps, bound)
    for total, at_once in (
      (images, block.images),
      (copies, block.copies),
      (steps, block.steps),
    ):
      visited = _visited(total, at_once)
      assert visited[:total] == list(range(total))
      assert len(visited) - total < at_once
      assert len(visited) == -(-total // at_once) * at_once


def test_everything_is_one_batch_where_it_fits():
  for images, copies in ((1, 1), (3, 5), (16, 16)):
    block = blocks.choose(images, copies, 0, 256)
    assert (block.images, block.copies) == (images, copies)
  assert blocks.choose(2, 3, 4, 24) == blocks.Block(2, 3, 4)


def test_one_row_at_a_time_is_possible():
  assert blocks.choose(5, 15, 24, 1) == blocks.Block(1, 1, 1)


def test_shapes_depend_on_the_arguments_alone():
  for arguments in ((8, 15, 24, 32), (64, 1, 24, 256)):
    first = blocks.choose(*arguments)
    assert all(blocks.choose(*arguments) == first for _ in range(3))


# --- padding ------------------------------------------------------------------


def _waste(images, bound):
  """Returns the share of rows that are padding, of all noisy copies."""
  block = blocks.choose(images, SAMPLES, STEPS, bound)
  needed = images * SAMPLES * (1 + STEPS)
  return _evaluated(images, SAMPLES, STEPS, block) / needed - 1


def test_padding_is_little_at_the_papers_settings():
  wastes = {
    (images, bound): _waste(images, bound)
    for bound in range(1, 257)
    for images in range(1, 65)
  }
  values = np.array(list(wastes.values()))
  worst = max(wastes, key=wastes.get)
  assert values.min() >= 0
  assert values.max() < 0.1, (worst, wastes[worst])
  assert values.mean() < 0.02


@pytest.mark.parametrize('bound', [32, 64, 128, 256])
def test_few_calls_at_the_bounds_that_are_used(bound):
  # Within a quarter of what batches of no padding at all would need.
  for images in (8, 16, 32, 64):
    block = blocks.choose(images, SAMPLES, STEPS, bound)
    calls = sum(_calls(images, SAMPLES, STEPS, block))
    needed = images * SAMPLES * (1 + STEPS) / bound
    assert calls <= 1.25 * needed + 1, (images, block)


def test_choosing_is_cheap_even_for_large_bounds():
  # It is done while a graph is traced.
  block = blocks.choose(256, 1000, 1000, 2048)
  assert block.images * block.copies * block.steps <= 2048


# --- the default bound --------------------------------------------------------


@pytest.mark.parametrize(
  ('size', 'expected'),
  [(224, 16), (299, 8), (112, 64), (64, 256), (32, 256), (28, 256), (1, 256)],
)
def test_default_bounds(size, expected):
  assert blocks.default_bound(size, size) == expected


@pytest.mark.parametrize('size', [1024, 1449, 2048, 4096, 100_000])
def test_a_huge_image_still_has_a_row(size):
  bound = blocks.default_bound(size, size)
  assert bound == max(1, 2 ** int(np.log2(max(1, 2**20 // size**2))))


def test_default_bounds_are_powers_of_two_that_fall_with_the_pixels():
  sizes = [(h, w) for h in range(1, 700, 13) for w in (1, 50, 224, 999)]
  bounds = {size: blocks.default_bound(*size) for size in sizes}
  for (height, width), bound in bounds.items():
    assert 1 <= bound <= 256 and bound & (bound - 1) == 0
    assert bound == blocks.default_bound(width, height)
    assert bound == 1 or bound * height * width <= 2**21
  ordered = sorted(sizes, key=lambda size: size[0] * size[1])
  assert list(np.diff([bounds[s] for s in ordered]) <= 0).count(False) == 0


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('size', [1, 15, 16, 17, 540, 16 * 33 + 7, 5001])
def test_equal_columns_have_equal_totals(size, dtype):
  column = np.random.default_rng(size).normal(size=(24, 1)).astype(dtype)
  values = np.repeat(column, size, axis=1).reshape(24, 1, size)
  found = blocks.total(tf.constant(values)).numpy()
  assert found.shape == (1, size) and found.dtype == dtype
  assert (found == found[0, 0]).all()
  np.testing.assert_allclose(found, column.sum(), rtol=1e-5, atol=1e-6)
