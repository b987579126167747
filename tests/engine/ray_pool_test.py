"""Tests of toy units on a real Ray cluster of one node, on this machine."""

import os
import pathlib
import time

import pytest

# Before Ray is imported: it listens on the loopback device, and tells nobody.
os.environ.setdefault('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
ray = pytest.importorskip('ray')

import toy_program  # noqa: E402

from roar_tf import engine, errors  # noqa: E402
from roar_tf.engine import (  # noqa: E402
  ray_connection,
  ray_pool,
  scheduler,
)

HERE = pathlib.Path(__file__).resolve().parent
RESOURCES = {'small': {'CPU': 1.0}, 'large': {'CPU': 1.0, 'chip': 1.0}}


@pytest.fixture(scope='module')
def pool(tmp_path_factory):
  """The pool of a new cluster: a node of two cores and one `chip`."""
  folder = str(tmp_path_factory.mktemp('toys'))
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', f'{HERE.parents[1]}:{HERE}')
    patch.setenv('RAY_OVERRIDE_RESOURCES', '{"chip": 1}')
    patch.setattr(scheduler, 'PAUSES', (0.1,))
    with ray_connection.connected(
      toy_program.rebuild, folder, RESOURCES, address='local', cores=2
    ) as connected:
      yield connected


class Ears:
  """An observer that remembers all that it is told."""

  def __init__(self):
    self.begun, self.outcomes, self.devices = [], {}, None

  def plan(self, stage, units):
    pass

  def uses(self, devices):
    self.devices = devices

  def begin(self, stage, unit):
    assert unit not in self.outcomes
    self.begun.append((stage, unit))

  def end(self, stage, unit, outcome):
    self.outcomes[unit] = outcome


@pytest.fixture
def program(pool):
  """The program that the workers rebuild, in this process."""
  return toy_program.Program(pool._program[1])


@pytest.fixture
def make(pool, program):
  """Function that makes units by name; returns an observer's memories."""

  def run(*names, retries=3, ears=None, stop=lambda: False):
    pool.retries = retries
    ears = ears or Ears()
    goals = [program.artefact(name) for name in names]
    snapshot = engine.Snapshot(str(program.folder))
    engine.make(goals, snapshot, lambda: pool, observers=[ears], stop=stop)
    return ears

  return run


def test_tasks_write_the_bytes_of_threads(make, program, tmp_path):
  ears = make('both')
  here = toy_program.Program(tmp_path)
  engine.make(
    [here.artefact('both')],
    engine.Snapshot(str(tmp_path)),
    lambda: engine.ThreadPool(facts=here.facts),
  )
  names = sorted(path.name for path in tmp_path.iterdir())
  assert len(names) == 6
  for name in names:
    there = (program.folder / name).read_bytes()
    assert there == (tmp_path / name).read_bytes()
  outcome = ears.outcomes['both']
  assert (outcome.state, outcome.node) == ('made', '127.0.0.1')
  assert outcome.measured == {'letters': len('bothfirstsecond')}
  assert ears.devices == 1  # The chip.
  # What ends at once may be heard of too late to be said to begin.
  assert set(ears.begun) <= {('small', n) for n in ('first', 'second', 'both')}
  assert make('both').outcomes == {
    name: engine.Outcome('kept') for name in ears.outcomes
  }


def test_what_may_pass_is_tried_again(make, program):
  assert make('reader').outcomes['flaky'].state == 'made'
  assert len(program.pids('flaky')) == 3
  assert (program.folder / 'reader').read_text() == 'readerflaky'


def test_a_unit_whose_process_dies_begins_again_but_not_for_ever(make, program):
  ears = Ears()
  message = r'1 of the units failed.*\n.*deadly: its process or node died too'
  with pytest.raises(errors.UnitsFailedError, match=message):
    make('mortal', 'deadly', retries=1, ears=ears)
  assert ears.outcomes['mortal'].state == 'made'
  assert len(set(program.pids('mortal'))) == 2
  assert len(set(program.pids('deadly'))) == 2


def test_a_unit_that_somebody_else_stops_is_tried_again(make, program):
  assert make('interrupted').outcomes['interrupted'].state == 'made'
  assert (program.folder / 'interrupted.saved').exists()
  assert len(program.pids('interrupted')) == 2


def test_a_stop_has_units_save_and_begins_nothing_more(make, program):
  ears = Ears()

  def stop():
    begun = program.pids('endless')
    return len(begun) >= 2 and len(ears.begun) >= 2

  names = ['endless', *(f'endless_{i}' for i in range(3))]
  with pytest.raises(errors.PreemptedError, match='same command'):
    make(*names, ears=ears, stop=stop)
  assert (program.folder / 'endless.saved').exists()
  # The two that wait for a core were not begun, and none is a failure.
  assert len(program.pids('endless')) == 2
  assert ears.begun == [('small', 'endless'), ('small', 'endless_0')]
  assert ears.outcomes == {}


def test_a_refusal_ends_the_work(make, program):
  (program.folder / 'endless.log').unlink(missing_ok=True)
  (program.folder / 'endless.saved').unlink(missing_ok=True)
  message = r'^this cannot be \(on node 127\.0\.0\.1\)\.$'
  with pytest.raises(errors.UsageError, match=message):
    make('after_wrong', 'endless')
  assert (program.folder / 'endless.saved').exists()


def test_devices_are_freed_by_the_end_of_a_process(make, program):
  make('talkative_1', 'chip_1', 'light', 'chip_2')
  chips = program.pids('chip')
  assert len(set(chips)) == 2
  # What is light takes no device, and so needs no process of its own.
  assert not {*program.pids('talkative'), *program.pids('light')} & {*chips}
  end = time.monotonic() + 30
  while any(map(_is_alive, chips)):
    assert time.monotonic() < end
    time.sleep(0.1)


def _is_alive(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


def test_what_units_print_comes_back(make):
  for outcome in make('talkative_2', 'talkative_3').outcomes.values():
    # A process says it once that it has rebuilt the program.
    assert outcome.printed.removeprefix('rebuilt\n') == 'a warning\n'


def test_a_unit_that_a_node_does_not_know_is_refused(pool, program):
  unit = engine.Unit('unknown', (program.artefact('first'),), run=list)
  handle = pool.submit(unit)
  assert pool.wait([handle], 60) == [handle]
  message = 'knows no unit that makes .*first.DONE: install the same.*on node'
  with pytest.raises(errors.UsageError, match=message):
    pool.outcome(handle)


@pytest.mark.parametrize(
  'rebuild, message',
  [
    (toy_program.refuse, r'^no workspace \(on node 127\.0\.0\.1\)\.$'),
    (
      toy_program.break_down,
      r'^a Ray worker cannot run .*\(.*no workspace\): install the same',
    ),
  ],
)
def test_a_node_that_cannot_rebuild_the_program_refuses(
  pool, program, rebuild, message
):
  other = ray_pool.RayPool(rebuild, 'no workspace', RESOURCES)
  other._board = pool._board
  (unit,) = program.artefact('first').stage.units([program.artefact('first')])
  handle = other.submit(unit)
  assert other.wait([handle], 60) == [handle]
  with pytest.raises(errors.UsageError, match=message):
    other.outcome(handle)


def test_ray_knows_of_a_thousand_units_of_a_stage(pool):
  assert pool.has_room('small', {'small': 999, 'large': 1000})
  assert not pool.has_room('large', {'small': 999, 'large': 1000})
