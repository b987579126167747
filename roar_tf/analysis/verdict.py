"""The verdict on an estimator: is it better than random, and how sure is that?

`judging.judge` gives one `Verdict` for every curve of retrained models. The
claim is over seeds and test images, and conditional on the explained model
unless there are several (`Study.explained_models`).

The *family* are the sources x modes x granularities x estimators that compete
(`names.is_control` tells which do not) at the study's first fill. Their
intervals hold together with a chance of 95 %: each has 0.05 / comparisons to
itself (Bonferroni). Controls and other fills are checks, have pointwise
intervals, and cost the family nothing.

A verdict is the first of these that holds:

1. *not decidable*: the upper end of the leak ceiling's interval is at most the
   margin, and the lead's interval is not above 0;
2. *on par*: the lead's interval lies inside of the margin, on both sides;
3. *better*: it lies above 0;
4. *worse*: it lies below 0;
5. *undecided*: none of these, or there is no interval.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from roar_tf.analysis.arms import Estimate
from roar_tf.analysis.evidence import Curve

NOT_DECIDABLE = 'not decidable'
ON_PAR = 'on par'
BETTER = 'better'
WORSE = 'worse'
UNDECIDED = 'undecided'
WORDS = (NOT_DECIDABLE, ON_PAR, BETTER, WORSE, UNDECIDED)
"""In their order of precedence."""


@dataclasses.dataclass(frozen=True)
class Note:
  """A check that stands beside a verdict, and is not required for it.

  Attributes:
    name: what should hold.
    holds: whether it does; None if the study cannot tell.
    text: what was found.
  """

  name: str
  holds: bool | None
  text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a study says of one curve.

  Attributes:
    curve: source, mode, granularity, fill and estimator.
    label: the estimator, with granularity and fill where a study has several.
    role: `estimator`, `reference` for random, or `control`.
    member: whether the comparison belongs to the family.
    word: one of WORDS; empty for the reference.
    reason: why, in a sentence.
    lead: points over random as a fraction; the interval is the family's for
      its members, else pointwise.
    pointwise: the lead with the 95 % interval of this comparison alone.
    ceiling: the largest lead that the masks allow, in `remove`.
    diffroar: DiffROAR less random's; of both modes.
    racu: the lead as a part of the area between random and guessing.
    rank: among the curves that compete.
    detectable: the lead that is told from random with a chance of 80 %.
    seeds_error: standard error of the lead over seeds.
    images_error: its standard error over test images; NaN where nobody knows
      which images each run had right.
    seeds: how many seeds the curve has at every threshold.
    random_seeds: how many random has.
    models: how many explained models these seeds have.
    look: of the sequential design, the look that decided, or the last one that
      there was; 0 in the fixed design, or before the first.
    spent: the level that this comparison has spent.
    notes: checks that stand beside the verdict and are not required for it.
  """

  curve: Curve
  label: str
  role: str = 'estimator'
  member: bool = False
  word: str = ''
  reason: str = ''
  lead: Estimate = Estimate()
  pointwise: Estimate = Estimate()
  ceiling: Estimate = Estimate()
  diffroar: Estimate = Estimate()
  racu: Estimate = Estimate()
  rank: Estimate = Estimate()
  detectable: float = math.nan
  seeds_error: float = math.nan
  images_error: float = math.nan
  seeds: int = 0
  random_seeds: int = 0
  models: int = 1
  look: int = 0
  spent: float = math.nan
  notes: tuple[Note, ...] = ()

  @property
  def estimator(self) -> str:
    """Its name."""
    return self.curve.estimator

  @property
  def tone(self) -> str:
    """The word as a class of the page's style sheet."""
    return self.word.replace(' ', '-')


def decide(low, high, ceiling, margin):
  """Returns the word for each lead; arrays broadcast.

  Args:
    low: lower end of the lead's interval; NaN without one.
    high: its upper end.
    ceiling: upper end of the ceiling's interval; NaN if unknown.
    margin: see `evidence.Rules`.

  Returns:
    An array of WORDS.
  """
  low, high, ceiling = np.broadcast_arrays(low, high, ceiling)
  return np.select(
    [
      (ceiling <= margin) & ~(low > 0),
      (-margin < low) & (high < margin),
      low > 0,
      high < 0,
    ],
    [NOT_DECIDABLE, ON_PAR, BETTER, WORSE],
    UNDECIDED,
  )


def of(verdicts: Iterable[Verdict], source: str, mode: str) -> list[Verdict]:
  """Returns the verdicts of one source and mode, in their order."""
  return [v for v in verdicts if v.curve[:2] == (source, mode)]
