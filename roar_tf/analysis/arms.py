"""Weighted sums of accuracies over the cells of an estimator, and differences.

Everything that a verdict rests on is a difference of a few *arms*. An arm is
one estimator under one input: its runs at some cells, and a weight for each
cell. Two things make an arm uncertain, and both are measured here:

* seeds: the sum of weighted accuracies varies from seed to seed. The cells of
  one seed are summed first, so that it does not matter how they vary together.
  Where several seeds share each of several explained models, they are averaged,
  and the models take the place of seeds (`results.replicates`).
* test images: other images of the same kind would give other accuracies. All
  arms are tested on the same images, so this part is that of the *difference*
  D_i of an image i, var_i(D_i) / images. What seeds add to D_i is subtracted,
  since the first part holds it: D_i is a mean over seeds, and its variance from
  luck is the mean over images of the seeds' variance, divided by the seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from roar_tf.analysis import inference

Correct = Callable[[tuple], np.ndarray | None]
"""From a run's `results.IDENTITY` to bool [images], whether it was right; in
the same order of images for all runs of a source; None if nobody knows."""

SEEDS_SHARE = 0.8
"""The share of an interval's level that seeds get; test images get the rest."""


class Estimate(NamedTuple):
  """A number and its interval; NaN where there is none."""

  value: float = math.nan
  low: float = math.nan
  high: float = math.nan

  @property
  def known(self) -> bool:
    """Whether there is a number."""
    return not math.isnan(self.value)

  @property
  def bounded(self) -> bool:
    """Whether there is an interval."""
    return not (math.isnan(self.low) or math.isnan(self.high))


class Arm(NamedTuple):
  """A weighted sum of the mean accuracies of cells.

  Attributes:
    value: the sum.
    sd: standard deviation between replicates of that sum; NaN below two.
    seeds: how many seeds have all of the cells; infinite where none matters.
    right: float [images], the same sum for every test image; None if unknown.
    luck: float, the mean over images of the variance that replicates leave in
      `right`; NaN if unknown.
    models: how many explained models these seeds have.
  """

  value: float
  sd: float
  seeds: float
  right: np.ndarray | None = None
  luck: float = math.nan
  models: int = 1

  @property
  def replicates(self) -> float:
    """How many independent parts the mean is over: seeds, or models."""
    return self.models if self.models > 1 else self.seeds

  def scaled(self, factor: float) -> Arm:
    """Returns the arm times a number."""
    return self._replace(
      value=factor * self.value,
      sd=abs(factor) * self.sd,
      right=None if self.right is None else factor * self.right,
      luck=factor**2 * self.luck,
    )


def arm(
  runs: pd.DataFrame,
  weights: Mapping[tuple[str, int], float],
  correct: Correct | None = None,
) -> Arm | None:
  """Returns the arm of one estimator, None where a cell has no run.

  A sum of fewer cells would be another quantity. An accuracy that is not a
  number makes the sum one too.

  Args:
    runs: of one source, estimator, granularity, fill and input, with the
      columns of `results.COLUMNS`.
    weights: of each (mode, threshold).
    correct: which test images each run had right.
  """
  from roar_tf.analysis import results

  # Of a run that is listed twice the mean counts, once, as in `summarise`.
  cells: dict[tuple, dict[int, float]] = {cell: {} for cell in weights}
  of_run, explained = {}, {}
  for row in runs.itertuples():
    cell = row.mode, row.threshold
    if cell in cells:
      cells[cell].setdefault(row.seed, []).append(row.accuracy)
      of_run[cell, row.seed] = tuple(getattr(row, c) for c in results.IDENTITY)
      explained[row.seed] = row.explained_seed
  if not all(cells.values()):
    return None
  means = {
    cell: {seed: float(np.mean(values)) for seed, values in seeds.items()}
    for cell, seeds in cells.items()
  }

  def mean(values: Mapping[int, float]) -> float:
    seeds = results.replicates({seed: explained[seed] for seed in values})
    return float(
      np.mean([np.mean([values[s] for s in of_one]) for of_one in seeds])
    )

  value = math.fsum(w * mean(means[cell]) for cell, w in weights.items())
  whole = set.intersection(*map(set, means.values()))
  seeds = results.replicates({seed: explained[seed] for seed in whole})
  sums = [
    np.mean(
      [
        math.fsum(w * means[cell][seed] for cell, w in weights.items())
        for seed in of_one
      ]
    )
    for of_one in seeds
  ]
  sd = float(np.std(sums, ddof=1)) if len(sums) > 1 else math.nan
  right, luck = _of_images(weights, seeds, of_run, correct)
  models = len({explained[seed] for seed in whole})
  return Arm(value, sd, len(whole), right, luck, models)


def _of_images(weights, seeds, of_run, correct) -> tuple:
  """Returns `right` and `luck` of an arm.

  Args:
    weights: of the cells.
    seeds: of each replicate.
    of_run: identity of the run of each cell and seed.
    correct: see `arm`.
  """
  if correct is None or not seeds:
    return None, math.nan
  total, squares = 0.0, 0.0
  for of_one in seeds:
    one = 0.0
    for seed, (cell, weight) in itertools.product(of_one, weights.items()):
      hits = correct(of_run[cell, seed])
      if hits is None:
        return None, math.nan
      one = one + weight * hits.astype(np.float64)
    one = one / len(of_one)
    total, squares = total + one, squares + one**2
  n = len(seeds)
  mean = total / n
  if n == 1:
    return mean, math.nan
  between = np.maximum(squares - n * mean**2, 0) / (n - 1)
  return mean, float(between.mean()) / n


class Arms:
  """The arms of a study, by what they are."""

  def __init__(self, frame: pd.DataFrame, correct: Correct | None = None):
    """Sorts runs.

    Args:
      frame: runs of one study, see `results.COLUMNS`.
      correct: which test images each run had right.
    """
    keys = ['source', 'granularity', 'fill', 'input', 'estimator']
    self._runs = dict(iter(frame.groupby(keys, sort=True)))
    self._correct = correct
    self._found: dict[tuple, Arm | None] = {}

  def get(
    self,
    source: str,
    granularity: str,
    fill: str,
    estimator: str,
    weights: Mapping[tuple[str, int], float],
    input: str = 'image',
    below: float = math.inf,
  ) -> Arm | None:
    """Returns an arm; None where one of its cells has no run.

    Args:
      source: of the runs, like the next three.
      granularity: see `source`.
      fill: see `source`.
      estimator: see `source`.
      weights: of each (mode, threshold).
      input: of the runs.
      below: only seeds below it count.
    """
    of = source, granularity, fill, input, estimator
    key = (*of, below, *weights.items())
    if key not in self._found:
      runs = self._runs.get(of)
      if runs is not None:
        runs = runs[runs['seed'] < below]
      found = None if runs is None else arm(runs, weights, self._correct)
      if found and input == 'deletion':  # Nothing is trained.
        found = found._replace(sd=0.0, seeds=math.inf, luck=0.0)
      self._found[key] = found
    return self._found[key]


class Difference:
  """A signed sum of arms, with what seeds and test images leave unsure.

  Attributes:
    value: the sum.
    seeds_error: its standard error over replicates; NaN where an arm has fewer
      than `inference.RUNS_FOR_INTERVAL`.
    freedom: degrees of freedom, those of the arm with the fewest replicates.
      For two normal means that is never too many, whatever their variances
      (Hsu 1938); Welch and Satterthwaite's are too many at the levels of many
      comparisons.
    images_error: its standard error over test images; NaN if unknown.
  """

  def __init__(self, *terms: tuple[float, Arm], constant: float = 0.0):
    """Adds arms up.

    Args:
      *terms: (sign or weight, arm) of each.
      constant: a number to add that is known.
    """
    arms = [a.scaled(factor) for factor, a in terms]
    self.value = math.fsum((constant, *(a.value for a in arms)))
    known = [inference.of_mean(a.sd, a.replicates) for a in arms]
    self._variances = [float(variance) for variance, _ in known]
    self._freedoms = [float(freedom) for _, freedom in known]
    self.seeds_error = math.sqrt(sum(self._variances))
    self.freedom = min(self._freedoms, default=math.nan)
    if not self.seeds_error and math.isfinite(self.freedom):
      # Runs that all agree to the last digit say nothing of how far others
      # would lie.
      self.seeds_error = math.nan
    self.images_error = _images_error(arms)

  def estimate(self, level: float) -> Estimate:
    """Returns the value and an interval of a simultaneous family.

    Its half width is that of a t interval over seeds plus that of a normal one
    over test images, each at its share of the level: by the union bound they
    hold together, whatever the shape of their sum.

    Args:
      level: the chance that the interval may miss.
    """
    return self._around(
      half_width(self.seeds_error, self.freedom, self.images_error, level)
    )

  def pointwise(self, level: float = inference.LEVEL) -> Estimate:
    """Returns the value and the interval of this number alone.

    One t interval of both errors, with Welch and Satterthwaite's degrees of
    freedom.
    """
    if math.isnan(self.seeds_error):  # As in `estimate`.
      return Estimate(self.value)
    variances, freedoms = list(self._variances), list(self._freedoms)
    if not math.isnan(self.images_error):
      variances.append(self.images_error**2)
      freedoms.append(math.inf)
    error, freedom = inference.combined(variances, freedoms)
    return self._around(float(inference.half_width(error, freedom, level)))

  def detectable(self, level: float, wanted: float = 0.8) -> float:
    """Returns the true value that is told from 0 with the wanted chance.

    The interval's half width, and a further quantile of the estimate around
    its true value; the errors seen are taken for the true ones.
    """
    half = half_width(self.seeds_error, self.freedom, self.images_error, level)
    images = 0.0 if math.isnan(self.images_error) else self.images_error
    return float(
      half + stats.norm.ppf(wanted) * math.hypot(self.seeds_error, images)
    )

  def _around(self, half: float) -> Estimate:
    if not half > 0:  # Nothing is known of what varies.
      return Estimate(self.value)
    return Estimate(self.value, self.value - half, self.value + half)


def half_width(seeds_error, freedom, images_error, level):
  """Returns half of an interval at this level (DESIGN: t at 0.8, z at 0.2).

  Arrays broadcast. Without a known error of test images all of the level is
  for seeds, and the interval says nothing of other images.

  Args:
    seeds_error: standard error over seeds.
    freedom: its degrees of freedom.
    images_error: standard error over test images; NaN if unknown.
    level: the chance that the interval may miss.
  """
  images_error = np.asarray(images_error, float)
  unknown = np.isnan(images_error)
  share = np.where(unknown, 1.0, SEEDS_SHARE)
  half = stats.t.isf(share * level / 2, freedom) * seeds_error
  rest = stats.norm.isf((1 - SEEDS_SHARE) * level / 2)
  half = half + np.where(unknown, 0.0, rest * images_error)
  return float(half) if np.ndim(half) == 0 else half


def _images_error(arms: Sequence[Arm]) -> float:
  """Returns the standard error over test images of a sum of arms."""
  if not arms or any(a.right is None for a in arms):
    return math.nan
  of_image = sum(a.right for a in arms)
  if len(of_image) < 2:
    return math.nan
  # Where one seed tells nothing of luck, all of the variance counts.
  luck = sum(0.0 if math.isnan(a.luck) else a.luck for a in arms)
  variance = max(0.0, float(np.var(of_image, ddof=1)) - luck)
  return math.sqrt(variance / len(of_image))
