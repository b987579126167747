"""Tests of progress bars."""

import logging

from roar_tf.study import progress


def test_work_without_a_terminal_is_logged_now_and_then(monkeypatch, caplog):
  caplog.set_level(logging.INFO, 'roar_tf')
  monkeypatch.setattr(logging.getLogger('roar_tf'), 'propagate', True)
  monkeypatch.setattr(progress, 'LOG_EVERY', -1.0)
  with progress.bar(10, 'model', 'step', inner=True) as bar:
    assert bar.disable  # pytest has no terminal.
    advance = progress.logged(bar, 'model')
    advance(3)
    advance(4)
  assert [r.getMessage() for r in caplog.records] == [
    'model: 3 of 10',
    'model: 7 of 10',
  ]


def test_a_minute_of_silence_comes_first(monkeypatch, caplog):
  caplog.set_level(logging.INFO, 'roar_tf')
  monkeypatch.setattr(logging.getLogger('roar_tf'), 'propagate', True)
  with progress.bar(10, 'model', 'step') as bar:
    progress.logged(bar, 'model')(3)
  assert not caplog.records
