"""Tests of the table of results."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from roar_tf import errors
from roar_tf.analysis import results


def run(estimator='grad', threshold=90, seed=1, accuracy=0.5, **changes):
  """One row; an original has no granularity and no mode."""
  plain = estimator == results.ORIGINAL
  row = {
    'study': 'study',
    'source': 'digits',
    'estimator': estimator,
    'granularity': '' if plain else 'pixel',
    'mode': '' if plain else 'remove',
    'threshold': 0 if plain else threshold,
    'fill': 'mean',
    'input': 'image',
    'seed': seed,
    'accuracy': accuracy,
    'top5': 0.9,
    'steps': 100,
    'test_images': 1000,
    'seconds': 1.5,
  }
  return row | changes


def frame(*rows):
  return pd.DataFrame(rows, columns=list(results.COLUMNS))


def test_interval_is_the_set_of_means_a_t_test_does_not_reject():
  accuracies = [0.71, 0.74, 0.69, 0.755, 0.70]
  cell = results.summarise(
    frame(*(run(seed=i, accuracy=a) for i, a in enumerate(accuracies)))
  ).iloc[0]
  assert cell['runs'] == 5
  assert cell['mean'] == pytest.approx(np.mean(accuracies))
  assert cell['sd'] == pytest.approx(np.std(accuracies, ddof=1))
  for end in (cell['low'], cell['high']):
    assert stats.ttest_1samp(accuracies, end).pvalue == pytest.approx(0.05)


def test_interval_of_three_runs_in_closed_form():
  # With 2 degrees of freedom the t quantile is elementary.
  p = 0.975
  quantile = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
  cell = results.summarise(
    frame(*(run(seed=i, accuracy=a) for i, a in enumerate([0.4, 0.5, 0.6])))
  ).iloc[0]
  assert cell['high'] - 0.5 == pytest.approx(quantile * 0.1 / math.sqrt(3))


@pytest.mark.parametrize('runs', [1, 2])
def test_no_interval_below_three_runs(runs):
  cell = results.summarise(frame(*(run(seed=i) for i in range(runs)))).iloc[0]
  assert cell['runs'] == runs
  assert math.isnan(cell['low']) and math.isnan(cell['high'])


def test_a_duplicate_is_no_further_run():
  rows = [run(seed=1), run(seed=2), run(seed=2)]
  assert results.summarise(frame(*rows))['runs'].tolist() == [2]


def test_a_mean_with_a_lost_accuracy_is_lost():
  rows = [run(seed=1), run(seed=2, accuracy=math.nan)]
  assert math.isnan(results.summarise(frame(*rows))['mean'].iloc[0])


def test_studies_are_not_averaged():
  with pytest.raises(ValueError, match='several studies'):
    results.summarise(frame(run(), run(study='other')))


def test_gain_has_the_direction_of_its_mode():
  rows = []
  for mode in ('remove', 'keep'):
    rows += [run('random', accuracy=0.6, mode=mode)]
    rows += [run('low', accuracy=0.5, mode=mode)]
    rows += [run('high', accuracy=0.8, mode=mode)]
  summary = results.summarise(frame(*rows))
  order = {
    mode: results.against_random(summary, 'digits', mode)
    for mode in ('remove', 'keep')
  }
  assert order['remove']['label'].tolist() == ['low', 'random', 'high']
  assert order['remove']['gain'].tolist() == pytest.approx([0.1, 0, -0.2])
  assert order['keep']['label'].tolist() == ['high', 'random', 'low']
  assert order['keep']['gain'].tolist() == pytest.approx([0.2, 0, -0.1])


def test_each_granularity_and_fill_has_its_own_random():
  rows = [
    run('random', accuracy=0.6),
    run('random', accuracy=0.3, granularity='element'),
    run('grad', accuracy=0.5),
    run('grad', accuracy=0.2, granularity='element'),
    run('grad', accuracy=0.2, fill='noisy'),
  ]
  rows = results.against_random(
    results.summarise(frame(*rows)), 'digits', 'remove'
  ).set_index('label')
  assert rows.loc['grad (pixel)', 'gain'] == pytest.approx(0.1)
  assert rows.loc['grad (element)', 'gain'] == pytest.approx(0.1)
  assert math.isnan(rows.loc['grad (pixel, noisy)', 'gain'])


def test_a_lead_needs_every_threshold():
  rows = [run('random', t) for t in (50, 90)]
  rows += [run('grad', 90, accuracy=0.1)]
  rows += [run('sobel', t, accuracy=0.4 - t / 1000) for t in (50, 90)]
  rows = results.against_random(
    results.summarise(frame(*rows)), 'digits', 'remove'
  )
  leads = rows.drop_duplicates('label').set_index('label')['lead']
  # Two trapezia under the gains 0, 0.15, 0.19 at 0, 50 and 90 %.
  area = 50 * (0 + 0.15) / 2 + 40 * (0.15 + 0.19) / 2
  assert leads['sobel'] == pytest.approx(area / 90)
  assert math.isnan(leads['grad'])


def faults(rows, expected=None):
  return [fault.text for fault in results.faults(frame(*rows), expected)]


def test_check_accepts_the_whole_study():
  rows = [run(seed=i) for i in (1, 2)] + [run('original')]
  assert faults(rows, rows) == []


def test_check_names_missing_duplicate_and_unlisted_runs():
  expected = [run(seed=i) for i in (1, 2, 3)]
  expected += [
    {
      'source': 'digits',
      'estimator': 'original',
      'granularity': None,
      'mode': None,
      'threshold': 0,
      'seed': 1,
    }
  ]
  rows = [run(seed=1), run(seed=1), run(seed=7), run(fill='noisy')]
  assert faults(rows, expected) == [
    'digits: grad_pixel_remove_90 has seed 1 more than once.',
    'digits: grad_pixel_remove_90 lacks seeds 2, 3.',
    'digits: original lacks seed 1.',
    'digits: grad_pixel_remove_90 has seed 7, not listed by the study.',
    'digits: grad_pixel_remove_90_noisy has seed 1, not listed by the study.',
  ]


def test_check_names_unusable_numbers():
  rows = [run(seed=1), run(seed=2), run(seed=3, accuracy=71.2)]
  rows += [run(seed=4, accuracy=math.nan), run(seed=5, test_images=203)]
  assert faults(rows) == [
    'digits: grad_pixel_remove_90 has no accuracy between 0 and 1 for'
    ' seeds 3, 4.',
    'digits: grad_pixel_remove_90 has test_images 203 (most runs 1000) for'
    ' seed 5.',
  ]


def test_check_of_a_study_that_has_not_begun():
  assert faults([], [run(seed=3)]) == [
    'digits: grad_pixel_remove_90 lacks seed 3.'
  ]


def test_csv_round_trip(tmp_path):
  path = str(tmp_path / 'results.csv')
  rows = [run(seed=i, accuracy=1 / (3 + i)) for i in range(3)]
  rows += [run('original'), run('nan'), run('null', top5=math.nan)]
  rows += [run('a,"b"\n<c>', seconds=1e-17)]
  results.write_csv(frame(*rows), path)
  again = results.read_csv(path)
  pd.testing.assert_frame_equal(
    again, results.tidy(frame(*rows)), check_exact=True
  )
  original = again[again['estimator'] == 'original'].iloc[0]
  assert original['mode'] == '' and original['granularity'] == ''
  assert 'nan' in set(again['estimator'])


def test_csv_does_not_depend_on_the_order_of_the_runs(tmp_path):
  rows = [run(e, seed=i) for e in ('sobel', 'grad') for i in range(3)]
  for name, some in (('a', rows), ('b', rows[::-1])):
    results.write_csv(frame(*some), str(tmp_path / name))
  first = (tmp_path / 'a').read_bytes()
  assert first == (tmp_path / 'b').read_bytes()
  assert first.startswith(','.join(results.COLUMNS).encode() + b'\n')


def test_a_table_of_something_else_is_refused_by_name(tmp_path):
  path = tmp_path / 'other.csv'
  path.write_text('estimator,accuracy\ngrad,0.5\n')
  with pytest.raises(errors.DataError, match=r'other\.csv .*study, source'):
    results.read_csv(str(path))
