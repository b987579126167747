"""Tests of the checks that a study has to pass."""

import gc
import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from roar_tf.analysis import checks, results, sentences, statistics
from roar_tf.analysis.evidence import Evidence

THRESHOLDS = (10, 30, 50, 70, 90)
CHANCES = {'digits': 0.1}


@pytest.fixture(autouse=True, scope='module')
def small_heap():
  """Statsmodels collects garbage in every correction: all of TensorFlow's."""
  gc.freeze()
  yield
  gc.unfreeze()


def study(means, modes=('remove', 'keep'), seeds=5, noise=0, start=0.9):
  """A sound study: curves fall from `start` to their estimator's mean."""
  cells = [('original', '', 0, start)] * 2
  for name, mean in means.items():
    for mode in modes:
      for t in THRESHOLDS:
        gone = t if mode == 'remove' else 100 - t
        lost = (0.9 - mean) * gone / 90
        if mode == 'keep' and name != 'random':
          lost *= 0.2
        cells.append((name, mode, t, 0.9 - lost))
  frame = synthetic.runs(cells, seeds, test_images=10_000)
  frame.loc[: seeds - 1, 'seed'] += seeds  # original has twice as many seeds.
  deviations = np.random.default_rng(noise).standard_normal(len(frame))
  return frame.assign(accuracy=frame['accuracy'] + 0.004 * deviations)


def masks(accuracies, seeds=1, test_images=10_000):
  """Mask-only runs, by estimator the accuracy at each threshold."""
  cells = [
    (name, 'remove', t, accuracy, 'pixel', 'mean', 'maskonly')
    for name, values in accuracies.items()
    for t, accuracy in zip(THRESHOLDS, values, strict=True)
  ]
  return synthetic.runs(cells, seeds, 0.001, test_images=test_images)


def check(frame, name=None, expected=None, explained=None):
  evidence, verdicts = synthetic.judged(frame, CHANCES, expected=expected)
  performed = checks.perform(evidence, verdicts, CHANCES, expected, explained)
  return [c for c in performed if name is None or c.name == name]


MEANS = {'random': 0.5, 'grad': 0.4, 'oracle': 0.2}


def test_a_sound_study_raises_no_alarm():
  found = check(study(MEANS), expected=study(MEANS).to_dict('records'))
  assert {c.name for c in found} == {
    *('oracle', 'random_asymmetry', 'offset', 'contradiction')
  }
  assert all(c.holds for c in found)


def test_false_alarms_of_sound_studies_are_rare():
  kinds = ('random_asymmetry', 'offset', 'explained')
  raised = dict.fromkeys(kinds, 0)
  for noise in range(20):
    generator = np.random.default_rng(1000 + noise)
    frame = study({'random': 0.5}, noise=noise)
    explained = {'digits': 0.9 + 0.004 * generator.standard_normal()}
    for performed in checks.perform(
      Evidence(frame), [], {}, explained=explained
    ):
      raised[performed.name] += not performed.holds
  # The chance of more is below 1 % at 5 %.
  assert all(count <= 4 for count in raised.values()), raised


@pytest.mark.parametrize(
  'means, holds',
  [
    ({'random': 0.5, 'oracle': 0.2, 'inverse_oracle': 0.85}, True),
    ({'random': 0.5, 'oracle': 0.8, 'inverse_oracle': 0.2}, False),
  ],
)
def test_oracles_have_their_sides(means, holds):
  found = check(study(means, ['remove']), 'oracle')
  assert [c.holds for c in found] == [holds] * 2
  by_name = {c.estimator: c for c in found}
  assert (by_name['oracle'].value > 0) == holds
  assert by_name['oracle'].allowed == 0.01
  side = 'ahead of' if holds else 'behind'
  assert f'{side} it, averaged over the curve' in by_name['oracle'].text


@pytest.mark.parametrize('seeds', [1, 2, 5])
@pytest.mark.parametrize('shift', [0.0, 0.08])
def test_random_must_be_symmetric(seeds, shift):
  frame = study({'random': 0.5}, seeds=seeds)
  at = (frame['mode'] == 'keep') & (frame['threshold'] == 30)
  frame.loc[at, 'accuracy'] += shift
  found = check(frame, 'random_asymmetry')
  assert [c.threshold for c in found] == list(THRESHOLDS)
  assert [c.holds for c in found] == [True, not shift, True, True, True]
  if seeds < 3:
    assert {c.allowed for c in found} == {0.05}


def test_asymmetry_allows_for_seeds_and_for_test_images_of_all_pairs():
  frame = study({'random': 0.5})
  found = check(frame, 'random_asymmetry')[2]
  kept, removed = (
    frame[(frame['mode'] == mode) & (frame['threshold'] == 50)]['accuracy']
    for mode in ('keep', 'remove')
  )
  assert found.value == pytest.approx(abs(kept.mean() - removed.mean()))
  seeds = [x.var(ddof=1) / 5 for x in (kept, removed)]
  images = [x.mean() * (1 - x.mean()) / 10_000 for x in (kept, removed)]
  total = sum(seeds) + sum(images)
  freedom = total**2 / sum(v**2 / 4 for v in seeds)
  quantile = stats.t.isf(0.05 / 5 / 2, freedom)
  assert found.allowed == pytest.approx(quantile * math.sqrt(total))


@pytest.mark.parametrize(
  'start, holds', [(0.9, True), (0.85, True), (0.93, False)]
)
def test_original_must_not_lie_above_where_curves_lead(start, holds):
  (found,) = check(study(MEANS, start=start), 'offset')
  assert found.holds == holds
  assert found.value == pytest.approx(start - 0.9, abs=0.01)
  assert f'original, which is at {100 * start:.1f} %' in found.text


def test_a_good_estimator_does_not_hide_an_offset():
  frame = study({'random': 0.5, 'grad': 0.4}, ['remove'], start=0.95)
  # Drawn on, its curve would lead to 1.4.
  steep = (frame['estimator'] == 'grad') & (frame['threshold'] > 10)
  frame.loc[steep, 'accuracy'] -= 0.7
  (found,) = check(frame, 'offset')
  assert not found.holds and found.value == pytest.approx(0.05, abs=0.01)


def test_an_offset_allows_for_as_many_models_as_there_are():
  frame = study({'random': 0.5, 'grad': 0.6}, ['remove'], seeds=6)
  (alone,) = check(frame, 'offset')
  frame['explained_seed'] = frame['seed'] % 3
  frame.loc[frame['estimator'] != 'grad', 'explained_seed'] = 0
  # Twins of a model: the spread between models is that between the pairs.
  values = frame.groupby(['estimator', 'threshold', 'explained_seed'])
  grad = frame['estimator'] == 'grad'
  frame.loc[grad, 'accuracy'] = values['accuracy'].transform('first')[grad]
  (found,) = check(frame, 'offset')
  cells = results.summarise(frame)
  near, far = (
    next(results.where(cells, estimator='grad', threshold=t).itertuples())
    for t in (10, 30)
  )
  assert 'grad' in found.text and (near.runs, near.replicates) == (6, 3)
  start = next(results.where(cells, estimator='original').itertuples())
  reach = 0.5 if near.mean > far.mean else 0.0
  parts = [
    (start.sd**2 / 12, 11),
    ((1 + reach) ** 2 * near.sd**2 / 3, 2),
    (reach**2 * far.sd**2 / 3, 2),
  ]
  total = sum(v for v, _ in parts)
  freedom = total**2 / sum(v**2 / df for v, df in parts)
  half = stats.t.isf(0.025, freedom) * math.sqrt(total)
  assert found.allowed == pytest.approx(half + 0.01)
  assert alone.allowed != found.allowed


def test_a_curve_that_its_masks_lift_does_not_hide_an_offset():
  frame = study({'random': 0.5, 'grad': 0.9}, ['remove'], start=0.95)
  frame.loc[frame['estimator'] == 'grad', 'accuracy'] += 0.05
  (found,) = check(frame, 'offset')
  assert found.holds
  lifted = masks({'random': [0.1] * 5, 'grad': [0.9] * 5})
  (found,) = check(pd.concat([frame, lifted]), 'offset')
  assert not found.holds and 'random' in found.text


# Of the paper's Table 2, with its t = 0: the two cells nearest to it of the
# estimator that leads back highest, and of random.
@pytest.mark.parametrize(
  'original, best, random, holds',
  [
    (66.65, (66.56, 66.11), (55.65, 60.11), True),  # Birdsnap, SG-IG
    (84.54, (84.00, 83.97), (78.30, 80.66), True),  # Food-101, SG-GRAD
    (76.68, (71.94, 72.89), (71.02, 72.65), False),  # ImageNet, Sobel
  ],
)
def test_the_offset_of_the_papers_imagenet_is_found(
  original, best, random, holds
):
  cells = [('original', '', 0, original / 100)]
  for name, (far, near) in {'best': best, 'random': random}.items():
    cells += [(name, 'remove', t, a / 100) for t, a in ((10, near), (30, far))]
  (found,) = check(synthetic.runs(cells, 3, 0.001), 'offset')
  assert found.holds == holds


@pytest.mark.parametrize('seeds', [1, 5])
@pytest.mark.parametrize('shift', [0.0, 0.07, -0.07])
def test_the_explained_model_is_one_more_original(seeds, shift):
  frame = study({'random': 0.5}, seeds=seeds)
  runs = frame[frame['estimator'] == 'original']['accuracy']
  (found,) = check(
    frame, 'explained', explained={'digits': runs.mean() + shift}
  )
  assert found.holds == (not shift)
  assert found.value == pytest.approx(abs(shift))
  if seeds == 5:  # The 95 % prediction interval of a single run.
    half = stats.t.ppf(0.975, 9) * runs.std(ddof=1) * math.sqrt(1 + 1 / 10)
    assert found.allowed == pytest.approx(half)


def test_without_what_they_compare_there_are_no_checks():
  frame = study({'grad': 0.5}, ['remove'])
  assert check(frame[frame['estimator'] != 'original']) == []
  frame = study({'random': 0.5}, ['remove'])
  assert check(frame[frame['threshold'].isin([0, 50])], 'offset') == []


@pytest.mark.parametrize('seeds', [1, 5])
def test_masks_that_leak_are_named_by_estimator(seeds):
  # 10,000 images: the SE of guessing is 0.3 points.
  accuracies = {
    'random': [0.101, 0.099, 0.1, 0.102, 0.1],
    'grad': [0.104, 0.13, 0.25, 0.2, 0.101],
    'sobel': [0.1, 0.1, 0.1, 0.1, 0.06],
  }
  frame = pd.concat([study(MEANS), masks(accuracies, seeds)])
  found = {c.estimator: c for c in check(frame, 'leak')}
  assert {name for name, c in found.items() if not c.holds} == {'grad'}
  assert set(found) == {'random', 'grad', 'sobel'}
  assert found['grad'].threshold == 50
  assert found['grad'].input == 'maskonly'
  assert found['grad'].value == pytest.approx(0.25, abs=0.003)
  assert 'leak at 30, 70 %, too' in found['grad'].text
  assert found['grad'].value > found['grad'].allowed > 0.1


def test_allowance_of_one_run_is_binomial_and_of_holm():
  accuracies = {'random': [0.1] * 5, 'grad': [0.1, 0.1, 0.1, 0.1, 0.9]}
  frame = pd.concat([study(MEANS), masks(accuracies, 1, test_images=200)])
  found = {c.estimator: c for c in check(frame, 'leak')}
  binomial = stats.binom(200, 0.1)
  # The smallest p of ten, then the rest.
  assert found['grad'].allowed == binomial.isf(0.05 / 10) / 200
  assert found['random'].allowed == binomial.isf(0.05 / 9) / 200


def test_faults_of_runs_are_alarms():
  frame = study({'random': 0.5}, ['remove'], seeds=3)
  expected = frame.to_dict('records')
  frame.loc[frame['threshold'].eq(30) & frame['seed'].eq(1), 'steps'] = 7
  lost = frame['threshold'].eq(50) & frame['seed'].eq(2)
  twice = frame[frame['threshold'].eq(70) & frame['seed'].eq(0)]
  frame = pd.concat([frame[~lost], twice])
  found = [c for c in check(frame, expected=expected) if not c.holds]
  assert {c.name for c in found} == {
    'duplicate_runs',
    'missing_runs',
    'unequal_counts',
  }
  missing = next(c for c in found if c.name == 'missing_runs')
  assert missing.text == 'digits: random_pixel_remove_50 lacks seed 2.'
  assert (missing.value, missing.allowed) == (1, 0)
  assert (missing.source, missing.threshold) == ('digits', 50)


def test_without_a_list_cells_are_compared_with_each_other():
  frame = study({'random': 0.5}, ['remove'], seeds=3)
  frame = frame[~(frame['threshold'].eq(50) & frame['seed'].eq(2))]
  (found,) = check(frame, 'unequal_runs')
  assert not found.holds and (found.value, found.allowed) == (2, 3)
  assert found.text == (
    'digits: random_pixel_remove_50 has 2 runs (most cells 3).'
  )
  whole = check(frame, 'unequal_runs', expected=frame.to_dict('records'))
  assert whole == []


def test_checks_go_into_the_table():
  frame = study({'random': 0.5}, start=0.95)
  table, performed = synthetic.computed(frame, CHANCES), check(frame)
  with_checks = statistics.with_checks(table, performed)
  assert len(with_checks) == len(table) + len(performed)
  alarm = with_checks[with_checks['quantity'] == 'alarm_offset'].iloc[0]
  (offset,) = [c for c in performed if c.name == 'offset']
  assert alarm['value'] == offset.value and alarm['high'] == offset.allowed
  assert 'check_random_asymmetry' in set(with_checks['quantity'])


def test_an_oracle_ahead_by_a_hair_is_an_alarm():
  (found,) = check(study({'random': 0.5, 'oracle': 0.49}), 'oracle')[:1]
  assert not found.holds and 0 < found.value < 0.01
  assert 'must be clearly ahead of random' in found.text


def test_the_classes_of_a_test_set_may_be_unequal():
  # Nine of ten test images are of one class, which guessing always names.
  frame = pd.concat(
    [study(MEANS), masks({'random': [0.88] * 5, 'grad': [0.9] * 5}, 3)]
  )
  for chance, holds in ((0.9, True), (0.5, False)):
    evidence, verdicts = synthetic.judged(frame, {'digits': chance})
    performed = checks.perform(evidence, verdicts, {'digits': chance})
    (leak,) = (
      c for c in performed if (c.name, c.estimator) == ('leak', 'grad')
    )
    assert leak.holds == holds


@pytest.mark.parametrize('seeds', [1, 3])
def test_masks_are_compared_with_what_randoms_masks_tell(seeds):
  # The masks of random tell of the image's borders, say.
  for own, holds in ((0.3, True), (0.36, False)):
    accuracies = {'random': [0.3] * 5, 'grad': [own] * 5}
    frame = pd.concat([study(MEANS), masks(accuracies, seeds)])
    found = {c.estimator: c.holds for c in check(frame, 'leak')}
    assert found == {'random': False, 'grad': holds}


@pytest.mark.parametrize('below', [0.05, 0.0])
def test_models_that_miss_what_their_masks_tell_are_undertrained(below):
  frame = study(MEANS)
  cells = frame[frame['estimator'].eq('grad') & frame['mode'].eq('remove')]
  means = cells.groupby('threshold')['accuracy'].mean()
  accuracies = {'random': [0.1] * 5, 'grad': [*(means + below)]}
  (found,) = check(pd.concat([frame, masks(accuracies)]), 'undertrained')
  assert found.holds == (not below)
  assert found.value == (5 if below else 0)
  if below:
    assert 'in 5 of 10 cells' in found.text
    assert '(5.0 points lower)' in found.text


def test_every_alarm_begins_with_its_source_and_has_a_line_of_it():
  parts = []
  for source in ('digits', 'letters'):
    frame = study(
      {'random': 0.5, 'grad': 0.6, 'ig': 0.6, 'oracle': 0.55}, start=0.95
    )
    keep = frame['mode'].eq('keep') & frame['threshold'].eq(50)
    frame.loc[keep, 'accuracy'] += 0.1
    frame.loc[keep & frame['seed'].eq(0), 'steps'] = 7
    leak = masks({'random': [0.1] * 5, 'grad': [0.95] * 5})
    parts.append(pd.concat([frame, leak]).assign(source=source))
  frame = pd.concat(parts)
  listed = frame.to_dict('records')
  lost = frame['threshold'].eq(30) & frame['seed'].eq(4)
  explained, chances = (
    {s: v for s in ('digits', 'letters')} for v in (0.5, 0.1)
  )
  evidence, verdicts = synthetic.judged(frame[~lost], chances, expected=listed)
  performed = checks.perform(evidence, verdicts, chances, listed, explained)
  failed = [c for c in performed if not c.holds]
  assert all(c.text.startswith(f'{c.source}: ') for c in performed)
  kinds = {c.name for c in failed}
  assert kinds == {
    *('missing_runs', 'unequal_counts', 'oracle', 'contradiction', 'offset'),
    *('random_asymmetry', 'explained', 'leak', 'undertrained'),
  }
  lines = sentences.alarms(failed)
  assert len(lines) == 2 * len(kinds) < len(failed)
  for source in ('digits', 'letters'):
    own = [line for line in lines if line.startswith(f'{source}: ')]
    assert len(own) == len(kinds)
    (line,) = (line for line in own if 'lacks seed' in line)
    assert '(7 more of this kind, of ' in line
