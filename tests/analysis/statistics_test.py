"""Tests of the statistics of a study."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats
from statsmodels.stats import weightstats

from roar_tf.analysis import results, statistics
from roar_tf.analysis.evidence import Rules

THRESHOLDS = (10, 30, 50, 70, 90)
# By hand, for these thresholds: half of what lies between the neighbours of
# each node 0, 10, ..., 90, divided by 90.
WEIGHTS = np.array([5, 15, 20, 20, 20, 10]) / 90
MEANS = {'random': 0.7, 'grad': 0.75, 'sobel': 0.6, 'ig': 0.68}
CHANCES = {'digits': 0.1}


def study(means, modes=('remove',), seeds=5, sd=0.01, **changes):
  """Runs of every threshold; `original` has twice as many seeds."""
  cells = [
    (name, mode, t, mean - (t if mode == 'remove' else 100 - t) / 1000)
    for name, mean in means.items()
    for mode in modes
    for t in THRESHOLDS
  ]
  frame = pd.concat(
    [
      synthetic.runs([('original', '', 0, 0.9)], 2 * seeds),
      synthetic.runs(cells, seeds),
    ],
    ignore_index=True,
  )
  noise = np.random.default_rng(0).standard_normal(len(frame))
  return frame.assign(accuracy=frame['accuracy'] + sd * noise, **changes)


def number(table, quantity, estimator, column='value', **where):
  rows = results.where(table, quantity=quantity, estimator=estimator, **where)
  (value,) = rows[column]
  return value


def seeds_of(frame, estimator, **where):
  """Accuracies float [thresholds, seeds], least removed first."""
  rows = results.where(frame, estimator=estimator, **where)
  table = rows.pivot(index='threshold', columns='seed', values='accuracy')
  return table.to_numpy()


@pytest.mark.parametrize('mode', ['remove', 'keep'])
def test_lead_is_the_area_between_the_curves_as_numpy_integrates_it(mode):
  frame = study(MEANS, [mode])
  table = synthetic.computed(frame, CHANCES)
  x = [0, *THRESHOLDS]
  start = seeds_of(frame, 'original').mean()
  random, own = (seeds_of(frame, name).mean(1) for name in ('random', 'sobel'))
  if mode == 'keep':  # From 100 % kept to 10 %.
    random, own = random[::-1], own[::-1]
  difference = np.array([start, *random]) - np.array([start, *own])
  difference *= 1 if mode == 'remove' else -1
  area = np.trapezoid(difference, x) / 90
  assert number(table, 'lead', 'sobel') == pytest.approx(area)
  above = np.trapezoid(np.array([start, *random]) - 0.1, x) / 90
  assert number(table, 'racu', 'sobel') == pytest.approx(area / above)


@pytest.mark.parametrize('mode', ['remove', 'keep'])
def test_intervals_are_those_of_scipy_on_leads_of_seeds(mode):
  frame = study(MEANS, [mode], sd=0.05)
  table = synthetic.computed(frame, CHANCES)
  weights = WEIGHTS[1:] if mode == 'remove' else WEIGHTS[1:][::-1]
  random = weights @ seeds_of(frame, 'random')
  for name in ('grad', 'ig', 'sobel'):
    own = weights @ seeds_of(frame, name)
    pair = (random, own) if mode == 'remove' else (own, random)
    test = stats.ttest_ind(*pair, equal_var=False)
    alone = test.confidence_interval(0.95)
    # Of the three: a third of the level, and the degrees of five seeds.
    error = math.hypot(stats.sem(random), stats.sem(own))
    together = stats.t.interval(
      1 - 0.05 / 3, 4, pair[0].mean() - pair[1].mean(), error
    )
    for end, expected in zip(('low', 'high'), together, strict=True):
      assert number(table, 'lead', name, end) == pytest.approx(expected)
      found = number(table, 'lead_pointwise', name, end)
      assert found == pytest.approx(getattr(alone, end))
    assert number(table, 'seeds_error', name) == pytest.approx(error)


def test_gain_has_the_interval_of_statsmodels():
  frame = study(MEANS)
  table = synthetic.computed(frame, CHANCES)
  random, own = (
    seeds_of(frame, name, threshold=50)[0] for name in ('random', 'ig')
  )
  compared = weightstats.CompareMeans.from_data(random, own)
  expected = compared.tconfint_diff(usevar='unequal')
  cell = {'estimator': 'ig', 'threshold': 50}
  assert number(table, 'gain', **cell) == pytest.approx(
    random.mean() - own.mean()
  )
  assert number(table, 'gain', column='low', **cell) == pytest.approx(
    expected[0]
  )
  assert number(table, 'gain', column='high', **cell) == pytest.approx(
    expected[1]
  )


def test_controls_are_tested_but_do_not_cost_the_others_power():
  some = study(MEANS, sd=0.05)
  controls = {'blur_grad': 0.5, 'max_ig': 0.72, 'oracle': 0.2}
  controls |= {'centre': 0.3, 'shuffle_grad': 0.6, 'shuffle_same_ig': 0.7}
  controls |= {'untrained_sg_ig': 0.4, 'oracle_30': 0.5, 'oracle_100': 0.7}
  more = study(MEANS | controls, sd=0.05)
  assert more[: len(some)].equals(some)
  plain = synthetic.computed(some, CHANCES)
  table = synthetic.computed(more, CHANCES)
  members = table[table['estimator'].isin(['grad', 'ig', 'sobel'])]
  pd.testing.assert_frame_equal(
    members.reset_index(drop=True),
    plain[plain['estimator'].isin(['grad', 'ig', 'sobel'])].reset_index(
      drop=True
    ),
  )
  shown = table[table['quantity'] == 'rank']['estimator']
  assert set(shown) == {'grad', 'ig', 'sobel'}
  assert number(table, 'lead', 'blur_grad', 'decision') == 'better'


@pytest.mark.parametrize('gone', ['grad', 'random'])
def test_a_curve_without_all_cells_has_no_lead(gone):
  frame = study(MEANS)
  lost = (frame['estimator'] == gone) & (frame['threshold'] == 50)
  table = synthetic.computed(frame[~lost], CHANCES)
  whole = table[table['threshold'].isna()]
  present = {'ig', 'sobel'} if gone == 'grad' else set()
  assert set(whole['estimator']) == present
  gains = table[table['quantity'] == 'gain']
  assert len(gains) == (14 if gone == 'grad' else 12)


def test_thresholds_that_no_curve_has_yet_are_known_from_the_list():
  frame = study(MEANS)
  some = frame[frame['threshold'] != 90]
  assert 'lead' in set(synthetic.computed(some, CHANCES)['quantity'])
  listed = frame.to_dict('records')
  table = synthetic.computed(some, CHANCES, expected=listed)
  assert not table['threshold'].isna().any()


def test_one_missing_run_leaves_the_seeds_that_are_whole():
  frame = study(MEANS)
  lost = (frame['estimator'] == 'ig') & (frame['threshold'] == 50)
  lost &= frame['seed'] == 4
  table = synthetic.computed(frame[~lost], CHANCES)
  assert number(table, 'lead', 'ig', 'runs') == 4
  rows = results.against_random(
    results.summarise(frame[~lost]), 'digits', 'remove'
  )
  lead = rows.loc[rows['estimator'] == 'ig', 'lead'].iloc[0]
  assert number(table, 'lead', 'ig') == pytest.approx(lead)
  assert number(table, 'lead', 'ig', 'low') < lead


def test_a_lost_accuracy_is_never_averaged_over():
  frame = study(MEANS)
  lost = (frame['estimator'] == 'ig') & (frame['threshold'] == 50)
  frame.loc[lost & (frame['seed'] == 4), 'accuracy'] = math.nan
  table = synthetic.computed(frame, CHANCES)
  for quantity in ('accuracy', 'gain'):
    assert math.isnan(number(table, quantity, 'ig', threshold=50))
  own = table[table['estimator'] == 'ig']
  assert not own['threshold'].isna().any()
  assert number(table, 'rank', 'sobel') == 1


def test_a_run_that_is_listed_twice_counts_once():
  frame = study(MEANS)
  twice = pd.concat([frame, frame[frame['seed'] == 2]])
  pd.testing.assert_frame_equal(
    synthetic.computed(frame, CHANCES), synthetic.computed(twice, CHANCES)
  )


@pytest.mark.parametrize('seeds', [1, 2])
def test_few_runs_have_values_without_intervals(seeds):
  table = synthetic.computed(study(MEANS, seeds=seeds), CHANCES)
  plain = table[table['estimator'] != 'original']
  assert plain['low'].isna().all() and plain['high'].isna().all()
  assert {'lead', 'racu', 'rank'} <= set(plain['quantity'])
  assert not {'seeds_error', 'detectable'} & set(plain['quantity'])


def test_without_chance_or_original_there_is_no_racu():
  frame = study(MEANS)
  table = synthetic.computed(frame, {})
  assert 'lead' in set(table['quantity']) and 'racu' not in set(
    table['quantity']
  )
  masked = frame[frame['estimator'] != 'original']
  alone = synthetic.computed(masked, CHANCES)
  assert 'racu' not in set(alone['quantity'])
  assert number(alone, 'lead', 'ig') == number(table, 'lead', 'ig')


def test_other_inputs_are_described_and_not_judged():
  frame = study(MEANS, seeds=1)
  masked = frame[frame['estimator'] != 'original']
  frame = pd.concat(
    [
      study(MEANS),
      masked.assign(input='maskonly', accuracy=0.1),
      frame.drop_duplicates(list(results.CELL)).assign(input='deletion'),
    ]
  )
  table = synthetic.computed(frame, CHANCES)
  cells = {'accuracy', 'sampling_error', 'gain'}
  for kind, expected in (('maskonly', cells), ('deletion', cells | {'lead'})):
    rows = table[table['input'] == kind]
    assert set(rows['quantity']) == expected
    assert rows['low'].isna().all() and not any(rows['decision'])
  own = table[(table['input'] == 'image') & (table['quantity'] != 'ceiling')]
  pd.testing.assert_frame_equal(
    own.reset_index(drop=True), synthetic.computed(study(MEANS), CHANCES)
  )


def test_each_granularity_and_fill_has_its_own_random():
  low = study({'random': 0.5, 'grad': 0.45}, sd=0.02, granularity='element')
  low = low[low['mode'] != '']
  other = study({'random': 0.6, 'grad': 0.3}, sd=0.02, fill='zero')
  other = other[other['mode'] != '']
  alone = synthetic.computed(study(MEANS, sd=0.02), CHANCES)
  filled = pd.concat([study(MEANS, sd=0.02), other])
  table = synthetic.computed(filled, CHANCES)
  assert number(table, 'lead', 'grad', fill='zero') > 0.2
  where = {'granularity': 'pixel', 'fill': 'mean'}
  assert number(table, 'rank', 'grad', **where) == 3
  # Another fill is a check; another granularity is one comparison more.
  width = number(alone, 'detectable', 'ig')
  assert number(table, 'detectable', 'ig') == width
  table = synthetic.computed(pd.concat([filled, low]), CHANCES)
  assert number(table, 'lead', 'grad', granularity='element') > 0
  assert number(table, 'detectable', 'ig') > width
  four = synthetic.computed(
    study(MEANS, sd=0.02), CHANCES, Rules(comparisons=4)
  )
  assert number(table, 'detectable', 'ig') == number(four, 'detectable', 'ig')


def test_csv_holds_every_digit(tmp_path):
  frame = study(MEANS | {'nan': 0.7}, ['remove', 'keep'])
  table = synthetic.computed(frame, CHANCES)
  statistics.write_csv(table, str(tmp_path / 'statistics.csv'))
  again = synthetic.statistics_of(tmp_path)
  pd.testing.assert_frame_equal(
    again, table, check_exact=True, check_dtype=False
  )
