"""From scores to rankings.

Scores are float [B, H, W, C]. A ranking is a uint8 level map [B, H, W, 1]
(`pixel`) or [B, H, W, C] (`element`): the element with rank r (0 = most
important) of N has level ceil(100 (r + 1) / N), so that `level <= t` selects
exactly floor(t N / 100) elements for every whole percentage t.

Scores that are draws may ask for Bernoulli counts instead: every level is then
independent and uniform on 1..100, and `level <= t` selects each element with
probability t / 100, whatever happens to the others.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from roar_tf import randomness

GRANULARITIES = ('pixel', 'element')
TIES = ('random', 'index')
COUNTS = ('exact', 'bernoulli')


@dataclasses.dataclass(frozen=True)
class Ranking:
  """How scores become rankings, set by gin.

  Attributes:
    ties: `random` breaks ties at random, or `index`, as the paper's released
      code did, gives them to the lowest index: row by row from the top left.
      An estimator with many equal scores then removes the top of the image.
  """

  ties: str = 'random'

  def __post_init__(self):
    """Raises ValueError for an unknown way to break ties."""
    _check_choice('ties', self.ties, TIES)


def _check_choice(name: str, value, known: tuple[str, ...]) -> None:
  if value not in known:
    raise ValueError(f'{name} must be one of {known}, found {value!r}.')


def rank(
  scores,
  *,
  granularity='pixel',
  ids=None,
  seed=0,
  ties='random',
  counts='exact',
) -> tf.Tensor:
  """Ranks the pixels or elements of every image, highest score first.

  Args:
    scores: float [B, H, W, C], higher is more important, signed.
    granularity: 'pixel' sums the channels before ranking, as most estimators
      are shown; 'element' ranks every channel value by itself, as the paper's
      released code did.
    ids: strings or integers [B] that name the examples; a fingerprint of each
      example's scores if None.
    seed: integer; with the id it decides how ties are broken.
    ties: 'random' breaks ties at random; 'index' gives them to the lowest
      index, row by row from the top left, as the released code did.
    counts: 'exact' selects the same number of elements in every image;
      'bernoulli' reads the scores as independent uniforms in [0, 1], e.g. those
      of `random_bernoulli`, and selects each element by its own draw (a pixel
      by that of its first channel). There are no ties then.

  Returns:
    uint8 level maps [B, H, W, 1] or [B, H, W, C], values 1..100.

  Raises:
    ValueError: wrong shape, dtype, granularity, ties or counts; scores that
      are not finite (the first such example is named), or that are no uniforms
      where counts are Bernoulli.
  """
  scores = tf.convert_to_tensor(scores)
  if scores.shape.rank != 4 or not scores.dtype.is_floating:
    raise ValueError(
      'scores must be floating point [batch, height, width, channels], found '
      f'{scores.dtype.name} {scores.shape}.'
    )
  _check_choice('granularity', granularity, GRANULARITIES)
  _check_choice('ties', ties, TIES)
  _check_choice('counts', counts, COUNTS)
  if tf.executing_eagerly():
    check_finite(scores, ids)
    if counts == 'bernoulli':
      _check_uniforms(scores)
  if ids is None:
    keys = randomness.keys_of_content(scores)
  else:
    keys = randomness.keys_of_ids(ids)
    if not keys.shape[:1].is_compatible_with(scores.shape[:1]):
      raise ValueError(
        f'{keys.shape[0]} ids were given for {scores.shape[0]} examples.'
      )
  keys = randomness.fold(keys, randomness.Purpose.SEED, seed)
  return levels(scores, keys, granularity, ties, counts)


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


def _check_uniforms(scores) -> None:
  lowest, highest = float(tf.reduce_min(scores)), float(tf.reduce_max(scores))
  if lowest < 0 or highest > 1:
    raise ValueError(
      "counts='bernoulli' needs scores that are uniform draws from 0 to 1, "
      f'found {lowest:g} to {highest:g}.'
    )


@tf.function
def levels(
  scores, keys, granularity: str, ties: str = 'random', counts: str = 'exact'
) -> tf.Tensor:
  """The compiled part of `rank`: scores [B, H, W, C], int32 keys [B, 2]."""
  if counts == 'bernoulli':
    return _bernoulli_levels(
      scores[..., :1] if granularity == 'pixel' else scores
    )
  if granularity == 'pixel':
    scores = tf.reduce_sum(scores, axis=-1, keepdims=True)
  shape = scores.shape[1:]
  count = shape.num_elements()
  scores = tf.reshape(scores, [-1, count])
  # -0.0 equals 0.0 for a reader, but not for every sort.
  scores = tf.where(scores == 0, tf.zeros_like(scores), scores)
  if ties == 'index':
    order = _descending(scores)
  else:
    # A random permutation first, then a stable sort: ties fall in random order.
    draws = randomness.integers(
      randomness.fold(keys, randomness.Purpose.TIES), [count]
    )
    shuffled = tf.argsort(draws, axis=-1, stable=True)
    order = _descending(tf.gather(scores, shuffled, batch_dims=1))
    order = tf.gather(shuffled, order, batch_dims=1)
  ranks = tf.argsort(order, axis=-1, stable=True)  # Inverse permutation.
  level = (100 * (ranks + 1) + count - 1) // count
  return tf.cast(tf.reshape(level, [-1, *shape]), tf.uint8)


def _descending(scores) -> tf.Tensor:
  """Returns the order [B, N] of scores [B, N]; of equals the first is first."""
  return tf.argsort(scores, axis=-1, direction='DESCENDING', stable=True)


def _bernoulli_levels(uniforms) -> tf.Tensor:
  """Returns uint8 levels: 1..100, equally likely for uniforms in [0, 1)."""
  # A high score is a low level, as in every ranking.
  level = tf.math.ceil(100 * (1 - uniforms))
  return tf.cast(tf.clip_by_value(level, 1, 100), tf.uint8)
