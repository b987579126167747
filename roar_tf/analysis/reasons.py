"""Why a verdict is what it is, and the checks beside it, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from roar_tf.analysis import inference
from roar_tf.analysis.arms import Difference, Estimate
from roar_tf.analysis.evidence import Curve, Evidence, with_spread
from roar_tf.analysis.tables import interval, points
from roar_tf.analysis.verdict import Note, Verdict
from roar_tf.estimators import registry


def of_no_lead(evidence: Evidence, curve: Curve) -> str:
  """Says why a curve cannot be compared with random."""
  random = evidence.random(curve)
  if random is None:
    return 'There is no random to compare it with.'
  lacks = curve if evidence.lacking(curve) else random
  listed = ', '.join(map(str, evidence.lacking(lacks)))
  return f'{lacks.estimator} has no run yet with {listed} % {_gone(curve)}.'


def of(evidence: Evidence, verdict: Verdict) -> str:
  """Says in a sentence why a verdict is what it is."""
  low, high = points(verdict.lead.low), points(verdict.lead.high)
  match verdict.word:
    case 'not decidable':
      return (
        'Its masks alone tell so much of the class that no ranking with such'
        f' masks could lead by more than {points(verdict.ceiling.high)} points.'
      )
    case 'on par':
      margin = points(evidence.rules.margin).lstrip('+')
      return f'Its lead, {low} to {high} points, is within ±{margin} of random.'
    case 'better':
      return f'Its lead is at least {low} points.'
    case 'worse':
      behind = points(-verdict.lead.high).lstrip('+')
      return f'It is at least {behind} points behind random.'
  if not verdict.lead.known:
    return 'An accuracy of it or of random is not a number.'
  rules = evidence.rules
  if rules.looks and verdict.member and not verdict.look:
    return (
      f'Its first look takes {rules.looks[0]} seeds of it, and'
      f' {rules.random_seeds} of random; it has {verdict.seeds}, and'
      f' {verdict.random_seeds}.'
    )
  fewest = min(verdict.seeds, verdict.random_seeds)
  if fewest < inference.RUNS_FOR_INTERVAL:
    noun = 'seed tells' if fewest == 1 else 'seeds tell'
    return f'{fewest} {noun} no interval: it takes 3 of it and of random.'
  if 1 < verdict.models < inference.RUNS_FOR_INTERVAL:
    return (
      f'Its {verdict.seeds} seeds share {verdict.models} explained models,'
      ' which tell no interval: it takes 3.'
    )
  if not verdict.lead.bounded:
    return 'All seeds agree to the last digit, which tells no interval.'
  return f'Its lead may be anything from {low} to {high} points.'


def notes(evidence: Evidence, verdict: Verdict) -> tuple[Note, ...]:
  """Returns the checks that the study can make."""
  return tuple(_notes(evidence, verdict))


def _notes(evidence: Evidence, verdict: Verdict) -> Iterator[Note]:
  curve = verdict.curve
  for name in (
    f'shuffle_{curve.estimator}',
    'centre',
    f'untrained_{curve.estimator}',
  ):
    rival = curve._replace(estimator=name)
    ahead = None if rival == curve else evidence.lead(curve, rival)
    if ahead is not None:
      yield _above(f'ahead of {name}', ahead.pointwise())
  if verdict.diffroar.known:
    name = 'its highest pixels tell more than its lowest (DiffROAR)'
    yield _above(name, verdict.diffroar)
  if verdict.ceiling.known:
    yield _room(evidence, verdict)
  if curve.mode == 'keep' and (masks := evidence.masks(curve)):
    # Here a mask that tells the class adds to a lead.
    own = evidence.arm(curve)
    beyond = Difference((1, own), (-1, with_spread(masks, own)))
    yield _above('ahead of its masks alone', beyond.pointwise())
  yield from _fills(evidence, verdict)
  yield from _models(verdict)


def _above(name: str, estimate: Estimate) -> Note:
  """Returns a check that something is above 0."""
  holds = estimate.low > 0 if estimate.bounded else None
  return Note(name, holds, f'{points(estimate.value)} points{_range(estimate)}')


def _room(evidence: Evidence, verdict: Verdict) -> Note:
  ceiling = verdict.ceiling
  text = f'at most {points(ceiling.value)} points{_range(ceiling)}'
  if verdict.lead.value > ceiling.value:
    text += (
      ', which it exceeds: models of its images have not learned all that'
      ' models of its masks have'
    )
  elif verdict.lead.value > 0:
    text += (
      f', of which it has {100 * verdict.lead.value / ceiling.value:.0f} %'
    )
  margin = evidence.rules.margin
  holds = ceiling.low > margin if ceiling.bounded else None
  return Note('its masks leave room for a lead', holds, text)


def _fills(evidence: Evidence, verdict: Verdict) -> Iterator[Note]:
  """Yields whether other fills agree on the side of the lead."""
  leads = {}
  for fill in sorted(set(evidence.frame['fill']) - {verdict.curve.fill}):
    lead = evidence.lead(verdict.curve._replace(fill=fill))
    if lead is not None:
      leads[fill] = lead.value
  if leads:
    agree = all(
      math.copysign(1, lead) == math.copysign(1, verdict.lead.value)
      for lead in leads.values()
    )
    text = ', '.join(f'{fill} {points(lead)}' for fill, lead in leads.items())
    yield Note('other fills agree', agree, f'{text} points')


def _models(verdict: Verdict) -> Iterator[Note]:
  """Yields over how many explained models a verdict is, if over any."""
  known = registry.find(verdict.estimator)
  if known and not known.base.needs_model:
    return
  models = verdict.models
  if models == 1:
    yield Note('over 1 explained model', None, 'this one')
    return
  name = f'over {models} explained models'
  if models < inference.RUNS_FOR_INTERVAL:
    yield Note(name, None, 'too few to allow for others')
  else:
    yield Note(name, True, 'its interval allows for others')


def _range(estimate: Estimate) -> str:
  text = interval(*estimate[1:])
  return text and f' ({text})'


def _gone(curve: Curve) -> str:
  return 'removed' if curve.mode == 'remove' else 'kept'
