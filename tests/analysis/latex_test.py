"""Tests of LaTeX files, by their structure: no LaTeX is needed."""

import re

import numpy as np
import pandas as pd
import pytest
import synthetic

from roar_tf.analysis import latex, paper, results


def summary(cells, seeds=3, source='food101'):
  return results.summarise(synthetic.runs(cells, seeds, 0.01, source))


def body(text):
  """Cells of the rows, [[cell, ...], ...], after checking the frame."""
  lines = [line for line in text.splitlines() if not line.startswith('%')]
  assert lines[0].startswith(r'\begin{tabular}{')
  assert lines[-1] == r'\end{tabular}'
  columns = re.fullmatch(r'\\begin{tabular}{(l+r+)}', lines[0])[1]
  rules = [r'\toprule', r'\midrule', r'\bottomrule']
  rows = []
  for line in lines[1:-1]:
    if line in rules or line.startswith(r'\cmidrule'):
      continue
    assert line.endswith(r' \\')
    cells = re.split(r'(?<!\\) ?& ', line.removesuffix(r' \\'))
    cells = [cell.strip() for cell in cells]
    spans = [re.match(r'\\multicolumn{(\d+)}', cell) for cell in cells]
    # Every row fills the table exactly.
    assert sum(int(s[1]) if s else 1 for s in spans) == len(columns)
    rows.append(cells)
  assert [line for line in lines if line in rules][0] == r'\toprule'
  assert [line for line in lines if line in rules][-1] == r'\bottomrule'
  assert text.count('{') - text.count(r'\{') == (
    text.count('}') - text.count(r'\}')
  )
  return rows


def test_the_papers_table_comes_out_as_printed():
  table = paper.table_2()
  tables = [
    summary(
      list(rows.drop(columns='source').itertuples(index=False, name=None)),
      seeds=1,
      source=source,
    )
    for source, rows in table.groupby('source', sort=False)
  ]
  text = latex.table(pd.concat(tables), ['birdsnap', 'food101', 'imagenet2012'])
  head, thresholds, *rows = body(text)
  assert head[2:] == [
    r'\multicolumn{5}{c}{Keep}',
    r'\multicolumn{5}{c}{Remove}',
  ]
  assert r'\cmidrule(lr){3-7} \cmidrule(lr){8-12}' in text
  assert thresholds[2:] == 2 * ['10', '30', '50', '70', '90']
  assert len(rows) == 42
  names = [row[0] for row in rows]
  assert names[::14] == ['birdsnap', 'food101', r'imagenet2012']
  assert sum(map(bool, names)) == 3
  assert [row[1] for row in rows[:5]] == ['Random', 'Sobel', 'GRAD', 'IG', 'GB']
  assert rows[13][1] == rows[41][1] == 'VAR-GB'
  assert text.count(r'\midrule') == 3
  found = [float(cell) for row in rows for cell in row[2:]]
  assert found == pytest.approx((100 * table['accuracy']).tolist())


@pytest.mark.parametrize('runs', [1, 2, 3, 5])
def test_deviations_stand_there_from_three_runs_on(runs):
  table = summary([('grad', 'remove', 90, 0.5)], runs)
  ((cell,),) = [row[2:] for row in body(latex.table(table))[2:]]
  if runs < 3:
    assert cell == '50.00'
  else:
    deviation = np.std([n for n in range(runs)], ddof=1)
    assert cell == rf'50.00$_{{\pm {deviation:.2f}}}$'


def test_what_was_not_run_or_is_no_number_stays_blank():
  table = summary(
    [
      ('grad', 'remove', 10, 0.5),
      ('ig', 'remove', 90, 0.6),
      ('ig', 'remove', 10, np.nan),
      ('grad', 'keep', 50, 0.7),
    ],
    seeds=1,
  )
  _, thresholds, grad, ig = body(latex.table(table))
  assert thresholds[2:] == ['50', '10', '90']
  assert grad[2:] == ['70.00', '50.00', '']
  assert ig[2:] == ['', '', '60.00']


def test_originals_stand_over_all_columns_and_other_inputs_nowhere():
  table = summary(
    [
      ('original', '', 0, 0.9),
      ('grad', 'remove', 10, 0.5),
      ('grad', 'remove', 90, 0.4),
      ('grad', 'remove', 50, 0.3, 'pixel', 'mean', 'deletion'),
    ],
    seeds=1,
  )
  text = latex.table(table)
  assert 'Keep' not in text
  _, thresholds, first, grad = body(text)
  assert thresholds[2:] == ['10', '90']
  assert first == ['food101', 'Original', r'\multicolumn{2}{c}{90.00}']
  assert grad == ['', 'GRAD', '50.00', '40.00']


def test_random_comes_first_then_the_papers_then_all_others():
  names = ('zebra', 'inverse_oracle', 'var_gb', 'sobel', 'gb')
  cells = [(name, 'remove', 10, 0.5) for name in (*names, 'random_bernoulli')]
  cells += [
    ('grad', 'remove', 10, 0.5, granularity, fill, 'image')
    for granularity in ('pixel', 'element')
    for fill in ('mean', 'zero')
  ]
  rows = body(latex.table(summary(cells)))[2:]
  assert [row[1].removesuffix(' (pixel)') for row in rows] == [
    r'random\_bernoulli',
    'Sobel',
    'GRAD (element)',
    'GRAD (element, zero)',
    'GRAD',
    'GRAD (pixel, zero)',
    'GB',
    'VAR-GB',
    r'inverse\_oracle',
    'zebra',
  ]


def test_every_special_character_is_escaped():
  source = r'a_b&c%d$e#f{g}h~i^j\k[l]<m>'
  table = summary([('x_y', 'remove', 10, 0.5)], source=source)
  (row,) = body(latex.table(table))[2:]
  assert row[1] == r'x\_y'
  assert row[0] == (
    r'a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j'
    r'\textbackslash{}k{[}l{]}\textless{}m\textgreater{}'
  )
  assert not re.search(r'(?<!\\)[_&%$#]', row[0] + row[1])


def test_without_a_masked_run_there_is_a_comment_only():
  table = summary([('original', '', 0, 0.9)])
  assert latex.table(table).startswith('%')
  assert latex.table(table).count('\n') == 1


def test_verdicts_have_a_line_each_with_lead_and_interval():
  frame = synthetic.frame(modes=('remove', 'keep'))
  _, judged = synthetic.judged(frame)
  head, *rows = body(latex.verdicts(judged))
  assert head[3:] == ['Verdict', 'Lead', 'Interval']
  shown = [v for v in judged if v.role != 'reference']
  assert [row[2] for row in rows] == [latex.escape(v.label) for v in shown]
  assert [row[:2] for row in rows if row[0]] == [
    ['digits', 'remove'],
    ['digits', 'keep'],
  ]
  for row, v in zip(rows, shown, strict=True):
    assert row[3:] == [
      v.word,
      f'${100 * v.lead.value:+.1f}$',
      f'$[{100 * v.lead.low:+.1f}, {100 * v.lead.high:+.1f}]$',
    ]
  assert latex.verdicts([]).startswith('%')
