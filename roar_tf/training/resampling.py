"""Cubic resampling as TensorFlow 1's `resize_bicubic` does it.

The released code resizes by it in training and in evaluation. Value i of the
outcome lies at i * size / length of the original, no half pixels; cubic
convolution with a = -0.75; beyond the border the border's value. XLA knows no
`ResizeBicubic`.
"""


def weights(near):
  """Returns the weights of the four values around a place.

  Args:
    near: distance from the second of the four, in [0, 1); any array type.

  Returns:
    List of four arrays, which sum to 1.
  """
  return [_outer(1 + near), _inner(near), _inner(1 - near), _outer(2 - near)]


def _inner(distance):
  """Weight of a value less than 1 away."""
  return (1.25 * distance - 2.25) * distance**2 + 1


def _outer(distance):
  """Weight of a value 1 to 2 away."""
  return -0.75 * (((distance - 5) * distance + 8) * distance - 4)
