"""Two studies side by side: their verdicts, and where their settings differ."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from roar_tf.analysis import results, tables

KEY = ('source', 'mode', 'granularity', 'fill', 'estimator')
ABSENT = 'not set'


def verdicts(statistics: pd.DataFrame) -> dict[tuple[str, ...], tuple]:
  """Returns (word, lead, low, high) of what was retrained, by `KEY`.

  Args:
    statistics: statistics.csv of a study; leads are fractions.
  """
  leads = results.where(statistics, quantity='lead', input='image')
  return {
    tuple(getattr(row, name) for name in KEY): (
      row.decision,
      *(row.value, row.low, row.high),
    )
    for row in leads.itertuples()
  }


def table(
  first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]
) -> str:
  """Returns the verdicts of two studies as one Markdown table.

  The order is that of the leads in the first study; what only the second one
  has follows.

  Args:
    first: statistics.csv of a study.
    second: that of the other.
    names: what the two are called.
  """
  found = verdicts(first), verdicts(second)
  keys = sorted(found[0], key=lambda key: (key[:4], -found[0][key][1]))
  keys += sorted(set(found[1]) - set(found[0]))
  heads = [f'{name}{what}' for name in names for what in ('', ': lead')]
  lines = [['', *heads, 'verdict']]
  for key in keys:
    source, mode, granularity, fill, estimator = key
    notes = [n for n in (granularity, fill) if n not in ('pixel', 'mean')]
    label = f'{estimator} ({", ".join(notes)})' if notes else estimator
    pair = [one.get(key) for one in found]
    cells = [cell for one in pair for cell in _cells(one)]
    words = {one[0] for one in pair if one}
    note = '' if not all(pair) else 'same' if len(words) == 1 else 'differs'
    lines.append([f'{source}, {mode}: {label}', *cells, note])
  return tables.aligned(lines)


def _cells(found: tuple | None) -> tuple[str, str]:
  """Returns the word of a verdict, and its lead with the interval."""
  if found is None:
    return 'not run', ''
  word, lead, low, high = found
  ends = tables.interval(low, high)
  return word or tables.NONE, tables.points(lead) + (f' ({ends})' * bool(ends))


def settings(config: str) -> dict[str, str]:
  """Returns the parameters of an operative configuration, by name.

  Args:
    config: what gin writes; a value may go on in indented lines. Of several
      values of one name, as of several sources, all are given.
  """
  found: dict[str, dict[str, None]] = {}
  logical = re.sub(r'\\?\n[ \t]+', ' ', config)
  for line in logical.splitlines():
    name, equals, value = line.partition('=')
    if equals and not line.startswith('#'):
      text = ' '.join(value.split()).replace('( ', '(').replace(' )', ')')
      found.setdefault(name.strip(), {})[text] = None
  return {name: ' and '.join(values) for name, values in found.items()}


def differences(
  first: Mapping[str, str], second: Mapping[str, str]
) -> list[tuple[str, str, str]]:
  """Returns (parameter, value, other value) where two studies differ."""
  names = sorted({*first, *second})
  pairs = [(n, first.get(n, ABSENT), second.get(n, ABSENT)) for n in names]
  return [pair for pair in pairs if pair[1] != pair[2]]
