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


# --- padding ------------------------------------------------------------------


def _waste(images, bound):
  """Returns the share of rows that are padding, of all noisy copies."""
  block = blocks.choose(images, SAMPLES, STEPS, bound)
  needed = images * SAMPLES * (1 + STEPS)
  return _evaluated(images, SAMPLES, STEPS, block) / needed - 1


def test_padding_is_little_at_the_papers_settings():
  wastes = {
    (images, bound): _waste(images, bound)
    for bound in (*range(1, 257, 17), 2, 4, 8, 16, 32, 64, 128, 256)
    for images in range(1, 65, 3)
  }
  values = np.array(list(wastes.values()))
  worst = max(wastes, key=wastes.get)
  assert values.min() >= 0
  assert values.max() < 0.1, (worst, wastes[worst])
  assert values.mean() < 0.02


# --- the default bound --------------------------------------------------------


@pytest.mark.parametrize(
  ('size', 'expected'),
  [(4096, 1), (299, 8), (224, 16), (112, 64), (64, 256), (28, 256), (1, 256)],
)
def test_default_bounds(size, expected):
  assert blocks.default_bound(size, size) == expected


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('size', [1, 15, 16, 17, 540, 16 * 33 + 7, 5001])
def test_equal_columns_have_equal_totals(size, dtype):
  column = np.random.default_rng(size).normal(size=(24, 1)).astype(dtype)
  values = np.repeat(column, size, axis=1).reshape(24, 1, size)
  found = blocks.total(tf.constant(values)).numpy()
  assert found.shape == (1, size) and found.dtype == dtype
  assert (found == found[0, 0]).all()
  np.testing.assert_allclose(found, column.sum(), rtol=1e-5, atol=1e-6)
