"""Curves: accuracy against the share of the image that is gone.

Both modes lose information from left to right. With threshold t in percent the
share that is gone is x = t / 100 in `remove` and x = 1 - t / 100 in `keep`, and
a curve a(x) starts at x_0 = 0, the source's `original`. It is linear between
its nodes x_0 < x_1 < ... < x_k, so its mean height is

    1 / x_k  integral_0^x_k a(x) dx  =  sum_i w_i a(x_i),  sum_i w_i = 1,

with the weights of the trapezoid rule, w_i = (x_(i+1) - x_(i-1)) / (2 x_k) and
at the ends w_0 = x_1 / (2 x_k), w_k = (x_k - x_(k-1)) / (2 x_k). From these:

    area = s sum_(i>=1) w_i (random_i - own_i),  s = 1 in `remove`, -1 in `keep`

is how far an estimator is better than random, averaged over the curve. In
`remove` that is below random, in `keep` above it. Both curves start at the same
point, hence node 0 adds nothing and `original` need not be known. And

    RACU = area / sum_(i>=0) w_i (random_i - chance)

is that area as a part of the one between random and chance: the relative area
between curves of Madsen et al. 2022 (Evaluating the Faithfulness of Importance
Measures in NLP by Recursively Masking Allegedly Important Tokens and
Retraining, section 4). Theirs ends where all is masked, ours at the study's
last threshold, and ours has the accuracy of guessing where theirs measures a
model that sees nothing. In `remove` 1 is the most there can be, an estimator at
chance as soon as anything is removed. In `keep` the unit is the same, and the
most is what separates random from `original`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

SIGN = {'remove': 1, 'keep': -1}
"""The sign of random - own for an estimator that is better than random."""


class Height(NamedTuple):
  """The mean height of a curve, without what its start adds to it.

  Attributes:
    value: sum_(i>=1) w_i mean_i over the cells' mean accuracies.
    sd: standard deviation between runs of that sum; NaN below two runs.
    runs: seeds that ran at every threshold. Only these tell how the cells of
      one seed vary together; in a finished study they are all seeds.
  """

  value: float
  sd: float
  runs: int


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


def area(gains: dict[int, float], mode: str) -> float:
  """Returns the area of the gains over random at all of a curve's thresholds.

  Args:
    gains: s (random - own) of each threshold.
    mode: `remove` or `keep`.
  """
  _, parts = weights(list(gains), mode)
  return math.fsum(parts[t] * gain for t, gain in gains.items())


def height(
  rows: pd.DataFrame, thresholds: Sequence[int], mode: str
) -> Height | None:
  """Returns the height of one curve, None where a threshold has no run.

  A height of fewer thresholds would be that of another curve. An accuracy that
  is not a number makes the height one too.

  Args:
    rows: its runs, with columns threshold, seed and accuracy.
    thresholds: all that the curve must have.
    mode: `remove` or `keep`.
  """
  # Of a run that is listed twice the mean counts, once, as in `summarise`.
  runs: dict[int, dict[int, float]] = {t: {} for t in sorted(thresholds)}
  for (threshold, seed), group in rows.groupby(['threshold', 'seed']):
    if threshold in runs:
      runs[threshold][seed] = group['accuracy'].to_numpy().mean()
  if not all(runs.values()):
    return None
  _, parts = weights(list(runs), mode)
  value = sum(parts[t] * np.mean(list(runs[t].values())) for t in runs)
  seeds = sorted(set.intersection(*map(set, runs.values())))
  whole = [sum(parts[t] * runs[t][seed] for t in runs) for seed in seeds]
  sd = np.std(whole, ddof=1) if len(whole) > 1 else math.nan
  return Height(float(value), float(sd), len(whole))
