"""Statistics over an ensemble of noisy copies, as streaming moments.

SG is the mean, SG-SQ the mean of squares, VAR the variance (divided by J) of a
base estimator over J noisy copies of the image (paper, section 4.1). Each is
computed in one pass with memory for one estimate. VAR is Welford's update:
E[g^2] - E[g]^2 would cancel catastrophically in float32.
"""

import tensorflow as tf


class Mean:
  """SG: the mean."""

  def start(self, zeros):
    """Returns the state before the first value."""
    return zeros

  def update(self, mean, value, count):
    """Returns the state after the `count`-th value (a float scalar, from 1)."""
    return mean + (value - mean) / count

  def finish(self, mean, count):
    """Returns the statistic after `count` values."""
    del count
    return mean


class MeanOfSquares(Mean):
  """SG-SQ: the mean of squares."""

  def update(self, mean, value, count):
    """Returns the state after the `count`-th value."""
    return super().update(mean, tf.square(value), count)


class Variance:
  """VAR: the variance, the sum of squared deviations divided by J."""

  def start(self, zeros):
    """Returns (mean, sum of squared deviations) before the first value."""
    return zeros, zeros

  def update(self, state, value, count):
    """Returns the state after the `count`-th value."""
    mean, squares = state
    deviation = value - mean
    mean += deviation / count
    return mean, squares + deviation * (value - mean)

  def finish(self, state, count):
    """Returns the statistic after `count` values."""
    return state[1] / count


STATISTICS = {
  'mean': Mean(),
  'mean_of_squares': MeanOfSquares(),
  'variance': Variance(),
}
