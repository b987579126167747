"""Powers of two that keep very small and very large scores apart.

The squares of float32 numbers below 1e-19 are no float32 numbers any more: they
become 0, and a ranking would break their ties at random. An image with such
scores is computed in units of a power of two, which keeps every digit and the
order; ordinary scores, with their power 0, keep their bits. TensorFlow also
takes numbers that are not normal (below 1e-38) for 0: here they are read from
their bits.

Values are float32 or float64 [B, H, W, C], or [n, B, H, W, C] for n estimates
of every image; exponents are int32 [B].
"""

from __future__ import annotations

import dataclasses

from roar_tf.lazy import tf


@dataclasses.dataclass(frozen=True)
class Format:
  """Of a type of floating point numbers.

  Attributes:
    integer: name of the type of integers of the same size.
    digits: bits of the fraction.
    bias: what is added to exponents, where they are stored.
    ordinary: numbers whose exponent is no further from 0 have good squares.
    furthest: exponents of units are no further from 0.
  """

  integer: str
  digits: int
  bias: int
  ordinary: int
  furthest: int


_FORMATS = {
  'float32': Format('int32', 23, 127, 50, 120),
  'float64': Format('int64', 52, 1023, 500, 1000),
}


def at_least_float32(values) -> tf.Tensor:
  """Returns float16 and bfloat16 values as float32, others as they are."""
  return values if values.dtype.size > 2 else tf.cast(values, tf.float32)


def units(values) -> tf.Tensor:
  """Returns exponents of units in which the values of images have squares.

  0 for images with ordinary values; else about that of the largest one.

  Args:
    values: see above.
  """
  form = _FORMATS[values.dtype.name]
  exponents = _largest(values)
  return tf.where(
    tf.abs(exponents) <= form.ordinary,
    0,
    tf.clip_by_value(exponents, -form.furthest, form.furthest),
  )


def lowest(zeros) -> tf.Tensor:
  """Returns exponents [B] of no values at all, below all that `units` returns.

  Args:
    zeros: [B, H, W, C].
  """
  return tf.fill([zeros.shape[0]], -_FORMATS[zeros.dtype.name].furthest)


def times(values, exponents) -> tf.Tensor:
  """Returns values times 2^exponents, exactly wherever that is normal."""
  form = _FORMATS[values.dtype.name]
  magnitudes = _magnitudes(values)
  odd = (magnitudes > 0) & (magnitudes < _integer(1 << form.digits, form))
  # What is not normal is a small integer in units of the least number.
  signs = tf.where(_integers(values) < 0, -1, 1)
  count = tf.cast(tf.cast(signs, magnitudes.dtype) * magnitudes, values.dtype)
  exponents = exponents[:, None, None, None]
  exponents += tf.where(odd, 1 - form.bias - form.digits, 0)
  half = exponents // 2
  numbers = tf.where(odd, count, values)
  return numbers * _power(half, form) * _power(exponents - half, form)


def square(values) -> tf.Tensor:
  """Returns squares [B, H, W, C]; where some have no place, in other units."""
  exponents = units(values)
  return restored(tf.square(times(values, -exponents)), 2 * exponents)


def restored(values, exponents) -> tf.Tensor:
  """Returns values times 2^exponents, of images where that loses none of them.

  The values of the other images are returned as they are, in their order.

  Args:
    values: [B, H, W, C].
    exponents: [B].
  """
  plain = times(values, exponents)
  lossless = tf.reduce_all(
    times(plain, -exponents) == values, [1, 2, 3], keepdims=True
  )
  return tf.where(lossless, plain, values)


def sortable(scores) -> tf.Tensor:
  """Returns scores [B, H, W, C] whose sums over channels keep their order.

  The same, bit for bit, but for images with scores that are not normal numbers
  or whose sums might be infinite: theirs come times a power of two.
  """
  form = _FORMATS[scores.dtype.name]
  magnitudes = _magnitudes(scores)
  odd = (magnitudes > 0) & (magnitudes < _integer(1 << form.digits, form))
  largest = _largest(scores)
  needed = tf.reduce_any(odd, [1, 2, 3]) | (largest > form.furthest)
  # Room for sums above, and for 2^200 of difference below.
  scaled = times(scores, 4 * form.furthest // 5 - largest)
  return tf.where(needed[:, None, None, None], scaled, scores)


def _largest(values) -> tf.Tensor:
  """Returns the exponent of the largest magnitude of every image, int32 [B]."""
  form = _FORMATS[values.dtype.name]
  axes = [0, *range(2, 5)] if values.shape.rank == 5 else [1, 2, 3]
  top = tf.reduce_max(_magnitudes(values), axes)
  return tf.cast(top // _integer(1 << form.digits, form), tf.int32) - form.bias


def _integers(values) -> tf.Tensor:
  return tf.bitcast(values, _FORMATS[values.dtype.name].integer)


def _integer(value: int, form: Format) -> tf.Tensor:
  return tf.constant(value, form.integer)


def _magnitudes(values) -> tf.Tensor:
  """Returns the bits of absolute values: integers in the same order."""
  form = _FORMATS[values.dtype.name]
  every = _integer((1 << form.digits + form.bias.bit_length() + 1) - 1, form)
  return tf.bitwise.bitwise_and(_integers(values), every)


def _power(exponents, form: Format) -> tf.Tensor:
  """Returns 2^exponents, of exponents between -bias and bias."""
  bits = tf.cast(exponents + form.bias, form.integer)
  bits *= _integer(1 << form.digits, form)
  return tf.bitcast(
    bits, {'int32': tf.float32, 'int64': tf.float64}[form.integer]
  )
