"""Tests of curves: shares and weights."""

import numpy as np
import pytest

from roar_tf.analysis import curves

THRESHOLDS = (10, 30, 50, 70, 90)


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
