"""The grid of a study: a product of named axes; one integer picks one run."""

import dataclasses
import itertools
import re
from collections.abc import Iterator

import gin

from roar_tf import errors
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.estimators import registry

MASKINGS = ('shards', 'ranking')
RANDOMS = ('random', 'random_bernoulli')
"""Controls that may stand for a study's `random`."""

_NAME = re.compile(r'[^\W_][^\x00-\x1f\x7f/\\*?\[\]\ud800-\udfff]*')


@dataclasses.dataclass(frozen=True)
class Run:
  """One accuracy: of a cell (None: `original`), a seed and an input.

  Attributes:
    study: name of the study.
    source: name of the source.
    cell: the modified dataset.
    seed: of the training; the explained model's where nothing is trained.
    input: `image`, a model retrained on the masked images (ROAR, KAR);
      `maskonly`, one retrained on the binary masks alone: whatever it finds is
      class information in the shape of the mask (Rong et al. 2022); `deletion`,
      the explained model on the masked test images, without any retraining
      (paper, Fig. 3).
  """

  study: str
  source: str
  cell: Cell | None
  seed: int
  input: str = 'image'

  @property
  def cell_name(self) -> str:
    """The cell's name."""
    return self.cell.name if self.cell else ORIGINAL

  @property
  def folder(self) -> str:
    """The cell's name, and the input unless it is images."""
    suffix = '' if self.input == 'image' else f'_{self.input}'
    return self.cell_name + suffix

  @property
  def trains(self) -> bool:
    """Whether a model is trained for it."""
    return self.input != 'deletion'

  @property
  def reads_cell(self) -> bool:
    """Whether it looks at the masked images of a cell."""
    return self.cell is not None and self.input != 'maskonly'

  @property
  def columns(self) -> dict:
    """What results.csv says of the run's identity."""
    cell = self.cell
    return {
      'study': self.study,
      'source': self.source,
      'estimator': cell.estimator if cell else ORIGINAL,
      'granularity': cell.granularity if cell else '',
      'mode': cell.mode if cell else '',
      'threshold': cell.threshold if cell else 0,
      'fill': cell.fill if cell else 'mean',
      'input': self.input,
      'seed': self.seed,
    }

  def __str__(self):
    """Returns `source/folder/seed_n`."""
    return f'{self.source}/{self.folder}/seed_{self.seed}'


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
    masking: `shards` trains from masked TFRecords, `ranking` masks on the fly.
    mask_only_seeds: retrainings on the masks alone of every cell of the first
      mode and fill (the others have the same masks, or their complements).
    deletion: whether the explained model is tested on every cell, too.
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
  masking: str = 'shards'
  mask_only_seeds: int = 0
  deletion: bool = False
  random: str = 'random'

  def __post_init__(self):
    """Raises UsageError for axes that are empty or hold unknown names."""
    if not _NAME.fullmatch(self.name):
      raise errors.UsageError(
        'A study is called by its gin file, and gives its name to folders: '
        f'rename the file "{self.name}.gin" so that its name begins with a '
        'letter or digit and has none of /\\*?[] in it, e.g. my_study.gin.'
      )
    self._check_axes()
    for name in ('seeds', 'original_seeds'):
      value = getattr(self, name)
      if value is not None and not (isinstance(value, int) and value >= 1):
        raise errors.UsageError(
          f'gin parameter Study.{name} must be 1 or more, found {value!r}.'
        )
    if not (
      isinstance(self.mask_only_seeds, int) and self.mask_only_seeds >= 0
    ):
      raise errors.UsageError(
        'gin parameter Study.mask_only_seeds must be 0 or more, found '
        f'{self.mask_only_seeds!r}.'
      )
    if not isinstance(self.deletion, bool):
      raise errors.UsageError(
        'gin parameter Study.deletion must be True or False, found '
        f'{self.deletion!r}.'
      )
    for name, known in (('masking', MASKINGS), ('random', RANDOMS)):
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
    if not all(isinstance(source, str) for source in self.sources):
      raise errors.UsageError(
        'gin parameter Study.sources must be names of sources, found '
        f'{self.sources!r}.'
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
    """Returns all runs on one source: image, mask-only, deletion.

    `original` comes first, then cell by cell.
    """
    cells = list(self.cells())
    runs = [
      Run(self.name, source, cell, first_seed + n)
      for cell in (None, *cells)
      for n in range(self.seeds if cell else self.original_seeds or self.seeds)
    ]
    runs += [
      Run(self.name, source, cell, first_seed + n, 'maskonly')
      for cell in cells
      if (cell.mode, cell.fill) == (self.modes[0], self.fills[0])
      for n in range(self.mask_only_seeds)
    ]
    if self.deletion:
      # Scores from files explain a model that is elsewhere.
      ours = [cell for cell in cells if registry.find(cell.estimator)]
      runs += [
        Run(self.name, source, cell, first_seed, 'deletion')
        for cell in (None, *ours)
        if ours
      ]
    return runs
