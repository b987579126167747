"""Tests of streaming moments against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from roar_tf.estimators import ensemble


def _moments(values, at_once):
  """Feeds values [J, B, H, W, C], some at a time, the last ones padded."""
  samples = len(values)
  moments = ensemble.start(tf.zeros(values.shape[1:], values.dtype))
  for first in range(0, samples, at_once):
    part = values[first : first + at_once]
    padding = np.full((at_once - len(part), *values.shape[1:]), np.nan)
    part = np.concatenate([part, padding.astype(values.dtype)])
    moments = ensemble.update(moments, tf.constant(part), first, samples)
  return moments


def _statistic(name, values, at_once=4):
  """Returns one statistic of values [J, N]."""
  values = np.asarray(values)[:, None, None, None, :]
  count = tf.constant(len(values), values.dtype)
  moments = _moments(values, at_once)
  return ensemble.STATISTICS[name](moments, count).numpy().ravel()


MOMENTS = {
  'mean': lambda values: values.mean(axis=0),
  'mean_of_squares': lambda values: np.square(values).mean(axis=0),
  'variance': lambda values: values.var(axis=0),  # Divided by J.
}


@pytest.mark.parametrize('name', MOMENTS)
@pytest.mark.parametrize('at_once', [1, 4, 5, 15, 20])
@pytest.mark.parametrize('count', [1, 2, 15])
def test_moments_equal_numpy(name, count, at_once):
  values = np.random.default_rng(0).normal(1, 2, (count, 40))
  np.testing.assert_allclose(
    _statistic(name, values, at_once),
    MOMENTS[name](values),
    rtol=1e-12,
    atol=1e-15,
  )


def test_variance_of_one_or_of_equal_values_is_zero():
  for values in (np.full((1, 3), 7.3), np.full((15, 3), 7.3)):
    values = values.astype(np.float32)
    for at_once in (1, 4, 15):
      assert (_statistic('variance', values, at_once) == 0).all()
      np.testing.assert_array_equal(
        _statistic('mean', values, at_once), values[0]
      )


def test_small_variance_around_a_large_mean_survives_float32():
  # E[g^2] - E[g]^2 is off by thousands here, and as often negative.
  noise = np.random.default_rng(0).normal(size=(200, 300))
  values = (1e4 + noise).astype(np.float32)
  expected = values.astype(np.float64).var(axis=0)
  found = _statistic('variance', values)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, rtol=0.02)
  naive = np.square(values).mean(axis=0) - np.square(values.mean(axis=0))
  assert np.abs(naive - expected).max() > 1  # The test can fail.


def test_variance_is_never_negative():
  generator = np.random.default_rng(1)
  scale = 10 ** generator.uniform(-6, 6, 1000)
  values = scale * (1 + 1e-7 * generator.normal(size=(15, 1000)))
  assert (_statistic('variance', values.astype(np.float32)) >= 0).all()


def test_large_means_do_not_overflow():
  values = np.full((15, 2), 3e38, np.float32)
  np.testing.assert_allclose(_statistic('mean', values), values[0])
