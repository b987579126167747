"""Tests of progress bars and of what is said of stages."""

import io
import logging
import sys

import pytest

from roar_tf.engine import progress
from roar_tf.engine.unit import Outcome


@pytest.fixture
def log(monkeypatch, caplog):
  caplog.set_level(logging.INFO, 'roar_tf')
  monkeypatch.setattr(logging.getLogger('roar_tf'), 'propagate', True)
  return caplog


class Minutes:
  """A clock that a test sets."""

  def __init__(self):
    self.seconds = 0.0

  def now(self) -> float:
    return self.seconds

  def wait(self, seconds: float) -> None:
    self.seconds += seconds


@pytest.fixture
def minutes(monkeypatch):
  clock = Minutes()
  monkeypatch.setattr(progress.time, 'monotonic', clock.now)
  monkeypatch.setattr(progress, '_progress_log', progress._Log())
  return clock


def test_work_without_a_terminal_is_logged_once_a_minute(log, minutes, capsys):
  bars = progress.Bars(result='accuracy', clock=minutes.now)
  bars.plan('train', 900)
  with progress.bar(1000, 'runs/x', 'step', inner=True) as bar:
    assert bar.disable  # pytest has no terminal.
    advance = progress.logged(bar, 'runs/x')
    for number in range(900):  # For 15 minutes, one unit after the other.
      bars.begin('train', f'u{number}')
      minutes.wait(1)
      advance(1)
      measured = {'accuracy': number / 1000}
      outcome = Outcome('made', seconds=1.0, measured=measured)
      bars.end('train', f'u{number}', outcome)
  lines = [record.getMessage() for record in log.records]
  assert len(lines) == 14
  assert lines[1] == (
    'train: 121 of 900 in 121 s; u120: accuracy 12.0%, u119: accuracy 11.9%, '
    'u118: accuracy 11.8% and 58 more; runs/x: 122 of 1000'
  )
  (line,) = capsys.readouterr().out.splitlines()
  assert line == (
    'train: 900 made, 0 kept, 0 failed, 900.0 s, accuracy 0.0% to 89.9%'
  )


def test_a_minute_of_silence_comes_first(log, minutes):
  minutes.wait(1000)
  with progress.bar(3, 'verify', 'files') as bar:
    advance = progress.logged(bar, 'verify')
    for _ in range(3):
      minutes.wait(25)
      advance(1)
  assert [r.getMessage() for r in log.records] == ['verify: 3 of 3']


def test_short_work_without_a_terminal_is_a_line_a_stage(log, minutes, capsys):
  bars = progress.Bars(result='accuracy', clock=minutes.now)
  for stage in ('model', 'train'):
    bars.plan(stage, 3)
    for unit in 'abc':
      bars.begin(stage, unit)
      minutes.wait(10)
      bars.end(stage, unit, Outcome('made', measured={'accuracy': 0.5}))
  assert len(log.records) == 0
  assert capsys.readouterr().out.splitlines() == [
    'model: 3 made, 0 kept, 0 failed, 30.0 s, accuracy 50.0%',
    'train: 3 made, 0 kept, 0 failed, 30.0 s, accuracy 50.0%',
  ]


def test_a_stage_is_summed_up_in_a_line(capsys):
  now, shares = [100.0], {'step_seconds': 'training steps'}
  with progress.Bars(shares, clock=lambda: now[0]) as bars:
    for stage, units in (('rank', 4), ('train', 2), ('all kept', 1), ('no', 0)):
      bars.plan(stage, units)
    bars.end('all kept', 'k', Outcome('kept'))
    bars.end('rank', 'a', Outcome('kept'))
    now[0] += 50
    bars.begin('rank', 'b')
    bars.begin('rank', 'c')
    now[0] += 2.5
    bars.end('rank', 'c', Outcome('failed', 'c: no luck', seconds=2.5))
    assert capsys.readouterr().out == (
      'all kept: 0 made, 1 kept, 0 failed, 0.0 s\n'
    )
    bars.end('rank', 'd', Outcome('left'))
    now[0] += 9.8
    bars.end('rank', 'b', Outcome('made', seconds=12.3))
    measured = {'step_seconds': 3.2}
    # One that was told to begin, and one that ended too soon for that.
    bars.begin('train', 'e')
    bars.end('train', 'f', Outcome('made', seconds=5.0, measured=measured))
    now[0] += 5
    bars.end('train', 'e', Outcome('made', seconds=5.0, measured=measured))
  assert capsys.readouterr().out.splitlines() == [
    'rank: 1 made, 1 kept, 1 failed, 12.3 s',
    'train: 2 made, 0 kept, 0 failed, 5.0 s, 64% of it in training steps',
  ]


def test_what_units_print_elsewhere_is_said_once(capsys):
  bars = progress.Bars()
  bars.plan('rank', 3)
  for name, printed in (('a', 'x\ny\n'), ('b', 'y\nx\nz\n')):
    bars.end('rank', name, Outcome('made', printed=printed))
  assert capsys.readouterr().out == 'x\ny\nz\n'


def test_a_bar_appears_when_a_unit_begins(bench, monkeypatch, capsys):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', terminal)
  for name in 'abcd':
    bench.add(name)
  bench.make('a', 'b')
  with progress.Bars() as bars:
    bars.plan('never', 3)
    bench.make(observers=[bars])
  assert 'toy:  50%' in terminal.getvalue()
  assert 'toy: 100%' in terminal.getvalue() and '4/4' in terminal.getvalue()
  assert 'never' not in terminal.getvalue()
  assert capsys.readouterr().out.startswith('toy: 2 made, 2 kept, 0 failed, ')


def test_bars_are_closed_when_the_work_is_stopped(monkeypatch):
  closed = []
  monkeypatch.setattr(progress.tqdm.tqdm, 'close', lambda bar: closed.append(1))
  with progress.Bars() as bars:
    bars.plan('rank', 2)
    bars.begin('rank', 'a')
    assert not closed
  assert closed
