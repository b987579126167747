"""Tests of verdicts: their words, their family, their margin."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import synthetic

from roar_tf.analysis import verdict
from roar_tf.analysis.evidence import Rules
from roar_tf.estimators.names import is_control

NAN = math.nan
THRESHOLDS = (10, 50, 90)
MEANS = {'random': 0.7, 'grad': 0.75, 'ig': 0.68, 'sobel': 0.6}


def study(means, modes=('remove',), seeds=5, sd=0.02, **changes):
  cells = [
    (name, mode, t, mean)
    for name, mean in means.items()
    for mode in modes
    for t in THRESHOLDS
  ]
  frame = synthetic.runs(cells, seeds)
  noise = np.random.default_rng(0).standard_normal(len(frame))
  return frame.assign(accuracy=frame['accuracy'] + sd * noise, **changes)


@pytest.mark.parametrize(
  'low, high, ceiling, word',
  [
    # Each alone.
    (-0.05, 0.05, 0.01, 'not decidable'),
    (-0.005, 0.005, NAN, 'on par'),
    (0.001, 0.05, NAN, 'better'),
    (-0.05, -0.001, NAN, 'worse'),
    (-0.05, 0.05, NAN, 'undecided'),
    (NAN, NAN, NAN, 'undecided'),
    # Two that would hold.
    (-0.005, 0.005, 0.0, 'not decidable'),
    (-0.3, -0.2, -0.1, 'not decidable'),
    (NAN, NAN, -0.1, 'not decidable'),
    (0.001, 0.05, -0.1, 'better'),
    (0.001, 0.005, 0.0, 'on par'),
    (0.001, 0.005, NAN, 'on par'),
    (-0.005, -0.001, NAN, 'on par'),
    # At the edges.
    (-0.3, -0.2, 0.0101, 'worse'),
    (-0.01, 0.005, NAN, 'undecided'),
    (-0.005, 0.01, NAN, 'undecided'),
    (0.005, 0.01, NAN, 'better'),
    (-0.01, -0.005, NAN, 'worse'),
    (0.0, 0.05, NAN, 'undecided'),
  ],
)
def test_the_word_is_the_first_that_holds(low, high, ceiling, word):
  assert verdict.decide(low, high, ceiling, 0.01) == word


def test_a_margin_of_nothing_leaves_no_par():
  words = verdict.decide([-1e-9, 1e-9, 0], [-1e-12, 1e-6, 0], NAN, 0)
  assert words.tolist() == ['worse', 'better', 'undecided']


def _leads(verdicts):
  return {
    name: (v.word, v.lead, v.pointwise, v.detectable, v.rank)
    for name, v in verdicts.items()
    if v.member
  }


def test_controls_and_other_fills_cost_the_family_nothing():
  some = study(MEANS)
  alone = synthetic.verdicts_by_name(some)
  assert {n for n, v in alone.items() if v.member} == {'grad', 'ig', 'sobel'}
  controls = ('oracle', 'blur_grad', 'shuffle_grad', 'untrained_ig', 'centre')
  more = study(MEANS | dict.fromkeys((*controls, 'oracle_30'), 0.5))
  filled = study(MEANS, fill='zero')
  found = synthetic.verdicts_by_name(
    pd.concat([more, filled], ignore_index=True)
  )
  assert _leads(found) == _leads(alone)
  for name in controls:
    assert found[name].role == 'control' and not found[name].member
    assert found[name].lead == found[name].pointwise
    assert found[name].word == 'better'
  other = found['grad (zero)']
  assert (other.role, other.member) == ('estimator', False)
  assert other.lead == other.pointwise
  assert found['random'].role == 'reference' and not found['random'].word


def test_every_source_mode_and_granularity_is_a_comparison_more():
  frame = study(MEANS, ['remove', 'keep'])
  frame = pd.concat([frame, frame.assign(source='letters')])
  evidence, _ = synthetic.judged(frame)
  assert evidence.comparisons == 2 * 2 * 3
  assert evidence.level == pytest.approx(0.05 / 12)
  element = study(MEANS, granularity='element')
  evidence, _ = synthetic.judged(pd.concat([frame, element]))
  assert evidence.comparisons == 12 + 3


def test_what_is_listed_counts_before_it_has_run():
  frame = study(MEANS)
  listed = frame.to_dict('records')
  for run in listed:
    del run['fill'], run['input']
  some = frame[frame['estimator'].isin(['random', 'grad'])]
  evidence, _ = synthetic.judged(some, expected=listed)
  assert evidence.comparisons == 3
  assert synthetic.judged(some)[0].comparisons == 1


def test_comparisons_that_are_declared_widen_every_interval():
  frame = study(MEANS)
  widths = []
  for comparisons in (None, 30, 300):
    rules = Rules(comparisons=comparisons)
    evidence, verdicts = synthetic.judged(frame, rules=rules)
    assert evidence.level == pytest.approx(0.05 / (comparisons or 3))
    (grad,) = (v for v in verdicts if v.estimator == 'grad')
    widths.append(grad.lead.high - grad.lead.low)
    assert grad.pointwise == synthetic.verdicts_by_name(frame)['grad'].pointwise
  assert widths == sorted(set(widths))


def test_the_family_is_of_the_first_fill():
  frame = pd.concat([study(MEANS), study(MEANS, fill='zero')])
  found = synthetic.verdicts_by_name(frame, rules=Rules(fill='zero'))
  members = {name for name, v in found.items() if v.member}
  assert members == {'grad (zero)', 'ig (zero)', 'sobel (zero)'}


def test_a_margin_makes_small_leads_par_and_large_ceilings_too_low():
  frame = study({'random': 0.7, 'ig': 0.69, 'sobel': 0.6}, sd=0.002)
  for margin, word in ((0.0, 'better'), (0.05, 'on par')):
    found = synthetic.verdicts_by_name(frame, rules=Rules(margin))
    assert (found['ig'].word, found['sobel'].word) == (word, 'better')
  assert 'within ±5.0 of random' in found['ig'].reason


@pytest.mark.parametrize(
  'seeds, words',
  [
    (1, '1 seed tells no interval'),
    (2, '2 seeds tell no interval'),
  ],
)
def test_few_seeds_are_undecided_and_say_why(seeds, words):
  found = synthetic.verdicts_by_name(study(MEANS, seeds=seeds))
  assert found['sobel'].word == 'undecided' and words in found['sobel'].reason
  assert found['sobel'].lead.known


@pytest.mark.parametrize('gone', ['grad', 'random'])
def test_a_curve_without_a_listed_threshold_has_no_lead_anywhere(gone):
  frame = study(MEANS)
  lost = frame['threshold'].eq(90) & frame['estimator'].isin([gone])
  listed = frame.to_dict('records')
  found = synthetic.verdicts_by_name(frame[~lost], expected=listed)
  assert found['grad'].word == 'undecided' and not found['grad'].lead.known
  assert found['grad'].reason == (f'{gone} has no run yet with 90 % removed.')
  assert found['sobel'].lead.known == (gone == 'grad')


def test_a_lost_accuracy_and_equal_seeds_are_undecided_and_say_why():
  frame = study(MEANS)
  frame.loc[frame['estimator'] == 'ig', 'accuracy'] = NAN
  found = synthetic.verdicts_by_name(frame)['ig']
  assert found.word == 'undecided' and 'is not a number' in found.reason
  same = synthetic.verdicts_by_name(study(MEANS, sd=0))['sobel']
  assert same.word == 'undecided' and 'All seeds agree' in same.reason


def test_notes_stand_beside_a_verdict_and_do_not_change_it():
  means = MEANS | {'shuffle_sobel': 0.59, 'centre': 0.69}
  found = synthetic.verdicts_by_name(study(means, ['remove', 'keep'], sd=0.002))
  notes = {note.name: note.holds for note in found['sobel'].notes}
  assert notes == {
    'ahead of shuffle_sobel': False,
    'ahead of centre': True,
    'its highest pixels tell more than its lowest (DiffROAR)': False,
  }
  alone = synthetic.verdicts_by_name(study(MEANS, ['remove', 'keep'], sd=0.002))
  assert found['sobel'].word == alone['sobel'].word == 'better'


@pytest.mark.parametrize(
  'models, note, holds',
  [
    (1, 'over 1 explained model', None),
    (2, 'over 2 explained models', None),
    (3, 'over 3 explained models', True),
  ],
)
def test_a_note_tells_over_how_many_explained_models(models, note, holds):
  frame = study(MEANS)
  asks = frame['estimator'] == 'grad'
  frame['explained_seed'] = np.where(asks, frame['seed'] % models, 0)
  found = synthetic.verdicts_by_name(frame)
  told = {n.name: n.holds for n in found['grad'].notes}
  assert told == {note: holds} and found['grad'].models == models
  assert found['grad'].seeds == 5 and not found['sobel'].notes
  assert found['grad'].lead.bounded == (models != 2)
  if models == 2:
    assert '5 seeds share 2 explained models' in found['grad'].reason


def test_other_fills_that_disagree_are_noted():
  frame = study(MEANS)
  other = study({'random': 0.7, 'grad': 0.75, 'sobel': 0.8}, fill='zero')
  found = synthetic.verdicts_by_name(pd.concat([frame, other]))
  holds = {
    name: note.holds
    for name in ('grad', 'sobel')
    for note in found[name].notes
    if note.name == 'other fills agree'
  }
  assert holds == {'grad': True, 'sobel': False}


def test_verdicts_do_not_hang_on_the_order_of_runs():
  frame = study(MEANS, ['remove', 'keep'])
  first, again = (
    [dataclasses.astuple(v) for v in synthetic.judged(rows)[1]]
    for rows in (frame, frame.iloc[::-1])
  )
  assert str(first) == str(again)
  assert [is_control(v[0][4]) for v in first].count(True) == 2
