"""Comparisons that are planned beside those with random, and consistency.

Planned are: each estimator with a prefix against the one it is made from
(paper, section 4.2: SmoothGrad is no better than what it averages, SmoothGrad
squared and VarGrad are), and each against Sobel's filter, which knows nothing
of the model. Their intervals hold together over all of a study; they are not in
the family of `verdict`, and cost it nothing.

Consistency asks whether an order of estimators survives a change of mode, fill
or retraining: Kendall's tau between the leads of those that compete (Rong et
al. 2022 find hardly any, section 3).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from scipy import stats

from roar_tf.analysis import families, inference, results
from roar_tf.analysis.arms import Difference, Estimate
from roar_tf.analysis.evidence import Curve, Evidence
from roar_tf.analysis.verdict import Verdict, decide
from roar_tf.estimators.names import is_control

# Fewer estimators have too few pairs to speak of an order.
_LEAST = 4


@dataclasses.dataclass(frozen=True)
class Contrast:
  """How far one estimator is ahead of another.

  Attributes:
    curve: the first.
    rival: the name of the second, of the same source, mode and so on.
    lead: points of the first over the second, a fraction; the interval holds
      together with those of all contrasts of the study.
    word: as in a verdict, but never `not decidable`.
  """

  curve: Curve
  rival: str
  lead: Estimate
  word: str


@dataclasses.dataclass(frozen=True)
class Agreement:
  """How alike two conditions order the estimators.

  Attributes:
    source: the source.
    granularity: what was ranked.
    first: (mode, fill, input) of one.
    second: that of the other.
    tau: Kendall's tau-b of their leads, -1..1.
    estimators: how many were ordered.
  """

  source: str
  granularity: str
  first: tuple[str, str, str]
  second: tuple[str, str, str]
  tau: float
  estimators: int


def planned(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Contrast]:
  """Returns the planned contrasts of the family's estimators."""
  members = {v.curve: v for v in verdicts if v.member and v.lead.known}
  pairs = [
    (curve, rival)
    for curve in members
    for rival in dict.fromkeys(
      (_base(curve), curve._replace(estimator='sobel'))
    )
    if rival != curve and rival in members
  ]
  level = inference.LEVEL / max(1, len(pairs))
  contrasts = []
  for curve, rival in pairs:
    lead = evidence.lead(curve, rival).estimate(level)
    word = decide(lead.low, lead.high, math.nan, evidence.rules.margin)
    contrasts.append(Contrast(curve, rival.estimator, lead, str(word)))
  return contrasts


def decomposed(
  evidence: Evidence, verdicts: Sequence[Verdict]
) -> list[Contrast]:
  """Returns what the leads of estimators are made of, where controls tell.

  lead(x) = shape [shuffle_x] + image [untrained_x over shuffle_x] + model [x
  over untrained_x]: the map of another image has only the shape that the maps
  have in common; that of an untrained network knows the image, too; what is
  left knows the model. The first is a verdict's lead; these are the others,
  with 95 % intervals of their own.
  """
  contrasts = []
  for verdict in verdicts:
    own, name = verdict.curve, verdict.curve.estimator
    shape = own._replace(estimator=f'shuffle_{name}')
    image = own._replace(estimator=f'untrained_{name}')
    for curve, rival in ((image, shape), (own, image)):
      lead = evidence.lead(curve, rival)
      if lead is not None:
        estimate = lead.pointwise()
        ends = estimate.low, estimate.high, math.nan
        word = decide(*ends, evidence.rules.margin)
        contrasts.append(Contrast(curve, rival.estimator, estimate, str(word)))
  return contrasts


def _base(curve: Curve) -> Curve:
  """Returns the curve of the estimator below all prefixes."""
  name = curve.estimator
  while families.split(name)[0]:
    name = families.split(name)[1]
  return curve._replace(estimator=name)


def consistency(evidence: Evidence) -> list[Agreement]:
  """Returns the agreement of all pairs of conditions of each source."""
  conditions: dict[tuple[str, str], dict[tuple, dict[str, float]]] = {}
  for key, value in leads(evidence, ('image', 'deletion')):
    source, mode, granularity, fill, input, estimator = key
    if not is_control(estimator):
      of = conditions.setdefault((source, granularity), {})
      of.setdefault((mode, fill, input), {})[estimator] = value.value
  agreements = []
  for (source, granularity), of in conditions.items():
    for first, second in itertools.combinations(of, 2):
      names = sorted(of[first].keys() & of[second].keys())
      if len(names) < _LEAST:
        continue
      tau = stats.kendalltau(
        *([of[c][n] for n in names] for c in (first, second))
      )
      agreements.append(
        Agreement(
          source, granularity, first, second, float(tau.statistic), len(names)
        )
      )
  return agreements


def leads(
  evidence: Evidence, inputs: Sequence[str]
) -> Iterator[tuple[tuple, Difference]]:
  """Yields each whole curve of some inputs and its lead over random.

  Args:
    evidence: of the study.
    inputs: of `results.CURVE`.
  """
  for source, mode, input in sorted(evidence.of_leads):
    if input not in inputs:
      continue
    rows = results.where(evidence.frame, source=source, mode=mode, input=input)
    axes = rows[['granularity', 'fill', 'estimator']].drop_duplicates()
    for granularity, fill, name in axes.itertuples(index=False, name=None):
      curve = Curve(source, mode, granularity, fill, name)
      lead = evidence.lead(curve, input=input)
      if lead is not None and curve != evidence.random(curve, input):
        yield (source, mode, granularity, fill, input, name), lead
