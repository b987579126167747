"""Tests of the paper's tables, and of ours beside them."""

import pathlib

import numpy as np
import pytest
import synthetic

from roar_tf.analysis import paper, results
from roar_tf.estimators import registry

# The lines of both tables as they stand in the paper's text.
LINES = pathlib.Path(__file__).parents[1] / 'data' / 'paper_tables.txt'
SOURCES = {
  'Birdsnap': 'birdsnap',
  'Food_101': 'food101',
  'ImageNet': 'imagenet2012',
}
BASES = {'GRAD': 'grad', 'IG': 'ig', 'GB': 'gb', 'GP': 'gb'}
ENSEMBLES = {'SG': 'sg', 'SG-SQ': 'sg_sq', 'VAR': 'var'}


def ours(name):
  """Our name of a row of Table 2, by its parts."""
  if name in ('Random', 'Sobel'):
    return name.lower()
  ensemble, _, base = name.rpartition('-')
  return f'{ENSEMBLES[ensemble]}_{BASES[base]}' if ensemble else BASES[base]


def parse(text):
  """Reads both tables cell by cell: ({source: numbers}, {cell: percent})."""
  first, second, source, modes, thresholds = {}, {}, None, [], []
  for line in text.splitlines():
    fields = line.split('\t')
    if len(fields) == 6 and fields[0] in SOURCES:
      numbers = [float(field.replace(',', '')) for field in fields[1:]]
      first[SOURCES[fields[0]]] = numbers
    elif fields[:2] == ['', 'Threshold']:
      for field in fields[2:]:  # A mode stands over the first of its columns.
        modes.append(field.lower() or modes[-1])
    elif modes and not thresholds:
      thresholds = [int(float(field)) for field in fields[2:]]
    elif len(fields) == 12 and thresholds:
      source = SOURCES[fields[0]] if fields[0] else source
      for place, field in enumerate(fields[2:]):
        cell = (source, ours(fields[1]), modes[place], thresholds[place])
        assert cell not in second
        second[cell] = float(field)
  return first, second


@pytest.fixture(scope='module')
def printed():
  return parse(LINES.read_text(encoding='utf-8'))


def test_table_2_is_the_papers_in_all_420_cells(printed):
  _, expected = printed
  table = paper.table_2()
  cells = table.set_index(['source', 'estimator', 'mode', 'threshold'])
  found = dict(cells['accuracy'].items())
  assert len(table) == len(found) == len(expected) == 420
  assert {c: round(100 * v, 2) for c, v in found.items()} == expected
  # Whole hundredths of a percent, as near as a float can be.
  assert all(float(f'{v:.4f}') == v for v in table['accuracy'])


def test_table_1_is_the_papers_in_all_rows(printed):
  expected, _ = printed
  table = paper.table_1().set_index('source')
  assert len(table) == len(expected) == 3
  names = ['train_images', 'test_images', 'base_learning_rate', 'train_steps']
  for source, (accuracy, *others) in expected.items():
    assert table.loc[source, 'accuracy'] == round(accuracy / 100, 4)
    assert table.loc[source, names].tolist() == others


def test_the_papers_text_agrees_with_its_tables():
  # Numbers that its sections 1, 4.3.1 and 4.3.2 give in words.
  table = paper.table_2()
  table = table[(table['mode'] == 'remove') & (table['threshold'] == 90)]
  at_90 = table.set_index(['source', 'estimator'])['accuracy']
  assert at_90['imagenet2012', 'random'] == 0.6353
  for source, gap in (
    ('birdsnap', 4.22),
    ('food101', 5.17),
    ('imagenet2012', 3.62),
  ):
    bases = [100 * at_90[source, base] for base in ('grad', 'ig', 'gb')]
    # The gap is printed with other roundings than the table, 0.02 at most.
    assert max(bases) - min(bases) == pytest.approx(gap, abs=0.021)


def test_estimators_are_ours_in_the_papers_order():
  names = paper.estimators()
  assert len(names) == 14
  assert names[:5] == ['random', 'sobel', 'grad', 'ig', 'gb']
  assert names[-1] == 'var_gb'
  for name in names:
    registry.parse(name)
  table = paper.table_2()
  assert list(dict.fromkeys(table['estimator'])) == names
  assert list(dict.fromkeys(table['source'])) == list(SOURCES.values())
  first = table.head(10)[['mode', 'threshold']]
  assert list(first.itertuples(index=False, name=None)) == [
    (mode, t) for mode in ('keep', 'remove') for t in (10, 30, 50, 70, 90)
  ]


@pytest.mark.parametrize(
  'estimator, name',
  [
    ('sg_sq_grad', 'SG-SQ-GRAD'),
    ('gb', 'GB'),
    ('sq_sg_ig', 'SQ-SG-IG'),
    ('random', 'Random'),
    ('sobel', 'Sobel'),
    ('random_bernoulli', 'random_bernoulli'),
    ('my_grad', 'my_grad'),
    ('grad_x_input', 'grad_x_input'),
  ],
)
def test_names(estimator, name):
  assert paper.name(estimator) == name


# --- beside ours -------------------------------------------------------------


def summary(cells, source='food101', seeds=5):
  return results.summarise(synthetic.runs(cells, seeds, source=source))


def test_compares_what_both_have_and_nothing_else():
  found = paper.compare(
    summary(
      [
        ('sg_grad', 'remove', 90, 0.80),
        ('grad', 'remove', 90, 0.80),
        ('grad', 'remove', 20, 0.80),  # Not a threshold of the paper.
        ('sq_grad', 'remove', 90, 0.80),  # Not in its table.
        ('grad', 'keep', 10, 0.75),
        ('original', '', 0, 0.85),
        ('grad', 'remove', 70, 0.1, 'element', 'mean', 'deletion'),
      ]
    ),
    'food101',
  )
  key = ['estimator', 'mode', 'threshold', 'ours', 'paper']
  assert list(found[key].itertuples(index=False, name=None)) == [
    ('original', '', 0, pytest.approx(0.85), 0.8454),
    ('grad', 'keep', 10, pytest.approx(0.75), 0.7882),
    ('grad', 'remove', 90, pytest.approx(0.80), 0.7836),
    ('sg_grad', 'remove', 90, pytest.approx(0.80), 0.8314),
  ]
  assert found['difference'].tolist() == pytest.approx(
    [0.0046, -0.0382, 0.0164, -0.0314]
  )
  assert (found['runs'] == 5).all() and (found['source'] == 'food101').all()


def test_both_randoms_and_all_fills_stand_beside_the_papers():
  cells = [
    (name, 'remove', 90, 0.7, granularity, fill, 'image')
    for name in ('random', 'random_bernoulli')
    for granularity in ('element', 'pixel')
    for fill in ('mean', 'zero')
  ]
  found = paper.compare(summary(cells, 'imagenet2012'), 'imagenet2012')
  assert found['paper'].tolist() == [0.6353] * 8
  columns = ['estimator', 'granularity', 'fill']
  assert not found.duplicated(columns).any()


@pytest.mark.parametrize('source', ['cifar10', 'birdsnap'])
def test_without_the_papers_source_or_runs_of_it_nothing_is_compared(source):
  table = summary([('grad', 'remove', 90, 0.8)], 'cifar10')
  assert paper.compare(table, source).empty


def test_the_paper_compared_with_itself_differs_nowhere():
  table = paper.table_2()
  for source in SOURCES.values():
    rows = table[table['source'] == source]
    cells = list(
      rows[['estimator', 'mode', 'threshold', 'accuracy']].itertuples(
        index=False, name=None
      )
    )
    found = paper.compare(summary(cells, source, seeds=1), source)
    assert len(found) == 140
    assert np.abs(found['difference']).max() < 1e-12
    assert found['estimator'].tolist() == rows['estimator'].tolist()
