"""Cells: the modified datasets of a source, and how they are named."""

import dataclasses
import re

from roar_tf import errors, fills, masking, ranking

ORIGINAL = 'original'
"""The cell of unmodified images (t = 0), shared by all estimators."""

FILLS = fills.NAMES

_ESTIMATOR = re.compile('[a-z_][a-z0-9_]*')
_MODEL = r'_model(?P<model>[1-9]\d*)'


def check_estimator_name(name: str) -> None:
  """Raises UsageError for what can be no name of an estimator.

  Whether there is one of that name is not known here: it may be registered, or
  a workspace may hold rankings of that name.
  """
  if (
    not isinstance(name, str)
    or not _ESTIMATOR.fullmatch(name)
    or name == ORIGINAL
  ):
    raise errors.UsageError(
      'An estimator is named by a lower-case identifier (a-z, 0-9 and _) other '
      f'than "{ORIGINAL}", found {name!r}.'
    )


def check_granularity(name: str) -> None:
  """Raises UsageError if there is no such granularity."""
  _check_known('granularity', name, ranking.GRANULARITIES)


def _check_known(title: str, value, known) -> None:
  if value not in known:
    raise errors.UsageError(
      f'Unknown {title} "{value}".{errors.nearest(str(value), known)} '
      f'Known: {", ".join(known)}.'
    )


def of_model(name: str, model: int) -> str:
  """Returns the name of what belongs to one of several explained models.

  Args:
    name: that of the first model's: a source, for the model itself, a ranking
      or a cell.
    model: the model's number, from 0.
  """
  return f'{name}_model{model}' if model else name


def split_model(name: str) -> tuple[str, int]:
  """Returns what `of_model` was called with."""
  match = re.fullmatch(f'(?P<name>.+){_MODEL}', name)
  return (match['name'], int(match['model'])) if match else (name, 0)


def name_of(
  estimator: str,
  granularity: str,
  mode: str,
  threshold: int,
  fill: str,
  model: int = 0,
) -> str:
  """Returns `<estimator>_<granularity>_<mode>_<t>`, `_<fill>` if not mean.

  And `_model<k>` if the explained model is not the first one. The estimator
  `original` stands for the unmodified images.
  """
  if estimator == ORIGINAL:
    return ORIGINAL
  base = f'{estimator}_{granularity}_{mode}_{threshold}'
  return of_model(base if fill == 'mean' else f'{base}_{fill}', model)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One modified dataset of a source; its estimator need not be registered.

  Attributes:
    estimator: whose ranking says what is replaced.
    granularity: of the ranking.
    mode: `remove` or `keep`.
    threshold: whole percentage.
    fill: what replaces.
    model: which of several explained models was ranked, from 0.
  """

  estimator: str
  granularity: str
  mode: str
  threshold: int
  fill: str = 'mean'
  model: int = 0

  def __post_init__(self):
    """Raises UsageError for an impossible name, part or threshold."""
    check_estimator_name(self.estimator)
    check_granularity(self.granularity)
    _check_known('mode', self.mode, masking.MODES)
    _check_known('fill', self.fill, FILLS)
    try:
      threshold = masking.check_threshold(self.threshold)
    except (TypeError, ValueError) as e:
      raise errors.UsageError(f'Threshold: {e}') from e
    object.__setattr__(self, 'threshold', threshold)  # 30.0 becomes 30.

  @property
  def name(self) -> str:
    """See `name_of`."""
    # Not by dataclasses.astuple, which copies deeply: a big study asks for
    # hundreds of thousands of names.
    return name_of(
      self.estimator,
      self.granularity,
      self.mode,
      self.threshold,
      self.fill,
      self.model,
    )

  @property
  def ranking(self) -> str:
    """`<estimator>_<granularity>`, plus `_model<k>` unless the first."""
    return of_model(f'{self.estimator}_{self.granularity}', self.model)


_CELL = re.compile(
  r'(?P<estimator>.+)_(?P<granularity>pixel|element)_(?P<mode>remove|keep)'
  r'_(?P<threshold>\d+)'
  rf'(?:_(?P<fill>.+?))??(?:{_MODEL})?'
)


def is_cell(name: str) -> bool:
  """Whether a name is built like that of a cell."""
  return _CELL.fullmatch(name) is not None


def parse_cell(name: str, what: str = '--cell=') -> Cell | None:
  """Returns the cell of a name; None for `original`.

  Args:
    name: the name.
    what: stands before it in a message.

  Raises:
    UsageError: no cell has such a name.
  """
  if name == ORIGINAL:
    return None
  match = _CELL.fullmatch(name)
  if not match:
    raise errors.UsageError(
      f'{what}{name} is no cell; a cell is "original" or '
      '<estimator>_<pixel|element>_<remove|keep>_<threshold>, e.g. '
      'sg_sq_grad_pixel_remove_90.'
    )
  parts = match.groupdict()
  return Cell(
    parts['estimator'],
    parts['granularity'],
    parts['mode'],
    int(parts['threshold']),
    parts['fill'] or 'mean',
    int(parts['model'] or 0),
  )
