"""Tables of accuracies: estimators by thresholds, the best first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from roar_tf.analysis import results

# The gain at which a cell has its full tint: twenty points.
_FULL_TINT = 0.2
NONE = '–'
"""What stands where there is no number."""


def table(
  summary: pd.DataFrame,
  source: str,
  mode: str,
  weights: Mapping[int, float] | None = None,
) -> str:
  """Returns the accuracies as Markdown that is aligned for a terminal, too.

  Args:
    summary: of `results.summarise`.
    source: the source.
    mode: the mode.
    weights: those of the lead, see `results.against_random`.
  """
  rows = results.against_random(summary, source, mode, weights)
  thresholds, rows = grid(rows)
  lines = [['estimator', 'lead', *(f'{t} %' for t in thresholds)]]
  for row in rows:
    name = re.sub(r'([|<*`])', r'\\\1', row['label'])
    name = f'**{name}**' if row['reference'] else name
    cells = (
      f'{cell["mean"]} {cell["half"]} {cell["note"]}' for cell in row['cells']
    )
    lines.append([name, row['lead'], *(' '.join(c.split()) for c in cells)])
  title = f'{caption(summary, source)} Lead: points over random.'
  return f'{title}\n\n{aligned(lines)}'


def aligned(lines: Sequence[Sequence[str]]) -> str:
  """Returns a table as Markdown whose columns are aligned.

  Args:
    lines: the cells of the head and of each row. The first column is words.
  """
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  rule = [f'{"-" * (width - 1)}:' for width in widths]
  rule[0] = ':' + '-' * (widths[0] - 1)
  text = []
  for first, *others in (lines[0], rule, *lines[1:]):
    cells = map(str.rjust, others, widths[1:])
    text.append(f'| {" | ".join([first.ljust(widths[0]), *cells])} |\n')
  return ''.join(text)


def grid(rows: pd.DataFrame) -> tuple[list[int], list[dict[str, Any]]]:
  """Returns the thresholds and, for each label, its formatted cells."""
  thresholds = sorted(rows['threshold'].unique())
  usual = rows['runs'].max()
  lines = []
  for label, group in rows.groupby('label', sort=False):
    cells = {row.threshold: row for row in group.itertuples()}
    reference, lead = group[['reference', 'lead']].iloc[0]
    unknown = reference or math.isnan(lead)
    lines.append(
      {
        'label': label,
        'reference': bool(reference),
        'lead': NONE if unknown else points(lead),
        'cells': [_cell(cells.get(t), usual) for t in thresholds],
      }
    )
  return thresholds, lines


def caption(summary: pd.DataFrame, source: str) -> str:
  """Returns what a table holds, and the accuracy of the original."""
  original = results.original(summary, source)
  text = f'{source}: test accuracy in %, best first. Original: '
  if original.empty:
    return text + 'not run.'
  row = next(original.assign(gain=0.0).itertuples())
  cell = _cell(row, row.runs)
  return text + f'{cell["mean"]} {cell["half"]}'.strip() + '.'


def percent(fraction: float) -> str:
  """Returns a share in percent, without the sign of percent."""
  return NONE if math.isnan(fraction) else f'{100 * fraction:.1f}'


def points(fraction: float) -> str:
  """Returns a difference in points, with + or −."""
  if math.isnan(fraction):
    return NONE
  return _signed(f'{100 * fraction:+.1f}')


def interval(low: float, high: float) -> str:
  """Returns the ends of an interval in points; empty without one."""
  if math.isnan(low) or math.isnan(high):
    return ''
  return f'{points(low)} to {points(high)}'


def decimal(value: float) -> str:
  """Returns a number with two decimals."""
  return NONE if math.isnan(value) else _signed(f'{value:.2f}')


def _signed(text: str) -> str:
  """Returns the text with a true minus, and no sign before a zero."""
  text = text.lstrip('+-') if float(text) == 0 else text
  return text.replace('-', '−')


def _cell(row: Any, usual: int) -> dict[str, Any]:
  if row is None:
    return {'mean': NONE, 'half': '', 'note': '', 'tint': 0.0}
  half = row.high - row.mean
  tint = 0.0 if math.isnan(row.gain) else row.gain / _FULL_TINT
  return {
    'mean': percent(row.mean),
    'half': '' if math.isnan(half) else f'± {percent(half)}',
    # A mean of fewer runs than the others' must not look like theirs.
    'note': '' if row.runs == usual else f'(n={row.runs})',
    'tint': round(max(-1.0, min(1.0, tint)), 2),
  }
