"""Tests of arms: what seeds and test images leave unsure, by simulation."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from roar_tf.analysis import arms, results

CELL = {('remove', 50): 1.0}


def runs(**accuracies):
  """Runs of `grad` at threshold t<n>, one accuracy per seed."""
  rows = [
    synthetic.runs([('grad', 'remove', int(name[1:]), accuracy)], seed=seed)
    for name, values in accuracies.items()
    for seed, accuracy in enumerate(values)
    if accuracy is not None
  ]
  return pd.concat(rows)


FIVE = synthetic.runs([('grad', 'remove', 50, 0)], 5)


def arm_of(hits):
  """The arm of one cell from bool [seeds, images]."""
  frame = FIVE[: len(hits)].assign(accuracy=hits.mean(1))
  return arms.arm(frame, CELL, lambda run: hits[run[-1]])


def difference(first, second):
  return arms.Difference((1, first), (-1, second))


# --- seeds -------------------------------------------------------------------


def test_an_arm_adds_up_the_cells_of_one_seed_first():
  weights = {('remove', 40): 0.5, ('remove', 80): 0.25}
  rows = runs(t40=[0.5, 0.7, 0.6], t80=[0.4, 0.2, 0.3])
  found = arms.arm(rows, weights)
  # What one cell gains the other loses, in part.
  seeds = [0.5 / 2 + 0.4 / 4, 0.7 / 2 + 0.2 / 4, 0.6 / 2 + 0.3 / 4]
  assert found.value == pytest.approx(np.mean(seeds))
  assert found.sd == pytest.approx(np.std(seeds, ddof=1))
  assert found.seeds == 3 and found.right is None
  twice = arms.arm(pd.concat([rows, rows]), weights)
  assert twice == found


def test_an_arm_of_unequal_runs_uses_all_means_and_whole_seeds():
  weights = {('remove', 40): 0.5, ('remove', 80): 0.25}
  found = arms.arm(runs(t40=[0.5, 0.7, 0.6], t80=[0.4, None, 0.3]), weights)
  assert found.value == pytest.approx(0.6 / 2 + 0.35 / 4)
  assert found.sd == pytest.approx(
    np.std([0.5 / 2 + 0.4 / 4, 0.6 / 2 + 0.3 / 4], ddof=1)
  )
  assert found.seeds == 2


def test_an_arm_needs_every_cell_and_every_number():
  weights = {('remove', 40): 0.5, ('remove', 80): 0.25}
  lost = runs(t40=[0.5, 0.7], t80=[0.4, math.nan])
  assert math.isnan(arms.arm(lost, weights).value)
  assert arms.arm(lost, weights | {('remove', 60): 0.1}) is None
  one = arms.arm(runs(t40=[0.5]), {('remove', 40): 0.5})
  assert one.value == 0.25 and math.isnan(one.sd) and one.seeds == 1


def test_seeds_have_the_degrees_of_the_arm_with_the_fewest():
  generator = np.random.default_rng(0)
  first, second = generator.normal(0.5, [[0.01], [0.03]], size=(2, 7))
  second = second[:4]
  found = difference(
    *(arms.arm(runs(t50=values), CELL) for values in (first, second))
  )
  error = math.hypot(stats.sem(first), stats.sem(second))
  assert found.seeds_error == pytest.approx(error)
  assert found.freedom == 3 and math.isnan(found.images_error)
  value = first.mean() - second.mean()
  for level in (0.05, 0.05 / 36):
    expected = stats.t.interval(1 - level, 3, value, error)
    assert found.estimate(level)[1:] == pytest.approx(expected)
  welch = stats.ttest_ind(first, second, equal_var=False)
  assert found.pointwise()[1:] == pytest.approx(welch.confidence_interval(0.95))


@pytest.mark.parametrize('seeds', [1, 2])
def test_few_seeds_have_no_interval_whatever_the_images_say(seeds):
  hits = np.random.default_rng(0).random((2, 5, 100)) < 0.6
  found = difference(arm_of(hits[0]), arm_of(hits[1][:seeds]))
  assert found.images_error > 0
  for estimate in (found.estimate(0.05), found.pointwise()):
    assert estimate.known and not estimate.bounded
  assert math.isnan(found.detectable(0.05))


@pytest.mark.parametrize('known', [True, False])
def test_seeds_that_all_agree_tell_no_interval(known):
  hits = np.random.default_rng(0).random((2, 100)) < 0.6
  first, second = (arm_of(np.array([row] * 5)) for row in hits)
  if not known:
    first, second = (a._replace(right=None) for a in (first, second))
  found = difference(first, second)
  assert math.isnan(found.seeds_error)
  for estimate in (found.estimate(0.05), found.pointwise()):
    assert estimate.value == found.value and not estimate.bounded


@pytest.mark.parametrize(
  'models, means',
  [
    ([0, 0, 0, 0, 0, 0], None),
    ([0, 1, 2, 3, 4, 5], None),
    ([0, 1, 2, 0, 1, 2], [(0, 3), (1, 4), (2, 5)]),
    ([0, 1, 2, 3, 0, 1], [(0, 4), (1, 5), (2,), (3,)]),
    ([7, 8, 7, 8, 7, 8], [(0, 2, 4), (1, 3, 5)]),
  ],
)
def test_seeds_that_share_explained_models_are_averaged_first(models, means):
  hits = np.random.default_rng(0).random((6, 500)) < 0.6
  accuracies = hits.mean(1)
  frame = synthetic.runs([('grad', 'remove', 50, 0)], 6)
  frame = frame.assign(accuracy=accuracies, explained_seed=models)
  found = arms.arm(frame, CELL, lambda run: hits[run[-1]])
  means = means or [(seed,) for seed in range(6)]
  parts = [np.mean(accuracies[list(seeds)]) for seeds in means]
  assert found.value == pytest.approx(np.mean(parts))
  assert found.sd == pytest.approx(np.std(parts, ddof=1))
  assert (found.seeds, found.replicates) == (6, len(parts))
  assert found.models == len(set(models))
  right = np.array([hits[list(seeds)].mean(0) for seeds in means])
  np.testing.assert_allclose(found.right, right.mean(0))
  luck = right.var(0, ddof=1).mean() / len(right)
  assert found.luck == pytest.approx(luck)
  cell = results.summarise(frame).iloc[0]
  assert (cell['runs'], cell['replicates']) == (6, len(parts))
  assert cell['mean'] == pytest.approx(found.value)
  assert cell['sd'] == pytest.approx(found.sd)
  half = stats.t.isf(0.025, len(parts) - 1) * stats.sem(parts)
  expected = cell['mean'] + half if len(parts) > 2 else math.nan
  assert cell['high'] == pytest.approx(expected, nan_ok=True)
  random = arms.arm(
    synthetic.runs([('random', 'remove', 50, 0.7)], 9, 0.01), CELL
  )
  lead = difference(random, found._replace(right=None))
  assert lead.pointwise().bounded == (len(parts) > 2)
  if len(parts) > 2:
    assert lead.freedom == len(parts) - 1


def test_few_models_tell_less_than_their_many_seeds():
  """Models that differ, and seeds that do not, are not as many replicates."""
  frame = synthetic.runs([('grad', 'remove', 50, 0)], 12)
  of_model = np.tile([0.5, 0.6, 0.55], 4)
  one, three = (
    arms.arm(frame.assign(accuracy=of_model, explained_seed=models), CELL)
    for models in (0, np.tile(range(3), 4))
  )
  assert three.value == pytest.approx(one.value)
  random = arms.arm(
    synthetic.runs([('random', 'remove', 50, 0.7)], 12, 0.001), CELL
  )
  errors = [difference(random, arm).seeds_error for arm in (one, three)]
  assert errors[1] > 1.9 * errors[0]


# --- test images -------------------------------------------------------------


def chances(generator, images):
  """Each image's chance to be right, of two arms that agree in part."""
  shared = generator.beta(2, 1, images)
  return np.array(
    [shared, np.clip(shared - generator.beta(1, 5, images), 0, 1)]
  )


@pytest.mark.parametrize('seeds', [1, 5])
def test_the_error_of_images_is_that_of_their_chances_without_luck(seeds):
  generator = np.random.default_rng(0)
  p = chances(generator, 2000)
  found = []
  for _ in range(60):
    hits = generator.random((2, seeds, 2000)) < p[:, None]
    found.append(difference(*map(arm_of, hits)).images_error ** 2)
  true = np.var(p[0] - p[1], ddof=1)
  luck = (p * (1 - p)).sum(0).mean() / seeds
  # One seed does not tell luck, which then counts as if it were the images'.
  expected = (true if seeds > 1 else true + luck) / 2000
  assert np.mean(found) == pytest.approx(expected, rel=0.04)
  assert luck > true  # What is not subtracted would be seen.


def test_intervals_cover_the_lead_over_new_seeds_and_new_images():
  generator = np.random.default_rng(1)
  # Most images are clearly right or wrong; the arms differ on three of ten.
  p = np.full((2, 50_000), 0.9)
  p[1, :15_000] = 0.1
  repeats, covered, alone = 300, 0, 0
  for _ in range(repeats):
    of_seeds = generator.normal(0, 0.02, (2, 5, 1))
    tested = p[:, None, generator.integers(0, p.shape[1], 400)]
    hits = generator.random((2, 5, 400)) < tested + of_seeds
    found = difference(*map(arm_of, hits))
    _, low, high = found.pointwise()
    covered += low <= 0.24 <= high
    # As if these images were all there are.
    alone += abs(found.value - 0.24) <= (
      stats.t.isf(0.025, 8) * found.seeds_error
    )
  assert 0.93 <= covered / repeats <= 0.97
  assert alone / repeats < 0.9


def test_a_family_interval_shares_its_level_between_seeds_and_images():
  hits = np.random.default_rng(0).random((2, 5, 300)) < 0.6
  found = difference(*map(arm_of, hits))
  level = 0.05 / 8
  half = stats.t.isf(0.8 * level / 2, 4) * found.seeds_error
  half += stats.norm.isf(0.2 * level / 2) * found.images_error
  value, low, high = found.estimate(level)
  assert [value - low, high - value] == pytest.approx([half, half])
  more = math.hypot(found.seeds_error, found.images_error)
  assert found.detectable(level) == pytest.approx(
    half + stats.norm.ppf(0.8) * more
  )


def test_what_is_not_retrained_varies_with_test_images_alone():
  hits = np.random.default_rng(0).random((2, 1, 300)) < [[[0.7]], [[0.4]]]
  answers = dict(zip(('random', 'grad'), hits[:, 0], strict=True))
  frame = synthetic.runs(
    [
      (name, 'remove', 50, row.mean(), 'pixel', 'mean', 'deletion')
      for name, row in answers.items()
    ]
  )
  for correct in (lambda run: answers[run[1]], None):
    of = arms.Arms(frame, correct)
    found = difference(
      *(
        of.get('digits', 'pixel', 'mean', name, CELL, 'deletion')
        for name in ('random', 'grad')
      )
    )
    estimate = found.pointwise()
    assert estimate.value == pytest.approx(hits[0].mean() - hits[1].mean())
    assert estimate.bounded == (correct is not None)
    if correct:
      apart = hits[0, 0].astype(float) - hits[1, 0]
      half = stats.norm.ppf(0.975) * stats.sem(apart)
      assert estimate.high - estimate.value == pytest.approx(half)


def test_one_run_whose_answers_nobody_knows_leaves_seeds_only():
  hits = np.random.default_rng(0).random((2, 5, 300)) < 0.6
  frame = synthetic.runs([('grad', 'remove', 50, 0)], 5)
  frame['accuracy'] = hits[0].mean(1)
  lost = arms.arm(
    frame, CELL, lambda run: hits[0][run[-1]] if run[-1] else None
  )
  assert lost.right is None and lost.sd == pytest.approx(
    hits[0].mean(1).std(ddof=1)
  )
  found = difference(lost, arm_of(hits[1]))
  assert math.isnan(found.images_error) and found.pointwise().bounded
