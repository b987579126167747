"""Curves: accuracy against the share of the image that is gone.

Both modes lose information from left to right. With threshold t in percent the
share that is gone is x = t / 100 in `remove` and x = 1 - t / 100 in `keep`, and
a curve a(x) starts at x_0 = 0, the source's `original`. It is linear between
its nodes x_0 < x_1 < ... < x_k, so its mean height is

    1 / x_k  integral_0^x_k a(x) dx  =  sum_i w_i a(x_i),  sum_i w_i = 1,

with the weights of the trapezoid rule, w_i = (x_(i+1) - x_(i-1)) / (2 x_k) and
at the ends w_0 = x_1 / (2 x_k), w_k = (x_k - x_(k-1)) / (2 x_k). From these:

    lead = s sum_(i>=1) w_i (random_i - own_i),  s = 1 in `remove`, -1 in `keep`

is how far an estimator is better than random, averaged over the curve. In
`remove` that is below random, in `keep` above it. Both curves start at the same
point, hence node 0 adds nothing and `original` need not be known. And

    RACU = lead / sum_(i>=0) w_i (random_i - chance)

is that lead as a part of the one between random and chance: the relative area
between curves of Madsen et al. 2022 (Evaluating the Faithfulness of Importance
Measures in NLP by Recursively Masking Allegedly Important Tokens and
Retraining, section 4). Theirs ends where all is masked, ours at the study's
last threshold, and ours has the accuracy of guessing where theirs measures a
model that sees nothing. In `remove` 1 is the most there can be, an estimator at
chance as soon as anything is removed. In `keep` the unit is the same, and the
most is what separates random from `original`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIGN = {'remove': 1, 'keep': -1}
"""The sign of random - own for an estimator that is better than random."""


def gone(thresholds: Sequence[int], mode: str) -> np.ndarray:
  """Returns the share of the image that is gone, float [k], in 0..1."""
  shares = np.asarray(thresholds) / 100
  return shares if mode == 'remove' else 1 - shares


def weights(
  thresholds: Sequence[int], mode: str
) -> tuple[float, dict[int, float]]:
  """Returns w_0 and the w_i of the thresholds; together they make 1.

  A threshold at which nothing is gone repeats the start.
  """
  nodes = dict(zip(thresholds, gone(thresholds, mode), strict=True))
  order = sorted(nodes, key=nodes.get)
  x = np.array([0, *(nodes[t] for t in order)])
  if not x[-1] > 0:
    return 1.0, dict.fromkeys(order, 0.0)
  steps = np.diff(x) / x[-1] / 2
  both = np.append(steps, 0) + np.append(0, steps)
  return float(both[0]), dict(zip(order, both[1:].tolist(), strict=True))


def of_lead(
  thresholds: Sequence[int], mode: str, by_looks: bool = False
) -> dict[int, float]:
  """Returns the weight of the gain at each threshold in a lead.

  Args:
    thresholds: of a whole curve.
    mode: `remove` or `keep`.
    by_looks: whether it is that of the sequential design, the mean over its few
      nodes, instead of the area between the curves.
  """
  if by_looks:
    return dict.fromkeys(thresholds, 1 / len(thresholds))
  return weights(thresholds, mode)[1]
