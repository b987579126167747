"""Tests of intervals and ranks against other formulas."""

import math

import numpy as np
import pytest
from scipy import stats

from roar_tf.analysis import inference


def welch(first, second):
  """Standard error and degrees of freedom from (sd, runs) of each."""
  means = [inference.of_mean(*first), inference.of_mean(*second)]
  return inference.combined(*zip(*means, strict=True))


def test_below_three_runs_nothing_is_known():
  for known in (welch((0.02, 2), (0.02, 5)), welch((0.02, 5), (0.02, 1))):
    assert np.isnan(inference.half_width(*known))


def test_a_known_variance_has_infinite_degrees_of_freedom():
  error, freedom = inference.combined([0.0004], [math.inf])
  assert error == pytest.approx(0.02)
  assert inference.half_width(error, freedom) == pytest.approx(
    0.02 * stats.norm.ppf(0.975)
  )


def test_many_intervals_in_one_call_are_those_of_scipy():
  generator = np.random.default_rng(0)
  first = generator.normal(size=(7, 3, 5))
  second = generator.normal(size=(7, 1, 6))
  known = inference.combined(
    *zip(
      inference.of_mean(first.std(-1, ddof=1), 5),
      inference.of_mean(second.std(-1, ddof=1), 6),
      strict=True,
    )
  )
  half = inference.half_width(*known)
  for i, j in np.ndindex(7, 3):
    test = stats.ttest_ind(first[i, j], second[i, 0], equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert half[i, j] == pytest.approx((high - low) / 2)


def test_holm_by_hand():
  # 4 x 0.01, 3 x 0.015 < 0.04 never falls, 2 x 0.03, 1 x 0.5.
  corrected = inference.holm([0.5, 0.01, 0.03, 0.015])
  assert corrected == pytest.approx([0.5, 0.04, 0.06, 0.045])


def test_ratio_interval_is_the_set_that_a_test_does_not_reject():
  means, variances, freedoms = (0.5, 0.3, 0.9), (4e-4, 9e-4, 1e-4), (4, 6, 9)
  top, bottom = (1, -1, 0), (1, 0, 0.2)
  value, low, high = inference.ratio(
    top, bottom, means, variances, freedoms, -0.1
  )
  assert value == pytest.approx(0.2 / (0.5 + 0.18 - 0.1))

  def parts(ratio):
    return [a - ratio * b for a, b in zip(top, bottom, strict=True)]

  _, freedom = inference.combined(
    [p * p * v for p, v in zip(parts(value), variances, strict=True)], freedoms
  )
  for end in (low, high):
    estimate = np.dot(parts(end), means) + end * 0.1
    error = math.sqrt(np.dot(np.square(parts(end)), variances))
    p = 2 * stats.t.sf(abs(estimate) / error, freedom)
    assert p == pytest.approx(0.05)
  assert low < value < high


def test_ratio_of_an_exact_denominator_is_a_t_interval():
  value, low, high = inference.ratio((1,), (0,), (0.2,), (1e-4,), (4,), 0.5)
  half = stats.t.ppf(0.975, 4) * 0.01 / 0.5
  assert [value, low, high] == pytest.approx([0.4, 0.4 - half, 0.4 + half])


def test_ratio_over_what_may_be_nothing_has_no_interval():
  value, low, high = inference.ratio(
    (1, 0), (0, 1), (0.2, 0.01), (1e-4, 1e-4), (4, 4)
  )
  assert value == pytest.approx(20) and np.isnan(low) and np.isnan(high)
  value, *_ = inference.ratio((1, 0), (0, 1), (0.2, -0.1), (0, 0), (4, 4))
  assert np.isnan(value)


def test_ranks_of_clear_and_of_equal_values():
  values, errors = [0.1, 0.3, 0.2, 0.2], [0.001, 0.001, 0.02, 0.02]
  rank, low, high = inference.ranks(values, errors, [4] * 4)
  assert rank.tolist() == [4, 1, 2, 2]
  assert [low[1], high[1]] == [1, 1] and [low[2], high[2]] == [2, 3]
  assert all(low <= rank) and all(rank <= high)
  again = inference.ranks(values, errors, [4] * 4)
  np.testing.assert_array_equal([low, high], again[1:])


def test_ranks_of_one_run_have_no_stability():
  rank, low, high = inference.ranks([0.1, 0.2], [math.nan, 0.01], [math.nan, 4])
  assert rank.tolist() == [2, 1]
  assert np.isnan(low).all() and np.isnan(high).all()
