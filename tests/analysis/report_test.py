"""Tests of the report."""

import base64
import hashlib
import html.parser
import re

import numpy as np
import pandas as pd
import pytest
import synthetic

from roar_tf import errors
from roar_tf.analysis import mosaics, report, results, statistics, tables

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


def table(page, *heads):
  """The first table whose header has these words, as {label: cells}."""
  for head, *body in page.tables:
    if set(heads) <= set(squeezed(head[1])):
      columns = squeezed(head[1])
      return {
        squeezed(cells)[0]: dict(zip(columns, squeezed(cells), strict=True))
        for _, cells in body
      }
  raise AssertionError(f'no table has {heads}')


def sentences(rows, mode='remove', chances=None):
  from roar_tf.analysis import verdicts

  summary = results.summarise(rows)
  judged = verdicts.of_curves(
    statistics.compute(rows, chances or {}),
    results.against_random(summary, 'digits', mode),
  )
  return ' '.join(verdicts.sentences(judged, mode))


def test_page_needs_nothing_from_outside(tmp_path):
  example = mosaics.Example(
    np.zeros((8, 8, 1), np.uint8), {('grad', 90): np.ones((8, 8, 1), np.uint8)}
  )
  text, page = write(
    tmp_path,
    frame(2, ('remove', 'keep')),
    examples={'digits': [example, example]},
    facts=[('Python', '3.11')],
    commands={'Again': 'roar_study --study=study'},
    operative_config='# see http://example.org\ntrain.rate = 0.1',
  )
  assert page.links
  assert all(link.startswith(('data:', '#')) for link in page.links)
  assert not re.search(r'(src|href)\s*=\s*["\']?\s*(https?:)?//', text)
  assert 'url(' not in text and '@import' not in text
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'both_digits.png',
    'curves_digits_keep.png',
    'curves_digits_remove.png',
    'index.html',
    'mosaic_digits_1.png',
    'mosaic_digits_2.png',
    'results.csv',
    'statistics.csv',
    'table.md',
    'table.tex',
  ]
  for expected in ('Python', 'roar_study --study=study', 'train.rate = 0.1'):
    assert expected in text


def test_only_the_pages_own_script_may_run(tmp_path):
  text, page = write(tmp_path, frame(1))
  assert page.tags.count('script') == 1
  (script,) = re.findall('<script>(.*?)</script>', text, re.S)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
  assert f"script-src 'sha256-{digest}'" in policy
  assert "default-src 'none'" in policy
  assert not re.search(r'\son[a-z]+=', text.replace(script, ''))


def test_everything_is_escaped(tmp_path):
  text, page = write(
    tmp_path,
    frame(1),
    study='<i>study',
    excluded=['<u>lost'],
    facts=[('<s>', '<q>')],
    commands={'<kbd>': '<tt>'},
    operative_config='</pre><ol>',
    origins={
      ('digits', NASTY, 'pixel', 'remove', 'mean', 'image', 10, 0): (
        report.Origin('<sub>')
      )
    },
  )
  forbidden = {'i', 'u', 's', 'q', 'kbd', 'tt', 'ol', 'sub', 'b'}
  assert not forbidden & set(page.tags)
  assert '<b>x' not in text
  assert '&lt;b&gt;x' in text and '&lt;sub&gt;' in text


@pytest.mark.parametrize('seeds', [2, 5])
@pytest.mark.parametrize('mode', ['remove', 'keep'])
def test_accuracies_show_the_summary(tmp_path, seeds, mode):
  rows = frame(seeds, (mode,))
  _, page = write(tmp_path, rows)
  summary = results.summarise(rows)
  shown = results.against_random(summary, 'digits', mode)
  body = table(page, 'lead', '10 %', '50 %', '90 %')
  order = ['sobel', NASTY, 'sg_grad', 'random', 'grad']
  assert list(body) == (order if mode == 'remove' else order[::-1])
  for label, cells in body.items():
    found = shown[shown['label'] == label]
    for cell in found.itertuples():
      expected = f'{100 * cell.mean:.1f}'
      if seeds >= 3:
        expected += f' ± {100 * (cell.high - cell.mean):.1f}'
      assert cells[f'{cell.threshold} %'] == expected
    if label != 'random':
      lead = float(cells['lead'].replace('−', '-'))
      assert lead == pytest.approx(100 * found['lead'].iloc[0], abs=0.051)


def test_the_verdict_table_comes_first_and_says_what_statistics_say(tmp_path):
  rows = synthetic.frame(
    estimators=('random', 'sobel', 'grad', 'sg_sq_grad', 'blur_grad'),
    maskonly=2,
  )
  _, page = write(tmp_path, rows, chances={'digits': 0.01})
  assert 'verdict' in squeezed(page.tables[0][0][1])
  body = table(page, 'verdict', 'RACU', 'p, corrected', 'rank', 'mask alone')
  found = synthetic.statistics_of(tmp_path)
  found = found[(found['input'] == 'image') & (found['mode'] == 'remove')]
  found = {
    (row.estimator, row.quantity): row
    for row in found[found['threshold'].isna()].itertuples()
  }
  for name in ('sobel', 'grad', 'sg_sq_grad'):
    area = found[name, 'area']
    cells = body[name]
    assert cells['points over random'] == tables.points(area.value)
    assert cells['95 % interval'] == (
      f'{tables.points(area.low)} to {tables.points(area.high)}'
    )
    racu = found[name, 'racu']
    assert cells['RACU'].split()[0] == tables.decimal(racu.value)
    p = found[name, 'p_holm'].value
    shown = cells['p, corrected']
    assert shown == '< 0.001' if p < 0.001 else shown == f'{p:.3f}'
    rank = found[name, 'rank']
    assert cells['rank'] == (
      f'{rank.value:.0f} {rank.low:.0f} to {rank.high:.0f}'
    )
  assert body['sg_sq_grad']['verdict'] == 'better than random'
  assert body['grad']['verdict'] == 'worse than random'
  assert body['random']['verdict'] == 'the reference'
  assert body['blur_grad']['verdict'] == 'control'
  assert body['sg_sq_grad']['mask alone'].endswith('leaks')
  assert body['random']['mask alone'] == '1.0 %'


def _shown_numbers(page):
  """The numbers in all tables of a page but names, headers and commands."""
  for head, *body in page.tables:
    text = {
      i
      for i, name in enumerate(squeezed(head[1]))
      if name in ('cell', 'command', 'trained on', 'seed', 'seeds', 'runs')
    }
    for _, cells in body:
      for i, cell in enumerate(cells[1:], 1):
        if i in text:
          continue
        cell = cell.replace('−', '-').replace(',', '')
        cell = re.sub(r'\(n=\d+\)|< 0.001', '', cell)
        for half in re.findall(r'± ([\d.]+)', cell):
          yield 'half', half
        cell = re.sub(r'± [\d.]+', '', cell)
        for number in re.findall(r'[+-]?\d+(?:\.\d+)?', cell):
          yield 'value', number


def test_every_number_of_the_tables_is_in_a_csv_file(tmp_path):
  estimators = ('random', 'sobel', 'grad', 'sg_sq_grad', 'blur_sg_sq_grad')
  rows = synthetic.frame(
    ('food101',),
    ('remove', 'keep'),
    estimators,
    seeds=3,
    fills=('mean', 'zero'),
    deletion=True,
    maskonly=3,
  )
  _, page = write(
    tmp_path, rows, chances={'food101': 1 / 101}, price_per_hour=1.25
  )
  found = synthetic.statistics_of(tmp_path)
  numbers = pd.read_csv(tmp_path / 'results.csv')[
    ['accuracy', 'top5', 'steps', 'test_images', 'seconds']
  ]
  values = [*found[['value', 'low', 'high']].to_numpy().ravel()]
  values += [*numbers.to_numpy(float).ravel(), 1 / 101]
  values = np.array([value for value in values if np.isfinite(value)])
  known = {
    'value': {
      f'{scale * value:.{places}f}'.lstrip('-')
      for value in values
      for scale, places in ((100, 1), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4))
    }
    | {f'{100 / 101:.4g}'},
    'half': {
      f'{100 * half:.1f}' for half in (found['high'] - found['value']).dropna()
    },
  }
  shown = list(_shown_numbers(page))
  assert len(shown) > 1000
  strange = [(k, n) for k, n in shown if n.lstrip('+-') not in known[k]]
  assert not strange


def test_random_is_bold(tmp_path):
  text, page = write(tmp_path, frame(1))
  assert 'tr.random > * { font-weight: 700; }' in text
  assert 'random' in [row[1][0] for row in page.tables[0] if row[0] == 'random']
  markdown = tables.table(results.summarise(frame(1)), 'digits', 'remove')
  assert '| **random** ' in markdown


def test_terminal_table_is_aligned_and_fits():
  rows = frame(5, means=MEANS | ORACLES)
  text = tables.table(results.summarise(rows), 'digits', 'remove')
  caption, empty, *lines = text.splitlines()
  assert 'Original: 90.3 ± 0.3' in caption and not empty
  assert len({len(line) for line in lines}) == 1
  assert all(len(line) <= 100 for line in [caption, *lines])
  assert r'\<b>x' in text


def test_below_three_seeds_nothing_is_claimed(tmp_path):
  assert sentences(frame(2)) == (
    'Averaged over the curve, 3 of 4 estimators are ahead of random: sobel'
    ' (+28.3 points), <b>x (+9.4 points), sg_grad (+4.7 points). With 2 seeds'
    ' per cell these are points without intervals: no significance is claimed.'
  )
  _, page = write(tmp_path, frame(2))
  body = table(page, 'verdict')
  assert body['sobel']['verdict'] == 'ahead, not tested'
  assert body['grad']['verdict'] == 'behind, not tested'
  assert 'p, corrected' not in body['grad']


def test_from_three_seeds_tests_decide():
  rows = frame(4, means={'random': 0.7, 'sobel': 0.4, 'ig': 0.71, 'grad': 0.7})
  rows.loc[rows['estimator'] == 'grad', 'accuracy'] += (
    0.0001 * rows['seed'] * (-1.0) ** rows['seed']
  )
  text = sentences(rows)
  assert text.startswith('1 of 3 estimators is better than random: sobel (+')
  assert '1 is worse: ig (−0.9 points).' in text
  assert '1 is not told from random: grad' in text
  assert 'no significance' not in text


def test_keep_looks_above_random():
  text = sentences(frame(1, ('keep',)), 'keep')
  assert '1 of 4 estimators is ahead of random: grad (+9.4 points).' in text


def test_the_closest_is_named_when_none_is_better():
  means = {'random': 0.5, 'grad': 0.8, 'sobel': 0.7, 'blur_grad': 0.1}
  text = sentences(frame(1, means=means))
  assert 'none of 2 estimators are ahead of random' in text
  assert 'the closest is sobel (−18.9 points)' in text


def test_without_random_nothing_is_said(tmp_path):
  rows = frame(3, means={'grad': 0.5})
  assert 'Without a random baseline' in sentences(rows)
  text, page = write(tmp_path, rows)
  assert table(page, 'verdict')['grad']['verdict'] == 'incomplete'


def test_incomplete_results_say_so(tmp_path):
  expected = frame(3).to_dict('records')
  rows = frame(3)
  gone = (rows['estimator'] == 'grad') & (rows['threshold'] == 50)
  rows = rows[~(gone & (rows['seed'] == 2))]
  rows = rows[~((rows['estimator'] == 'sobel') & (rows['threshold'] == 90))]
  rows = pd.concat([rows, rows.iloc[[0]]])
  text, page = write(tmp_path, rows, expected=expected, excluded=['Torn.'])
  body = table(page, 'lead')
  assert body['grad']['50 %'] == '75.1 (n=2)'
  assert body['sobel']['90 %'] == '–' and body['sobel']['lead'] == '–'
  assert table(page, 'verdict')['sobel']['verdict'] == 'incomplete'
  assert 'incomplete or unsound' in text
  assert f'{len(rows)} of {len(expected)} runs' in ' '.join(text.split())
  for problem in (
    'Torn.',
    'digits: grad_pixel_remove_50 lacks seed 2.',
    'digits: original has seed 0 more than once.',
    'digits: sobel_pixel_remove_90 lacks seeds 0, 1, 2.',
  ):
    assert problem in text
    assert problem in (tmp_path / 'table.md').read_text()


def test_complete_results_raise_no_alarm(tmp_path):
  text, _ = write(tmp_path, frame(3, means=MEANS | ORACLES))
  assert 'incomplete or unsound' not in text


def test_checks_of_the_benchmark_are_shown_with_their_numbers(tmp_path):
  text, _ = write(tmp_path, frame(3, means=MEANS | ORACLES))
  assert 'oracle must be ahead of random in remove mode; it is 47.2' in text
  found = synthetic.statistics_of(tmp_path)
  assert 'check_oracle' in set(found['quantity'])
  swapped = {'random': 0.5, 'oracle': 0.8, 'inverse_oracle': 0.2}
  text, _ = write(tmp_path, frame(3, means=swapped))
  assert text.index('incomplete or unsound') < text.index('id="verdicts"')
  found = synthetic.statistics_of(tmp_path)
  assert {'alarm_oracle', 'alarm_offset'} <= set(found['quantity'])


def test_mask_only_models_have_a_table_of_their_own(tmp_path):
  leak = frame(1, means={'random': 0.1, 'grad': 0.4}, input='maskonly')
  leak.loc[leak['estimator'] == 'random', 'accuracy'] = 0.1
  rows = pd.concat([frame(1), leak[leak['estimator'] != 'original']])
  text, page = write(tmp_path, rows)
  assert 'The masks of grad give the class away, which holds' in text
  assert 'what the masks alone give away' in text
  body = table(page, 'mask of removed')
  assert body['random']['90 %'] == '10.0'
  assert body['guessing']['90 %'] == '10'
  assert [body[name]['verdict'] for name in ('grad', 'random')] == [
    'leaks',
    'no leak seen',
  ]


def test_controls_fills_and_deletion_have_rows_where_they_were_run(tmp_path):
  estimators = ('random', 'grad', 'blur_grad', 'max_grad')
  text, page = write(
    tmp_path,
    synthetic.frame(
      estimators=estimators, fills=('mean', 'zero'), deletion=True
    ),
    chances={'digits': 0.01},
  )
  found = synthetic.statistics_of(tmp_path)
  areas = found[found['quantity'] == 'area'].set_index(
    ['estimator', 'fill', 'input']
  )['value']
  filtered = table(page, 'itself', 'blurred', 'max-filtered')
  assert filtered['grad']['itself'] == tables.points(
    areas['grad', 'mean', 'image']
  )
  assert filtered['grad']['blurred'] == tables.points(
    areas['blur_grad', 'mean', 'image']
  )
  fills = table(page, 'mean', 'zero')
  assert fills['grad']['zero'] == tables.points(areas['grad', 'zero', 'image'])
  tested = table(page, 'not retrained', 'retrained')
  assert tested['grad']['not retrained'] == tables.points(
    areas['grad', 'mean', 'deletion']
  )
  assert tested['grad']['retrained'] == tables.points(
    areas['grad', 'mean', 'image']
  )
  assert (tmp_path / 'deletion_digits_remove.png').exists()
  text, page = write(tmp_path / 'plain', synthetic.frame())
  for word in ('max-filtered', 'not retrained', 'mask of'):
    assert word not in str(page.tables)


def test_the_papers_results_stand_beside_ours_on_its_datasets(tmp_path):
  from roar_tf.analysis import paper

  rows = synthetic.frame(('food101',), estimators=('random', 'ig'))
  _, page = write(tmp_path, rows, chances={'food101': 1 / 101})
  body = table(page, 'remove, ours')
  compared = paper.compare(results.summarise(rows), 'food101')
  cell = compared[
    (compared['estimator'] == 'ig') & (compared['threshold'] == 90)
  ].iloc[0]
  assert body['ig']['90 %'] == (
    f'{100 * cell["ours"]:.1f} {100 * cell["paper"]:.1f}'
    f' {tables.points(cell["difference"])}'
  )
  text, page = write(tmp_path / 'other', synthetic.frame())
  assert 'remove, ours' not in text


def test_every_run_has_its_command(tmp_path):
  rows = frame(2)
  runs = rows[list(results.IDENTITY)].itertuples(index=False, name=None)
  origins = {run: report.Origin(f'make {run[1]} {run[-1]}') for run in runs}
  _, page = write(tmp_path, rows, origins=origins)
  head, *body = page.tables[-1]
  assert squeezed(head[1])[-1] == 'command'
  assert len(body) == len(rows)
  assert {cells[-1] for _, cells in body} == {
    origin.command for origin in origins.values()
  }


def test_costs_count_devices(tmp_path):
  rows = frame(2).assign(seconds=1800.0)
  runs = rows[list(results.IDENTITY)].itertuples(index=False, name=None)
  origins = {run: report.Origin(devices=4) for run in runs}
  _, page = write(tmp_path, rows, origins=origins, price_per_hour=0.5)
  costs = table(page, 'device-hours', 'cost')['digits']
  hours = len(rows) * 0.5 * 4
  assert costs['seconds'] == f'{len(rows) * 1800:,.2f}'
  assert costs['device-hours'] == f'{hours:,.2f}'
  assert costs['cost'] == f'{hours * 0.5:,.2f}'


def test_the_papers_study_makes_a_page_of_a_few_megabytes(tmp_path):
  sources = ('birdsnap', 'food101', 'imagenet2012')
  rows = synthetic.frame(sources, ('remove', 'keep'), synthetic.PAPER)
  assert len(rows) == 2730
  runs = rows[list(results.IDENTITY)].itertuples(index=False, name=None)
  command = 'roar_train --study=paper --dataset=imagenet2012 --seed=3 --cell='
  text, page = write(
    tmp_path,
    rows,
    chances=dict.fromkeys(sources, 0.01),
    origins={run: report.Origin(command + run[1]) for run in runs},
  )
  assert len(text) < 3_000_000
  assert len(page.tables[-1]) == 2731
  # Eighteen lines are never in one pair of axes, but where the outermost only
  # are named.
  for chart in re.findall('<svg class="chart".*?</svg>', text, re.S):
    assert chart.count('class="name') <= 9


def test_same_results_same_bytes(tmp_path):
  rows = frame(2)
  first, _ = write(tmp_path / 'a', rows)
  second, _ = write(tmp_path / 'b', rows.iloc[::-1])
  assert first == second


def test_no_runs_is_an_error():
  with pytest.raises(errors.MissingInputsError, match='no finished run'):
    report.write('unused', frame(1).iloc[:0], study='study', chances={})
