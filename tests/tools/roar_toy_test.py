"""Tests of roar_toy."""

import csv

import pytest


def test_writes_a_figure_and_a_csv_and_prints_a_table(tool, tmp_path):
  outcome = tool('roar_toy', '--draws=3', f'--workspace={tmp_path}/w')
  assert outcome.status == 0, outcome.err
  folder = tmp_path / 'w/reports/toy'
  assert sorted(p.name for p in folder.iterdir()) == [
    'DONE',
    'stump.csv',
    'stump.png',
    'toy.csv',
    'toy.png',
  ]
  assert (folder / 'toy.png').read_bytes().startswith(b'\x89PNG')
  with open(folder / 'toy.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 3 * 2 * 3 * 17
  assert list(rows[0]) == [
    'draw',
    'retrained',
    'ranking',
    'removed',
    'accuracy',
  ]
  assert 'ROAR, inverted' in outcome.out
  with open(folder / 'stump.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 3 * 3 * 17
  assert list(rows[0]) == ['draw', 'protocol', 'removed', 'accuracy']
  assert f'Figures: {folder}/toy.png, {folder}/stump.png' in outcome.out


def test_what_it_leaves_is_no_unfinished_work(tool, tmp_path):
  place = f'--workspace={tmp_path}/w'
  assert tool('roar_toy', '--draws=1', place).status == 0
  outcome = tool('roar_shards', '--verify', place)
  assert outcome.status == 0
  assert 'not finished' not in outcome.out


def test_the_same_seed_gives_the_same_bytes(tool, tmp_path):
  def run(name, seed):
    place = f'{tmp_path}/{name}'
    tool('roar_toy', '--draws=2', f'--seed={seed}', f'--workspace={place}')
    folder = tmp_path / name / 'reports/toy'
    return [
      (folder / f'toy.{kind}').read_bytes() for kind in ('csv', 'png')
    ] + [(folder / 'stump.csv').read_bytes()]

  first = run('first', 5)
  assert run('second', 5) == first
  assert run('third', 6)[0] != first[0]


@pytest.mark.parametrize(
  'argument, word',
  [
    ('--draws=0', 'draws'),
    ('--draws=many', 'draws'),
    ('--dataset=cifar10', '--dataset'),
    ('--gin_bindings=Study.seeds=3', '--gin_bindings'),
    ('toy', '"toy"'),
  ],
)
def test_bad_usage_is_one_sentence(refused, argument, word):
  refused('roar_toy', [argument], [word])
