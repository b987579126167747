"""Tests that a draw is a function of (seed, example, purpose) alone."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from roar_tf import randomness
from roar_tf.randomness import Purpose

PAIRS = list(itertools.product(Purpose, [*range(12), -1, 2**31 - 1]))


@pytest.fixture(scope='module')
def keys():
  return randomness.keys_of_ids([f'example_{i}' for i in range(20000)])


def _as_int64(seeds):
  """One integer per seed [B, 2]."""
  return np.ascontiguousarray(seeds).view(np.int64)[:, 0]


def _independence(first, second, bins=8):
  """P-value that two samples of [0, 1) are independent."""
  table = np.histogram2d(first, second, bins=bins, range=[[0, 1], [0, 1]])[0]
  return stats.chi2_contingency(table).pvalue


@pytest.mark.parametrize(
  'ids',
  [
    np.array([7, 0, -3], np.int64),
    tf.constant([7, 0, -3], tf.int32),
    np.array([b'7', b'0', b'-3'], object),
  ],
  ids=['int64', 'int32', 'bytes'],
)
def test_equal_ids_have_equal_keys_whatever_their_type(ids):
  found = randomness.keys_of_ids(ids)
  assert found.dtype == tf.int32 and found.shape == (3, 2)
  np.testing.assert_array_equal(found, randomness.keys_of_ids(['7', '0', '-3']))


def test_unequal_ids_have_unequal_keys():
  ids = [*range(20000)] + [f'train_{i:05d}' for i in range(20000)]
  found = randomness.keys_of_ids([str(i) for i in ids])
  assert len(set(_as_int64(found))) == len(ids)


@pytest.mark.parametrize(
  ('ids', 'message'),
  [
    ([[1, 2]], r'shape \[batch\]'),
    ('a', r'shape \[batch\]'),
    ([1.0, 2.0], 'float32'),
    ([True], 'bool'),
  ],
)
def test_bad_ids_are_refused(ids, message):
  with pytest.raises(ValueError, match=message):
    randomness.keys_of_ids(ids)


@pytest.mark.parametrize('dtype', [np.uint8, np.float64])
def test_content_is_the_key_of_an_image_without_id(dtype):
  images = np.arange(4 * 5 * 5 * 3).reshape(4, 5, 5, 3).astype(dtype) % 251
  found = randomness.keys_of_content(images).numpy()
  assert found.dtype == np.int32 and len(set(_as_int64(found))) == 4
  np.testing.assert_array_equal(
    randomness.keys_of_content(images[::-1]), found[::-1]
  )
  images[2, 4, 4, 2] += 1
  changed = (randomness.keys_of_content(images) != found).numpy().any(axis=1)
  assert changed.tolist() == [False, False, True, False]


def test_fold_keeps_unequal_keys_unequal(keys):
  near = np.concatenate(
    [keys, keys[:500] ^ 1, keys[:500] ^ np.array([0, 1 << 30], np.int32)]
  )
  for number in (0, 1, -1):
    seeds = randomness.fold(near, Purpose.NOISE, number)
    assert seeds.dtype == tf.int32
    assert len(set(_as_int64(seeds))) == len(near)


def test_no_two_purposes_or_numbers_share_a_seed():
  key = tf.constant([[1, 2]])
  seeds = np.concatenate([randomness.fold(key, *pair) for pair in PAIRS])
  assert len(set(_as_int64(seeds))) == len(PAIRS)
  # Unrelated: half of the 64 bits differ between neighbours, each bit is fair.
  bits = np.unpackbits(np.ascontiguousarray(seeds).view(np.uint8), axis=-1)
  distances = (bits[1:] != bits[:-1]).sum(axis=1)
  assert abs(distances.mean() - 32) < 5 * 4 / np.sqrt(len(distances))
  assert distances.min() >= 10
  fair = stats.binomtest(int(bits.sum()), bits.size).pvalue
  assert fair > 1e-4


def test_nested_folds_neither_commute_nor_undo_each_other(keys):
  # An estimator may draw noise of its own within an ensemble over noise.
  def twice(first, second):
    return randomness.fold(
      randomness.fold(keys[:9], Purpose.NOISE, first), Purpose.NOISE, second
    ).numpy()

  assert not (twice(1, 2) == twice(2, 1)).any()
  assert not (twice(1, 1) == keys[:9]).numpy().any()


@pytest.mark.parametrize('number', [2**31, -(2**31) - 1])
def test_a_number_that_would_be_taken_for_another_is_refused(keys, number):
  with pytest.raises(ValueError, match=str(number)):
    randomness.fold(keys[:1], Purpose.SEED, number)


@pytest.mark.parametrize(
  'draw',
  [
    functools.partial(randomness.uniform, shape=[21]),
    functools.partial(randomness.integers, shape=[21]),
    lambda seeds: randomness.normal(seeds, [3, 7])[0],
    functools.partial(randomness.hashed_uniform, count=3),
  ],
  ids=['uniform', 'bits', 'normal', 'hashed'],
)
def test_draw_of_an_example_does_not_depend_on_the_batch(keys, draw):
  keys, draw = keys[:201].numpy(), tf.function(draw, reduce_retracing=True)
  together = draw(keys).numpy()
  assert len({row.tobytes() for row in together}) == 201
  order = np.random.default_rng(0).permutation(201)
  np.testing.assert_array_equal(draw(keys[order]), together[order])
  # Sizes that no vector instruction divides.
  threes = [draw(keys[i : i + 3]) for i in range(0, 201, 3)]
  np.testing.assert_array_equal(np.concatenate(threes), together)


@pytest.mark.parametrize(
  'draw',
  [
    lambda seeds: randomness.fold(seeds, Purpose.NOISE, seeds[0, 0]),
    lambda seeds: randomness.uniform(seeds, [40, 500]),
    lambda seeds: randomness.integers(seeds, [2000]),
    lambda seeds: randomness.hashed_uniform(seeds, 5),
  ],
  ids=['fold', 'uniform', 'bits', 'hashed'],
)
def test_eager_graph_and_xla_draw_the_same_bits(keys, draw):
  seeds = keys[:5]
  eager = draw(seeds).numpy().tobytes()
  assert tf.function(draw)(seeds).numpy().tobytes() == eager
  xla = tf.function(draw, jit_compile=True)
  assert xla(seeds).numpy().tobytes() == eager


def test_eager_graph_and_xla_draw_the_same_gaussians(keys):
  def draw(seeds):
    return randomness.normal(seeds, [40, 500])[0]

  seeds = keys[:5]
  eager = draw(seeds).numpy()
  assert tf.function(draw)(seeds).numpy().tobytes() == eager.tobytes()
  # XLA has an erfinv of its own, which differs in the last bits.
  xla = tf.function(draw, jit_compile=True)(seeds)
  np.testing.assert_allclose(xla, eager, rtol=0, atol=1e-4)


def test_uniform_is_uniform(keys):
  values = randomness.uniform(keys[:20], [5000]).numpy()
  assert values.dtype == np.float32 and values.shape == (20, 5000)
  assert values.min() >= 0 and values.max() < 1
  assert stats.kstest(values.ravel(), 'uniform').pvalue > 1e-3


def test_normal_has_the_moments_of_a_standard_gaussian(keys):
  values = randomness.normal(keys[:20], [10, 500]).numpy().ravel()
  assert values.dtype == np.float32 and np.isfinite(values).all()
  assert stats.kstest(values, 'norm').pvalue > 1e-3
  error = 5 / np.sqrt(len(values))
  assert abs(values.mean()) < error
  assert abs(values.var() - 1) < np.sqrt(2) * error
  assert abs(stats.skew(values)) < np.sqrt(6) * error
  assert abs(stats.kurtosis(values)) < np.sqrt(24) * error


def test_draws_of_examples_purposes_and_numbers_are_uncorrelated(keys):
  rows = [
    randomness.uniform(randomness.fold(keys[:3], purpose, number), [4000])
    for purpose in (Purpose.NOISE, Purpose.TIES)
    for number in (0, 1, 2)
  ]
  correlation = np.corrcoef(np.concatenate(rows)) - np.eye(18)
  assert np.abs(correlation).max() < 5 / np.sqrt(4000)


def _structured_seeds(kind, keys):
  count = np.arange(20000, dtype=np.int32)
  return {
    'keys': keys.numpy(),
    'first': np.stack([count, 0 * count], 1),
    'second': np.stack([0 * count, count], 1),
    'both': np.stack([count, count], 1),
  }[kind]


@pytest.mark.parametrize('kind', ['keys', 'first', 'second', 'both'])
def test_hashed_uniform_is_uniform_and_its_columns_independent(keys, kind):
  seeds = _structured_seeds(kind, keys)
  values = randomness.hashed_uniform(seeds, 3).numpy()
  assert values.dtype == np.float32 and values.shape == (20000, 3)
  assert values.min() >= 0 and values.max() < 1
  for column in values.T:
    counts = np.histogram(column, 64, (0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-4
  for first, second in itertools.combinations(values.T, 2):
    assert _independence(first, second) > 1e-4
  # Nor are neighbours, such as the next epoch of the same example, related.
  following = randomness.hashed_uniform(seeds + 1, 3).numpy()
  for first, second in itertools.product(values.T, following.T):
    assert _independence(first, second) > 1e-4


def test_more_hashed_numbers_do_not_change_the_first(keys):
  np.testing.assert_array_equal(
    randomness.hashed_uniform(keys, 5)[:, :2],
    randomness.hashed_uniform(keys, 2),
  )


def test_generator_is_a_function_of_its_words():
  def draw(*words):
    return tuple(randomness.generator(*words).integers(2**31, size=4))

  assert draw(Purpose.ORDER, 'grad', 3) == draw(Purpose.ORDER, 'grad', '3')
  others = [
    (Purpose.WEIGHTS, 'grad', 3),
    (Purpose.ORDER, 'grad', 4),
    (Purpose.ORDER, 'grad3'),
    (Purpose.ORDER, 3, 'grad'),
    (Purpose.ORDER, 'gra', 'd3'),
    (Purpose.ORDER, 'grad', 3, 0),
    (Purpose.ORDER,),
  ]
  assert len({draw(*words) for words in others}) == len(others)
  assert draw(Purpose.ORDER, 'grad', 3) not in {draw(*w) for w in others}
