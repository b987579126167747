"""From what a study has measured to its verdicts; `verdict` has the rules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from roar_tf.analysis import inference, reasons
from roar_tf.analysis.arms import Estimate
from roar_tf.analysis.evidence import Curve, Evidence, Look
from roar_tf.analysis.verdict import UNDECIDED, Verdict, decide
from roar_tf.estimators.names import is_control


def judge(evidence: Evidence) -> list[Verdict]:
  """Returns the verdict on each curve of retrained models.

  They come source by source, `remove` first, and there the best lead first;
  curves of other fills and granularities follow those of the family.
  """
  verdicts = []
  for source, mode in evidence.sections():
    labels = evidence.curves(source, mode)
    judged = [
      _verdict(evidence, curve, label) for curve, label in labels.items()
    ]
    verdicts += sorted(_ranked(evidence, judged), key=_order(evidence))
  return verdicts


def _verdict(evidence: Evidence, curve: Curve, label: str) -> Verdict:
  own, random = evidence.arm(curve), evidence.random(curve)
  seeds = own.seeds if own else 0
  if curve == random:
    reason = 'All others are compared with it.'
    return Verdict(curve, label, 'reference', reason=reason, seeds=seeds)
  control = is_control(curve.estimator)
  role, member = 'control' if control else 'estimator', curve in evidence.family
  lead = evidence.lead(curve)
  if lead is None:
    return Verdict(
      *(curve, label, role, member, UNDECIDED),
      reasons.of_no_lead(evidence, curve),
      seeds=seeds,
    )
  verdict = Verdict(
    *(curve, label, role, member),
    ceiling=evidence.ceiling(curve),
    diffroar=evidence.diffroar(curve),
    racu=evidence.racu(curve),
    seeds=seeds,
    random_seeds=evidence.arm(random).seeds,
    models=own.models,
  )
  looks = [Look(0, math.inf, inference.LEVEL, math.nan)]
  if member:
    looks = evidence.looks(curve)
  if not looks:  # Nothing may be concluded before the first look.
    verdict = dataclasses.replace(
      verdict, lead=Estimate(lead.value), word=UNDECIDED
    )
  for look in looks:
    verdict = _judged(evidence, verdict, look)
    if verdict.word != UNDECIDED:
      break
  return dataclasses.replace(
    verdict,
    reason=reasons.of(evidence, verdict),
    notes=reasons.notes(evidence, verdict),
  )


def _judged(evidence: Evidence, verdict: Verdict, look: Look) -> Verdict:
  """Returns the verdict at one look."""
  curve = verdict.curve
  lead = evidence.lead(curve, below=look.below)
  estimate = lead.estimate(look.level)
  if not verdict.member:
    estimate = lead.pointwise()
  word = decide(
    estimate.low,
    estimate.high,
    verdict.ceiling.high,
    evidence.rules.margin,
  )
  own = evidence.arm(curve, below=look.below)
  return dataclasses.replace(
    verdict,
    word=str(word),
    lead=estimate,
    pointwise=lead.pointwise(),
    detectable=lead.detectable(look.level),
    seeds_error=lead.seeds_error,
    images_error=lead.images_error,
    seeds=own.seeds,
    models=own.models,
    look=look.number,
    spent=look.spent,
  )


def _ranked(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Verdict]:
  """Returns the verdicts with their ranks within granularity and fill."""
  verdicts, groups = list(verdicts), {}
  for i, verdict in enumerate(verdicts):
    if verdict.role == 'estimator' and verdict.lead.known:
      groups.setdefault(verdict.curve[2:4], []).append(i)
  for places in groups.values():
    own = [evidence.arm(verdicts[i].curve) for i in places]
    known = [inference.of_mean(one.sd, one.replicates) for one in own]
    variances, freedoms = zip(*known, strict=True)
    leads = [verdicts[i].lead.value for i in places]
    ranks = inference.ranks(leads, np.sqrt(variances), freedoms)
    for i, *rank in zip(places, *ranks, strict=True):
      verdicts[i] = dataclasses.replace(
        verdicts[i], rank=Estimate(*map(float, rank))
      )
  return verdicts


def _order(evidence: Evidence):
  """Returns the key that sorts the verdicts of a source and mode."""

  def key(verdict: Verdict):
    # Random has no points over itself.
    value = 0.0 if verdict.role == 'reference' else verdict.lead.value
    unknown = math.isnan(value)
    return (
      verdict.curve.fill != evidence.fill,
      verdict.curve.fill,
      verdict.curve.granularity,
      unknown,
      0.0 if unknown else -value,
      verdict.label,
    )

  return key
