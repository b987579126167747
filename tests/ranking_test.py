"""Tests of rankings: exact counts, fair ties, order, refusals."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import roar_tf
from roar_tf import errors, randomness, ranking

CUTS = (10, 30, 50, 70, 90)
SHAPES = [(1, 1, 1), (1, 7, 3), (10, 10, 1), (11, 13, 3)]


def _scores(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _ids(count):
  return [f'example_{i}' for i in range(count)]


def _ranks(levels):
  """Ranks [B, N] of level maps with at most 100 elements, 0 first.

  There every rank has a level of its own.
  """
  flat = np.asarray(levels).reshape(len(levels), -1)
  assert all(len(set(row)) == len(row) for row in flat)
  return flat.argsort(axis=1).argsort(axis=1)


def test_is_the_public_rank():
  assert roar_tf.rank is ranking.rank


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_every_whole_threshold_selects_its_exact_count(shape, granularity):
  scores = _scores((3, *shape))
  scores[1] = 0  # All ties.
  scores[2] = np.maximum(scores[2], 0)  # Half of them ties.
  levels = ranking.rank(scores, granularity=granularity).numpy()
  depth = 1 if granularity == 'pixel' else shape[2]
  assert levels.dtype == np.uint8
  assert levels.shape == (3, *shape[:2], depth)
  count = levels[0].size
  for t in range(1, 101):
    selected = (levels <= t).sum(axis=(1, 2, 3))
    assert selected.tolist() == [t * count // 100] * 3, t
  assert levels.min() >= 1 and levels.max() == 100


def test_imagenet_sized_elements_do_not_overflow():
  levels = ranking.rank(_scores((1, 224, 224, 3)), granularity='element')
  counts = np.bincount(levels.numpy().ravel(), minlength=102)
  total = 224 * 224 * 3
  expected = [t * total // 100 for t in range(101)]
  np.testing.assert_array_equal(counts.cumsum()[:101], expected)


@pytest.mark.parametrize('dtype', [np.float16, np.float64])
def test_higher_scores_come_first_and_signs_count(dtype):
  scores = np.linspace(-3, 3, 2 * 99).reshape(2, 9, 11, 1).astype(dtype)
  scores[1] = scores[1, ::-1, ::-1]
  ranks = _ranks(ranking.rank(scores))
  np.testing.assert_array_equal(ranks[0], np.arange(99)[::-1])
  np.testing.assert_array_equal(ranks[1], np.arange(99))


def test_float64_scores_are_not_rounded():
  scores = 1 + 1e-12 * np.arange(25.0).reshape(1, 5, 5, 1)
  ranks = _ranks(ranking.rank(scores))
  np.testing.assert_array_equal(ranks[0], np.arange(25)[::-1])


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_scores_are_summed_in_float32(dtype):
  # In float16 the sums are infinite, in bfloat16 all but one are 256.
  large = 30000 if dtype == 'float16' else 128
  scores = np.full((1, 1, 5, 3), large, np.float32)
  scores[0, 0, :, 2] = np.arange(5)
  ranks = _ranks(ranking.rank(tf.cast(scores, dtype)))
  assert ranks.tolist() == [[4, 3, 2, 1, 0]]


@pytest.mark.parametrize(
  ('dtype', 'scale', 'granularity', 'jit_compile'),
  [
    # The least number that is not 0; and sums of channels that are infinite.
    ('float32', 2.0**-149, 'pixel', False),
    ('float32', 2.0**-149, 'element', True),
    ('float32', 2.0**-130, 'pixel', True),
    ('float32', 2.0**121, 'pixel', False),
    ('float32', 2.0**121, 'pixel', True),
    ('float64', 2.0**-1074, 'pixel', False),
    ('bfloat16', 2.0**-133, 'element', False),
  ],
)
def test_scores_below_and_above_the_usual_keep_their_order(
  dtype, scale, granularity, jit_compile
):
  # Products, for a shift of the order in place: signed, no ties.
  integers = np.random.default_rng(0).permutation(60) - 25
  integers = integers.reshape(1, 5, 4, 3).astype(np.float64)
  scores = (integers * scale).astype(tf.as_dtype(dtype).as_numpy_dtype)
  rank = tf.function(ranking.levels.python_function, jit_compile=jit_compile)
  keys = randomness.keys_of_ids(_ids(1))
  np.testing.assert_array_equal(
    rank(tf.constant(scores), keys, granularity),
    rank(tf.constant(integers, tf.float32), keys, granularity),
  )


def test_ranking_all_that_explain_returned():
  scores = {'grad': _scores((1, 2, 2, 3)), 'ig': _scores((1, 2, 2, 3))}
  with pytest.raises(ValueError, match=r"grad, ig.*rank\(scores\['grad'\]\)"):
    ranking.rank(scores)


def test_pixels_are_ranked_by_the_sum_of_their_channels():
  scores = np.zeros((1, 1, 3, 3), np.float32)
  scores[0, 0] = [[9, -8, -3], [2, 2, 2], [5, 0, -1]]  # Sums -2, 6, 4.
  assert _ranks(ranking.rank(scores)).tolist() == [[2, 0, 1]]


def test_elements_are_ranked_one_by_one():
  scores = np.zeros((1, 1, 2, 3), np.float32)
  scores[0, 0] = [[9, -8, -3], [2, 3, 1]]
  ranks = _ranks(ranking.rank(scores, granularity='element'))
  assert ranks.tolist() == [[0, 5, 4, 2, 1, 3]]


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
def test_ties_fall_uniformly_over_the_positions(granularity):
  batch = 4000
  channels = 1 if granularity == 'pixel' else 3
  scores = np.full((batch, 4, 3, channels), 0.25, np.float32)
  ranks = _ranks(ranking.rank(scores, granularity=granularity, ids=_ids(batch)))
  count = ranks.shape[1]
  # Every rank is as likely at every position.
  table = np.stack([np.bincount(r, minlength=count) for r in ranks.T])
  assert stats.chisquare(table.ravel()).pvalue > 1e-3
  # In particular the top left is no more important than the bottom right.
  error = np.sqrt((count**2 - 1) / 12 / batch)
  means = ranks.mean(axis=0)
  np.testing.assert_allclose(means, (count - 1) / 2, atol=5 * error)


@pytest.mark.parametrize('jit_compile', [False, True], ids=['graph', 'xla'])
def test_minus_zero_equals_zero(jit_compile):
  rank = tf.function(ranking.levels.python_function, jit_compile=jit_compile)
  keys = randomness.keys_of_ids(_ids(8))
  zeros = np.zeros((8, 6, 6, 1), np.float32)
  signed = np.where(np.arange(6)[:, None] < 3, -zeros, zeros)
  assert np.signbit(signed).any() and not np.signbit(signed).all()
  np.testing.assert_array_equal(
    rank(signed, keys, 'pixel'), rank(zeros, keys, 'pixel')
  )


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
def test_an_id_has_the_same_levels_in_every_batch(granularity):
  scores = np.round(_scores((9, 6, 6, 3)))  # With ties.
  ids = np.array(_ids(9))

  def rank(rows):
    return ranking.rank(
      scores[rows], granularity=granularity, ids=ids[rows], seed=3
    ).numpy()

  together = rank(np.arange(9))
  order = np.array([4, 8, 0, 2, 1, 7, 3, 6, 5])
  np.testing.assert_array_equal(rank(order), together[order])
  np.testing.assert_array_equal(rank(order[:1]), together[order[:1]])
  np.testing.assert_array_equal(rank([3, 3])[1], together[3])


def test_seed_and_id_decide_ties_and_nothing_else():
  ties = np.zeros((1, 6, 6, 1), np.float32)
  levels = [
    ranking.rank(ties, ids=[i], seed=s).numpy().tobytes()
    for i in ('a', 'b')
    for s in (0, 1, -1, 12345)
  ]
  assert len(set(levels)) == len(levels)
  distinct = _scores((1, 6, 6, 1))
  levels = [
    ranking.rank(distinct, ids=[i], seed=s).numpy().tobytes()
    for i in ('a', 'b')
    for s in (0, 1)
  ]
  assert len(set(levels)) == 1


def test_scores_that_are_not_finite_are_refused_by_name():
  scores = _scores((4, 3, 3, 3))
  scores[2, 1, 1, 0] = -np.inf
  scores[3, 0, 0, 0] = np.nan
  with pytest.raises(ValueError, match="'dog_2'.*finite"):
    ranking.rank(scores, ids=[f'dog_{i}' for i in range(4)])
  with pytest.raises(ValueError, match="'12'.*finite"):
    ranking.rank(scores, ids=tf.constant([10, 11, 12, 13]))
  with pytest.raises(ValueError, match='number 2 of the batch.*finite'):
    ranking.rank(scores)


@pytest.mark.parametrize(
  ('scores', 'message'),
  [
    (np.zeros((2, 3, 3), np.float32), r'\(2, 3, 3\)'),
    (np.zeros((2, 3, 3, 1), np.uint8), 'uint8'),
  ],
)
def test_wrong_shapes_and_types_are_refused(scores, message):
  with pytest.raises(ValueError, match=f'scores must be.*{message}'):
    ranking.rank(scores)


@pytest.mark.parametrize('jit_compile', [False, True], ids=['graph', 'xla'])
@pytest.mark.parametrize('counts', ranking.COUNTS)
def test_levels_are_the_same_compiled(counts, jit_compile):
  scores = np.random.default_rng(0).random((6, 5, 4, 3)).astype(np.float32)
  rank = tf.function(ranking.levels.python_function, jit_compile=jit_compile)
  settings = {'counts': counts, 'cuts': CUTS}
  np.testing.assert_array_equal(
    rank(scores, randomness.keys_of_ids(_ids(6)), 'element', **settings),
    ranking.rank(scores, granularity='element', ids=_ids(6), **settings),
  )


# --- ties by index ------------------------------------------------------------


@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
def test_ties_by_index_run_from_the_top_left(granularity):
  scores = np.zeros((2, 4, 5, 3), np.float32)
  scores[1, 2, 3] = 1
  ranks = _ranks(ranking.rank(scores, granularity=granularity, ties='index'))
  count = ranks.shape[1]
  np.testing.assert_array_equal(ranks[0], np.arange(count))
  # Equal scores keep their order behind and before a higher one.
  depth = count // 20
  first = (2 * 5 + 3) * depth
  order = np.concatenate(
    [
      np.arange(first, first + depth),
      np.arange(first),
      np.arange(first + depth, count),
    ]
  )
  np.testing.assert_array_equal(ranks[1].argsort(), order)


def test_ties_by_index_are_those_of_a_stable_sort():
  scores = np.round(_scores((20, 7, 9, 1)))  # Few values, both zeros.
  ranks = ranking.rank(scores, ties='index').numpy().reshape(20, -1)
  order = np.argsort(-scores.reshape(20, -1), axis=1, kind='stable')
  expected = np.empty((20, 63), int)
  np.put_along_axis(expected, order, np.arange(63)[None], axis=1)
  np.testing.assert_array_equal(ranks, -(-100 * (expected + 1) // 63))


def test_unknown_ties_counts_and_granularities_are_refused():
  scores = _scores((1, 2, 2, 1))
  with pytest.raises(ValueError, match="ties.*'random', 'index'.*'first'"):
    ranking.rank(scores, ties='first')
  with pytest.raises(ValueError, match="counts.*'exact', 'bernoulli'.*'none'"):
    ranking.rank(scores, counts='none')
  with pytest.raises(ValueError, match="'pixel', 'element'.*'pixels'"):
    ranking.rank(scores, granularity='pixels')


# --- Bernoulli counts ---------------------------------------------------------


def _bernoulli(scores, granularity='element', **arguments):
  return ranking.rank(
    scores, granularity=granularity, counts='bernoulli', **arguments
  ).numpy()


def test_a_draw_decides_its_own_level():
  # The middle of every hundredth, highest score first; then the ends.
  scores = 1 - (np.arange(100) + 0.5) / 100
  levels = _bernoulli(scores.reshape(1, 10, 10, 1))
  np.testing.assert_array_equal(levels.ravel(), np.arange(1, 101))
  ends = np.array([0, 2.0**-24, 1 - 2.0**-24, 1], np.float32)
  assert _bernoulli(ends.reshape(1, 1, 4, 1)).ravel().tolist() == [
    100,
    100,
    1,
    1,
  ]


def test_bernoulli_levels_depend_on_scores_alone():
  scores = np.random.default_rng(0).random((6, 5, 4, 3)).astype(np.float32)
  levels = _bernoulli(scores)
  order = np.array([3, 5, 0, 1, 4, 2])
  np.testing.assert_array_equal(
    _bernoulli(scores[order], ids=_ids(6), seed=9, ties='index'), levels[order]
  )
  np.testing.assert_array_equal(_bernoulli(scores[2:3]), levels[2:3])


@pytest.mark.parametrize('bad', [-0.1, 1.1])
def test_scores_that_are_no_uniforms_cannot_be_draws(bad):
  scores = np.full((1, 2, 2, 1), 0.5)
  scores[0, 1, 1] = bad
  with pytest.raises(ValueError, match=f'uniform.*found.*{bad}'):
    ranking.rank(scores, counts='bernoulli')


# --- cuts ---------------------------------------------------------------------


@pytest.mark.parametrize('counts', ranking.COUNTS)
@pytest.mark.parametrize('granularity', ranking.GRANULARITIES)
@pytest.mark.parametrize('cuts', [CUTS, (1,), (33, 34, 99, 100)])
def test_masks_at_cuts_are_those_of_all_levels(cuts, granularity, counts):
  scores = np.random.default_rng(0).random((4, 11, 13, 3)).astype(np.float32)
  scores[1] = 0.5  # All ties.
  arguments = {'granularity': granularity, 'counts': counts, 'ids': _ids(4)}
  every = ranking.rank(scores, **arguments)
  few = ranking.rank(scores, **arguments, cuts=cuts)
  assert few.dtype == tf.uint8 and few.shape == every.shape
  assert set(np.unique(few)) <= {*cuts, 100}
  images = np.random.default_rng(1).integers(0, 256, scores.shape, np.uint8)
  for cut in cuts:
    np.testing.assert_array_equal(few <= cut, every <= cut)
    for mode in ('remove', 'keep'):
      masked = [
        roar_tf.mask(images, m, threshold=cut, mode=mode, fill=[1, 2, 3])
        for m in (few, every)
      ]
      np.testing.assert_array_equal(*masked)


@pytest.mark.parametrize(
  'cuts',
  [(), (0, 10), (50, 101), (30, 10), (10.5,), 50, '50', ('10',)],
  ids=str,
)
def test_impossible_cuts_are_refused(cuts):
  with pytest.raises(ValueError, match='cuts must be increasing whole'):
    ranking.Ranking(cuts=cuts)
  with pytest.raises(ValueError, match='cuts must be'):
    ranking.rank(_scores((1, 2, 2, 1)), cuts=cuts)


def test_a_threshold_that_is_no_cut_is_refused():
  kept = ranking.Ranking(cuts=CUTS)
  for cut in CUTS:
    kept.check_threshold(cut)
  for threshold in (1, 20, 91, 100):
    message = f'Threshold {threshold} .*Ranking.cuts'
    with pytest.raises(errors.UsageError, match=message):
      kept.check_threshold(threshold)
    ranking.Ranking().check_threshold(threshold)
