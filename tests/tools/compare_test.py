"""Tests of `roar_tf compare`."""

import shutil

import pytest

from roar_tf.analysis import comparison


@pytest.fixture
def other(finished, tmp_path):
  """A report like that of `finished` with another verdict and setting."""
  folder = shutil.copytree(finished / 'reports/small', tmp_path / 'other')
  path = folder / 'statistics.csv'
  lines = path.read_text().splitlines(keepends=True)
  changed = [
    line.replace('undecided', 'better')
    for line in lines
    if ',oracle,' not in line
  ]
  assert changed != lines
  path.write_text(''.join(changed))
  config = folder / 'config.gin'
  text = config.read_text()
  assert 'Study.seeds = 2\n' in text
  config.write_text(text.replace('Study.seeds = 2\n', 'Study.seeds = 5\n'))
  return folder


def test_two_studies_stand_side_by_side(finished, other, tool, tmp_path):
  place = f'--workspace={finished}'
  outcome = tool('roar_tf', 'compare', 'small', str(other), place)
  assert outcome.status == 0, outcome.err
  (row,) = [line for line in outcome.out.splitlines() if ': grad ' in line]
  assert 'undecided' in row and 'better' in row and 'differs' in row
  assert [
    line.split() for line in outcome.out.splitlines() if 'Study.' in line
  ] == [['|', 'Study.seeds', '|', '2', '|', '5', '|']]
  same = tool('roar_tf', 'compare', 'small', 'small', place)
  assert 'All settings are the same.' in same.out
  assert 'differs' not in same.out


def test_settings_are_read_from_what_gin_writes():
  found = comparison.settings(
    '# Parameters for Study:\n'
    'Study.estimators = \\\n    ("random",\n     "grad")\n'
    'Study.seeds = 5\n\n'
    'Study.seeds = 6\nTraining.drops = ((9, 0.1), (13, 0.01))\n'
  )
  assert found == {
    'Study.estimators': '("random", "grad")',
    'Study.seeds': '5 and 6',
    'Training.drops': '((9, 0.1), (13, 0.01))',
  }


@pytest.mark.parametrize(
  'words, message',
  [
    (['small'], 'give two studies'),
    (['small', 'large'], '"large"'),
    (['small', 'small', 'small'], 'found 3'),
  ],
)
def test_mistakes_are_one_sentence(finished, tool, words, message):
  place = f'--workspace={finished}'
  outcome = tool('roar_tf', 'compare', *words, place)
  assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
  assert message in outcome.err
