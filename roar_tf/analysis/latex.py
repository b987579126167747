r"""LaTeX of a study: table.tex and verdicts.tex.

The first has accuracies in the layout of the paper's Table 2: one row per
ranking, grouped by source; keep on the left, remove on the right, a column per
threshold. The second has verdicts. Both need `\usepackage{booktabs}`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from roar_tf.analysis import paper, results
from roar_tf.analysis.verdict import Verdict

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


def verdicts(judged: Sequence[Verdict]) -> str:
  r"""Returns the verdicts as a `tabular`, one line per curve, with booktabs.

  Leads are in points over random; their intervals are those of the verdicts.

  Args:
    judged: of `judging.judge`.
  """
  lines, last = [], None
  for verdict in judged:
    if verdict.role == 'reference':
      continue
    section = verdict.curve[:2]
    if last not in (None, section):
      lines.append(r'\midrule')
    lead = verdict.lead
    ends = [f'{100 * end:+.1f}' for end in lead[1:]] if lead.bounded else []
    cells = [
      *(map(escape, section) if section != last else ('', '')),
      escape(verdict.label),
      verdict.word,
      f'${100 * lead.value:+.1f}$' if lead.known else '',
      f'$[{ends[0]}, {ends[1]}]$' if ends else '',
    ]
    lines.append(_row(cells))
    last = section
  if not lines:
    return '% Nothing can be compared with random yet.\n'
  heads = ['Dataset', 'Mode', 'Estimator', 'Verdict', 'Lead', 'Interval']
  return '\n'.join(
    [
      r'% Points over random. Needs \usepackage{booktabs}.',
      r'\begin{tabular}{llllrr}',
      r'\toprule',
      _row(heads),
      r'\midrule',
      *lines,
      r'\bottomrule',
      r'\end{tabular}',
      '',
    ]
  )


def escape(text: str) -> str:
  """Returns a text as LaTeX prints it, character for character."""
  return ''.join(_SPECIAL.get(character, character) for character in text)


def _head(columns: Sequence[tuple[str, int]]) -> list[str]:
  """Returns the names of modes above their thresholds, as in the paper."""
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
  """Returns the lines of one source: original, then a line per ranking."""
  lines = []
  for start in results.original(rows, source).itertuples():
    span = rf'\multicolumn{{{len(columns)}}}{{c}}{{{_cell(start)}}}'
    lines.append(['Original', span])
  masked = rows[(rows['source'] == source) & (rows['mode'] != '')]
  named = masked.assign(estimator=masked['estimator'].map(paper.name))
  masked = masked.assign(label=results.labels(named))
  rankings = masked.groupby(['estimator', 'granularity', 'fill'])
  for _, cells in sorted(rankings, key=lambda pair: _order(pair[0])):
    label = cells['label'].iloc[0]
    means = {(cell.mode, cell.threshold): cell for cell in cells.itertuples()}
    lines.append([escape(label), *(_cell(means.get(c)) for c in columns)])
  names = [escape(source)] + [''] * len(lines)
  return [_row([name, *line]) for name, line in zip(names, lines, strict=False)]


def _order(label: tuple[str, str, str]) -> tuple:
  """Sorts random first, then the paper's estimators, then all others."""
  estimator, *variant = label
  order = [*results.RANDOM, *paper.estimators()[1:], estimator]
  return (order.index(estimator), estimator, variant)


def _cell(cell) -> str:
  """Returns a mean, with its deviation from three runs on."""
  if cell is None or not math.isfinite(cell.mean):
    return ''
  text = f'{100 * cell.mean:.2f}'
  if cell.replicates >= results.RUNS_FOR_INTERVAL:
    text += rf'$_{{\pm {100 * cell.sd:.2f}}}$'
  return text


def _row(cells: Sequence[str]) -> str:
  return ' & '.join(cells) + r' \\'
