"""Whose level map every image of a split gets in a shuffled ranking.

A donor is a function of (seed, split, ids and classes in their order) alone. So
that a unit reads few shards, donors are near in an order of all images of the
split: its shards in groups of `GROUP`, drawn at random, and the images of a
group at random. Images may lie sorted by class: a group then has the classes of
as many shards, and their images get each other's maps.

* `shuffle`: the next image in that order, cyclic. Every map is used once.
* `shuffle_same`: the next image of the same class. Every map is used once.
* `shuffle_other`: as `shuffle`; images that would get a map of their own class
  exchange it with images of other classes. Every map is used once, unless more
  than half of the images have one class: these then use some maps of the other
  classes several times.

Never does an image get its own map.
"""

from collections.abc import Sequence

import numpy as np

from roar_tf import randomness

GROUP = 16
"""Most shards whose images get each other's maps: it bounds what a unit reads,
and images that lie sorted by class get maps from at least half as many."""


class NoDonorError(ValueError):
  """An image has no other one to take a map from.

  Attributes:
    label: the class of that image.
  """

  def __init__(self, label: int):
    super().__init__(label)
    self.label = label


def donors(
  kind: str,
  seed: int,
  split: str,
  counts: Sequence[int],
  keys: np.ndarray,
  labels: np.ndarray,
) -> np.ndarray:
  """Returns the position of every image's donor, int64 [N].

  Args:
    kind: `shuffle`, `shuffle_same` or `shuffle_other`.
    seed: of the rankings.
    split: its name.
    counts: images of every shard.
    keys: int32 [N, 2], of the images' ids, in the order of the shards.
    labels: integers [N], their classes.

  Raises:
    NoDonorError: an image has no other one, of a class that suits.
  """
  group = _groups(seed, split, counts)
  seeds = randomness.fold(keys, randomness.Purpose.SEED, seed)
  seeds = randomness.fold(seeds, randomness.Purpose.DONORS)
  draws = randomness.hashed_uniform(seeds, 1).numpy()[:, 0]
  if len(labels) == 1:
    raise NoDonorError(int(labels[0]))
  if kind == 'shuffle_same':
    return _next(labels, group, draws)
  found = _next(np.zeros_like(labels), group, draws)
  if kind == 'shuffle_other':
    _exchange(found, labels, np.lexsort((draws, group)))
  return found


def _groups(seed: int, split: str, counts: Sequence[int]) -> np.ndarray:
  """Returns the group of every image, int64 [N]."""
  generator = randomness.generator(randomness.Purpose.DONORS, seed, split)
  places = generator.permutation(len(counts))
  groups = -(-len(counts) // GROUP)  # Of nearly equal size: none is tiny.
  return np.repeat(places * groups // len(counts), counts)


def _next(labels, group, draws) -> np.ndarray:
  """Returns the next image of the same label, in the cyclic order of each."""
  order = np.lexsort((draws, group, labels))
  ordered = labels[order]
  starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
  sizes = np.diff(starts, append=len(order))
  if (alone := ordered[starts[sizes == 1]]).size:
    raise NoDonorError(int(alone[0]))
  after = np.arange(1, len(order) + 1)
  after[starts + sizes - 1] = starts
  found = np.empty_like(order)
  found[order] = order[after]
  return found


def _exchange(found: np.ndarray, labels: np.ndarray, order) -> None:
  """Changes donors so that none has the class of who gets its map.

  Args:
    found: donors, changed in place.
    labels: classes.
    order: all positions, those near each other whose shards are in a group.
  """
  ordered = labels[order]
  for label in np.unique(labels[labels == labels[found]]):
    of_donors = labels[found[order]]
    wrong = order[(ordered == label) & (of_donors == label)]
    partners = order[(ordered != label) & (of_donors != label)]
    count = min(len(wrong), len(partners))
    # Spread over the order as they are themselves, partners are near.
    one = wrong[_spread(count, len(wrong))]
    other = partners[_spread(count, len(partners))]
    found[one], found[other] = found[other], found[one]
    left = np.setdiff1d(wrong, one)
    if len(left):
      others = order[ordered != label]
      if not len(others):
        raise NoDonorError(int(label))
      places = np.linspace(0, len(others), len(left), endpoint=False)
      found[left] = others[places.astype(int)]


def _spread(count: int, size: int) -> np.ndarray:
  """Returns so many different places of a row of some size, evenly spread."""
  return np.arange(count) * size // max(count, 1)
