"""From scores to rankings.

Scores are float [B, H, W, C]. A ranking is a uint8 level map [B, H, W, 1]
(`pixel`) or [B, H, W, C] (`element`): the element with rank r (0 = most
important) of N has level ceil(100 (r + 1) / N), so that `level <= t` selects
exactly floor(t N / 100) elements for every whole percentage t.
"""

import numpy as np
import tensorflow as tf

from roar_tf import randomness

GRANULARITIES = ('pixel', 'element')


def rank(scores, *, granularity='pixel', ids=None, seed=0) -> tf.Tensor:
  """Ranks the pixels or elements of every image, highest score first.

  Args:
    scores: float [B, H, W, C], higher is more important, signed.
    granularity: 'pixel' sums the channels before ranking, as most estimators
      are shown; 'element' ranks every channel value by itself, as the paper's
      released code did.
    ids: strings or integers [B] that name the examples; a fingerprint of each
      example's scores if None.
    seed: integer; with the id it decides how ties are broken.

  Returns:
    uint8 level maps [B, H, W, 1] or [B, H, W, C], values 1..100.

  Raises:
    ValueError: wrong shape, dtype or granularity, or scores that are not
      finite (the first such example is named).
  """
  scores = tf.convert_to_tensor(scores)
  if scores.shape.rank != 4 or not scores.dtype.is_floating:
    raise ValueError(
      'scores must be floating point [batch, height, width, channels], found '
      f'{scores.dtype.name} {scores.shape}.'
    )
  if granularity not in GRANULARITIES:
    raise ValueError(
      f'granularity must be one of {GRANULARITIES}, found {granularity!r}.'
    )
  if tf.executing_eagerly():
    check_finite(scores, ids)
  if ids is None:
    keys = randomness.keys_of_content(scores)
  else:
    keys = randomness.keys_of_ids(ids)
    if not keys.shape[:1].is_compatible_with(scores.shape[:1]):
      raise ValueError(
        f'{keys.shape[0]} ids were given for {scores.shape[0]} examples.'
      )
  return levels(
    scores, randomness.fold(keys, randomness.Purpose.SEED, seed), granularity
  )


def check_finite(scores, ids=None, estimator: str = 'the estimator') -> None:
  """Raises ValueError naming the first example with NaN or infinite scores."""
  finite = tf.reduce_all(tf.math.is_finite(scores), axis=[1, 2, 3]).numpy()
  if finite.all():
    return
  index = int(np.argmin(finite))
  name = f'number {index} of the batch'
  if ids is not None:
    value = np.asarray(ids)[index]
    name = repr(value.decode() if isinstance(value, bytes) else str(value))
  raise ValueError(
    f'{estimator} gave NaN or infinite scores for example {name}; a ranking '
    'needs finite scores: check the model and the estimator on that image.'
  )


@tf.function
def levels(scores, keys, granularity: str) -> tf.Tensor:
  """The compiled part of `rank`: scores [B, H, W, C], int32 keys [B, 2]."""
  if granularity == 'pixel':
    scores = tf.reduce_sum(scores, axis=-1, keepdims=True)
  shape = scores.shape[1:]
  count = shape.num_elements()
  scores = tf.reshape(scores, [-1, count])
  # -0.0 equals 0.0 for a reader, but not for every sort.
  scores = tf.where(scores == 0, tf.zeros_like(scores), scores)
  # A random permutation first, then a stable sort: ties fall in random order.
  ties = randomness.integers(
    randomness.fold(keys, randomness.Purpose.TIES), [count]
  )
  shuffled = tf.argsort(ties, axis=-1, stable=True)
  order = tf.argsort(
    tf.gather(scores, shuffled, batch_dims=1),
    axis=-1,
    direction='DESCENDING',
    stable=True,
  )
  order = tf.gather(shuffled, order, batch_dims=1)
  ranks = tf.argsort(order, axis=-1, stable=True)  # Inverse permutation.
  level = (100 * (ranks + 1) + count - 1) // count
  return tf.cast(tf.reshape(level, [-1, *shape]), tf.uint8)
