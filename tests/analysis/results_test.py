"""Tests of the table of results."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from roar_tf import errors
from roar_tf.analysis import faults, results


def cells(*numbers, mode='remove'):
  """A summary of (estimator, threshold, mean[, granularity, fill, input])."""
  frame = synthetic.runs([(e, mode, *n) for e, *n in numbers])
  return results.against_random(results.summarise(frame), 'digits', mode)


def texts(frame, expected=None):
  return [fault.text for fault in faults.of_runs(frame, expected)]


GRAD = ('grad', 'remove', 90, 0.5)


def test_interval_is_the_set_of_means_a_t_test_does_not_reject():
  accuracies = [0.71, 0.74, 0.69, 0.755, 0.70]
  frame = synthetic.runs([GRAD], 5).assign(accuracy=accuracies)
  cell = results.summarise(frame).iloc[0]
  assert cell['runs'] == 5
  assert cell['mean'] == pytest.approx(np.mean(accuracies))
  assert cell['sd'] == pytest.approx(np.std(accuracies, ddof=1))
  for end in (cell['low'], cell['high']):
    assert stats.ttest_1samp(accuracies, end).pvalue == pytest.approx(0.05)
  error = math.sqrt(cell['mean'] * (1 - cell['mean']) / 1000)
  assert cell['sampling_error'] == pytest.approx(error)


@pytest.mark.parametrize('runs', [1, 2])
def test_no_interval_below_three_runs(runs):
  cell = results.summarise(synthetic.runs([GRAD], runs)).iloc[0]
  assert cell['runs'] == runs
  assert math.isnan(cell['low']) and math.isnan(cell['high'])


def test_a_mean_with_a_lost_accuracy_is_lost():
  frame = synthetic.runs([GRAD], 2).assign(accuracy=[0.5, math.nan])
  assert math.isnan(results.summarise(frame)['mean'].iloc[0])


def test_studies_are_not_averaged():
  with pytest.raises(ValueError, match='several studies'):
    results.summarise(synthetic.runs([GRAD], 2).assign(study=['a', 'b']))


@pytest.mark.parametrize(
  'mode, order, gains',
  [
    ('remove', ['low', 'random', 'high'], [0.1, 0, -0.2]),
    ('keep', ['high', 'random', 'low'], [0.2, 0, -0.1]),
  ],
)
def test_gain_has_the_direction_of_its_mode(mode, order, gains):
  means = {'random': 0.6, 'low': 0.5, 'high': 0.8}
  rows = cells(*((name, 90, mean) for name, mean in means.items()), mode=mode)
  assert rows['label'].tolist() == order
  assert rows['gain'].tolist() == pytest.approx(gains)


def test_each_granularity_and_fill_has_its_own_random():
  rows = cells(
    ('random', 90, 0.6),
    ('random', 90, 0.3, 'element', 'mean', 'image'),
    ('grad', 90, 0.5),
    ('grad', 90, 0.2, 'element', 'mean', 'image'),
    ('grad', 90, 0.2, 'pixel', 'noisy', 'image'),
  ).set_index('label')
  assert rows.loc['grad (pixel)', 'gain'] == pytest.approx(0.1)
  assert rows.loc['grad (element)', 'gain'] == pytest.approx(0.1)
  assert math.isnan(rows.loc['grad (pixel, noisy)', 'gain'])


def test_a_lead_needs_every_threshold():
  rows = cells(
    *(('random', t, 0.5) for t in (50, 90)),
    ('grad', 90, 0.1),
    *(('sobel', t, 0.4 - t / 1000) for t in (50, 90)),
  )
  leads = rows.drop_duplicates('label').set_index('label')['lead']
  # Two trapezia under the gains 0, 0.15, 0.19 at 0, 50 and 90 %.
  area = 50 * (0 + 0.15) / 2 + 40 * (0.15 + 0.19) / 2
  assert leads['sobel'] == pytest.approx(area / 90)
  assert math.isnan(leads['grad'])


def test_faults_name_missing_duplicate_and_unlisted_runs():
  listed = synthetic.runs([GRAD], 3).to_dict('records')
  start = dict.fromkeys(results.IDENTITY) | {'source': 'digits'}
  start |= {'estimator': 'original', 'threshold': 0, 'seed': 1}
  del start['fill'], start['input']
  frame = pd.concat(
    [
      synthetic.runs([GRAD, GRAD]),
      synthetic.runs([GRAD], seed=7),
      synthetic.runs([(*GRAD, 'pixel', 'noisy', 'image')]),
    ]
  )
  assert texts(frame, [*listed, start]) == [
    'digits: grad_pixel_remove_90 has seed 0 more than once.',
    'digits: grad_pixel_remove_90 lacks seeds 1, 2.',
    'digits: original lacks seed 1.',
    'digits: grad_pixel_remove_90 has seed 7, not listed by the study.',
    'digits: grad_pixel_remove_90_noisy has seed 0, not listed by the study.',
  ]


def test_faults_name_unusable_numbers():
  frame = synthetic.runs([GRAD], 5)
  frame.loc[2, 'accuracy'], frame.loc[3, 'accuracy'] = 71.2, math.nan
  frame.loc[4, 'test_images'] = 203
  assert texts(frame) == [
    'digits: grad_pixel_remove_90 has no accuracy between 0 and 1 for'
    ' seeds 2, 3.',
    'digits: grad_pixel_remove_90 has test_images 203 (most runs 1000) for'
    ' seed 4.',
  ]


def test_csv_round_trip(tmp_path):
  path = str(tmp_path / 'results.csv')
  names = ('grad', 'nan', 'null', 'a,"b"\n<c>')
  frame = synthetic.runs(
    [('original', '', 0, 1 / 3), *((n, 'keep', 10, 1 / 7) for n in names)], 3
  )
  frame.loc[0, 'top5'], frame.loc[1, 'seconds'] = math.nan, 1e-17
  results.write_csv(frame, path)
  again = results.read_csv(path)
  pd.testing.assert_frame_equal(again, results.tidy(frame), check_exact=True)
  original = again[again['estimator'] == 'original'].iloc[0]
  assert original['mode'] == '' and original['granularity'] == ''
  assert 'nan' in set(again['estimator'])


def test_a_table_of_an_earlier_version_is_of_one_explained_model(tmp_path):
  frame = synthetic.runs([GRAD], 3)
  frame['seed'] += 4
  path = tmp_path / 'results.csv'
  new = ['explained_seed', 'protocol', 'look']
  frame.drop(columns=new).to_csv(path, index=False)
  read = results.read_csv(str(path))
  assert list(read['explained_seed']) == [4, 4, 4]
  assert set(read['protocol']) == {'plain'} and set(read['look']) == {0}


def test_a_table_of_something_else_is_refused_by_name(tmp_path):
  path = tmp_path / 'other.csv'
  path.write_text('estimator,accuracy\ngrad,0.5\n')
  with pytest.raises(errors.DataError, match=r'other\.csv .*: source, gran'):
    results.read_csv(str(path))
