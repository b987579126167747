"""A training that is killed twenty times ends in the same bits."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = pathlib.Path(__file__).with_name('interrupted_program.py')


def _start(directory):
  environment = {**os.environ, 'PYTHONPATH': str(PROGRAM.parents[2])}
  return subprocess.Popen(
    [sys.executable, str(PROGRAM), str(directory)],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )


def _finished(directory):
  output, _ = _start(directory).communicate(timeout=300)
  return output.splitlines()[-1]


@pytest.mark.slow
def test_twenty_kills_change_no_bit_of_the_final_weights(tmp_path):
  expected = _finished(tmp_path / 'undisturbed')
  assert expected.startswith('finished 6000 ')
  dice = random.Random(0)
  reached = []
  for kill in range(20):
    process = _start(tmp_path / 'killed')
    line = process.stdout.readline().split()
    assert line[0] == 'training', f'kill {kill} came after the end'
    reached.append(int(line[1]))
    time.sleep(dice.uniform(0, 0.3))
    process.send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM]))
    process.stdout.read()
    assert process.wait(60) in (-signal.SIGKILL, 75)
  # The kills came at many places, and nearly all of them found a checkpoint.
  assert reached == sorted(reached) and len(set(reached)) > 10
  assert _finished(tmp_path / 'killed') == expected
