"""Intervals and ranks from means, standard deviations and counts.

Every function takes arrays that broadcast, one entry per comparison, so that
thousands of simulated studies cost one call. What is unknown is NaN and makes
NaN of all that depends on it.

Runs of different cells are independent, even those of equal seed: other images
make other models. So a difference of two means has the variance of both, and
its degrees of freedom are those of Welch and Satterthwaite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats import multitest

LEVEL = 0.05
"""Of tests and, as 1 - LEVEL, of intervals."""

RUNS_FOR_INTERVAL = 3
"""Below this many a t interval says more about luck than about the cell."""


def of_mean(sd: ArrayLike, runs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Returns variance and degrees of freedom of a mean over runs.

  Both are NaN below `RUNS_FOR_INTERVAL` runs.
  """
  sd, runs = np.broadcast_arrays(np.asarray(sd, float), runs)
  counts = np.where(runs >= RUNS_FOR_INTERVAL, runs, np.nan)
  return sd**2 / counts, counts - 1


def combined(
  variances: Sequence[ArrayLike], freedoms: Sequence[ArrayLike]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns standard error and degrees of freedom of independent terms' sum.

  Welch-Satterthwaite: df = (sum v)^2 / sum(v^2 / df). Without any variance the
  degrees are infinite.

  Args:
    variances: one per term.
    freedoms: their degrees of freedom; infinite where a variance is known.
  """
  variances = [np.asarray(v, float) for v in variances]
  total = sum(variances)
  loss = sum(v**2 / df for v, df in zip(variances, freedoms, strict=True))
  with np.errstate(divide='ignore', invalid='ignore'):
    freedom = np.where(total == 0, np.inf, total**2 / loss)
  return np.sqrt(total), freedom


def half_width(
  error: ArrayLike, freedom: ArrayLike, level: ArrayLike = LEVEL
) -> np.ndarray:
  """Returns half the t interval around an estimate of this standard error."""
  return stats.t.isf(np.asarray(level) / 2, freedom) * error


def holm(p: ArrayLike) -> np.ndarray:
  """Returns p values corrected for being as many as they are, by Holm 1979."""
  return multitest.multipletests(p, method='holm')[1]


def ratio(
  numerator: Sequence[float],
  denominator: Sequence[float],
  means: Sequence[ArrayLike],
  variances: Sequence[ArrayLike],
  freedoms: Sequence[ArrayLike],
  constant: ArrayLike = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns a ratio of sums of independent means, with Fieller's interval.

  The ratio is (sum a_i m_i) / (sum b_i m_i + constant); a mean may stand in
  both. Fieller's interval holds the values r for which a t test does not reject
  that sum (a_i - r b_i) m_i - r constant is 0. That is normal with variance
  sum (a_i - r b_i)^2 v_i, whatever the ratio's own distribution, which is
  skewed; the delta method would treat it as normal. Degrees of freedom are
  Welch and Satterthwaite's at the estimated ratio.

  Args:
    numerator: a_i.
    denominator: b_i.
    means: m_i.
    variances: v_i, of the means.
    freedoms: of the variances.
    constant: a known part of the denominator.

  Returns:
    The ratio, and the interval's ends; NaN where the denominator is not
    positive, or may be 0 for all that is known, since then no finite interval
    has the wanted coverage.
  """
  terms = list(zip(numerator, denominator, means, variances, strict=True))
  top = sum(np.asarray(a * m, float) for a, _, m, _ in terms)
  bottom = sum(np.asarray(b * m, float) for _, b, m, _ in terms) + constant
  with np.errstate(divide='ignore', invalid='ignore'):
    value = np.where(bottom > 0, top / bottom, np.nan)
    _, freedom = combined(
      [(a - value * b) ** 2 * v for a, b, _, v in terms], freedoms
    )
    quantile = stats.t.isf(LEVEL / 2, freedom) ** 2
    # The ends solve A r^2 - 2 B r + C = 0.
    first = bottom**2 - quantile * sum(b * b * v for _, b, _, v in terms)
    middle = top * bottom - quantile * sum(a * b * v for a, b, _, v in terms)
    last = top**2 - quantile * sum(a * a * v for a, _, _, v in terms)
    root = np.sqrt(np.maximum(middle**2 - first * last, 0))
    bounded = first > 0
    low = np.where(bounded, (middle - root) / first, np.nan)
    high = np.where(bounded, (middle + root) / first, np.nan)
  return value, low, high


def ranks(
  values: ArrayLike, errors: ArrayLike, freedoms: ArrayLike, draws: int = 10_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns ranks, 1 for the largest value, and how far they may move.

  The ends are the 2.5 and 97.5 % quantiles of the ranks of values drawn anew,
  each from the t distribution around its own with its standard error; the same
  input gives the same draws. They say how stable the order is, and are no
  confidence interval of a true rank: among equals there is none to cover.

  Args:
    values: float [n].
    errors: standard errors, [n]; those of what the values share, such as
      random's curve, have no part in their order and must be left out.
    freedoms: [n].
    draws: how often the order is drawn.
  """
  values = np.asarray(values, float)
  rank = stats.rankdata(-values, method='min')
  generator = np.random.default_rng(0)
  uniform = generator.uniform(size=(draws, len(values)))
  drawn = values + stats.t.ppf(uniform, freedoms) * np.asarray(errors)
  if np.isnan(drawn).any():
    unknown = np.full(len(values), np.nan)
    return rank, unknown, unknown
  order = stats.rankdata(-drawn, method='min', axis=1)
  low, high = np.quantile(
    order, [LEVEL / 2, 1 - LEVEL / 2], axis=0, method='inverted_cdf'
  )
  return rank, low, high
