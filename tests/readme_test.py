"""README says what is there: its Python runs, and its table is a result.

Its commands and links are held by docs_test.py.
"""

import pathlib
import re
import shutil

import pandas as pd

from roar_tf.analysis import results, statistics
from roar_tf.estimators import registry

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
QUICKSTART = ROOT / 'docs/results/quickstart'
POINTS = 0.051
"""By how much a number of the table may differ: it has one decimal."""


def test_it_is_short():
  assert len(README.splitlines()) <= 150


def test_its_python_runs(finished, tmp_path, monkeypatch):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  monkeypatch.chdir(tmp_path)
  shutil.copytree(finished, 'workspace')
  names = {}
  blocks = re.findall(r'```python\n(.*?)```', README, re.S)
  assert len(blocks) == 2
  for block in blocks:
    block = block.replace('planted_patch', 'tiny').replace("'quickstart'", '')
    exec(compile(block, 'README.md', 'exec'), names)
  assert (tmp_path / 'attributions.png').stat().st_size > 1000
  assert set(names['scores']) == {'grad', 'ig', 'sg_sq_grad', 'var_grad'}
  assert registry.find('sg_sq_grad_x_input')


def _table() -> pd.DataFrame:
  """Returns the rows of its table, by estimator; numbers in points."""
  lines = [line for line in README.splitlines() if line.startswith('|')]
  heads, _, *rows = [
    [cell.strip() for cell in line.strip('|').split('|')] for line in lines
  ]
  return pd.DataFrame(rows, columns=heads).set_index('estimator')


def _numbers(text: str) -> list[float]:
  return [
    float(t.replace('−', '-')) for t in re.findall(r'[-+−]?\d+\.\d', text)
  ]


def _near(found, expected) -> bool:
  return abs(found - 100 * expected) < POINTS


def test_its_table_is_the_result_of_quickstart_that_is_kept():
  runs = results.read_csv(str(QUICKSTART / 'results.csv'))
  leads = results.where(
    statistics.read_csv(str(QUICKSTART / 'statistics.csv')),
    quantity='lead',
    input='image',
  ).set_index('estimator')
  table = _table()
  cells = runs[runs['threshold'] == 30].groupby(['estimator', 'input'])
  means = cells['accuracy'].mean()
  assert set(table.index) == {name for name, _ in means.index}
  for name, row in table.iterrows():
    for column, input in (
      ('retrained', 'image'),
      ('on the mask alone', 'maskonly'),
      ('not retrained', 'deletion'),
    ):
      assert _near(_numbers(row[column])[0], means[name, input]), (name, column)
    if name == 'random':
      assert row['verdict'] == row['lead, interval'] == ''
      continue
    lead = leads.loc[name]
    numbers = _numbers(row['lead, interval'])
    ends = [lead['value'], lead['low'], lead['high']][: len(numbers)]
    assert all(map(_near, numbers, ends)), name
    if name != 'oracle':
      assert len(numbers) == 3 and row['verdict'] == lead['decision']
