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


def test_work_without_a_terminal_is_logged_now_and_then(log, monkeypatch):
  monkeypatch.setattr(progress, 'LOG_EVERY', -1.0)
  with progress.bar(10, 'model', 'step', inner=True) as bar:
    assert bar.disable  # pytest has no terminal.
    advance = progress.logged(bar, 'model')
    advance(3)
    advance(4)
  with progress.bar(10, 'rank', 'step') as bar:
    monkeypatch.setattr(progress, 'LOG_EVERY', 60.0)
    progress.logged(bar, 'rank')(3)  # A minute of silence comes first.
  assert [r.getMessage() for r in log.records] == [
    *('model: 3 of 10', 'model: 7 of 10'),
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
