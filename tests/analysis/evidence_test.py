"""Tests of leak ceilings and DiffROAR, in closed form and on the paper's."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from roar_tf.analysis import checks, paper, sentences
from roar_tf.analysis.evidence import Curve

THRESHOLDS = (10, 50, 90)
# By the trapezoid rule from 0: half of what lies beside a node, over 90.
WEIGHTS = np.array([25, 40, 20]) / 90
RANDOM = np.array([0.85, 0.8, 0.5])
GRAD = Curve('digits', 'remove', 'pixel', 'mean', 'grad')


def study(curves, mode='remove', input='image', seeds=3, spread=0.001):
  """Runs of each estimator's accuracies at all thresholds."""
  return synthetic.runs(
    [
      (name, mode, t, accuracy, 'pixel', 'mean', input)
      for name, values in curves.items()
      for t, accuracy in zip(THRESHOLDS, values, strict=True)
    ],
    seeds,
    spread,
  )


def judged(frame, chance=0.1):
  return synthetic.judged(frame, {'digits': chance})


# --- the leak ceiling --------------------------------------------------------


@pytest.mark.parametrize(
  'of_random, null',
  [
    (None, (0.1, 0.1, 0.1)),  # Guessing, where random's masks were not tried.
    ((0.05, 0.2, 0.12), (0.05, 0.2, 0.12)),
  ],
)
def test_the_ceiling_is_randoms_curve_over_what_the_masks_tell(of_random, null):
  masks = {'grad': (0.08, 0.6, 0.11)}
  if of_random:
    masks['random'] = of_random
  frame = pd.concat(
    [
      study({'random': RANDOM, 'grad': [0.8, 0.7, 0.4]}),
      study(masks, input='maskonly'),
    ]
  )
  evidence, verdicts = judged(frame)
  floor = np.maximum(masks['grad'], null)
  expected = WEIGHTS @ (RANDOM - floor)
  found = evidence.ceiling(GRAD)
  assert found.value == pytest.approx(expected)
  assert found.low < found.value < found.high
  (grad,) = (v for v in verdicts if v.estimator == 'grad')
  assert grad.ceiling == found and grad.word == 'better'


def test_one_run_of_masks_borrows_the_spread_of_random():
  image = study({'random': RANDOM, 'grad': [0.8, 0.7, 0.4]}, spread=0.01)
  masks = {'grad': [0.3] * 3, 'random': [0.1] * 3}
  found = {}
  for seeds in (1, 3):
    more = study(masks, input='maskonly', seeds=seeds, spread=0.01)
    evidence, _ = judged(pd.concat([image, more]))
    found[seeds] = evidence.ceiling(GRAD)
  sd = evidence.arm(GRAD._replace(estimator='random')).sd
  for seeds, one in found.items():
    assert one.value == pytest.approx(WEIGHTS @ (RANDOM - 0.3))
    # All arms have the same spread; Welch's degrees of their two means.
    parts = np.array([sd**2 / 3, sd**2 / seeds])
    freedom = parts.sum() ** 2 / (parts**2 / 2).sum()
    half = stats.t.isf(0.025, freedom) * math.sqrt(parts.sum())
    assert one.high - one.value == pytest.approx(half)


def test_there_is_no_ceiling_in_keep_or_without_masks():
  image = [
    study({'random': RANDOM, 'grad': [0.8, 0.7, 0.4]}, mode)
    for mode in ('remove', 'keep')
  ]
  evidence, _ = judged(pd.concat(image))
  assert not evidence.ceiling(GRAD).known
  masks = study({'grad': [0.3] * 3}, input='maskonly')
  evidence, verdicts = judged(pd.concat([*image, masks]))
  assert evidence.ceiling(GRAD).known
  assert not evidence.ceiling(GRAD._replace(mode='keep')).known
  # There a mask that tells the class adds to a lead, and a note says so.
  (kept,) = (v for v in verdicts if v.curve == GRAD._replace(mode='keep'))
  assert 'ahead of its masks alone' in [note.name for note in kept.notes]


def test_masks_of_another_fill_or_mode_are_the_same_masks():
  image = study({'random': RANDOM, 'grad': [0.8, 0.7, 0.4]})
  masks = study({'grad': [0.3] * 3}, 'keep', 'maskonly')
  evidence, _ = judged(pd.concat([image, image.assign(fill='zero'), masks]))
  expected = WEIGHTS @ (RANDOM - 0.3)
  for fill in ('mean', 'zero'):
    found = evidence.ceiling(GRAD._replace(fill=fill))
    assert found.value == pytest.approx(expected)


def test_masks_that_draw_the_class_make_an_estimator_undecidable():
  # As in the quickstart: retrained models of `grad` need no image.
  means = {'random': [0.99, 0.9, 0.1], 'grad': [0.99, 0.98, 0.94]}
  means['var_grad'] = [0.93, 0.3, 0.2]
  masks = {'random': [0.1] * 3, 'grad': [0.9, 0.98, 0.93]}
  masks['var_grad'] = [0.2, 0.3, 0.2]
  frame = pd.concat([study(means), study(masks, input='maskonly')])
  _, verdicts = judged(frame)
  found = {v.estimator: v for v in verdicts}
  assert found['grad'].word == 'not decidable'
  assert found['grad'].lead.high < 0  # Nothing but the masks says it is worse.
  assert found['grad'].reason.startswith('Its masks alone tell so much')
  assert found['var_grad'].word == 'better'
  (without,) = (v for v in judged(study(means))[1] if v.estimator == 'grad')
  assert without.word == 'worse'


# --- DiffROAR ----------------------------------------------------------------


def test_diffroar_is_what_the_top_tells_more_than_the_bottom():
  removed = {'random': [0.8, 0.6, 0.3], 'grad': [0.75, 0.65, 0.1]}
  kept = {'random': [0.31, 0.6, 0.8], 'grad': [0.5, 0.7, 0.85]}
  frame = pd.concat([study(removed), study(kept, 'keep')])
  evidence, _ = judged(frame)
  # k = 10 alone is below 50: keep 10 % against remove 90 %.
  expected = (0.5 - 0.1) - (0.31 - 0.3)
  for mode in ('remove', 'keep'):
    found = evidence.diffroar(GRAD._replace(mode=mode))
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high
  only, _ = judged(study(removed))
  assert not only.diffroar(GRAD).known
  half = frame[frame['threshold'] == 50]
  assert not judged(half)[0].diffroar(GRAD).known


# --- the paper's Table 2 -----------------------------------------------------


CHANCES = {'birdsnap': 1 / 500, 'food101': 1 / 101, 'imagenet2012': 1 / 1000}


def table_2(seeds=1, sd=0.0):
  """Table 2 as runs of a study, around its means."""
  table = paper.table_2()
  cells = table.loc[table.index.repeat(seeds)].reset_index(drop=True)
  noise = np.random.default_rng(0).standard_normal(len(cells))
  return cells.assign(
    study='paper',
    granularity='element',
    fill='mean',
    input='image',
    seed=np.tile(range(seeds), len(table)),
    accuracy=cells['accuracy'] + sd * noise,
    top5=0.9,
    steps=20000,
    test_images=25250,
    seconds=1.0,
    explained_seed=0,
  )


def test_the_papers_leads_contradict_each_other_and_diffroar_tells_why():
  evidence, verdicts = synthetic.judged(table_2(), CHANCES)
  members = {v.curve: v.lead.value for v in verdicts if v.member}
  kept = [lead for curve, lead in members.items() if curve.mode == 'keep']
  assert len(kept) == 39 and min(kept) > 0
  against = [curve for curve, lead in members.items() if lead < 0]
  assert len(against) == 20 and {c.mode for c in against} == {'remove'}
  # Most of these rankings do know their top from their bottom.
  assert sum(evidence.diffroar(c).value > 0 for c in against) == 17
  # Random's own would be nothing if the two modes were one experiment.
  for source in CHANCES:
    random = Curve(source, 'keep', 'element', 'mean', 'random')
    shares = {('keep', k): 0.5 for k in (10, 30)}
    shares |= {('remove', 100 - k): -0.5 for k in (10, 30)}
    assert abs(evidence.arm(random, shares).value) < 0.01


def test_an_alarm_of_each_of_the_papers_datasets_says_that_modes_disagree():
  evidence, verdicts = synthetic.judged(table_2(5, 0.005), CHANCES)
  assert evidence.comparisons == 3 * 2 * 13
  alarms = [
    check
    for check in checks.perform(evidence, verdicts, CHANCES)
    if check.name == 'contradiction'
  ]
  assert [alarm.source for alarm in alarms] == sorted(CHANCES)
  assert not any(alarm.holds for alarm in alarms)
  assert all(5 <= alarm.value <= 7 for alarm in alarms)  # Of 20, as decided.
  assert sentences.alarms(alarms) == [alarm.text for alarm in alarms]
  assert 'about 6 of 13 estimators (sobel, gb,' in alarms[1].text
