"""Families of estimators, and the look of each line in every figure.

A name is prefixes before a base: `sg_sq_ig` is `sg_sq_` of `ig`. The paper
groups its estimators by prefix (Figs. 4 and 6) and so do the figures: colour
and marker say the base, dashes the prefix, so that a reader finds one base
again in every panel, also without colours.
"""

import dataclasses
import itertools
from collections.abc import Iterable

from roar_tf.analysis import results
from roar_tf.estimators.names import is_control

# Of each prefix the family and the dash. The longest come first: `sg_sq_` is
# not `sg_`.
_PREFIXES = {
  'sg_sq_': ('squares', 0),
  'sq_sg_': ('squared', 4),
  'blur_': ('smoothed', 1),
  'max_': ('smoothed', 3),
  'var_': ('squares', 1),
  'sg_': ('sg', 1),
  'sq_': ('squared', 3),
  '': ('base', 0),
}
FAMILIES = {
  'base': 'Single estimates',
  'sg': 'SmoothGrad',
  'squares': 'SmoothGrad squared, VarGrad',
  'squared': 'Squared',
  'smoothed': 'Blurred and max-filtered maps',
  'controls': 'Controls',
}
"""Titles of the panels, in their order."""
INK, GREY = 'ink', 'grey'
# Okabe and Ito's colours without yellow, which is too light for a line, and
# black, which is random's.
PALETTE = {
  'k0': '#0072B2',
  'k1': '#D55E00',
  'k2': '#009E73',
  'k3': '#CC79A7',
  'k4': '#56B4E9',
  'k5': '#E69F00',
  INK: 'black',
  GREY: '#8a8f98',
}
"""Colours on white by their names, which are classes in the page."""
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>')
# As matplotlib and SVG take them: lengths of strokes and gaps in line widths.
DASHES = (
  (),
  (5, 1.5),
  (6, 1.5, 1, 1.5),
  (2, 1.2),
  (9, 2, 1, 2, 1, 2),
  (1, 1),
)
# Up to so many lines share one panel, each with a colour of its own.
_ONE_PANEL = 9


@dataclasses.dataclass(frozen=True)
class Look:
  """How a line is drawn, in any medium.

  Attributes:
    colour: a name in PALETTE, INK for random or GREY for an oracle.
    width: of the line, in points.
    dash: one of DASHES.
    marker: one of MARKERS, as matplotlib names them.
    layer: what is drawn over what.
  """

  colour: str
  width: float = 1.7
  dash: tuple[float, ...] = ()
  marker: str = 'o'
  layer: int = 3


def split(estimator: str) -> tuple[str, str]:
  """Returns an estimator's prefix, perhaps empty, and what stands behind."""
  for prefix in _PREFIXES:
    if estimator.startswith(prefix) and estimator != prefix:
      return prefix, estimator.removeprefix(prefix)
  return '', estimator


def family(estimator: str) -> str:
  """Returns the key in FAMILIES of an estimator."""
  name, _ = _PREFIXES[split(estimator)[0]]
  shown = is_control(estimator) and name != 'smoothed'
  return 'controls' if shown else name


def looks(estimators: Iterable[str], reference: str | None) -> dict[str, Look]:
  """Returns the look of each estimator of one source.

  Args:
    estimators: their names.
    reference: the one that is random's, bold and black.
  """
  estimators = sorted(set(estimators))
  order = _bases(estimators)
  looks, cycle = {}, itertools.count()
  for estimator in estimators:
    if estimator == reference:
      look = Look(INK, 3, (), 'o', 4)
    elif estimator in results.ORACLES:
      # Bounds to compare with, not contestants: they stay in the background.
      marker = 'v' if estimator == 'oracle' else '^'
      look = Look(GREY, 1.3, (1, 1.4), marker, 2)
    elif len(estimators) > _ONE_PANEL:
      prefix, base = _root(estimator)
      i = order.index(base)
      dash = (_PREFIXES[prefix][1] + i // len(MARKERS)) % len(DASHES)
      look = Look(f'k{i % 6}', 1.7, DASHES[dash], MARKERS[i % 9])
    else:
      # With 6 colours, 4 dashes and 9 markers the 37th look is the first again.
      i = next(cycle)
      look = Look(f'k{i % 6}', 1.7, DASHES[i % 4], MARKERS[i % 9])
    looks[estimator] = look
  return looks


def _root(estimator: str) -> tuple[str, str]:
  """Returns the outermost prefix and the base below all prefixes."""
  prefix, rest = split(estimator)
  while split(rest)[0]:
    rest = split(rest)[1]
  return prefix, rest


def _bases(estimators: Iterable[str]) -> list[str]:
  """Returns all bases, the paper's first."""
  bases = {_root(estimator)[1] for estimator in estimators}
  first = [base for base in ('grad', 'gb', 'ig', 'sobel') if base in bases]
  return first + sorted(bases - set(first))
