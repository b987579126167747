"""Tests of curves: shares, weights, heights."""

import math

import numpy as np
import pandas as pd
import pytest

from roar_tf.analysis import curves

THRESHOLDS = (10, 30, 50, 70, 90)


def runs(**accuracies):
  """Rows of threshold t<n> with one accuracy per seed."""
  rows = [
    (int(name[1:]), seed, accuracy)
    for name, values in accuracies.items()
    for seed, accuracy in enumerate(values)
    if accuracy is not None
  ]
  return pd.DataFrame(rows, columns=['threshold', 'seed', 'accuracy'])


def test_keep_runs_from_all_kept_to_little_kept():
  assert curves.gone([90, 10], 'keep') == pytest.approx([0.1, 0.9])
  first, kept = curves.weights(THRESHOLDS, 'keep')
  _, removed = curves.weights(THRESHOLDS, 'remove')
  assert first == pytest.approx(5 / 90)
  assert kept == pytest.approx({100 - t: w for t, w in removed.items()})


@pytest.mark.parametrize('mode', ['remove', 'keep'])
@pytest.mark.parametrize(
  'thresholds', [(50,), (10, 90), (0, 40, 100), (1, 2, 99)]
)
def test_weights_are_those_of_the_trapezoid_rule(mode, thresholds):
  generator = np.random.default_rng(0)
  start, *values = generator.uniform(size=len(thresholds) + 1)
  gone = curves.gone(thresholds, mode)
  order = np.argsort(gone)
  x = np.array([0, *gone[order]])
  y = np.array([start, *np.array(values)[order]])
  first, others = curves.weights(thresholds, mode)
  found = first * start
  found += sum(others[t] * v for t, v in zip(thresholds, values, strict=True))
  assert found == pytest.approx(np.trapezoid(y, x) / x[-1])
  assert first + sum(others.values()) == pytest.approx(1)


def test_a_curve_of_nothing_removed_is_its_start():
  assert curves.weights([0], 'remove') == (1.0, {0: 0.0})


def test_height_adds_up_the_cells_of_one_seed_first():
  rows = runs(t40=[0.5, 0.7, 0.6], t80=[0.4, 0.2, 0.3])
  height = curves.height(rows, [40, 80], 'remove')
  # w = 1/4, 1/2, 1/4; what one cell gains the other loses, in part.
  seeds = [0.5 / 2 + 0.4 / 4, 0.7 / 2 + 0.2 / 4, 0.6 / 2 + 0.3 / 4]
  assert height.value == pytest.approx(np.mean(seeds))
  assert height.sd == pytest.approx(np.std(seeds, ddof=1))
  assert height.runs == 3


def test_height_of_unequal_runs_uses_all_means_and_whole_seeds():
  rows = runs(t40=[0.5, 0.7, 0.6], t80=[0.4, None, 0.3])
  height = curves.height(rows, [40, 80], 'remove')
  assert height.value == pytest.approx(0.6 / 2 + 0.35 / 4)
  assert height.sd == pytest.approx(
    np.std([0.5 / 2 + 0.4 / 4, 0.6 / 2 + 0.3 / 4], ddof=1)
  )
  assert height.runs == 2


def test_height_needs_every_threshold_and_every_number():
  rows = runs(t40=[0.5, 0.7], t80=[0.4, math.nan])
  assert curves.height(rows, [40, 60, 80], 'remove') is None
  assert math.isnan(curves.height(rows, [40, 80], 'remove').value)
  assert curves.height(rows, [40], 'remove').value == pytest.approx(0.6 / 2)
  one = curves.height(runs(t40=[0.5]), [40], 'remove')
  assert one.value == 0.25 and math.isnan(one.sd) and one.runs == 1
