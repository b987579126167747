"""Tests of the controls: random, Sobel, oracles."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

import roar_tf
from roar_tf import randomness, ranking
from roar_tf.estimators import controls, registry


def _keys(count):
  return randomness.keys_of_ids([f'example_{i}' for i in range(count)])


def _zeros(*shape):
  return tf.zeros(shape)


# Compiled, because eagerly a draw per example takes a millisecond.
_random = tf.function(controls.random)
_random_bernoulli = tf.function(controls.random_bernoulli)
ORACLES = {
  'oracle': tf.function(controls.oracle),
  'inverse_oracle': tf.function(controls.inverse_oracle),
}


# --- random -------------------------------------------------------------------


def test_random_scores_are_uniform_and_unrelated():
  scores = _random(None, _zeros(500, 5, 5, 3), None, _keys(500))
  assert scores.shape == (500, 5, 5, 3) and scores.dtype == tf.float32
  scores = scores.numpy().reshape(500, -1)
  assert scores.min() >= 0 and scores.max() < 1
  assert stats.kstest(scores.ravel(), 'uniform').pvalue > 1e-3
  correlation = np.corrcoef(scores.T) - np.eye(75)
  assert np.abs(correlation).max() < 5 / np.sqrt(500)


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
def test_random_ranks_every_position_alike(granularity):
  count = 3000
  images = _zeros(count, 3, 3, 1 if granularity == 'pixel' else 2)
  scores = _random(None, images, None, _keys(count))
  levels = ranking.rank(
    scores, granularity=granularity, ids=[str(i) for i in range(count)]
  ).numpy()
  first = levels.reshape(count, -1).argmin(axis=1)
  assert stats.chisquare(np.bincount(first)).pvalue > 1e-3
  selected = (levels <= 50).mean(axis=0)
  fraction = (levels[0] <= 50).mean()
  np.testing.assert_allclose(selected, fraction, atol=5 * 0.5 / count**0.5)


# --- centre -------------------------------------------------------------------


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
@pytest.mark.parametrize(
  'shape', [(7, 7, 3), (6, 9, 1), (1, 5, 3), (32, 32, 3)]
)
@pytest.mark.parametrize('ties', ranking.TIES)
def test_the_centre_is_one_mask_for_all_images(granularity, shape, ties):
  images = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
  scores = roar_tf.explain(None, images, 'centre')['centre']
  ranks = (
    roar_tf.rank(scores, granularity=granularity, ids=ids, ties=ties).numpy()
    for ids in (['a', 'b', 'c'], ['d', 'e', 'f'])
  )
  maps = np.concatenate([*ranks])
  assert (maps == maps[0]).all()
  down, across = np.indices(shape[:2])
  far = np.hypot(down - (shape[0] - 1) / 2, across - (shape[1] - 1) / 2)
  far = np.broadcast_to(far[..., None], maps[0].shape).ravel()
  for threshold in (10, 50, 90):
    count = threshold * far.size // 100
    chosen = maps[0].ravel() <= threshold
    assert chosen.sum() == count
    assert count == 0 or far[chosen].max() <= far[~chosen].min() + 1e-6


# --- random_bernoulli ---------------------------------------------------------


def _bernoulli_levels(shape, granularity='element', count=2000):
  scores = _random_bernoulli(None, _zeros(count, *shape), None, _keys(count))
  counts = registry.parse('random_bernoulli').base.counts
  return ranking.rank(
    scores,
    granularity=granularity,
    ids=[str(i) for i in range(count)],
    counts=counts,
  ).numpy()


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
def test_bernoulli_levels_are_uniform_at_every_position(granularity):
  levels = _bernoulli_levels((4, 4, 3), granularity)
  table = np.bincount(levels.ravel(), minlength=101)
  assert table[0] == 0 and len(table) == 101
  assert stats.chisquare(table[1:]).pvalue > 1e-3
  tenths = (levels.reshape(len(levels), -1) - 1) // 10
  pvalues = [
    stats.chisquare(np.bincount(t, minlength=10)).pvalue for t in tenths.T
  ]
  assert stats.kstest(pvalues, 'uniform').pvalue > 1e-3


@pytest.mark.parametrize('threshold', [10, 90])
def test_bernoulli_counts_follow_the_binomial_law(threshold):
  levels = _bernoulli_levels((4, 4, 3))
  selected = (levels <= threshold).sum(axis=(1, 2, 3))
  law = stats.binom(48, threshold / 100)
  expected = len(levels) * law.pmf(np.arange(49))
  rare = expected < 5  # One class of their own.

  def classes(table):
    return np.append(table[~rare], table[rare].sum())

  found = np.bincount(selected, minlength=49)
  test = stats.chisquare(classes(found), classes(expected))
  assert test.pvalue > 1e-3
  spread = law.std()
  error = spread / len(levels) ** 0.5
  np.testing.assert_allclose(selected.mean(), law.mean(), atol=5 * error)
  np.testing.assert_allclose(selected.std(), spread, rtol=0.12)


def test_bernoulli_draws_of_channels_and_neighbours_are_independent():
  selected = _bernoulli_levels((2, 2, 3)).reshape(2000, -1) <= 30
  correlation = np.corrcoef(selected.T) - np.eye(12)
  assert np.abs(correlation).max() < 5 / np.sqrt(2000)
  # All three channels of a pixel go together as often as chance has it.
  together = selected.reshape(-1, 3).sum(axis=1)
  expected = stats.binom(3, 0.3).pmf(np.arange(4)) * len(together)
  assert stats.chisquare(np.bincount(together), expected).pvalue > 1e-3


def test_a_bernoulli_draw_belongs_to_its_example():
  scores = _random_bernoulli(None, _zeros(6, 3, 4, 3), None, _keys(6)).numpy()
  order = np.array([4, 2, 0, 5, 1, 3])
  keys = tf.gather(_keys(6), order)
  shuffled = _random_bernoulli(None, _zeros(6, 3, 4, 3), None, keys)
  np.testing.assert_array_equal(shuffled, scores[order])
  alone = _random_bernoulli(None, _zeros(1, 3, 4, 3), None, keys[:1])
  np.testing.assert_array_equal(alone, scores[order[:1]])
  # They are others than those of `random`.
  other = _random(None, _zeros(6, 3, 4, 3), None, _keys(6)).numpy()
  assert abs(np.corrcoef(scores.ravel(), other.ravel())[0, 1]) < 0.35


# --- Sobel --------------------------------------------------------------------


def _sobel(images):
  return controls.sobel(None, tf.constant(images), None, None).numpy()


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('axis', [1, 2])
def test_sobel_of_a_gray_step_is_four_times_its_height(channels, axis):
  images = np.zeros((1, 6, 8, channels), np.float32)
  np.moveaxis(images, axis, 0)[3:] = 2.5
  expected = np.zeros_like(images)
  np.moveaxis(expected, axis, 0)[2:4] = 4 * 2.5
  scores = _sobel(images)
  assert scores.dtype == np.float32
  np.testing.assert_allclose(scores, expected, rtol=1e-5)
  # Neither the sign of the step nor the level of gray counts.
  np.testing.assert_allclose(_sobel(7 - images), expected, rtol=1e-4, atol=1e-4)


def test_sobel_of_a_coloured_step_is_that_of_its_luminance():
  # ITU-R BT.601.
  for channel, weight in enumerate((0.299, 0.587, 0.114)):
    images = np.zeros((1, 5, 6, 3))
    images[:, :, 3:, channel] = 100
    expected = np.zeros_like(images)
    expected[:, :, 2:4] = 400 * weight
    np.testing.assert_allclose(_sobel(images), expected, rtol=1e-6, atol=1e-4)


def test_sobel_of_a_ramp_has_the_magnitude_of_both_derivatives():
  rows, columns = np.mgrid[:7, :9]
  images = (3.0 * rows + 4.0 * columns)[None, :, :, None]
  inner = _sobel(images)[:, 1:-1, 1:-1]
  np.testing.assert_allclose(inner, 8 * 5, rtol=1e-12)


@pytest.mark.parametrize('shape', [(6, 8, 3), (5, 5, 1), (1, 6, 3), (2, 1, 4)])
def test_released_sobel_is_that_of_scipy(shape):
  images = np.random.default_rng(0).normal(size=(4, *shape))
  expected = np.stack([ndimage.sobel(image, axis=0) for image in images])
  found = controls.released_sobel(tf.constant(images))
  assert found.dtype == tf.float64
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('form', controls.SOBEL_FORMS)
@pytest.mark.parametrize('channels', [1, 3])
def test_every_form_of_sobel_is_zero_on_flat_regions(form, channels):
  # Exactly: a rounding error would rank one flat region before another.
  colours = np.random.default_rng(1).random((50, 1, 1, channels))
  flat = np.broadcast_to(colours.astype(np.float32), (50, 5, 5, channels))
  scores = controls.SOBEL_FORMS[form](tf.constant(flat))
  np.testing.assert_array_equal(scores, np.zeros_like(flat))


# --- oracles ------------------------------------------------------------------


@pytest.fixture(scope='module')
def truth():
  return np.random.default_rng(0).integers(0, 2, (60, 6, 5, 1), np.uint8)


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
@pytest.mark.parametrize(
  ('oracle', 'first'), [('oracle', 1), ('inverse_oracle', 0)]
)
def test_oracles_separate_the_regions(truth, oracle, first, granularity):
  images = _zeros(60, 6, 5, 3)
  scores = ORACLES[oracle](
    None, images, None, _keys(60), truth=tf.constant(truth)
  )
  assert scores.shape == images.shape and scores.dtype == images.dtype
  ids = [str(i) for i in range(60)]
  levels = ranking.rank(scores, granularity=granularity, ids=ids).numpy()
  for level, evidence in zip(levels, truth, strict=True):
    region = np.broadcast_to(evidence == first, level.shape)
    assert level[region].max() < level[~region].min()


@pytest.mark.parametrize('value', [0, 1])
def test_within_a_region_an_oracle_is_random(value):
  count = 3000
  truth = tf.fill([count, 3, 3, 1], tf.constant(value, tf.uint8))
  for oracle in ORACLES.values():
    scores = oracle(
      None, _zeros(count, 3, 3, 3), None, _keys(count), truth=truth
    )
    first = scores.numpy().sum(axis=-1).reshape(count, -1).argmax(axis=1)
    assert stats.chisquare(np.bincount(first)).pvalue > 1e-3


@pytest.mark.parametrize('form', ['magnitude', 'released'])
def test_sobel_of_a_single_row_or_column(form):
  row = np.arange(5.0, dtype=np.float32).reshape(1, 1, 5, 1) ** 2
  for images in (row, row.reshape(1, 5, 1, 1)):
    found = roar_tf.explain(None, images, 'sobel', sobel=form)['sobel']
    assert found.shape == images.shape and np.isfinite(found).all()
  assert roar_tf.explain(None, row, 'sobel')['sobel'].numpy().any()
