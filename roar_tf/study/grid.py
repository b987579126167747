"""The grid of a study: a product of named axes; one integer picks one run."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator

import gin

from roar_tf import errors, masking
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.estimators import registry
from roar_tf.estimators.names import is_control

MASKINGS = ('shards', 'ranking')
RANDOMS = ('random', 'random_bernoulli')
"""Controls that may stand for a study's `random`."""
DESIGNS = ('fixed', 'sequential')
PROTOCOLS = ('plain', 'recursive')
_RANDOM_SEEDS = 12

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
    first_seed: of the study: that of its rankings and first explained model.
    protocol: of the study.
    look: at which look of a sequential study it may come due first; 0 in the
      fixed design.
  """

  study: str
  source: str
  cell: Cell | None
  seed: int
  input: str = 'image'
  first_seed: int = 0
  protocol: str = 'plain'
  look: int = 0

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
      'explained_seed': self.first_seed + (cell.model if cell else 0),
      'protocol': self.protocol,
      'look': self.look,
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
    protocol: `plain`, that of the paper: one explained model says what is
      removed at every threshold. `recursive` asks again after each retraining:
      a retraining at one threshold is explained on its own masked images, and
      of what is left there the most important part is removed at the next one
      (paper, section 6.5; Madsen et al. 2022). So a pixel that only repeats
      another one is removed, too, once a model has come to use it.
    design: `fixed` makes every run; `sequential` adds seeds to an estimator
      until its comparison with random is decided, see `looks`.
    curves: those of the estimators whose cells at `curve_thresholds`, too, are
      trained, once each: for figures, since verdicts are on `thresholds` alone.
    curve_thresholds: whole percentages beside `thresholds`.
    seeds: retrainings of every cell in the fixed design.
    explained_models: how many models are explained, each with rankings of its
      own: retraining j is of model j mod `explained_models`, so that intervals
      hold other explained models, too, from 3 on. The paper has 1. Estimators
      that ask no model have one ranking for all.
    random_seeds: retrainings of random's cells, to which all others are
      compared; None for `seeds`, or 12 in the sequential design.
    looks: in the sequential design, how many seeds an estimator has when its
      comparison is looked at. What does not compete has those of the first.
    spending: the share of the level 0.05 that each look may spend.
    original_seeds: retrainings of `original`; `seeds` if None (paper: 10), or
      those of the first look.
    masking: `shards` trains from masked TFRecords, `ranking` masks on the fly.
    mask_only_seeds: retrainings on the masks alone of every cell of the first
      mode and fill (the others have the same masks, or their complements).
    deletion: whether the explained model is tested on every cell, too.
    margin: leads over random up to it, a fraction, are no leads: estimators
      whose interval lies within it are on par with random.
    comparisons: how many comparisons with random hold together with 95 %, at
      least: those of the study, sources x modes x granularities x estimators
      that compete, count if they are more. Name a larger number before the
      first run if estimators are to be added later, so that verdicts do not
      change then.
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
  curves: tuple[str, ...] = ()
  curve_thresholds: tuple[int, ...] = ()
  protocol: str = 'plain'
  design: str = 'fixed'
  seeds: int = 5
  explained_models: int = 1
  random_seeds: int | None = None
  looks: tuple[int, ...] = (3, 4, 5, 6, 8, 10, 14)
  spending: tuple[float, ...] = (0.1, 0.2, 0.2, 0.15, 0.15, 0.1, 0.1)
  original_seeds: int | None = None
  masking: str = 'shards'
  mask_only_seeds: int = 0
  deletion: bool = False
  margin: float = 0.01
  comparisons: int | None = None
  random: str = 'random'

  def __post_init__(self):
    """Raises UsageError for axes that are empty or hold unknown names."""
    if not _NAME.fullmatch(self.name):
      raise errors.UsageError(
        'A study is called by its gin file, and gives its name to folders: '
        f'rename the file "{self.name}.gin" so that its name begins with a '
        'letter or digit and has none of /\\*?[] in it, e.g. my_study.gin.'
      )
    mistakes = errors.Mistakes()
    with mistakes.noted():
      self._check_axes()
    self._check_values(mistakes)
    mistakes.check()
    self._choose_random()
    with mistakes.noted():
      self._check_curves()
    with mistakes.noted():
      list(self.cells())  # Checks every name and threshold.
    with mistakes.noted():
      self._check_protocol()
    if self.design == 'sequential':
      self._check_looks(mistakes)
    mistakes.check()

  def _check_values(self, mistakes: errors.Mistakes) -> None:
    """Notes single values that cannot be."""
    for name in (
      'seeds',
      'explained_models',
      'random_seeds',
      'original_seeds',
      'comparisons',
    ):
      value = getattr(self, name)
      if value is not None and not (type(value) is int and value >= 1):
        mistakes.note(
          f'gin parameter Study.{name} must be 1 or more, found {value!r}.'
        )
    if not (
      isinstance(self.mask_only_seeds, int) and self.mask_only_seeds >= 0
    ):
      mistakes.note(
        'gin parameter Study.mask_only_seeds must be 0 or more, found '
        f'{self.mask_only_seeds!r}.'
      )
    if not isinstance(self.deletion, bool):
      mistakes.note(
        'gin parameter Study.deletion must be True or False, found '
        f'{self.deletion!r}.'
      )
    if not (
      isinstance(self.margin, int | float)
      and not isinstance(self.margin, bool)
      and 0 <= self.margin < 1
    ):
      mistakes.note(
        'gin parameter Study.margin must be a fraction of at least 0 and less '
        f'than 1 (0.01 is one point), found {self.margin!r}.'
      )
    for name, known in (
      ('masking', MASKINGS),
      ('random', RANDOMS),
      ('design', DESIGNS),
      ('protocol', PROTOCOLS),
    ):
      value = getattr(self, name)
      if value not in known:
        mistakes.note(
          f'gin parameter Study.{name} must be one of {known}, found {value!r}.'
        )

  def _check_axes(self):
    for axis in (
      'sources',
      'estimators',
      'thresholds',
      'modes',
      'granularities',
      'fills',
      'curves',
      'curve_thresholds',
    ):
      values = getattr(self, axis)
      if isinstance(values, str) or not isinstance(values, tuple | list):
        raise errors.UsageError(
          f'gin parameter Study.{axis} must be a tuple such as ({values!r},), '
          f'found {values!r}.'
        )
      if not values and axis not in ('curves', 'curve_thresholds'):
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

  def _check_curves(self):
    if bool(self.curves) != bool(self.curve_thresholds):
      raise errors.UsageError(
        'gin parameters Study.curves and Study.curve_thresholds belong '
        f'together, found {self.curves!r} and {self.curve_thresholds!r}.'
      )
    for name in self.curves:
      if name not in self.estimators:
        registry.parse(name)  # One that a file below leaves out, or a mistake.

  @property
  def family(self) -> int:
    """How many comparisons with random hold together, at least 1."""
    estimators = [e for e in self.estimators if not is_control(e)]
    axes = self.sources, self.modes, self.granularities, estimators
    return max(1, self.comparisons or 1, math.prod(map(len, axes)))

  def _check_protocol(self):
    if self.protocol == 'plain':
      return
    for name in self.estimators:
      known = registry.find(name)
      if known is None or (
        known.base.needs_model and (known.derivation or known.trained)
      ):
        registry.parse(name)  # Raises for a mistake.
        raise errors.UsageError(
          'gin parameter Study.protocol = "recursive" explains every retrained '
          f'model anew, and "{name}" does not ask it: leave that estimator '
          'out, or take Study.protocol = "plain".'
        )

  def _check_looks(self, mistakes: errors.Mistakes) -> None:
    """Notes looks, and shares of the level, that cannot be."""
    looks, spending = self.looks, self.spending
    rising = isinstance(looks, tuple | list) and all(
      isinstance(n, int) and n > before
      for before, n in zip((2, *looks), looks, strict=False)
    )
    if not looks or not rising:
      mistakes.note(
        'gin parameter Study.looks must be numbers of seeds, rising from 3 or '
        f'more, found {looks!r}.'
      )
    if (
      not isinstance(spending, tuple | list)
      or len(spending) != len(looks)
      or not all(isinstance(w, int | float) and w > 0 for w in spending)
      or not math.isclose(sum(spending), 1)
    ):
      mistakes.note(
        'gin parameter Study.spending must hold a positive share of the level '
        f'for each of the {len(looks)} looks, which make 1 together, found '
        f'{spending!r}.'
      )

  def _choose_random(self):
    """Puts the control that `random` names in the place of the estimator."""
    for axis in ('estimators', 'curves'):
      names = getattr(self, axis)
      chosen = [self.random if e == 'random' else e for e in names]
      # A study that names both has its stand-in once.
      object.__setattr__(self, axis, tuple(dict.fromkeys(chosen)))

  def cells(self) -> Iterator[Cell]:
    """Yields all cells but `original`; those of figures alone come last.

    They are those of the first explained model, see `explaining`.
    """
    for axes in itertools.product(
      self.estimators,
      self.granularities,
      self.modes,
      self.thresholds,
      self.fills,
    ):
      yield Cell(*axes)
    curves = [name for name in self.estimators if name in self.curves]
    thresholds = [t for t in self.curve_thresholds if t not in self.thresholds]
    for axes in itertools.product(
      curves, self.granularities, self.modes, thresholds
    ):
      yield Cell(*axes, self.fills[0])

  def competes(self, cell: Cell) -> bool:
    """Returns whether a cell belongs to a comparison that verdicts are on."""
    return (
      cell.fill == self.fills[0]
      and cell.threshold in self.thresholds
      and not is_control(cell.estimator)
    )

  def seeds_of(self, cell: Cell | None, look: int | None = None) -> int:
    """Returns how many retrainings a cell, or `original`, has.

    Args:
      cell: the cell; None for `original`.
      look: of the sequential design, the look until which; None for the last.
    """
    if cell and cell.threshold not in self.thresholds:
      return 1
    first = self.seeds
    if self.design == 'sequential':
      first = self.looks[0]
    if cell is None:
      return self.original_seeds or first
    if cell.estimator == self.random:
      sequential = self.design == 'sequential'
      return self.random_seeds or (_RANDOM_SEEDS if sequential else self.seeds)
    if self.design == 'sequential' and self.competes(cell):
      return self.looks[-1 if look is None else look - 1]
    return first

  def explaining(self, cell: Cell, n: int) -> Cell:
    """Returns a cell as retraining n of it has it, from 0.

    Args:
      cell: that of the first explained model.
      n: which retraining.
    """
    number = n % self.explained_models
    if not number or not registry.asks_model(cell.estimator):
      return cell
    return dataclasses.replace(cell, model=number)

  def before(self, cell: Cell) -> Cell | None:
    """Returns the cell whose retraining says what a cell removes, if any does.

    In the recursive protocol it is the one of which the most is removed among
    those of `thresholds` of which less is removed. Estimators that ask no model
    have nothing new to say.
    """
    if self.protocol == 'plain' or not registry.asks_model(cell.estimator):
      return None
    share = masking.removed_share
    own = share(cell.threshold, cell.mode)
    milder = [t for t in self.thresholds if share(t, cell.mode) < own]
    if not milder:
      return None
    last = max(milder, key=lambda t: share(t, cell.mode))
    return dataclasses.replace(cell, threshold=last)

  def look_of(self, cell: Cell | None, n: int) -> int:
    """Returns at which look retraining n of a cell may come due, from 1.

    0 in the fixed design.
    """
    if self.design == 'fixed':
      return 0
    if cell is None or not self.competes(cell):
      return 1
    return 1 + sum(n >= seeds for seeds in self.looks)

  def runs(self, source: str, first_seed: int = 0) -> list[Run]:
    """Returns all runs on one source: image, mask-only, deletion.

    `original` comes first, then cell by cell. In the sequential design they are
    those of all looks, so that a run keeps its place whatever is decided.
    """
    cells = list(self.cells())

    def run(cell: Cell | None, n: int, input: str) -> Run:
      look = 1 if self.design == 'sequential' else 0
      if input == 'image':
        look = self.look_of(cell, n)
      return Run(
        self.name,
        source,
        cell and self.explaining(cell, n),
        first_seed + n,
        input,
        first_seed,
        self.protocol,
        look,
      )

    runs = [
      run(cell, n, 'image')
      for cell in (None, *cells)
      for n in range(self.seeds_of(cell))
    ]
    runs += [
      run(cell, n, 'maskonly')
      for cell in cells
      if (cell.mode, cell.fill) == (self.modes[0], self.fills[0])
      and cell.threshold in self.thresholds
      for n in range(self.mask_only_seeds)
    ]
    if self.deletion:
      # Scores from files explain a model that is elsewhere.
      ours = [cell for cell in cells if registry.find(cell.estimator)]
      runs += [run(cell, 0, 'deletion') for cell in (None, *ours) if ours]
    return runs
