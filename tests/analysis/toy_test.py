"""Tests of the toy problem."""

import math

import numpy as np
import pandas as pd
import pytest

from roar_tf.analysis import families, figures, toy


@pytest.fixture(scope='module')
def frame():
  return toy.accuracies(draws=50, seed=0)


@pytest.fixture(scope='module')
def points(frame):
  """Median loss in points: points[retrained, ranking] by percent removed."""
  table = toy.losses(frame)
  medians = table.groupby(['retrained', 'ranking', 'removed'])['loss'].median()
  return 100 * medians


def _problem(seed=0):
  rng = np.random.default_rng(seed)
  problem = toy.Problem.draw(rng)
  return problem, *problem.sample(rng, 20_000), problem.rankings(rng)


# --- what Fig. 2 says --------------------------------------------------------


def test_roar_keeps_the_inverted_ranking_at_the_top_before_75_percent(
  frame, points
):
  losses = points[True, 'inverted']
  assert losses[losses.index < 75].max() <= 1
  # Also where each draw is judged by its worst share.
  early = toy.losses(frame)
  early = early[
    early['retrained']
    & (early['ranking'] == 'inverted')
    & (early['removed'] < 75)
  ]
  assert 100 * early.groupby('draw')['loss'].max().median() <= 1
  assert losses[93.75] > 15  # One informative feature is left.


def test_without_retraining_the_inverted_ranking_falls_early(points):
  losses, roar = points[False, 'inverted'], points[True, 'inverted']
  # Nothing informative is gone at 25 %, nor at 50 %.
  assert losses[25] > 4 and losses[50] > 10
  assert losses[25] > 20 * roar[25] and losses[50] > 20 * roar[50]


@pytest.mark.parametrize('retrained', [False, True])
def test_the_true_ranking_falls_at_once_and_to_chance(frame, points, retrained):
  losses = points[retrained, 'true']
  assert losses[6.25] > 5 and losses[12.5] > 12
  rows = frame[(frame['retrained'] == retrained) & (frame['ranking'] == 'true')]
  rest = rows[rows['removed'] >= 25]
  assert rest['accuracy'].median() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('retrained', [False, True])
def test_random_lies_between(points, retrained):
  true, random, inverted = (points[retrained, name] for name in toy.RANKINGS)
  shares = [share for share in random.index if 0 < share < 90]
  assert len(shares) == 14
  for share in shares:
    # Below 20 % random removes little that counts; both are near 0.
    assert inverted[share] <= random[share] + 0.05
    assert random[share] < true[share] + 0.05
  assert inverted[50] + 3 < random[50] < true[50] - 3


# --- the arithmetic ----------------------------------------------------------


def test_points_are_what_the_formula_says():
  problem, x, y, _ = _problem()
  assert np.count_nonzero(problem.signal) == toy.INFORMATIVE
  assert not problem.signal[toy.INFORMATIVE :].any()
  assert np.mean(y == 1) == pytest.approx(0.5, abs=0.02)
  assert x.mean(axis=0) == pytest.approx(np.zeros(16), abs=0.08)
  a, d = problem.signal, problem.distractor
  covariance = np.outer(a, a) / 100 + np.outer(d, d) + np.eye(16) / 100
  assert np.cov(x.T) == pytest.approx(covariance, abs=0.1)
  # E[z sign(z)] = sqrt(2 / pi).
  signal = 10 * (x * y[:, None]).mean(axis=0)
  errors = 10 * np.sqrt(np.diag(covariance) / len(x))
  assert (np.abs(signal - math.sqrt(2 / math.pi) * a) < 5 * errors).all()


def test_rankings_are_permutations_and_the_true_one_is_true():
  problem, _, _, rankings = _problem()
  assert tuple(rankings) == toy.RANKINGS
  for order in rankings.values():
    assert sorted(order) == list(range(16))
  size = np.abs(problem.signal[rankings['true']])
  assert (np.diff(size) <= 0).all() and (size[:4] > 0).all()
  assert rankings['inverted'].tolist() == rankings['true'][::-1].tolist()
  # The uninformative ones are in no order.
  assert rankings['true'][4:].tolist() != sorted(rankings['true'][4:])


def test_fits_are_those_of_masked_points():
  _, x, y, rankings = _problem()
  order = rankings['random']
  retrained = toy.least_squares(x, y, order)
  once = toy.without_retraining(x, y, order)
  for k in (0, 5, 15, 16):
    masked = x.copy()
    masked[:, order[:k]] = 0
    design = np.column_stack([masked, np.ones(len(x))])
    whole = np.column_stack([x, np.ones(len(x))])
    for (weights, intercepts), fitted in ((retrained, design), (once, whole)):
      expected, *_ = np.linalg.lstsq(fitted, y, rcond=None)
      found = x @ weights[:, k] + intercepts[k]
      assert found == pytest.approx(design @ expected, abs=1e-9)


def test_accuracies_are_those_of_the_closed_form():
  # w x has z's sign with probability 1/2 + arctan(signal / noise) / pi.
  problem, x, y, rankings = _problem()
  test_x, test_y = problem.sample(np.random.default_rng(1), 40_000)
  for order in rankings.values():
    for fit in (toy.least_squares, toy.without_retraining):
      weights, intercepts = fit(x, y, order)
      for k in (0, 2, 8, 13):
        w = weights[:, k]
        signal = w @ problem.signal / 10
        noise = np.hypot(w @ problem.distractor, np.linalg.norm(w) / 10)
        expected = 0.5 + math.atan(signal / noise) / math.pi
        right = (test_x @ w + intercepts[k] > 0) == (test_y > 0)
        assert right.mean() == pytest.approx(expected, abs=0.012)


def test_a_draw_depends_on_its_number_and_the_seed_alone():
  three = toy.accuracies(3, seed=7)
  one = toy.accuracies(1, seed=7)
  pd.testing.assert_frame_equal(three[three['draw'] == 0], one)
  assert tuple(three.columns) == toy.COLUMNS
  assert len(three) == 3 * 2 * 3 * 17
  assert not three.duplicated(list(toy.COLUMNS[:4])).any()
  assert (toy.accuracies(1, seed=8)['accuracy'] != one['accuracy']).mean() > 0.9
  # All methods start alike and end at the same guess.
  for removed in (0, 100):
    assert len(set(one[one['removed'] == removed]['accuracy'])) == 1


# --- what is shown -----------------------------------------------------------


def test_figure_has_a_curve_and_a_band_for_each_ranking_and_method(frame):
  summary = toy.summarise(frame)
  axes = figures.toy(summary).axes[0]
  texts = [text.get_text() for text in axes.texts]
  assert texts.index('Not retrained') < texts.index('ROAR: retrained')
  curves = [line for line in axes.lines if len(line.get_xdata()) == 17]
  assert len(axes.patches) == len(curves) == 6
  # Of each panel the highest curve is the inverted ranking's.
  for panel in (curves[:3], curves[3:]):
    heights = {line.get_color(): np.mean(line.get_ydata()) for line in panel}
    assert min(heights, key=heights.get) == families.PALETTE['k0']


def test_text_is_small_and_gives_the_medians(frame, points):
  text = toy.text(toy.summarise(frame))
  assert max(map(len, text.splitlines())) <= 79
  (line,) = [x for x in text.splitlines() if x.startswith('ROAR, inverted')]
  shares = (12.5, 25, 50, 75, 87.5, 100)
  expected = [f'{points[True, "inverted", share]:.1f}' for share in shares]
  assert line.split()[2:] == expected
