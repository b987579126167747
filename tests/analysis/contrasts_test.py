"""Tests of planned comparisons, and of whether orders agree."""

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from roar_tf.analysis import contrasts

THRESHOLDS = (10, 50, 90)
MEANS = {
  'random': 0.7,
  'grad': 0.75,
  'sg_grad': 0.8,
  'sg_sq_grad': 0.5,
  'sobel': 0.6,
}


def study(means, mode='remove', sd=0.01, seeds=5, **changes):
  cells = [(n, mode, t, mean) for n, mean in means.items() for t in THRESHOLDS]
  frame = synthetic.runs(cells, seeds)
  noise = np.random.default_rng(0).standard_normal(len(frame))
  return frame.assign(accuracy=frame['accuracy'] + sd * noise, **changes)


def planned(frame):
  return contrasts.planned(*synthetic.judged(frame))


PAIRS = {
  ('grad', 'sobel'): 'worse',
  ('sg_grad', 'grad'): 'worse',
  ('sg_grad', 'sobel'): 'worse',
  ('sg_sq_grad', 'grad'): 'better',
  ('sg_sq_grad', 'sobel'): 'better',
}


@pytest.mark.parametrize('mode', ['remove', 'keep'])
def test_each_is_compared_with_its_base_and_with_sobel(mode):
  found = planned(study(MEANS, mode))
  words = {(c.curve.estimator, c.rival): c.word for c in found}
  turned = {'better': 'worse', 'worse': 'better'}
  expected = (
    PAIRS
    if mode == 'remove'
    else {pair: turned[word] for pair, word in PAIRS.items()}
  )
  assert words == expected
  for contrast in found:
    sign = (
      1 if words[contrast.curve.estimator, contrast.rival] == 'better' else -1
    )
    assert contrast.lead.value * sign > 0


def test_their_intervals_hold_together_and_cost_verdicts_nothing():
  frame = study(MEANS)
  (contrast,) = (
    c
    for c in planned(frame)
    if (c.curve.estimator, c.rival) == ('sg_grad', 'grad')
  )
  weights = pd.Series([25, 40, 20], THRESHOLDS) / 90
  first, second = (
    frame[frame['estimator'] == name]
    .pivot(index='seed', columns='threshold', values='accuracy')
    .to_numpy()
    @ weights.to_numpy()
    for name in ('sg_grad', 'grad')
  )
  error = np.hypot(stats.sem(first), stats.sem(second))
  # Better is lower with pixels removed. There are five pairs.
  expected = stats.t.interval(
    1 - 0.05 / 5, 4, second.mean() - first.mean(), error
  )
  assert contrast.lead[1:] == pytest.approx(expected)


def test_controls_and_estimators_without_a_pair_are_not_compared():
  means = {'random': 0.7, 'blur_grad': 0.6, 'sg_grad': 0.8, 'ig': 0.5}
  assert planned(study(means)) == []
  lost = study(MEANS)
  lost = lost[~(lost['estimator'].eq('sobel') & lost['threshold'].eq(90))]
  rivals = {(c.curve.estimator, c.rival) for c in planned(lost)}
  assert rivals == {('sg_grad', 'grad'), ('sg_sq_grad', 'grad')}


@pytest.mark.parametrize('tau', [1, -1])
def test_tau_is_one_of_equal_orders_and_minus_one_of_reversed(tau):
  removed = study(MEANS, sd=0.001)
  kept = {name: 1.4 - mean for name, mean in MEANS.items()}
  other = study(kept if tau == 1 else MEANS, 'keep', sd=0.001)
  # Controls have their place in no order.
  extra = study({'oracle': 0.3}, sd=0.001)
  evidence, _ = synthetic.judged(pd.concat([removed, other, extra]))
  (found,) = contrasts.consistency(evidence)
  assert found.tau == tau and found.estimators == 4
  assert {found.first[0], found.second[0]} == {'remove', 'keep'}


def test_orders_are_compared_over_fills_and_without_retraining():
  frame = study(MEANS)
  deletion = frame[frame['seed'] == 0].assign(input='deletion')
  evidence, _ = synthetic.judged(
    pd.concat([frame, frame.assign(fill='zero'), deletion])
  )
  found = {
    frozenset((a.first, a.second)) for a in contrasts.consistency(evidence)
  }
  conditions = [
    ('remove', fill, input)
    for fill, input in (
      ('mean', 'image'),
      ('zero', 'image'),
      ('mean', 'deletion'),
    )
  ]
  assert found == {
    frozenset((a, b)) for a in conditions for b in conditions if a != b
  }


def test_three_estimators_are_no_order():
  means = {name: MEANS[name] for name in ('random', 'grad', 'sg_grad', 'sobel')}
  frame = study(means)
  both = pd.concat([frame, frame.assign(fill='zero')])
  assert contrasts.consistency(synthetic.judged(both)[0]) == []
