"""Tests of roar_rank."""

import pytest


def test_rankings_are_made_once(tool, tiny, finished, damaged):
  arguments = [f'--dataset={tiny.dataset}', *tiny.flags(damaged)]
  outcome = tool('roar_rank', *arguments, '--estimators=sobel,grad,random')
  assert outcome.status == 0, outcome.err
  assert outcome.counts() == {
    'source': (0, 6, 0),
    'model': (0, 1, 0),
    'rank': (6, 2, 0),
  }
  again = tool('roar_rank', *arguments, '--estimators=grad,sobel,grad')
  assert again.counts()['rank'] == (0, 7, 0)
  elements = tool(
    'roar_rank', *arguments, '--estimators=sobel', '--granularity=element'
  )
  assert elements.counts()['rank'] == (6, 0, 0)
  assert (damaged / 'tfds/roar_tiny/ranking_sobel_element').is_dir()


def test_every_base_is_ranked_and_bound_to_its_own_settings(
  tool, tiny, finished, damaged
):
  arguments = [f'--dataset={tiny.dataset}', *tiny.flags(damaged)]
  settings = ['--gin_bindings=Attribution.samples = 2']
  settings += ['--gin_bindings=Attribution.steps = 3']
  outcome = tool(
    'roar_rank', *arguments, *settings, '--estimators=gb,ig,var_ig,sg_gb'
  )
  assert outcome.status == 0, outcome.err
  # Clean: grad, gb and two more steps; so for each of two noisy copies.
  assert 'per image: 12, forward passes: 9' in outcome.out
  assert outcome.counts()['rank'] == (9, 0, 0)
  for name, kept in {'gb': True, 'ig': False, 'sg_gb': True}.items():
    again = tool('roar_rank', *arguments, settings[0], f'--estimators={name}')
    assert (again.status == 0) == kept, name
    assert kept or 'Attribution.steps' in again.err
  again = tool(
    'roar_rank',
    *arguments,
    *settings,
    '--gin_bindings=Attribution.target = "label"',
    '--estimators=gb',
  )
  assert again.status == 2 and 'Attribution.target' in again.err


def test_cuts_need_not_hold_any_certain_threshold(
  tool, tiny, finished, damaged
):
  outcome = tool(
    'roar_rank',
    f'--dataset={tiny.dataset}',
    *tiny.flags(damaged),
    '--gin_bindings=Ranking.cuts = (5, 95)',
    '--estimators=sobel',
  )
  assert outcome.status == 0, outcome.err


@pytest.mark.parametrize(
  'changes, words',
  [
    (['--estimators=gard'], ['gard', '"grad"']),
    (['--estimators=grad,sq_sq_grad'], ['sq_sq_grad', 'cannot']),
    (['--estimators='], ['--estimators']),
    (['--dataset=/no/where.gin'], ['/no/where.gin']),
    (['--gin_bindings=Attribution.samples = 0'], ['samples', '0']),
    (['--gin_bindings=Attribution.target = "true"'], ['target', 'label']),
  ],
)
def test_bad_usage_is_one_sentence(changes, words, refused):
  usual = ['--dataset=planted_patch', '--estimators=grad']
  refused('roar_rank', [*usual, *changes], words)
