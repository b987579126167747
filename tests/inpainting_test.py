"""Tests of the linear system of neighbours, against a direct sparse solver."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
import tensorflow as tf

from roar_tf import inpainting


def neighbours(shape):
  """Returns the weights of ROAD as a matrix [N, N] over pixels, row-major."""
  height, width = shape
  rows, columns = np.indices(shape).reshape(2, -1)
  found = scipy.sparse.lil_matrix((rows.size, rows.size))
  for dy in (-1, 0, 1):
    for dx in (-1, 0, 1):
      if dy or dx:
        y, x = rows + dy, columns + dx
        there = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
        weight = 1 / 12 if dy and dx else 1 / 6
        found[there, y[there] * width + x[there]] = weight
  return found.tocsr()


def exact(values, unknown, weights):
  """Returns what a direct solver makes of values [H, W]."""
  reach = np.asarray(weights.sum(axis=1)).ravel()
  system = (scipy.sparse.diags(reach) - weights).tocsr()
  asked, given = (np.flatnonzero(m) for m in (unknown, ~unknown))
  solution = values.astype(float).ravel()
  solution[asked] = scipy.sparse.linalg.spsolve(
    system[asked][:, asked].tocsc(),
    weights[asked][:, given] @ solution[given],
  )
  return solution.reshape(values.shape)


def image(shape, seed=0):
  """Returns [H, W] in 0..255, smooth and rough."""
  generator = np.random.default_rng(seed)
  fields = sum(
    scipy.ndimage.gaussian_filter(generator.normal(size=shape), s) * s**1.3
    for s in (1, 4, 16)
  )
  return np.clip(128 + 40 * fields, 0, 255).round().astype(np.float32)


def masks(shape):
  """Returns masks such as rankings make, and worse ones, by name."""
  generator = np.random.default_rng(1)
  height, width = shape
  made = {
    f'random {t} %': generator.random(shape) < t / 100 for t in (10, 50, 90, 99)
  }
  for sigma in (1, width / 28):
    scores = scipy.ndimage.gaussian_filter(generator.normal(size=shape), sigma)
    for t in (50, 90):
      made[f'blurred {sigma:g}, {t} %'] = scores <= np.percentile(scores, t)
  block = np.ones(shape, bool)
  rim = round((1 - 0.9**0.5) / 2 * width)
  block[:rim] = block[-rim:] = block[:, :rim] = block[:, -rim:] = False
  made['block of 90 %'] = block
  made['corner of 90 %'] = np.roll(block, (-rim, -rim), (0, 1))
  one = np.ones(shape, bool)
  one[height // 3, width // 4] = False
  made['all but one pixel'] = one
  wall = np.ones(shape, bool)
  wall[:, width // 2] = False
  made['all but one column'] = wall
  wall = np.ones(shape, bool)
  wall[height // 2 + 1] = wall[:, width // 3] = False
  wall[height // 2 + 1, width // 6] = True
  made['rooms with a door'] = wall
  return made


_solve = tf.function(inpainting.solve)


def solved(values, unknown, iterations=inpainting.ITERATIONS):
  """Returns what is made of values [H, W]."""
  arguments = (tf.constant(a[None]) for a in (values, unknown))
  # A tensor: one trace for any number.
  return _solve(*arguments, tf.constant(iterations))[0]


def check_all(shape, tolerance):
  weights, values = neighbours(shape), image(shape)
  for name, unknown in masks(shape).items():
    found = 128 + solved(values - 128, unknown)
    error = np.abs(found - exact(values, unknown, weights))
    assert error.max() < tolerance, (name, error.max())
    np.testing.assert_array_equal(found[~unknown], values[~unknown])


def test_solution_is_the_exact_one_for_any_mask():
  # Of 255 grey levels.
  check_all((28, 28), 0.05)


@pytest.mark.slow
def test_solution_of_large_images_is_the_exact_one_for_any_mask():
  check_all((224, 224), 0.2)


@pytest.mark.parametrize('shape', [(1, 9), (2, 3), (13, 7)])
def test_images_of_any_shape(shape):
  generator = np.random.default_rng(2)
  weights, values = neighbours(shape), image(shape)
  unknown = generator.random(shape) < 0.7
  unknown.flat[0] = False
  found = solved(values, unknown)
  np.testing.assert_allclose(found, exact(values, unknown, weights), atol=0.05)


def test_channels_are_solved_by_themselves_each_with_its_mask():
  shape = (12, 15)
  generator = np.random.default_rng(3)
  values = np.stack([image(shape, seed) for seed in range(3)])
  unknown = generator.random((3, *shape)) < [[[0.3]], [[0.6]], [[0.9]]]
  weights = neighbours(shape)
  for given in (unknown, unknown[:1]):  # One for all channels may do.
    found = _solve(tf.constant(values), tf.constant(given))
    for channel, mask in enumerate(np.broadcast_to(given, unknown.shape)):
      expected = exact(values[channel], mask, weights)
      np.testing.assert_allclose(found[channel], expected, atol=0.05)


def test_more_iterations_leave_less_error():
  shape = (33, 20)
  weights, values = neighbours(shape), image(shape).astype(np.float64)
  unknown = masks(shape)['all but one column']
  goal = exact(values, unknown, weights)
  errors = [
    np.abs(solved(values, unknown, count) - goal).max()
    for count in (1, 3, 6, 12)
  ]
  assert errors[0] > 3 * errors[1] > 9 * errors[2]
  # It never ends in 0 / 0, even long after the last digit is right.
  assert errors[3] < 1e-6
  np.testing.assert_allclose(solved(values, unknown, 100), goal, atol=1e-6)


def test_without_a_known_value_there_is_zero():
  values, unknown = image((10, 10)), np.ones((10, 10), bool)
  assert not solved(values, unknown).numpy().any()
  np.testing.assert_array_equal(solved(values, ~unknown), values)


def test_what_stands_at_unknown_places_is_ignored():
  generator = np.random.default_rng(4)
  values = image((10, 10))
  unknown = generator.random((10, 10)) < 0.5
  other = np.where(unknown, generator.normal(size=(10, 10)), values)
  np.testing.assert_array_equal(
    solved(values, unknown), solved(other.astype(np.float32), unknown)
  )
