r"""table.tex: a study's accuracies in the layout of the paper's Table 2.

One row per ranking, grouped by source; keep on the left, remove on the right,
a column per threshold. It needs `\usepackage{booktabs}`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from roar_tf.analysis import paper, results

_SPECIAL = {
  '\\': r'\textbackslash{}',
  '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}',
  '<': r'\textless{}',
  '>': r'\textgreater{}',
  '[': '{[}',  # After a line's end it would begin an argument.
  ']': '{]}',
  **{sign: '\\' + sign for sign in '&%$#_{}'},
}
_MODES = {'keep': 'Keep', 'remove': 'Remove'}


def table(summary: pd.DataFrame, sources: Sequence[str] | None = None) -> str:
  r"""Returns a `tabular` that compiles as it is, with booktabs.

  Means in percent with two decimals, as in the paper, and from three runs on
  the standard deviation over runs, in points. What was not run stays blank.

  Args:
    summary: what `results.summarise` returns; of it the retrained images.
    sources: the groups in their order; by default all, by name.
  """
  rows = summary[summary['input'] == 'image']
  if sources is None:
    sources = sorted(set(rows['source']))
  rows = rows[rows['source'].isin(sources)]
  columns = [
    (mode, threshold)
    for mode in _MODES
    for threshold in sorted(set(rows.loc[rows['mode'] == mode, 'threshold']))
  ]
  if not columns:
    return '% No masked dataset was trained on yet.\n'
  groups = [_group(rows, source, columns) for source in sources]
  lines = [
    r'% Test accuracy in percent, mean and standard deviation over runs.',
    r'% Needs \usepackage{booktabs}; both modes are wider than a page:',
    r'% \resizebox{\textwidth}{!}{\input{table.tex}} (graphicx).',
    rf'\begin{{tabular}}{{ll{"r" * len(columns)}}}',
    r'\toprule',
    *_head(columns),
    r'\midrule',
    '\n\\midrule\n'.join('\n'.join(group) for group in groups if group),
    r'\bottomrule',
    r'\end{tabular}',
  ]
  return '\n'.join(lines) + '\n'


def escape(text: str) -> str:
  """Returns a text as LaTeX prints it, character for character."""
  return ''.join(_SPECIAL.get(character, character) for character in text)


def _head(columns: Sequence[tuple[str, int]]) -> list[str]:
  """Names of modes above their thresholds, as in the paper."""
  names, rules, first = ['', ''], [], 3
  for mode, name in _MODES.items():
    if count := sum(column[0] == mode for column in columns):
      names.append(rf'\multicolumn{{{count}}}{{c}}{{{name}}}')
      rules.append(rf'\cmidrule(lr){{{first}-{first + count - 1}}}')
      first += count
  thresholds = [str(threshold) for _, threshold in columns]
  return [_row(names), ' '.join(rules), _row(['', 'Threshold', *thresholds])]


def _group(
  rows: pd.DataFrame, source: str, columns: Sequence[tuple[str, int]]
) -> list[str]:
  """The lines of one source: the original, then a line per ranking."""
  lines = []
  for start in results.original(rows, source).itertuples():
    span = rf'\multicolumn{{{len(columns)}}}{{c}}{{{_cell(start)}}}'
    lines.append(['Original', span])
  here = rows[(rows['source'] == source) & (rows['mode'] != '')]
  many = here['granularity'].nunique() > 1
  labels = here[['estimator', 'granularity', 'fill']].drop_duplicates()
  ranked = sorted(labels.itertuples(index=False, name=None), key=_order)
  for estimator, granularity, fill in ranked:
    cells = here[
      (here['estimator'] == estimator)
      & (here['granularity'] == granularity)
      & (here['fill'] == fill)
    ]
    found = {(cell.mode, cell.threshold): cell for cell in cells.itertuples()}
    notes = [granularity] if many else []
    notes += [fill] if fill != 'mean' else []
    label = paper.name(estimator) + (f' ({", ".join(notes)})' if notes else '')
    lines.append([escape(label), *(_cell(found.get(c)) for c in columns)])
  names = [escape(source)] + [''] * len(lines)
  return [_row([name, *line]) for name, line in zip(names, lines, strict=False)]


def _order(label: tuple[str, str, str]) -> tuple:
  """Controls and the paper's estimators in its order, then by name."""
  estimator, *rest = label
  if estimator in results.RANDOM:
    return (-1, estimator, rest)
  known = paper.estimators()
  place = known.index(estimator) if estimator in known else len(known)
  return (place, estimator, rest)


def _cell(cell) -> str:
  """A mean of `summarise`, with its deviation where that says something."""
  if cell is None or not math.isfinite(cell.mean):
    return ''
  text = f'{100 * cell.mean:.2f}'
  if cell.runs >= results.RUNS_FOR_INTERVAL:
    text += rf'$_{{\pm {100 * cell.sd:.2f}}}$'
  return text


def _row(cells: Sequence[str]) -> str:
  return ' & '.join(cells) + r' \\'
