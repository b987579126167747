"""Statistics over an ensemble of noisy copies, from streaming moments.

SG is the mean, SG-SQ the mean of squares, VAR the variance (divided by J) of a
base estimator over J noisy copies of the image (paper, section 4.1). All three
come from the mean and the sum of squared deviations, to which some copies are
added at a time (Chan, Golub and LeVeque 1979): memory for two estimates,
whatever J is. E[g^2] - E[g]^2 instead would cancel catastrophically in float32.

The moments of an image whose values have no squares, because they are too small
or too large, are kept in units of a power of two: see `roar_tf.scaling`.
"""

from __future__ import annotations

from typing import NamedTuple

from roar_tf import scaling
from roar_tf.estimators import blocks
from roar_tf.lazy import tf


class Moments(NamedTuple):
  """Moments of the values so far.

  Attributes:
    mean: their mean in these units, float [B, H, W, C].
    deviations: the sum of their squared deviations from it, likewise.
    units: int32 [B], the exponents of the units; 0 for ordinary values.
  """

  mean: tf.Tensor
  deviations: tf.Tensor
  units: tf.Tensor


def start(zeros) -> Moments:
  """Returns the moments of no value; zeros [B, H, W, C]."""
  return Moments(zeros, zeros, scaling.lowest(zeros))


def signature(scores: tf.TensorSpec) -> Moments:
  """Returns the specs of the moments of one image; scores [H, W, C]."""
  return Moments(scores, scores, tf.TensorSpec([], tf.int32))


def update(moments: Moments, values, before, samples: int) -> Moments:
  """Returns the moments after some more values.

  Equal values have exactly no deviation. Sums are reductions, not chains of
  additions: the graph optimiser would regroup those depending on what else is
  in the graph.

  Args:
    moments: of the first `before` values.
    values: [n, B, H, W, C], the next ones.
    before: integer or scalar integer tensor.
    samples: number of all values; those beyond it are padding.
  """
  number, dtype = values.shape[0], values.dtype
  counted = number
  if padded := samples % number != 0:
    counted = tf.minimum(number, samples - before)
    valid = tf.range(number)[:, None, None, None, None] < counted
    values = tf.where(valid, values, tf.zeros_like(values))
  units = tf.maximum(moments.units, scaling.units(values))
  change = moments.units - units
  mean = scaling.times(moments.mean, change)
  deviations = scaling.times(moments.deviations, change)
  deviations = scaling.times(deviations, change)
  values = scaling.times(values, -units)
  centre = values[0]
  shifted = values - centre
  if padded:
    shifted = tf.where(valid, shifted, tf.zeros_like(shifted))
  counted = tf.cast(counted, dtype)
  centre += blocks.total(shifted) / counted
  squares = tf.square(values - centre)
  if padded:
    squares = tf.where(valid, squares, tf.zeros_like(squares))
  before = tf.cast(before, dtype)
  share = counted / (before + counted)
  step = centre - mean
  between = tf.square(step) * (before * share)
  within = tf.concat([squares, between[None]], 0)
  return Moments(
    mean + step * share,
    deviations + blocks.total(within),
    units,
  )


def _mean(moments, count):
  del count
  return scaling.times(moments.mean, moments.units)


def _variance(moments, count):
  return scaling.restored(moments.deviations / count, 2 * moments.units)


def _mean_of_squares(moments, count):
  # A sum of two numbers that are never negative: nothing cancels.
  squares = moments.deviations / count + tf.square(moments.mean)
  return scaling.restored(squares, 2 * moments.units)


STATISTICS = {
  'mean': _mean,
  'mean_of_squares': _mean_of_squares,
  'variance': _variance,
}
"""By name: (moments, number of values as a float scalar) -> [B, H, W, C]."""
