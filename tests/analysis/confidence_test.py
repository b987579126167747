"""Simulated studies: do intervals cover and tests err as often as they say?"""

import importlib.util
import pathlib

import numpy as np
import pytest

from roar_tf.analysis import inference

PROGRAM = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'confidence.py'
POINT = 0.01


@pytest.fixture(scope='module')
def confidence():
  spec = importlib.util.spec_from_file_location('confidence', PROGRAM)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def spread(confidence, low, high):
  return np.linspace(low, high, confidence.ESTIMATORS) * POINT


@pytest.mark.parametrize(
  'random, low, high', [(0.35, 0.35, 0.35), (1.2, 1.2, 1.2), (0.35, 0.35, 1.2)]
)
def test_intervals_cover_and_tests_err_as_promised(
  confidence, random, low, high
):
  sds = spread(confidence, low, high)
  effects = spread(confidence, -5, 30)
  found = confidence.simulate(4000, sds, random * POINT, effects)
  for kind in ('accuracy', 'area', 'racu'):
    # Estimators of one study share its random: what counts is each's coverage.
    coverage = found[kind].mean(0)
    assert ((0.93 <= coverage) & (coverage <= 0.97)).all(), (kind, coverage)
  null = confidence.simulate(4000, sds, random * POINT, 0 * effects)
  assert confidence.errs(null['p']) <= 0.06


def test_errs_counts_what_holm_rejects(confidence):
  p = np.random.default_rng(0).uniform(size=(12, 4)) ** 3
  expected = [inference.holm(study).min() <= 0.05 for study in p]
  assert 0 < np.mean(expected) < 1
  assert confidence.errs(p) == np.mean(expected)


@pytest.mark.parametrize('of_areas', [True, False])
def test_two_points_are_found_at_small_spread(confidence, of_areas):
  sd = 0.35 * POINT
  if of_areas:  # The larger spread: cells average out in part.
    sd /= confidence.area_sd(1)
  effects = np.zeros(confidence.ESTIMATORS)
  effects[0] = confidence.POINTS / confidence.PARTS.sum()
  sds = np.full(confidence.ESTIMATORS, sd)
  found = confidence.simulate(2000, sds, sd, effects)['p'][:, 0]
  found = (found <= 0.05 / confidence.ESTIMATORS).mean()
  power, detectable = confidence.told(confidence.area_sd(sd))
  assert found >= 0.98 and power >= 0.98
  assert detectable <= 0.0127
