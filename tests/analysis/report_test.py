"""Tests of the report: its page, its tables, its sentences."""

import base64
import hashlib
import html.parser
import re

import numpy as np
import pandas as pd
import pytest
import synthetic

from roar_tf.analysis import mosaics, report, results, sentences, tables

NASTY = '<b>x'
MEANS = {'random': 0.7, 'grad': 0.8, 'sg_grad': 0.65, 'sobel': 0.4, NASTY: 0.6}
ORACLES = {'oracle': 0.2, 'inverse_oracle': 0.895}


def frame(seeds, modes=('remove',), means=MEANS, **changes):
  cells = [
    (name, mode, t, mean - (t if mode == 'remove' else -t) / 1000)
    for name, mean in means.items()
    for mode in modes
    for t in (10, 50, 90)
  ]
  cells.append(('original', '', 0, 0.9))
  return synthetic.runs(cells, seeds, 1 / 777, **changes)


class Page(html.parser.HTMLParser):
  """The tables of a page, each a list of rows of (class, texts of cells)."""

  def __init__(self, text):
    super().__init__()
    self.tables, self.links, self.tags = [], [], []
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

  def table(self, *heads):
    """The first table whose header has these words, as {label: cells}."""
    for head, *body in self.tables:
      columns = squeezed(head[1])
      if set(heads) <= set(columns):
        return {
          squeezed(cells)[0]: dict(zip(columns, squeezed(cells), strict=True))
          for _, cells in body
        }
    raise AssertionError(f'no table has {heads}')


def squeezed(cells):
  return [' '.join(cell.split()) for cell in cells]


def write(folder, rows, **options):
  options = {'study': 'study', 'chances': {'digits': 0.1}} | options
  path = report.write(str(folder), rows, **options)
  with open(path, encoding='utf-8') as file:
    text = file.read()
  return text, Page(text)


def commands(rows, devices=1):
  runs = rows[list(results.IDENTITY)].itertuples(index=False, name=None)
  return {
    run: report.Origin(f'make {run[1]} {run[-1]}', devices) for run in runs
  }


def said(rows):
  """The sentences about a study of one source and mode."""
  _, judged = synthetic.judged(rows)
  return ' '.join(sentences.of_mode(judged))


# --- a study of all that there can be ----------------------------------------

ESTIMATORS = ('random', 'sobel', 'grad', 'sg_sq_grad', 'blur_grad', 'max_grad')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Runs, folder and page of a study with every kind of run."""
  folder = tmp_path_factory.mktemp('report')
  rows = synthetic.frame(
    ('food101',),
    ('remove', 'keep'),
    ESTIMATORS,
    seeds=3,
    fills=('mean', 'zero'),
    deletion=True,
    maskonly=3,
  )
  text, page = write(
    folder,
    rows,
    chances={'food101': 1 / 101},
    price_per_hour=1.25,
    origins=commands(rows, devices=4),
  )
  return rows, folder, text, page


@pytest.fixture(scope='module')
def value(whole):
  """Looks numbers of whole curves under the mean fill up in statistics.csv."""
  table = results.where(synthetic.statistics_of(whole[1]), fill='mean')
  table = table[table['threshold'].isna()]

  def look_up(estimator, quantity, column='value', input='image'):
    (number,) = results.where(
      table,
      estimator=estimator,
      quantity=quantity,
      input=input,
      mode='remove',
    )[column]
    return number

  return look_up


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
        cell = re.sub(r'\(n=\d+\)', '', cell)
        for half in re.findall(r'± ([\d.]+)', cell):
          yield 'half', half
        cell = re.sub(r'± [\d.]+', '', cell)
        for number in re.findall(r'[+-]?\d+(?:\.\d+)?', cell):
          yield 'value', number


def test_every_number_of_the_tables_is_in_a_csv_file(whole):
  _, folder, _, page = whole
  table = synthetic.statistics_of(folder)
  numbers = pd.read_csv(folder / 'results.csv')[
    ['accuracy', 'top5', 'steps', 'test_images', 'seconds']
  ]
  values = [*table[['value', 'low', 'high']].to_numpy().ravel()]
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
      f'{100 * half:.1f}' for half in (table['high'] - table['value']).dropna()
    },
  }
  shown = list(_shown_numbers(page))
  assert len(shown) > 1000
  assert not [(k, n) for k, n in shown if n.lstrip('+-') not in known[k]]


WORDS = {
  'random': 'the reference',
  'sobel': 'undecided',
  'grad': 'worse',
  'sg_sq_grad': 'better',
  'blur_grad': 'on par',
  'max_grad': 'on par',
}


def test_the_verdict_table_says_what_statistics_say(whole, value):
  page = whole[-1]
  body = page.table('verdict', 'RACU', 'ceiling', 'DiffROAR', 'rank')
  for name in ('sobel', 'grad', 'sg_sq_grad'):
    cells = body[name]
    for head, quantity in (
      ('points over random', 'lead'),
      ('ceiling', 'ceiling'),
      ('DiffROAR', 'diffroar'),
    ):
      shown = cells[head].split()[0]
      assert shown == tables.points(value(name, quantity))
    ends = [value(name, 'lead', end) for end in ('low', 'high')]
    assert cells['interval'] == ' to '.join(map(tables.points, ends))
    assert cells['RACU'].split()[0] == tables.decimal(value(name, 'racu'))
    rank, low, high = (
      value(name, 'rank', column) for column in ('value', 'low', 'high')
    )
    assert cells['rank'] == f'{rank:.0f} {low:.0f} to {high:.0f}'
    assert cells['verdict'] == value(name, 'lead', 'decision')
  assert {name: body[name]['verdict'] for name in ESTIMATORS} == WORDS
  bold = {
    row[1][0] for table in page.tables for row in table if row[0] == 'random'
  }
  assert bold == {'random', 'random (zero)'}


def test_the_matrix_comes_first_and_controls_stand_below_its_line(whole, value):
  head, *body = whole[-1].tables[0]
  assert squeezed(head[1]) == ['estimator', 'food101remove', 'food101keep']
  shown = {cells[0]: squeezed(cells)[1] for _, cells in body}
  for name in ('sobel', 'grad', 'sg_sq_grad'):
    lead = tables.points(value(name, 'lead'))
    assert shown[name] == f'{WORDS[name]}{lead}'
  names, tones = [row[1][0] for row in body], [row[0] for row in body]
  assert names[:3] == ['sg_sq_grad', 'sobel', 'grad']
  assert {'sobel (zero)', 'grad (zero)', 'sg_sq_grad (zero)'} == {*names[3:6]}
  assert tones == [''] * 6 + ['control first'] + ['control'] * 3


def test_controls_fills_deletion_and_masks_have_tables(whole, value):
  _, _, text, page = whole
  area = tables.points(value('grad', 'lead'))
  filtered = page.table('itself', 'blurred', 'max-filtered')['grad']
  assert filtered['itself'] == area
  assert filtered['blurred'] == tables.points(value('blur_grad', 'lead'))
  assert page.table('mean', 'zero')['grad']['mean'] == area
  tested = page.table('not retrained', 'retrained')['grad']
  deleted = value('grad', 'lead', input='deletion')
  assert tested['not retrained'] == tables.points(deleted)
  assert tested['retrained'].split()[0] == area
  masks = page.table('mask of removed')
  assert masks['grad']['verdict'] == 'leaks'
  assert masks['random']['verdict'] == 'no leak seen'
  assert masks['random']['90 %'] == '1.0'
  assert masks['guessing']['90 %'] == '0.9901'
  assert 'models that see only the masks of' in text


def test_every_run_has_its_command_and_its_devices_cost(whole):
  rows, _, _, page = whole
  head, *body = page.tables[-1]
  assert squeezed(head[1])[-1] == 'command'
  assert [cells[-1] for _, cells in body] == [
    f'make {run.estimator} {run.seed}'
    for run in results.tidy(rows).itertuples()
  ]
  (*_, images) = (
    cells
    for _, cells in next(t for t in page.tables if 'device-hours' in t[0][1])
    if cells[1] == 'image'
  )
  seconds = rows.loc[rows['input'] == 'image', 'seconds'].sum()
  assert images[3:] == [
    f'{number:,.2f}'
    for number in (seconds, 4 * seconds / 3600, 1.25 * 4 * seconds / 3600)
  ]


# --- the page ----------------------------------------------------------------


def test_page_needs_nothing_from_outside_and_escapes_everything(tmp_path):
  example = mosaics.Example(
    np.zeros((8, 8, 1), np.uint8), {('grad', 90): np.ones((8, 8, 1), np.uint8)}
  )
  nasty_run = ('digits', NASTY, 'pixel', 'remove', 'mean', 'image', 10, 0)
  text, page = write(
    tmp_path,
    frame(2, ('remove', 'keep')),
    study='<i>study',
    examples={'digits': [example, example]},
    excluded=['<u>lost'],
    facts=[('<s>', '<q>')],
    commands={'<kbd>': '<tt>'},
    operative_config='</pre><ol> # see http://example.org',
    origins={nasty_run: report.Origin('<sub>')},
  )
  assert page.links
  assert all(link.startswith(('data:', '#')) for link in page.links)
  assert not re.search(r'(src|href)\s*=\s*["\']?\s*(https?:)?//', text)
  assert 'url(' not in text and '@import' not in text
  forbidden = {'i', 'u', 's', 'q', 'kbd', 'tt', 'ol', 'sub', 'b'}
  assert not forbidden & set(page.tags)
  for shown in ('<i>study', '<u>lost', '<q>', '<tt>', '</pre><ol>', '<sub>'):
    assert shown not in text and shown.replace('<', '&lt;') in text.replace(
      '&gt;', '>'
    )
  names = (
    'index.html mosaic_digits_1.png mosaic_digits_2.png results.csv '
    'config.gin statistics.csv table.md table.tex verdicts.tex'
  ).split()
  names += [
    f'{figure}_digits{mode}.{kind}'
    for figure, mode in (
      *[('both', ''), ('curves', '_keep'), ('curves', '_remove')],
      *[('gains', '_keep'), ('gains', '_remove')],
    )
    for kind in ('pdf', 'png', 'svg')
  ]
  assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
  # Only the page's own script may run.
  (script,) = re.findall('<script>(.*?)</script>', text, re.S)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
  assert f"script-src 'sha256-{digest}'" in policy
  assert "default-src 'none'" in policy
  assert not re.search(r'\son[a-z]+=', text.replace(script, ''))


def test_incomplete_results_say_so(tmp_path):
  expected = frame(3).to_dict('records')
  rows = frame(3)
  gone = (rows['estimator'] == 'grad') & (rows['threshold'] == 50)
  rows = rows[~(gone & (rows['seed'] == 2))]
  rows = rows[~((rows['estimator'] == 'sobel') & (rows['threshold'] == 90))]
  rows = pd.concat([rows, rows.iloc[[0]]])
  text, page = write(tmp_path, rows, expected=expected, excluded=['Torn.'])
  body = page.table('lead', '50 %')
  assert body['grad']['50 %'] == '74.9 (n=2)'
  assert body['sobel']['90 %'] == '–' and body['sobel']['lead'] == '–'
  sobel = page.table('verdict', 'points over random')['sobel']
  assert (sobel['verdict'], sobel['points over random']) == ('undecided', '–')
  assert 'sobel has no run yet with 90 % removed.' in text
  alarm = text.index('missing, damaged or wrong')
  assert alarm < text.index('id="verdicts"')
  assert f'{len(rows)} of {len(expected)} runs' in ' '.join(text.split())
  for problem in (
    'Torn.',
    'digits: grad_pixel_remove_50 lacks seed 2.',
    'digits: random_pixel_remove_10 has seed 0 more than once.',
  ):
    assert problem in text
  # There each kind of problem has one line.
  markdown = (tmp_path / 'table.md').read_text()
  for problem in (
    'Torn.',
    'sobel_pixel_remove_90 lacks seeds 0, 1, 2. (1 more of this kind',
    'digits: random_pixel_remove_10 has seed 0 more than once.',
  ):
    assert problem in markdown


def test_complete_results_raise_no_alarm_and_do_not_hang_on_the_order(tmp_path):
  rows = frame(3, means=MEANS | ORACLES)
  text, page = write(tmp_path / 'a', rows)
  again, _ = write(tmp_path / 'b', rows.iloc[::-1])
  assert text == again
  assert 'damaged or wrong' not in text
  assert 'clearly ahead of random in remove mode; it is 47.2 points' in text
  for heading in ('max-filtered', 'not retrained', 'mask of', 'remove, ours'):
    assert heading not in str(page.tables)
  for path in (tmp_path / 'a').iterdir():
    assert path.read_bytes() == (tmp_path / 'b' / path.name).read_bytes()


# --- tables and sentences ----------------------------------------------------


@pytest.mark.parametrize('mode', ['remove', 'keep'])
def test_markdown_shows_the_summary_aligned_and_the_best_first(mode):
  rows = frame(5, (mode,), MEANS | ORACLES)
  summary = results.summarise(rows)
  text = tables.table(summary, 'digits', mode)
  caption, empty, head, _, *lines = text.splitlines()
  assert 'Original: 90.0 ± 0.3' in caption and not empty
  assert len({len(line) for line in lines}) == 1
  assert all(len(line) <= 100 for line in [caption, *lines])
  cells = [[x.strip() for x in line.strip('|').split('|')] for line in lines]
  order = ['oracle', 'sobel', r'\<b>x', 'sg_grad', '**random**', 'grad']
  order.append('inverse_oracle')
  assert [row[0] for row in cells] == order[:: 1 if mode == 'remove' else -1]
  grad = next(row for row in cells if row[0] == 'grad')
  shown = results.against_random(summary, 'digits', mode)
  for row, text in zip(
    results.where(shown, label='grad').itertuples(), grad[2:], strict=True
  ):
    assert text == f'{100 * row.mean:.1f} ± {100 * (row.high - row.mean):.1f}'
    assert grad[1] == tables.points(row.lead)


@pytest.mark.parametrize(
  'rows, words',
  [
    (frame(2), 'Each interval takes 3 seeds; some curves have 2.'),
    (
      frame(3),
      '3 of 4 estimators are better than random: sobel (+28.3 points), <b>x'
      ' (+9.4 points), sg_grad (+4.7 points). 1 is worse than random: grad',
    ),
    (frame(1), 'None of 4 estimators are better than random. 4 are undecided'),
    (
      frame(3, ('keep',), {'random': 0.5, 'grad': 0.8, 'blur_grad': 0.1}),
      '1 of 1 estimator is better than random: grad (+28.3 points).',
    ),
    (frame(3, means={'grad': 0.5}), 'Without a random baseline'),
    (frame(3, means={'random': 0.5}), 'No estimator competes here'),
    (frame(3).assign(accuracy=0.5), 'None of 4 estimators are better'),
  ],
)
def test_verdicts_are_said_in_a_few_sentences(rows, words):
  assert words in said(rows)


def test_a_threshold_that_nobody_has_yet_leaves_one_story(tmp_path):
  expected = frame(3).to_dict('records')
  rows = frame(3)
  rows = rows[rows['threshold'] != 90]
  text, page = write(tmp_path, rows, expected=expected)
  for name in ('grad', 'sobel'):
    body = page.table('verdict', 'points over random')[name]
    assert (body['verdict'], body['points over random']) == ('undecided', '–')
    assert page.table('lead', '50 %')[name]['lead'] == '–'
    assert f'{name} has no run yet with 90 % removed.' in text
    (line,) = (
      line
      for line in (tmp_path / 'table.md').read_text().splitlines()
      if line.startswith(f'| {name} ')
    )
    assert line.split('|')[2].strip() == '–'
  shown = {
    squeezed(cells)[0]: squeezed(cells)[1] for _, cells in page.tables[0]
  }
  assert shown['grad'] == shown['sobel'] == 'undecided–'
  table = synthetic.statistics_of(tmp_path)
  assert 'lead' not in set(table['quantity'])


def test_alarms_are_red_and_cautions_are_not(tmp_path):
  rows = frame(3, ('remove', 'keep'), MEANS | {'oracle': 0.69})
  text, page = write(tmp_path, rows)
  red = text[text.index('class="alarm"') : text.index('class="caution"')]
  assert 'oracle must be clearly ahead' in red
  assert 'contradict each other' not in red
  assert 'contradict each other' in text[text.index('class="caution"') :]
  markdown = (tmp_path / 'table.md').read_text()
  problems, cautions = markdown.split('## Problems')[1].split('## Cautions')
  assert 'oracle must be' in problems and 'contradict' in cautions
