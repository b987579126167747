"""Tests of the toy with a redundant feature (paper, section 6.5)."""

import numpy as np
import pytest

from roar_tf.analysis import stump


@pytest.fixture(scope='module')
def means():
  """Mean accuracies: means[protocol] by percent removed."""
  frame = stump.accuracies(draws=100, seed=0)
  return frame.groupby(['protocol', 'removed'])['accuracy'].mean()


def test_recursive_removal_falls_to_chance_and_plain_does_not(means):
  whole = 1 - stump.NOISE
  for protocol in stump.PROTOCOLS:
    assert means[protocol, 0] == pytest.approx(whole, abs=0.005)
  # The first removal takes what the stump uses, and it finds the copy.
  for protocol in ('plain', 'recursive'):
    assert means[protocol, 6.25] == pytest.approx(whole, abs=0.005)
  # The second takes the copy, or, by chance, one of 15 features.
  assert means['recursive', 12.5] == pytest.approx(0.5, abs=0.01)
  left = 14 / 15 * whole + 1 / 15 * 0.5
  assert means['plain', 12.5] == pytest.approx(left, abs=0.05)
  half = 8 / 15 * whole + 7 / 15 * 0.5
  assert means['plain', 50] == pytest.approx(half, abs=0.1)


def test_a_stump_uses_the_best_feature_left_or_its_opposite():
  y = np.array([1, 1, 1, -1], np.int8)
  x = np.ones((4, stump.FEATURES), np.int8)
  x[:, 5] = -y
  x[:, 9] = y
  every = np.arange(stump.FEATURES)
  assert stump.fit(x, y, every) == (5, -1)
  assert stump.fit(x, y, np.delete(every, 5)) == (9, 1)


def test_an_order_is_a_permutation_and_draws_do_not_depend_on_their_number():
  few, many = stump.accuracies(2, 3), stump.accuracies(4, 3)
  assert few.equals(many.iloc[: len(few)])
  rng = np.random.default_rng(0)
  x, y = stump.sample(rng, np.array([3, 8]), 500)
  for protocol in stump.PROTOCOLS:
    removal = stump.order(protocol, rng, x, y)
    assert sorted(removal) == list(range(stump.FEATURES))
  assert list(stump.order('recursive', rng, x, y)[:2]) == [3, 8]
  assert stump.order('plain', rng, x, y)[0] == 3
