"""Tests of the order of examples: permutations, resumption, shares."""

import numpy as np
import pytest

from roar_tf.training import order
from roar_tf.training.order import Order, Share, in_turn

COUNTS = (5, 3, 0, 7, 4, 1)
"""Examples of the shards of a small split: 20."""


def _examples(counts, pieces):
  """Returns (epoch, shard, row in the shard) of every position."""
  found, position = [], None
  for piece in pieces:
    assert position in (None, piece.start)
    position = piece.start + len(piece.rows)
    joined = [(s, row) for s in piece.shards for row in range(counts[s])]
    found += [(piece.epoch, *joined[row]) for row in piece.rows]
  return found


def _epochs(count, epochs, *words):
  order = Order([count], 1, *words)
  rows = [
    row for _, _, row in _examples([count], order.pieces(0, count * epochs))
  ]
  return np.array(rows).reshape(epochs, count)


@pytest.mark.parametrize('window', [1, 2, 5, 6, 99])
def test_every_epoch_uses_every_example_once(window):
  order = Order(COUNTS, window, 'a')
  found = _examples(COUNTS, order.pieces(0, 100))
  assert len(found) == 100
  everything = {(s, row) for s, n in enumerate(COUNTS) for row in range(n)}
  for epoch in range(5):
    part = found[20 * epoch : 20 * epoch + 20]
    assert {e for e, *_ in part} == {epoch}
    assert {tuple(example) for _, *example in part} == everything


@pytest.mark.parametrize('window', [1, 2, 4])
def test_a_window_joins_as_many_shards_in_a_random_order(window):
  order = Order(COUNTS, window, 'a')
  seen = set()
  for epoch in range(40):
    pieces = list(order.pieces(20 * epoch, 20 * epoch + 20))
    # A window whose only shard is empty has no piece.
    assert all(1 <= len(piece.shards) <= window for piece in pieces)
    seen.add(tuple(piece.shards for piece in pieces))
  assert len(seen) > 20


def test_epochs_differ_and_are_unrelated():
  epochs = _epochs(2000, 5, 'a')
  correlation = np.corrcoef(epochs) - np.eye(5)
  assert np.abs(correlation).max() < 5 / np.sqrt(2000)
  against_place = np.corrcoef(epochs, np.arange(2000))[-1, :-1]
  assert np.abs(against_place).max() < 5 / np.sqrt(2000)


def test_every_place_in_an_epoch_is_as_likely():
  for place in _epochs(5, 2000, 'a').T:
    counts = np.bincount(place, minlength=5)
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)


@pytest.mark.parametrize('window', [2, 6])
def test_random_access_equals_sequential_reading(window):
  sequential = _examples(COUNTS, Order(COUNTS, window, 'run', 3).pieces(0, 200))
  for start, stop in ((0, 5), (190, 200), (5, 60), (50, 51), (19, 21), (7, 7)):
    order = Order(COUNTS, window, 'run', 3)
    found = _examples(COUNTS, order.pieces(start, stop))
    assert found == sequential[start:stop]


@pytest.mark.parametrize('window', [2, 6])
def test_seed_words_decide_the_order(window):
  words = (('a', 1), ('a', 2), ('b', 1), ('a',), ('a', 1, 0))
  orders = [
    tuple(_examples(COUNTS, Order(COUNTS, window, *w).pieces(0, 20)))
    for w in (*words, ('a', 1))
  ]
  assert len(set(orders)) == len(words)
  assert orders[-1] == orders[0]


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_the_shares_of_all_hosts_make_every_batch(hosts):
  order = Order(COUNTS, 2, 'a')
  replicas, batch = 4, 8
  each = replicas // hosts
  shares = [
    Share(batch, replicas, range(h * each, (h + 1) * each))
    for h in range(hosts)
  ]
  assert {share.per_replica for share in shares} == {2}
  taken = [
    np.concatenate(
      [1000 * p.shards[0] + share.of(p) for p in order.pieces(0, 40)]
    ).reshape(5, -1)
    for share in shares
  ]
  alone = np.concatenate(
    [1000 * p.shards[0] + p.rows for p in order.pieces(0, 40)]
  )
  np.testing.assert_array_equal(
    np.concatenate(taken, axis=1), alone.reshape(5, batch)
  )


@pytest.mark.parametrize('batch', [1, 3, 20, 64])
def test_one_pass_in_turn_fills_its_last_batch(batch):
  found = _examples(COUNTS, in_turn(COUNTS, batch))
  assert len(found) == -(-20 // batch) * batch
  examples = [(0, s, row) for s, n in enumerate(COUNTS) for row in range(n)]
  assert found[:20] == examples
  assert set(found[20:]) <= {examples[-1]}


def test_sorted_classes_are_seen_where_the_window_is_small():
  classes = np.arange(64)
  in_order = list(np.repeat(classes, 16).reshape(64, 16))
  shuffled = np.random.default_rng(0).permutation(np.concatenate(in_order))
  for labels, is_sorted in (
    (in_order, True),
    (shuffled.reshape(64, 16), False),
  ):
    together, mixed = order.classes_together(labels, 16)
    assert (together < 0.75 * mixed) == is_sorted
