"""Random numbers that depend on (seed, example, purpose) and nothing else.

An example is known by its *key*: int32 [2], a fingerprint of its id. Because
no draw depends on the order of examples, on sharding or on workers, neither
does any result. Keys are hashed on the host, since strings cannot reach a TPU.

Uniforms are Philox; Gaussians are erfinv of uniforms, because
`tf.random.stateless_normal` gives other numbers under XLA.
"""

from __future__ import annotations

import enum
import hashlib
import math
import operator

import numpy as np

from roar_tf.lazy import tf


class Purpose(enum.IntEnum):
  """What a draw is for: two purposes never share a number."""

  SEED = 1
  TIES = 2
  RANDOM_SCORES = 3
  ORACLE = 4
  NOISE = 5
  AUGMENTATION = 6
  ORDER = 7
  WEIGHTS = 8
  NOISY_COPY = 9
  BERNOULLI_SCORES = 10
  FILL = 11
  DONORS = 12
  PERMUTATION = 13


def keys_of_ids(ids) -> tf.Tensor:
  """Returns int32 [B, 2] keys of a batch of ids (strings or integers) [B]."""
  ids = tf.convert_to_tensor(ids)
  if ids.shape.rank != 1:
    raise ValueError(f'ids must have shape [batch], found {ids.shape}.')
  if ids.dtype.is_integer:
    ids = tf.strings.as_string(ids)
  elif ids.dtype != tf.string:
    raise ValueError(f'ids must be strings or integers, found {ids.dtype}.')
  return _fingerprint(ids)


def keys_of(values, ids, what: str) -> tf.Tensor:
  """Returns int32 [B, 2] keys of ids, or of the content of values [B, ...].

  Args:
    values: what the ids name.
    ids: strings or integers [B], or None.
    what: what a message calls the values.

  Raises:
    ValueError: there are not as many ids as values.
  """
  if ids is None:
    return keys_of_content(values)
  keys = keys_of_ids(ids)
  if not keys.shape[:1].is_compatible_with(values.shape[:1]):
    raise ValueError(
      f'{keys.shape[0]} ids were given for {values.shape[0]} {what}.'
    )
  return keys


def keys_of_content(values) -> tf.Tensor:
  """Returns int32 [B, 2] keys: fingerprints of the bytes of values [B, ...]."""
  return _fingerprint(tf.convert_to_tensor(values))


def _fingerprint(data: tf.Tensor) -> tf.Tensor:
  return tf.bitcast(tf.reshape(tf.fingerprint(data), [-1, 2, 4]), tf.int32)


def fold(keys, purpose: int, number=0) -> tf.Tensor:
  """Returns int32 [B, 2] seeds: keys [B, 2] bound to (purpose, number).

  The pair (purpose, number) is turned into random bits, which are XORed into
  and then added to every key: unequal keys stay unequal, seeds of unequal pairs
  are unrelated, and folds neither commute nor undo each other.

  Args:
    keys: int32 [B, 2].
    purpose: a `Purpose`.
    number: an integer or scalar integer tensor, e.g. a seed or a sample index,
      -2^31..2^31 - 1.

  Raises:
    ValueError: the number does not fit 32 bits.
  """
  pair = tf.stack([as_seed(number), tf.constant(int(purpose), tf.int32)])
  bits = _bits([4], pair)
  return tf.bitwise.bitwise_xor(keys, bits[:2]) + bits[2:]


def as_seed(number) -> tf.Tensor:
  """Returns an integer or scalar integer tensor as int32.

  Raises:
    ValueError: it is no integer, or does not fit: it would be taken for another
      seed.
  """
  if tf.is_tensor(number) and tf.executing_eagerly():
    number = number.numpy()
  if tf.is_tensor(number):
    if not number.dtype.is_integer or number.shape.rank not in (0, None):
      raise ValueError(
        f'a seed must be an integer, found {number.dtype.name} {number.shape}.'
      )
    return tf.cast(number, tf.int32)
  try:
    whole = operator.index(number)
  except TypeError:
    whole = None
  if whole is None or isinstance(number, bool):
    raise ValueError(f'a seed must be an integer, found {number!r}.')
  if not -(2**31) <= whole < 2**31:
    raise ValueError(f'a seed must be -2^31..2^31 - 1, found {number}.')
  return tf.constant(whole, tf.int32)


def _bits(shape, seed) -> tf.Tensor:
  """Returns int32 of all patterns, alike eagerly, in graphs and under XLA."""
  return tf.random.stateless_uniform(
    shape, seed, minval=None, maxval=None, dtype=tf.int32, alg='philox'
  )


def _float(bits: tf.Tensor) -> tf.Tensor:
  """Returns float32 in [0, 1) of the upper 24 bits of uint32.

  Not `stateless_uniform`'s own floats: XLA's are others than TensorFlow's.
  """
  upper = tf.bitwise.right_shift(bits, _u32(8))
  return tf.cast(upper, tf.float32) * 2.0**-24


def _per_example(draw, seeds, shape, dtype) -> tf.Tensor:
  return tf.map_fn(draw, seeds, fn_output_signature=tf.TensorSpec(shape, dtype))


def integers(seeds, shape) -> tf.Tensor:
  """Returns int32 of all patterns [B, *shape], one draw per seed [B, 2]."""
  return _per_example(lambda seed: _bits(shape, seed), seeds, shape, tf.int32)


def uniform(seeds, shape) -> tf.Tensor:
  """Returns float32 uniforms in [0, 1), [B, *shape], one draw per seed [B, 2].

  Args:
    seeds: int32 [B, 2].
    shape: static shape of one example's draw.
  """
  return _per_example(
    lambda seed: _float(tf.bitcast(_bits(shape, seed), tf.uint32)),
    seeds,
    shape,
    tf.float32,
  )


def normal(
  seeds, shape, *, first=0, count: int = 1, dtype='float32'
) -> tf.Tensor:
  """Returns standard Gaussians [count, B, *shape].

  Every seed has an endless sequence of draws of this shape, numbered from 0;
  a draw is the same whichever others are asked for with it.

  Args:
    seeds: int32 [B, 2].
    shape: static shape of one draw.
    first: number of the first draw, an integer or scalar integer tensor.
    count: how many consecutive draws.
    dtype: float32, or float64: the same draws to more digits. Libraries differ
      in the last digit of erfinv.
  """
  size = math.prod(shape)
  # Whole vectors of 16 lanes: in the tail of a buffer, erfinv is computed by
  # scalar code with another last bit, and a draw must not depend on its place.
  padded = -(-size // 16) * 16
  # Philox makes four words per count of its counter.
  start = tf.cast(first, tf.uint64) * tf.constant(padded // 4, tf.uint64)
  counter = tf.stack([start, tf.constant(0, tf.uint64)])

  def draw(seed):
    # The raw operation: the stateless API cannot start in mid-sequence.
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
      shape=[count, padded],
      key=tf.reshape(tf.bitcast(seed, tf.uint64), [1]),
      counter=counter,
      alg=tf.random.Algorithm.PHILOX.value,
      dtype=tf.int32,
    )

  bits = _per_example(draw, seeds, [count, padded], tf.int32)
  # 23 bits, centred: symmetric about 0 and never -1 or 1, where erfinv is
  # infinite; the tails end at 5.3 sigma.
  upper = tf.bitwise.right_shift(tf.bitcast(bits, tf.uint32), _u32(9))
  centred = tf.cast(upper, tf.float32) * 2.0**-22 + (2.0**-23 - 1.0)
  # Exact in float32 already.
  centred = tf.cast(centred, dtype)
  values = tf.constant(np.sqrt(2.0), dtype) * tf.math.erfinv(centred)
  values = tf.transpose(values[..., :size], [1, 0, 2])
  return tf.reshape(values, [count, -1, *shape])


def hashed_uniform(seeds, count: int) -> tf.Tensor:
  """Returns float32 [B, count] in [0, 1): cheap numbers per seed [B, 2].

  A vectorised integer hash (the finaliser of MurmurHash3, three rounds); for
  decisions such as a flip, where one Philox call per example would cost more
  than the decision. Not for scores or noise.
  """
  words = tf.bitcast(seeds, tf.uint32)
  lanes = tf.constant(
    [(0x9E3779B9 * (i + 1)) % 2**32 for i in range(count)], tf.uint32
  )
  bits = _mix(words[:, :1] + lanes[None, :])
  bits = _mix(tf.bitwise.bitwise_xor(bits, words[:, 1:]) + lanes[None, :])
  return _float(bits)


def _u32(value: int) -> tf.Tensor:
  return tf.constant(value, tf.uint32)


def _mix(bits: tf.Tensor) -> tf.Tensor:
  """The finaliser of MurmurHash3 on uint32 values."""
  for multiplier, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
    bits = tf.bitwise.bitwise_xor(
      bits, tf.bitwise.right_shift(bits, _u32(shift))
    ) * _u32(multiplier)
  return bits


def generator(purpose: Purpose, *words) -> np.random.Generator:
  """Returns a NumPy generator for (purpose, words); words are ints or strings.

  For draws that belong to no example, e.g. the order of an epoch.
  """
  text = '\x00'.join([str(int(purpose)), *map(str, words)])
  digest = hashlib.sha256(text.encode()).digest()
  return np.random.Generator(
    np.random.Philox(np.random.SeedSequence(int.from_bytes(digest, 'big')))
  )
