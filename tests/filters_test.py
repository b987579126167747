"""Tests of filters: equal to those of scipy."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from roar_tf import filters


def _values(shape=(2, 9, 7, 3), dtype=np.float64):
  return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize('jit_compile', [False, True])
@pytest.mark.parametrize('sigma', [0, 0.1, 0.7, 8.0])
def test_gaussian_is_that_of_scipy(sigma, jit_compile):
  values = _values()
  function = tf.function(filters.gaussian, jit_compile=jit_compile)
  np.testing.assert_allclose(
    function(values, sigma),
    scipy.ndimage.gaussian_filter(values, (0, sigma, sigma, 0)),
    rtol=1e-12,
    atol=1e-13,
  )


@pytest.mark.parametrize('jit_compile', [False, True])
@pytest.mark.parametrize('size', [1, 5, 11])
def test_maximum_is_that_of_scipy(size, jit_compile):
  values = _values() - 10  # All negative: nothing may come from outside.
  function = tf.function(filters.maximum, jit_compile=jit_compile)
  np.testing.assert_array_equal(
    function(values, size),
    scipy.ndimage.maximum_filter(values, (1, size, size, 1)),
  )


@pytest.mark.parametrize('function', [filters.gaussian, filters.maximum])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_type_and_shape_stay_and_images_do_not_meet(function, dtype):
  values = _values((5, 9, 7, 3), dtype)
  together = function(tf.constant(values), 3)
  assert together.dtype == dtype and together.shape == values.shape
  for i in range(5):
    np.testing.assert_array_equal(
      function(tf.constant(values[i : i + 1]), 3)[0], together[i]
    )
