"""Tests of clocks: all time is counted, and shared time is divided."""

import time

import pytest

from roar_tf.training import clock


@pytest.fixture
def at(monkeypatch):
  """Function that sets the time."""
  now = [100.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])
  return lambda seconds: now.__setitem__(0, 100.0 + seconds)


def test_work_side_by_side_shares_its_device(at):
  first, second = clock.Clock(), clock.Clock()
  with first:
    at(2)
    with second:
      at(6)
      assert first.timing == clock.Timing(6, 0, 4)
    at(7)
  at(50)
  assert first.timing == clock.Timing(7, 0, 5)
  assert second.timing == clock.Timing(4, 0, 2)


def test_what_earlier_processes_took_is_added(at):
  with clock.Clock() as one:
    one.before = clock.Timing(10, 5, 2)
    one.step_seconds = 3
    at(4)
  assert one.timing == clock.Timing(14, 8, 6)


def test_a_failure_ends_what_it_shared(at):
  other = clock.Clock()
  with other:
    with pytest.raises(KeyError), clock.Clock():
      raise KeyError
    at(4)
  assert other.timing == clock.Timing(4, 0, 4)
