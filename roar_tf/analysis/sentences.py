"""What verdicts and alarms say, short enough for thirty seconds."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from roar_tf.analysis.faults import Check
from roar_tf.analysis.tables import points
from roar_tf.analysis.verdict import WORDS, Verdict

# How many estimators a sentence names.
_NAMED = 4
_SAID = {
  'better': 'better than random',
  'worse': 'worse than random',
  'on par': 'on par with random',
  'not decidable': 'not decidable, since their masks tell the class',
  'undecided': 'undecided',
}


@dataclasses.dataclass(frozen=True)
class Entry:
  """One verdict in the matrix.

  Attributes:
    word: one of `verdict.WORDS`; empty where nothing was run.
    lead: points over random.
    reason: why.
  """

  word: str = ''
  lead: str = ''
  reason: str = ''

  @property
  def tone(self) -> str:
    """The word as a class of the page's style sheet."""
    return self.word.replace(' ', '-')


@dataclasses.dataclass(frozen=True)
class Matrix:
  """Every estimator's verdicts at a glance.

  Attributes:
    heads: (source, mode) of each column.
    rows: (label, whether it is a control, its entries) of each row.
  """

  heads: Sequence[tuple[str, str]]
  rows: Sequence[tuple[str, bool, Sequence[Entry]]]


def matrix(verdicts: Sequence[Verdict]) -> Matrix:
  """Returns the matrix of a study, the best mean lead first.

  Estimators under other fills follow those of the family; controls come last.
  """
  heads = list(dict.fromkeys(v.curve[:2] for v in verdicts))
  rows: dict[str, dict[tuple, Verdict]] = {}
  for verdict in verdicts:
    if verdict.role != 'reference':
      rows.setdefault(verdict.label, {})[verdict.curve[:2]] = verdict

  def key(item):
    own = list(item[1].values())
    leads = [v.lead.value for v in own if v.lead.known]
    mean = sum(leads) / len(leads) if leads else float('-inf')
    control = all(v.role == 'control' for v in own)
    return control, not any(v.member for v in own), -mean, item[0]

  body = []
  for label, own in sorted(rows.items(), key=key):
    entries = [
      Entry(v.word, points(v.lead.value), v.reason) if v else Entry()
      for v in map(own.get, heads)
    ]
    control = all(v.role == 'control' for v in own.values())
    body.append((label, control, entries))
  return Matrix(heads, body)


def of_mode(verdicts: Sequence[Verdict]) -> list[str]:
  """Returns in plain words what the verdicts of a source and mode are."""
  if not any(verdict.role == 'reference' for verdict in verdicts):
    return ['Without a random baseline nothing can be said about an estimator.']
  rivals = [v for v in verdicts if v.member]
  if not rivals:
    return ['No estimator competes here: there are only controls.']
  found: dict[str, list[Verdict]] = {}
  for verdict in rivals:
    found.setdefault(verdict.word, []).append(verdict)
  better = found.pop('better', [])
  be = 'is' if len(better) == 1 else 'are'
  total = '1 estimator' if len(rivals) == 1 else f'{len(rivals)} estimators'
  text = [
    f'{len(better) or "None"} of {total} {be} better than random'
    f'{": " + _listed(better) if better else ""}.'
  ]
  for word in WORDS:
    if group := found.get(word):
      be = 'is' if len(group) == 1 else 'are'
      said = _SAID[word]
      if len(group) == 1:
        said = said.replace('their masks tell', 'its masks tell')
      text.append(f'{len(group)} {be} {said}: {_listed(group)}.')
  fewest = min(min(v.seeds, v.random_seeds) for v in rivals)
  if found.keys() <= {'undecided'} and not better and fewest < 3:
    text.append(f'Each interval takes 3 seeds; some curves have {fewest}.')
  return text


def of_source(modes: Sequence[Mapping[str, Any]]) -> str:
  """Returns one sentence about a source, over its modes."""
  parts = []
  for part in modes:
    rivals = [v for v in part['verdicts'] if v.member]
    better = [v for v in rivals if v.word == 'better']
    verb = 'removed' if part['mode'] == 'remove' else 'kept'
    if rivals:
      parts.append(
        f'with pixels {verb}, {len(better) or "none"} of {len(rivals)}'
        + (f' ({_listed(better, numbers=False)})' if better else '')
      )
  if not parts:
    return 'Nothing can be compared with random yet.'
  return f'Better than random: {"; ".join(parts)}.'


def alarms(checks: Iterable[Check]) -> list[str]:
  """Returns one line for each kind of alarm of each source."""
  groups: dict[tuple[str, str], list[Check]] = collections.OrderedDict()
  for check in checks:
    groups.setdefault((check.name, check.source), []).append(check)
  lines = []
  for group in groups.values():
    worst = max(group, key=_excess)
    more = len(group) - 1
    text = worst.text
    if more:
      names = dict.fromkeys(
        c.estimator for c in group if c.estimator and c is not worst
      )
      named = _names(list(names)) if names else ''
      about = f', of {named}' if named else ''
      text += f' ({more} more of this kind{about}.)'
    lines.append(text)
  return lines


def _excess(check: Check) -> float:
  excess = abs(check.value - check.allowed)
  return excess if excess == excess else 0.0


def _names(names: Sequence[str]) -> str:
  more = [f'and {len(names) - _NAMED} more'] if len(names) > _NAMED else []
  return ', '.join([*names[:_NAMED], *more])


def _listed(verdicts: Sequence[Verdict], numbers: bool = True) -> str:
  return _names(
    [
      f'{v.label} ({points(v.lead.value)} points)'
      if numbers and v.lead.known
      else v.label
      for v in verdicts
    ]
  )
