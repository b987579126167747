"""Tests of the report."""

import html.parser
import re

import numpy as np
import pandas as pd
import pytest

from roar_tf import errors
from roar_tf.analysis import figures, report, results, statistics

NASTY = '<b>x'
MEANS = {'random': 0.7, 'grad': 0.8, 'sg_grad': 0.65, 'sobel': 0.4, NASTY: 0.6}
ORACLES = {'oracle': 0.2, 'inverse_oracle': 0.895}


def frame(seeds, modes=('remove',), means=MEANS, **changes):
  rows = []
  cells = [('original', '', '', 0, 0.9)]
  cells += [
    (name, 'pixel', mode, t, mean - (t if mode == 'remove' else -t) / 1000)
    for name, mean in means.items()
    for mode in modes
    for t in (10, 50, 90)
  ]
  for *cell, mean in cells:
    for seed in range(seeds):
      numbers = (seed, mean + seed / 777, 0.95, 100, 1000, 1.0)
      rows.append(('study', 'digits', *cell, 'mean', 'image', *numbers))
  return pd.DataFrame(rows, columns=list(results.COLUMNS)).assign(**changes)


class Page(html.parser.HTMLParser):
  """The tables of a page, each a list of rows of (tag, class, text) cells."""

  def __init__(self, text):
    super().__init__()
    self.tables, self.rows, self.links, self.tags = [], [], [], []
    self.inside = False
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self.tags.append(tag)
    self.links += [attributes[k] for k in ('src', 'href') if k in attributes]
    if tag == 'table':
      self.tables.append([])
    elif tag == 'tr':
      self.tables[-1].append((attributes.get('class', ''), []))
    elif tag in ('td', 'th'):
      self.tables[-1][-1][1].append('')
      self.inside = True

  def handle_endtag(self, tag):
    if tag in ('td', 'th'):
      self.inside = False

  def handle_data(self, data):
    if self.inside:
      self.tables[-1][-1][1][-1] += data


def write(folder, rows, **options):
  options = {'study': 'study', 'chances': {'digits': 0.1}} | options
  path = report.write(str(folder), rows, **options)
  with open(path, encoding='utf-8') as file:
    text = file.read()
  return text, Page(text)


def squeezed(cells):
  return [' '.join(cell.split()) for cell in cells]


def test_page_needs_nothing_from_outside(tmp_path):
  image = np.zeros((8, 8, 1), np.uint8)
  text, page = write(
    tmp_path,
    frame(2, ('remove', 'keep')),
    mosaics={'digits': figures.mosaic(image, {}, ['grad'], [90])},
    facts=[('Python', '3.11')],
    commands={'Again': 'roar_study --study=study'},
    operative_config='# see http://example.org\ntrain.rate = 0.1',
  )
  assert page.links
  assert all(link.startswith(('data:', '#')) for link in page.links)
  assert not re.search(r'(src|href)\s*=\s*["\']?\s*(https?:)?//', text)
  assert 'url(' not in text and '@import' not in text
  assert 'script' not in page.tags
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'curves_digits_keep.png',
    'curves_digits_remove.png',
    'index.html',
    'mosaic_digits.png',
    'results.csv',
    'statistics.csv',
    'table.md',
  ]
  for expected in ('Python', 'roar_study --study=study', 'train.rate = 0.1'):
    assert expected in text


def test_everything_is_escaped(tmp_path):
  text, page = write(
    tmp_path,
    frame(1),
    study='<i>study',
    problems=['<u>lost'],
    facts=[('<s>', '<q>')],
    commands={'<kbd>': '<tt>'},
    operative_config='</pre><ol>',
    tables=[('<h6>', '<sub>', pd.DataFrame({'<del>': ['<ins>']}))],
  )
  forbidden = {'i', 'u', 's', 'q', 'kbd', 'tt', 'ol', 'h6', 'sub', 'del', 'ins'}
  assert not forbidden & set(page.tags)
  assert '<b>x' not in text
  assert '&lt;b&gt;x' in text


@pytest.mark.parametrize('seeds', [2, 5])
@pytest.mark.parametrize('mode', ['remove', 'keep'])
def test_table_shows_the_summary(tmp_path, seeds, mode):
  rows = frame(seeds, (mode,))
  _, page = write(tmp_path, rows)
  summary = results.summarise(rows)
  shown = results.against_random(summary, 'digits', mode)
  head, *body = page.tables[0]
  assert squeezed(head[1]) == ['estimator', 'lead', '10 %', '50 %', '90 %']
  order = ['sobel', NASTY, 'sg_grad', 'random', 'grad']
  assert [row[1][0] for row in body] == (
    order if mode == 'remove' else order[::-1]
  )
  for name, cells in body:
    label, lead, *values = squeezed(cells)
    assert name == ('random' if label == 'random' else '')
    found = shown[shown['label'] == label].sort_values('threshold')
    for value, cell in zip(values, found.itertuples(), strict=True):
      expected = f'{100 * cell.mean:.1f}'
      if seeds >= 3:
        expected += f' ± {100 * (cell.high - cell.mean):.1f}'
      assert value == expected
    if label != 'random':
      lead = float(lead.replace('−', '-'))
      assert lead == pytest.approx(100 * found['lead'].iloc[0], abs=0.051)


def test_random_is_bold(tmp_path):
  text, page = write(tmp_path, frame(1))
  assert 'tr.random > * { font-weight: 700; }' in text
  (row,) = [row for row in page.tables[0] if row[0] == 'random']
  assert row[1][0] == 'random'
  table = report.table(results.summarise(frame(1)), 'digits', 'remove')
  assert '| **random** ' in table


def test_terminal_table_is_aligned_and_fits():
  rows = frame(5, means=MEANS | ORACLES)
  table = report.table(results.summarise(rows), 'digits', 'remove')
  caption, empty, *lines = table.splitlines()
  assert 'Original: 90.3 ± 0.3' in caption and not empty
  assert len({len(line) for line in lines}) == 1
  assert all(len(line) <= 100 for line in [caption, *lines])
  assert r'\<b>x' in table


def test_verdict_below_three_seeds_claims_nothing():
  text = report.verdict(results.summarise(frame(2)), 'digits', 'remove')
  assert text.startswith(
    'Averaged over the thresholds, 3 of 4 estimators beat random: sobel'
    ' (+28.3 points), <b>x (+9.4 points), sg_grad (+4.7 points).'
  )
  assert 'With 2 seeds per cell' in text
  assert 'no significance is claimed' in text
  assert 'interval wholly' not in text


def test_verdict_from_three_seeds_counts_intervals_apart():
  text = report.verdict(results.summarise(frame(3)), 'digits', 'remove')
  assert '3 of these have a 95 % interval wholly below that of random' in text


def test_verdict_counts_an_estimator_as_apart_only_at_most_thresholds():
  rows = frame(3, means={'random': 0.7, 'grad': 0.6})
  worse = (rows['estimator'] == 'grad') & rows['threshold'].isin([10, 50])
  rows.loc[worse, 'accuracy'] += 0.1
  text = report.verdict(results.summarise(rows), 'digits', 'remove')
  assert '1 of 1 estimators beats random: grad (+2.2 points)' in text
  assert 'None of these have' in text


def test_verdict_of_keep_looks_above_random():
  text = report.verdict(
    results.summarise(frame(1, ('keep',))), 'digits', 'keep'
  )
  assert '1 of 4 estimators beats random: grad (+9.4 points).' in text


def test_verdict_names_the_closest_when_none_is_better():
  means = {'random': 0.5, 'grad': 0.8, 'sobel': 0.7, 'blur_grad': 0.1}
  text = report.verdict(
    results.summarise(frame(1, means=means)), 'digits', 'remove'
  )
  assert 'none of 2 estimators beats random' in text
  assert 'the closest is sobel (-18.9 points)' in text


def test_verdict_needs_a_random_baseline():
  table = results.summarise(frame(1, means={'grad': 0.5}))
  assert 'Without a random baseline' in report.verdict(
    table, 'digits', 'remove'
  )


def test_incomplete_results_say_so(tmp_path):
  expected = frame(3).to_dict('records')
  rows = frame(3)
  gone = (rows['estimator'] == 'grad') & (rows['threshold'] == 50)
  rows = rows[~(gone & (rows['seed'] == 2))]
  rows = pd.concat([rows, rows.iloc[[0]]])
  text, page = write(tmp_path, rows, problems=results.check(rows, expected))
  (cells,) = [row[1] for row in page.tables[0] if row[1][0] == 'grad']
  assert squeezed(cells)[3] == '75.1 (n=2)'
  assert 'incomplete or unsound' in text
  for problem in (
    'digits: grad_pixel_remove_50 lacks seed 2.',
    'digits: original has seed 0 more than once.',
  ):
    assert text.count(problem) == 1
    assert problem in (tmp_path / 'table.md').read_text()


def test_complete_results_raise_no_alarm(tmp_path):
  text, _ = write(tmp_path, frame(3, means=MEANS | ORACLES))
  assert 'incomplete or unsound' not in text


def test_checks_of_the_benchmark_are_shown_with_their_numbers(tmp_path):
  text, _ = write(tmp_path, frame(3, means=MEANS | ORACLES))
  assert 'oracle must be ahead of random in remove mode; it is 47.2' in text
  assert 'incomplete or unsound' not in text
  swapped = {'random': 0.5, 'oracle': 0.8, 'inverse_oracle': 0.2}
  text, _ = write(tmp_path, frame(3, means=swapped))
  assert 'incomplete or unsound' in text
  table = statistics.read_csv(str(tmp_path / 'statistics.csv'))
  assert {'alarm_oracle', 'alarm_offset'} <= set(table['quantity'])


def test_mask_only_models_have_a_table_of_their_own(tmp_path):
  leak = frame(1, means={'random': 0.2, 'grad': 0.4}, input='maskonly')
  rows = pd.concat([frame(1), leak[leak['estimator'] != 'original']])
  text, page = write(tmp_path, rows)
  assert 'What the masks alone give away' in text
  assert squeezed(page.tables[1][1][1]) == ['random', '19.0', '15.0', '11.0']
  assert len(page.tables[0]) == 1 + len(MEANS)


def test_same_results_same_bytes(tmp_path):
  rows = frame(2)
  first, _ = write(tmp_path / 'a', rows)
  second, _ = write(tmp_path / 'b', rows.iloc[::-1])
  assert first == second


def test_no_runs_is_an_error():
  with pytest.raises(errors.MissingInputsError, match='no finished run'):
    report.write('unused', frame(1).iloc[:0], study='study', chances={})
