"""What a study has measured, as the verdicts on its curves need it.

The *lead* of a curve is s sum_t w_t (random_t - own_t), s = 1 in `remove` and
-1 in `keep`: points over random, averaged over the curve, or in the sequential
design over its thresholds (`curves` has the weights, `arms` the errors).

The *leak ceiling*, in `remove`, is the largest lead that the masks alone allow:
no ranking, however good, can bring a model below what it reads from the shape
of the mask. It is sum_t w_t (random_t - max(null_t, masks_t)), where masks_t is
the accuracy of models that see only the masks (Rong et al. 2022), and null_t
that of random's own masks or, where these were not tried, that of guessing.

*DiffROAR* (Shah et al. 2021) is mean_k (keep_k - remove_(100-k)), k < 50, less
the same of random: how much more the highest k % tell than the lowest k %. A
signed ranking that is informative at both ends loses to random in `remove` and
wins in `keep`; DiffROAR says which of its ends holds more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from roar_tf.analysis import curves, inference, results
from roar_tf.analysis.arms import Arm, Arms, Correct, Difference, Estimate
from roar_tf.estimators.names import is_control

MARGIN = 0.01
"""A lead that nobody would call one: one point (`Study.margin`)."""


class Curve(NamedTuple):
  """One estimator's retrained models; fields as in `results.CURVE`."""

  source: str
  mode: str
  granularity: str
  fill: str
  estimator: str


@dataclasses.dataclass(frozen=True)
class Rules:
  """What is fixed before a study is judged.

  Attributes:
    margin: leads up to it, a fraction, are no leads.
    comparisons: size of the family; None counts its members in the study.
    fill: that of the family, the study's first; None takes `mean`, or the only
      one that there is.
    nodes: the thresholds that verdicts are on; empty for all that there are.
    looks: of the sequential design, how many seeds an estimator has at each
      look; empty where all runs are judged once (`Study.design`).
    spending: the share of the level that each look may spend; they make 1.
    random_seeds: how many seeds random has at every look.
    first_seed: the first seed of all runs.
  """

  margin: float = MARGIN
  comparisons: int | None = None
  fill: str | None = None
  nodes: tuple[int, ...] = ()
  looks: tuple[int, ...] = ()
  spending: tuple[float, ...] = ()
  random_seeds: int = 0
  first_seed: int = 0


class Look(NamedTuple):
  """One occasion on which a comparison is judged.

  Attributes:
    number: of the look, from 1; 0 where all runs are judged once.
    below: the seeds that count are below it.
    level: of the interval.
    spent: the level that this look and those before it have spent.
  """

  number: int
  below: float
  level: float
  spent: float


RULES = Rules()
"""Those of a study that sets none."""


class Evidence:
  """The arms of one study, and what all of its verdicts share.

  Attributes:
    frame: the runs.
    of_leads: the weight of each threshold in the leads of each (source, mode,
      input).
    rules: margin and family.
    fill: the fill of the family.
    family: its members.
  """

  def __init__(
    self,
    frame: pd.DataFrame,
    chances: Mapping[str, float] | None = None,
    rules: Rules = RULES,
    expected: Iterable[Mapping[str, Any]] | None = None,
    correct: Correct | None = None,
  ):
    """Sorts the runs of a study.

    Args:
      frame: runs of one study, see `results.COLUMNS`.
      chances: for each source the accuracy of guessing, a fraction.
      rules: margin and family.
      expected: the runs that the study lists, as for `faults.of_runs`. They
        tell the family, and which thresholds a curve must have; without them
        both are what is there.
      correct: which test images each run had right; without it intervals are
        over seeds alone.
    """
    self.frame = results.tidy(frame)
    self.rules = rules
    self._arms = Arms(self.frame, correct)
    self._chances = chances or {}
    listed = None if expected is None else list(expected)
    self._randoms = {
      group: results.reference(rows['estimator'])
      for group, rows in self.frame.groupby(['source', 'mode', 'input'])
    }
    self.of_leads = of_leads(self.frame, listed, rules)
    self.fill = rules.fill or _first_fill(self.frame)
    self.family = _family(self.frame, listed, self.fill)

  @property
  def comparisons(self) -> int:
    """The size of the family, at least 1."""
    return max(1, self.rules.comparisons or len(self.family))

  @property
  def level(self) -> float:
    """The level of each interval of the family (Bonferroni)."""
    return inference.LEVEL / self.comparisons

  def looks(self, curve: Curve) -> list[Look]:
    """Returns the looks that a comparison of the family has had, in order.

    A look is there once the curve has all of its seeds at every threshold, and
    random all of its own.
    """
    rules, random = self.rules, self.random(curve)
    if not rules.looks:
      return [Look(0, math.inf, self.level, self.level)]
    own, rival = self.arm(curve), random and self.arm(random)
    if not own or not rival or rival.seeds < rules.random_seeds:
      return []
    looks, spent = [], 0.0
    for number, (seeds, share) in enumerate(
      zip(rules.looks, rules.spending, strict=True), 1
    ):
      below = rules.first_seed + seeds
      own = self.arm(curve, below=below)
      if own is None or own.seeds < seeds:
        break
      spent += self.level * share
      looks.append(Look(number, below, self.level * share, spent))
    return looks

  def sections(self) -> list[tuple[str, str]]:
    """Returns each (source, mode) of retrained models, `remove` first."""
    rows = results.where(self.frame, input='image')
    rows = rows[rows['mode'] != '']
    found = set(zip(rows['source'], rows['mode'], strict=True))
    return sorted(found, key=lambda pair: (pair[0], pair[1] != 'remove'))

  def curves(self, source: str, mode: str) -> dict[Curve, str]:
    """Returns the label of each curve of retrained models."""
    rows = results.where(self.frame, source=source, mode=mode, input='image')
    rows = rows.drop_duplicates(['granularity', 'fill', 'estimator'])
    names = rows[list(Curve._fields)].itertuples(index=False, name=None)
    return dict(zip(map(Curve._make, names), results.labels(rows), strict=True))

  def random(self, curve: Curve, input: str = 'image') -> Curve | None:
    """Returns random's curve beside another; None if the source has none."""
    name = self._randoms.get((curve.source, curve.mode, input))
    return name and curve._replace(estimator=name)

  def weights(
    self, curve: Curve, input: str = 'image'
  ) -> dict[tuple[str, int], float]:
    """Returns the weight of each cell in the height of a curve."""
    parts = self.of_leads[curve.source, curve.mode, input]
    return {(curve.mode, t): weight for t, weight in parts.items()}

  def arm(
    self,
    curve: Curve,
    weights: Mapping[tuple[str, int], float] | None = None,
    input: str = 'image',
    below: float = math.inf,
  ) -> Arm | None:
    """Returns an arm, by default the height; None where a cell has no run."""
    if weights is None:
      weights = self.weights(curve)
    names = curve.source, curve.granularity, curve.fill, curve.estimator
    return self._arms.get(*names, weights, input, below)

  def lacking(self, curve: Curve) -> list[int]:
    """Returns the thresholds at which a curve has no run."""
    cells = {cell: {cell: 1.0} for cell in self.weights(curve)}
    return sorted(
      cell[1] for cell, one in cells.items() if self.arm(curve, one) is None
    )

  def lead(
    self,
    curve: Curve,
    rival: Curve | None = None,
    weights: Mapping[tuple[str, int], float] | None = None,
    input: str = 'image',
    below: float = math.inf,
  ) -> Difference | None:
    """Returns how far a curve is ahead of another.

    None where one of them lacks a cell, or there is no random.

    Args:
      curve: the curve.
      rival: the other; None for random's.
      weights: of the cells; None for those of a lead.
      input: of the runs of both.
      below: of the curve only seeds below it count.
    """
    if weights is None:
      weights = self.weights(curve, input)
    rival = rival or self.random(curve, input)
    own = self.arm(curve, weights, input, below)
    other = rival and self.arm(rival, weights, input)
    if own is None or other is None:
      return None
    sign = curves.SIGN[curve.mode]
    return Difference((sign, other), (-sign, own))

  def most(self, curve: Curve, threshold: int) -> float:
    """Returns the largest gain that masks allow in one cell; NaN if unknown."""
    cell = {(curve.mode, threshold): 1.0}
    random = self.random(curve)
    other, masks = random and self.arm(random, cell), self.masks(curve, cell)
    if curve.mode != 'remove' or other is None or masks is None:
      return math.nan
    return other.value - max(self._null(curve, cell), masks.value)

  def _null(self, curve: Curve, cell: Mapping[tuple[str, int], float]) -> float:
    """Returns what guessing reaches where masks tell nothing."""
    random = self.random(curve)
    masks = random and self.masks(random, cell)
    return masks.value if masks else self._chances.get(curve.source, 0.0)

  def masks(
    self,
    curve: Curve,
    weights: Mapping[tuple[str, int], float] | None = None,
  ) -> Arm | None:
    """Returns the arm of models that see only a curve's masks; None if none do.

    Masks are the same under every fill, and under the other mode they are the
    same shapes: any mode's and the first fill's stand for all.
    """
    if weights is None:
      weights = self.weights(curve)
    for mode in curves.SIGN:
      cells = {(mode, t): weight for (_, t), weight in weights.items()}
      for fill in dict.fromkeys((curve.fill, self.fill)):
        found = self.arm(curve._replace(fill=fill), cells, 'maskonly')
        if found is not None:
          return found
    return None

  def ceiling(self, curve: Curve) -> Estimate:
    """Returns the leak ceiling of a curve; unknown in `keep`.

    Models of masks with fewer seeds than an interval takes are given the
    spread that random's have.
    """
    random = self.random(curve)
    height = random and self.arm(random)
    if curve.mode != 'remove' or not height or self.masks(curve) is None:
      return Estimate()
    above, below, constant = {}, {}, 0.0
    for cell, weight in self.weights(curve).items():
      one = {cell: 1.0}
      null = self._null(curve, one)
      if self.masks(curve, one).value > null:
        above[cell] = weight
      elif self.masks(random, one):
        below[cell] = weight
      else:
        constant -= weight * null
    terms = [(1.0, height)]
    for of, cells in ((curve, above), (random, below)):
      if cells:
        terms.append((-1.0, with_spread(self.masks(of, cells), height)))
    return Difference(*terms, constant=constant).pointwise()

  def diffroar(self, curve: Curve) -> Estimate:
    """Returns DiffROAR less random's; unknown without cells of both modes."""
    removed = set(self.of_leads.get((curve.source, 'remove', 'image'), ()))
    kept = set(self.of_leads.get((curve.source, 'keep', 'image'), ()))
    shares = [k for k in sorted(kept) if k < 50 and 100 - k in removed]
    weights = {('keep', k): 1 / len(shares) for k in shares}
    weights |= {('remove', 100 - k): -1 / len(shares) for k in shares}
    random = self.random(curve)
    own = self.arm(curve, weights) if shares else None
    rival = random and shares and self.arm(random, weights)
    if not own or not rival:
      return Estimate()
    return Difference((1, own), (-1, rival)).pointwise()

  def racu(self, curve: Curve) -> Estimate:
    """Returns RACU, see `curves`, with Fieller's interval over seeds.

    Unknown without `original` or the accuracy of guessing.
    """
    random = self.random(curve)
    start = Curve(curve.source, '', '', 'mean', results.ORIGINAL)
    arms = (
      random and self.arm(random),
      self.arm(curve),
      self.arm(start, {('', 0): 1.0}),
    )
    if None in arms or curve.source not in self._chances:
      return Estimate()
    # What the weights lack of 1 is that of the start.
    first = 1 - sum(self.weights(curve).values())
    sign = curves.SIGN[curve.mode]
    known = [inference.of_mean(one.sd, one.replicates) for one in arms]
    variances, freedoms = zip(*known, strict=True)
    value, *ends = inference.ratio(
      (sign, -sign, 0),
      (1, 0, first),
      [one.value for one in arms],
      variances,
      freedoms,
      -self._chances[curve.source],
    )
    return Estimate(float(value), *map(float, ends))


def of_leads(
  frame: pd.DataFrame,
  expected: Iterable[Mapping[str, Any]] | None,
  rules: Rules,
) -> dict[tuple[str, str, str], dict[int, float]]:
  """Returns the weights of leads, by (source, mode, input).

  Args:
    frame: runs of one study.
    expected: the runs that it lists, see `results.nodes`.
    rules: they tell the design.
  """
  weights = {}
  for group, found in results.nodes(frame, expected).items():
    nodes = [t for t in found if t in rules.nodes or not rules.nodes]
    weights[group] = curves.of_lead(nodes, group[1], bool(rules.looks))
  return weights


def with_spread(few: Arm, other: Arm) -> Arm:
  """Returns an arm; one of few seeds with the spread of another."""
  if few.replicates >= inference.RUNS_FOR_INTERVAL:
    return few
  # `of_mean` divides by the number of replicates, which must be those of the
  # spread.
  sd = other.sd * math.sqrt(other.replicates / max(1, few.replicates))
  return few._replace(sd=sd, seeds=other.replicates, models=1)


def _first_fill(frame: pd.DataFrame) -> str:
  fills = set(frame.loc[frame['mode'] != '', 'fill'])
  return 'mean' if 'mean' in fills or not fills else min(fills)


def _family(frame: pd.DataFrame, listed, fill: str) -> set[Curve]:
  """Returns the curves whose comparisons with random are the family."""
  if listed is None:
    rows = frame[frame['mode'] != ''].to_dict('records')
  else:
    rows = [{'fill': 'mean', 'input': 'image', **run} for run in listed]
  return {
    Curve._make(row[field] for field in Curve._fields)
    for row in rows
    if row['mode']
    and row['input'] == 'image'
    and row['fill'] == fill
    and not is_control(row['estimator'])
  }
