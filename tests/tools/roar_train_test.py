"""Tests of roar_train."""

import json

import pytest

CELL = 'grad_pixel_remove_70'


def test_a_run_alone_has_the_accuracy_of_the_study(
  tool, tiny, finished, damaged
):
  outcome = tool(
    'roar_train',
    f'--dataset={tiny.dataset}',
    f'--cell={CELL}',
    '--seed=1',
    *tiny.flags(damaged),
  )
  assert outcome.status == 0, outcome.err
  assert outcome.counts()['train'] == (1, 0, 0)
  assert outcome.counts()['shards'] == (0, 6, 0)
  run = f'tiny/{CELL}/seed_1'
  expected = finished / 'runs/small' / run
  made = damaged / 'runs/single' / run
  for file in ('result.json', 'test_predictions.npz'):
    assert (made / file).read_bytes() == (expected / file).read_bytes()
  accuracy = json.loads((made / 'result.json').read_text())['accuracy']
  assert f'{run}: accuracy {accuracy:.4f}' in outcome.out
  # Run again: the same answer, nothing made.
  again = tool(
    'roar_train',
    f'--dataset={tiny.dataset}',
    f'--cell={CELL}',
    '--seed=1',
    *tiny.flags(damaged),
  )
  assert again.counts()['train'] == (0, 1, 0)
  assert again.out.splitlines()[-1] == outcome.out.splitlines()[-1]


def test_a_run_of_a_study_lies_in_the_study(tool, tiny, damaged):
  outcome = tool(
    'roar_train',
    f'--study={tiny.study}',
    f'--dataset={tiny.dataset}',
    '--cell=original',
    '--seed=7',
    *tiny.flags(damaged),
  )
  assert outcome.status == 0, outcome.err
  assert (damaged / 'runs/small/tiny/original/seed_7/DONE').exists()


def test_one_command_makes_all_that_a_run_needs(tool, tiny, tmp_path):
  outcome = tool(
    'roar_train',
    f'--dataset={tiny.dataset}',
    *tiny.flags(tmp_path),
    '--cell=random_element_keep_10',
    '--gin_bindings=Training.epochs = 1',
  )
  assert outcome.status == 0, outcome.err
  assert outcome.counts()['train'] == (1, 0, 0)


@pytest.mark.parametrize(
  'arguments, words',
  [
    (['--cell=original'], ['--dataset']),
    (['--dataset=planted_patch'], ['--cell']),
    (['--dataset=planted_patch', '--cell=gard_pixel_remove_9'], ['"grad"']),
    (
      ['--dataset=planted_patch', '--cell=grad_pixel_cut_9'],
      ['grad_pixel_cut'],
    ),
    (['--dataset=planted_patch', '--cell=grad_pixel_remove_0'], ['0', '100']),
    (
      ['--dataset=planted_patch', '--cell=original', '--study=x'],
      ['--study=x'],
    ),
    (
      ['--dataset=planted_patch', '--cell=original', '--ranking_seed=-1'],
      ['ranking_seed', '-1'],
    ),
  ],
)
def test_bad_usage_is_one_sentence(arguments, words, refused):
  refused('roar_train', arguments, words)
