"""From scores to rankings.

Scores are float [B, H, W, C]. A ranking is a uint8 level map [B, H, W, 1]
(`pixel`) or [B, H, W, C] (`element`): the element with rank r (0 = most
important) of N has level ceil(100 (r + 1) / N), so that `level <= t` selects
exactly floor(t N / 100) elements for every whole percentage t.

Scores that are draws may ask for Bernoulli counts instead: every level is then
independent and uniform on 1..100, and `level <= t` selects each element with
probability t / 100, whatever happens to the others.

With *cuts*, a few whole percentages, a map stores the smallest cut >= level and
100 above the last: it takes half the bytes and says nothing about thresholds
that are no cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from roar_tf import errors, lazy, randomness, scaling
from roar_tf.lazy import tf

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
    cuts: the only thresholds that a ranking is for, whole percentages such as
      (10, 30, 50, 70, 90): its maps then take half the bytes. All of 1..100 if
      None.
  """

  ties: str = 'random'
  cuts: tuple[int, ...] | None = None

  def __post_init__(self):
    """Raises ValueError for an unknown way to break ties, or for no cuts."""
    errors.check_choice('ties', self.ties, TIES)
    object.__setattr__(self, 'cuts', _checked_cuts(self.cuts))

  def check_threshold(self, threshold: int) -> None:
    """Raises UsageError for a threshold that the stored maps cannot tell."""
    if self.cuts is not None and threshold not in self.cuts:
      raise errors.UsageError(
        f'Threshold {threshold} is none of gin parameter Ranking.cuts = '
        f'{self.cuts}, and a ranking keeps no others: take one of them, or '
        'rank in another workspace with other cuts.'
      )


def _checked_cuts(cuts) -> tuple[int, ...] | None:
  """Returns cuts as a tuple of integers; raises ValueError otherwise."""
  if cuts is None:
    return None
  try:
    whole = tuple(int(cut) for cut in cuts)
    valid = whole == tuple(cuts) and not isinstance(cuts, str)
    # Increasing within 1..100 also says that no cut is given twice.
    valid = valid and whole and sorted({*whole} & {*range(1, 101)}) == [*whole]
  except (TypeError, ValueError):
    valid = False
  if not valid:
    raise ValueError(
      'cuts must be increasing whole percentages from 1 to 100 such as '
      f'(10, 30, 50, 70, 90), found {cuts!r}.'
    )
  return whole


def rank(
  scores,
  *,
  granularity='pixel',
  ids=None,
  seed=0,
  ties='random',
  counts='exact',
  cuts=None,
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
    cuts: increasing whole percentages; a map then holds the smallest cut >=
      level, 100 above the last, and is good for thresholds among the cuts
      only: there it gives the same masks, bit for bit.

  Returns:
    uint8 level maps [B, H, W, 1] or [B, H, W, C], values 1..100.

  Raises:
    ValueError: wrong shape, dtype, granularity, ties, counts or cuts; scores
      that are not finite (the first such example is named), or that are no
      uniforms where counts are Bernoulli.
  """
  if isinstance(scores, Mapping):
    first = next(iter(scores), 'grad')
    raise ValueError(
      'scores are those of one estimator, found a dict of those of '
      f'{", ".join(map(str, scores))}: rank one of them, as in '
      f'rank(scores[{first!r}]).'
    )
  scores = tf.convert_to_tensor(scores)
  if scores.shape.rank != 4 or not scores.dtype.is_floating:
    raise ValueError(
      'scores must be floating point [batch, height, width, channels], found '
      f'{scores.dtype.name} {scores.shape}.'
    )
  errors.check_choice('granularity', granularity, GRANULARITIES)
  errors.check_choice('ties', ties, TIES)
  errors.check_choice('counts', counts, COUNTS)
  cuts = _checked_cuts(cuts)
  if tf.executing_eagerly():
    check_finite(scores, ids)
    if counts == 'bernoulli':
      _check_uniforms(scores)
  keys = randomness.keys_of(scores, ids, 'examples')
  keys = randomness.fold(keys, randomness.Purpose.SEED, seed)
  return levels(scores, keys, granularity, ties, counts, cuts)


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


@lazy.function
def levels(
  scores,
  keys,
  granularity: str,
  ties: str = 'random',
  counts: str = 'exact',
  cuts: tuple[int, ...] | None = None,
  groups=None,
) -> tf.Tensor:
  """The compiled part of `rank`: scores [B, H, W, C], int32 keys [B, 2].

  With groups, int8 [B, H, W, 1 or C] as the level maps have it, what is of a
  lower one comes first, whatever its scores.
  """
  if counts == 'bernoulli':
    level = _bernoulli_levels(
      scores[..., :1] if granularity == 'pixel' else scores
    )
  else:
    level = _exact_levels(scores, keys, granularity, ties, groups)
  return level if cuts is None else _at_cuts(level, cuts)


def _exact_levels(
  scores, keys, granularity: str, ties: str, groups
) -> tf.Tensor:
  """Returns uint8 levels, each whole percentage in its exact number."""
  scores = scaling.sortable(scaling.at_least_float32(scores))
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
  if groups is not None:
    groups = tf.gather(tf.reshape(groups, [-1, count]), order, batch_dims=1)
    first = tf.argsort(groups, axis=-1, stable=True)
    order = tf.gather(order, first, batch_dims=1)
  ranks = tf.argsort(order, axis=-1, stable=True)  # Inverse permutation.
  level = (100 * (ranks + 1) + count - 1) // count
  return tf.cast(tf.reshape(level, [-1, *shape]), tf.uint8)


@lazy.function
def permute(levels, keys, share: int) -> tf.Tensor:
  """Swaps the levels at some random positions of each map among themselves.

  Every level keeps its number. Positions of a smaller share are among those of
  a larger one.

  Args:
    levels: uint8 [B, H, W, 1 or C].
    keys: int32 [B, 2]; they decide the positions, and who gets which level.
    share: whole percentage t of the N positions: floor(t N / 100) of them.

  Returns:
    uint8 maps of the same shape.
  """
  shape = levels.shape[1:]
  count = shape.num_elements()
  seeds = randomness.fold(keys, randomness.Purpose.PERMUTATION)
  draws = randomness.integers(seeds, [2, count])
  order = tf.argsort(draws[:, 0], axis=-1, stable=True)
  chosen = share * count // 100
  swapped = tf.argsort(draws[:, 1, :chosen], axis=-1, stable=True)
  ordered = tf.gather(tf.reshape(levels, [-1, count]), order, batch_dims=1)
  ordered = tf.concat(
    [
      tf.gather(ordered[:, :chosen], swapped, batch_dims=1),
      ordered[:, chosen:],
    ],
    axis=1,
  )
  inverse = tf.argsort(order, axis=-1, stable=True)
  return tf.reshape(tf.gather(ordered, inverse, batch_dims=1), [-1, *shape])


def _descending(scores) -> tf.Tensor:
  """Returns the order [B, N] of scores [B, N]; of equals the first is first."""
  return tf.argsort(scores, axis=-1, direction='DESCENDING', stable=True)


def _bernoulli_levels(uniforms) -> tf.Tensor:
  """Returns uint8 levels: 1..100, equally likely for uniforms in [0, 1)."""
  # A high score is a low level, as in every ranking.
  level = tf.math.ceil(100 * (1 - uniforms))
  return tf.cast(tf.clip_by_value(level, 1, 100), tf.uint8)


def _at_cuts(level, cuts: tuple[int, ...]) -> tf.Tensor:
  """Returns the smallest cut >= level, 100 above the last; uint8 as level."""
  stored = tf.fill(tf.shape(level), tf.constant(100, tf.uint8))
  for cut in reversed(cuts):
    cut = tf.constant(cut, tf.uint8)
    stored = tf.where(level <= cut, cut, stored)
  return stored
