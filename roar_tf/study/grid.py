"""The grid of a study: a product of named axes; one integer picks one run."""

import dataclasses
import itertools
from collections.abc import Iterator

import gin

from roar_tf import errors
from roar_tf.cells import ORIGINAL, Cell

INPUTS = ('shards', 'ranking')
RANDOMS = ('random', 'random_bernoulli')
"""Controls that may stand for a study's `random`."""


@dataclasses.dataclass(frozen=True)
class Run:
  """One retraining: a cell (None: `original`) and a seed."""

  study: str
  source: str
  cell: Cell | None
  seed: int

  @property
  def cell_name(self) -> str:
    """The cell's name."""
    return self.cell.name if self.cell else ORIGINAL

  def __str__(self):
    """Returns `source/cell/seed_n`."""
    return f'{self.source}/{self.cell_name}/seed_{self.seed}'


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Study:
  """The axes of a study.

  Attributes:
    name: stem of its gin file; not a gin parameter.
    sources: names of sources, or paths of their gin files.
    estimators: names of estimators.
    thresholds: whole percentages.
    modes: `remove` (ROAR), `keep` (KAR).
    granularities: `pixel`, `element`.
    fills: what replaces removed values.
    seeds: retrainings of every cell.
    original_seeds: retrainings of `original`; `seeds` if None (paper: 10).
    input: `shards` trains from masked TFRecords, `ranking` masks on the fly.
    random: the control that takes the place of `random` among the estimators:
      `random` itself, with an exact count in every image, or
      `random_bernoulli`. So a profile can choose the control of any study.
  """

  name: str
  sources: tuple[str, ...] = gin.REQUIRED
  estimators: tuple[str, ...] = gin.REQUIRED
  thresholds: tuple[int, ...] = (10, 30, 50, 70, 90)
  modes: tuple[str, ...] = ('remove',)
  granularities: tuple[str, ...] = ('pixel',)
  fills: tuple[str, ...] = ('mean',)
  seeds: int = 5
  original_seeds: int | None = None
  input: str = 'shards'
  random: str = 'random'

  def __post_init__(self):
    """Raises UsageError for axes that are empty or hold unknown names."""
    self._check_axes()
    for name in ('seeds', 'original_seeds'):
      value = getattr(self, name)
      if value is not None and not (isinstance(value, int) and value >= 1):
        raise errors.UsageError(
          f'gin parameter Study.{name} must be 1 or more, found {value!r}.'
        )
    for name, known in (('input', INPUTS), ('random', RANDOMS)):
      value = getattr(self, name)
      if value not in known:
        raise errors.UsageError(
          f'gin parameter Study.{name} must be one of {known}, found {value!r}.'
        )
    self._choose_random()
    list(self.cells())  # Checks every name and threshold.

  def _check_axes(self):
    for axis in (
      'sources',
      'estimators',
      'thresholds',
      'modes',
      'granularities',
      'fills',
    ):
      values = getattr(self, axis)
      if isinstance(values, str) or not isinstance(values, tuple | list):
        raise errors.UsageError(
          f'gin parameter Study.{axis} must be a tuple such as ({values!r},), '
          f'found {values!r}.'
        )
      if not values:
        raise errors.UsageError(f'gin parameter Study.{axis} is empty.')
      if len(set(values)) < len(values):
        raise errors.UsageError(
          f'gin parameter Study.{axis} names something twice: {values!r}.'
        )

  def _choose_random(self):
    """Puts the control that `random` names in the place of the estimator."""
    chosen = [self.random if e == 'random' else e for e in self.estimators]
    # A study that names both has its stand-in once.
    object.__setattr__(self, 'estimators', tuple(dict.fromkeys(chosen)))

  def cells(self) -> Iterator[Cell]:
    """Yields all cells but `original`."""
    for axes in itertools.product(
      self.estimators,
      self.granularities,
      self.modes,
      self.thresholds,
      self.fills,
    ):
      yield Cell(*axes)

  def runs(self, source: str, first_seed: int = 0) -> list[Run]:
    """Returns all runs on one source, `original` first."""
    runs = []
    for cell in (None, *self.cells()):
      count = self.seeds if cell else self.original_seeds or self.seeds
      runs += [
        Run(self.name, source, cell, first_seed + n) for n in range(count)
      ]
    return runs
