"""Tests of how units are shared out, tried and counted."""

import errno
import functools
import os
import threading

import pytest
import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.study import executor, heartbeat
from roar_tf.study.units import Target, Unit

PARALLEL = pytest.mark.parametrize('parallel', [1, 3])


class Bench:
  """Makes units that write one marker each and remembers who worked."""

  def __init__(self, root):
    self.root = root
    self.worked = []

  def done(self, name):
    return f'{self.root}/{name}/DONE'

  def is_done(self, name):
    return os.path.exists(self.done(name))

  def unit(self, name, *, error=None, inputs=(), shared=False, **settings):
    target = Target(
      self.done(name),
      'stage',
      1,
      settings,
      {i: self.done(i) for i in inputs},
    )

    def work(pending):
      self.worked.append(name)
      if error:
        raise error
      for one, fingerprint in pending:
        one.commit(fingerprint)

    return Unit(name, (target,), work, shared=shared)


@pytest.fixture
def bench(tmp_path):
  return Bench(tmp_path)


@PARALLEL
def test_finished_units_are_kept(bench, parallel):
  units = [bench.unit(f'u{n}') for n in range(6)]
  first = executor.execute('stage', units[:4], parallel=parallel)
  assert (first.made, first.kept, first.failures) == (4, 0, [])
  again = executor.execute('stage', units, parallel=parallel)
  assert (again.made, again.kept, again.failures) == (2, 4, [])
  assert sorted(bench.worked) == [f'u{n}' for n in range(6)]


@PARALLEL
@pytest.mark.parametrize(
  'error, words',
  [
    (errors.DataError('file x is damaged'), 'file x is damaged'),
    (errors.RoarError('the loss became nan'), 'the loss became nan'),
    (OSError(errno.ENOSPC, 'No space left on device'), 'the disk is full'),
    (
      tf.errors.ResourceExhaustedError(
        None, None, 'x; No space left on device'
      ),
      'the disk is full',
    ),
    (OSError(errno.EIO, 'Input/output error'), 'Input/output error'),
    (tf.errors.NotFoundError(None, None, 'no such file y'), 'no such file y'),
    # What an estimator or a model factory of the user may raise.
    (ValueError('shapes (3,) and (4,)'), 'shapes (3,) and (4,)'),
  ],
)
def test_a_failed_unit_is_named_and_the_rest_done(
  error, words, bench, parallel
):
  units = [bench.unit('a'), bench.unit('b', error=error), bench.unit('c')]
  tally = executor.execute('stage', units, parallel=parallel)
  assert tally.made == 2
  (failure,) = tally.failures
  assert failure.startswith('b: ')
  assert words in failure
  assert bench.is_done('a') and bench.is_done('c') and not bench.is_done('b')


@PARALLEL
def test_a_unit_without_its_inputs_is_named_with_them(bench, parallel):
  units = [bench.unit('a', inputs=['x']), bench.unit('b')]
  tally = executor.execute(
    'stage', units, worker=0, num_workers=1, parallel=parallel
  )
  assert (tally.made, len(tally.failures)) == (1, 1)
  assert tally.failures[0].startswith('a: ')
  assert bench.done('x') in tally.failures[0]
  assert bench.worked == ['b']


@PARALLEL
def test_other_settings_end_the_stage(bench, parallel):
  executor.execute('stage', [bench.unit('a', epochs=1)])
  with pytest.raises(errors.UsageError, match='epochs: 1 there, 2 asked for'):
    executor.execute(
      'stage', [bench.unit('a', epochs=2), bench.unit('b')], parallel=parallel
    )
  assert workspace.read_done(bench.done('a'))['fingerprint']['settings'] == {
    'epochs': 1
  }


@pytest.mark.parametrize('num_workers', [1, 2, 3, 7])
def test_every_unit_belongs_to_one_worker(num_workers, bench):
  units = [bench.unit(f'u{n}') for n in range(5)]
  tallies = [
    executor.execute('stage', units, worker=w, num_workers=num_workers)
    for w in range(num_workers)
  ]
  assert sorted(bench.worked) == [unit.name for unit in units]
  assert sum(t.made for t in tallies) == 5
  assert sum(t.kept for t in tallies) == 0
  assert max(t.made for t in tallies) - min(t.made for t in tallies) <= 1


@PARALLEL
def test_a_shared_unit_is_done_by_the_worker_that_finishes_last(
  bench, parallel
):
  units = [
    bench.unit('whole', inputs=['u0', 'u1', 'u2'], shared=True),
    *(bench.unit(f'u{n}') for n in range(3)),
  ]
  run = functools.partial(
    executor.execute, 'stage', units, num_workers=2, parallel=parallel
  )
  first = run(worker=1)
  assert (first.made, first.failures) == (1, [])
  assert not bench.is_done('whole')
  last = run(worker=0)
  assert (last.made, last.failures) == (3, [])
  assert bench.is_done('whole')
  assert run(worker=1).kept == 2


def test_a_lone_worker_names_a_shared_unit_that_it_cannot_do(bench):
  units = [
    bench.unit('a', error=errors.DataError('file x is damaged')),
    bench.unit('whole', inputs=['a'], shared=True),
  ]
  tally = executor.execute('stage', units)
  assert [f.split(':')[0] for f in tally.failures] == ['a', 'whole']


@PARALLEL
def test_stopping_leaves_finished_units_and_begins_no_other(bench, parallel):
  units = [bench.unit(f'u{n}') for n in range(20)]
  with pytest.raises(errors.PreemptedError, match='same command') as caught:
    executor.execute(
      'stage', units, stop=lambda: len(bench.worked) >= 4, parallel=parallel
    )
  assert caught.value.exit_status == 75
  assert 4 <= len(bench.worked) < 4 + parallel
  assert all(bench.is_done(name) for name in bench.worked)
  tally = executor.execute('stage', units)
  assert tally.kept + tally.made == 20 and tally.kept < 4 + parallel


def test_units_run_side_by_side_when_asked_to(bench):
  barrier = threading.Barrier(3, timeout=20)

  def unit(name):
    target = Target(bench.done(name), 'stage', 1, {})

    def work(pending):
      barrier.wait()  # Passes only when three are inside.
      target.commit(pending[0][1])

    return Unit(name, (target,), work)

  tally = executor.execute('stage', [unit(n) for n in 'abc'], parallel=3)
  assert (tally.made, tally.failures) == (3, [])


def test_counts_are_right_however_many_threads_count(bench):
  units = [bench.unit(f'u{n:03d}') for n in range(300)]
  tally = executor.execute('stage', units, parallel=16)
  assert (tally.made, tally.kept) == (300, 0)
  tally = executor.execute('stage', units, parallel=16)
  assert (tally.made, tally.kept) == (0, 300)


def test_a_unit_makes_only_its_unfinished_targets(bench):
  made = []
  targets = [Target(bench.done(n), 'stage', 1, {'n': n}) for n in 'abc']

  def work(pending):
    for target, fingerprint in pending:
      made.append(target.settings['n'])
      target.commit(fingerprint)

  executor.execute('stage', [Unit('u', (targets[1],), work)])
  executor.execute('stage', [Unit('u', tuple(targets), work)])
  assert made == ['b', 'a', 'c']


def test_what_is_derived_is_made_anew_when_its_inputs_change(bench):
  def target(**settings):
    return Target(
      bench.done('r'), 'report', 1, settings, {'a': bench.done('a')}, True
    )

  def unit(**settings):
    one = target(**settings)
    return Unit('r', (one,), lambda pending: one.commit(pending[0][1]))

  executor.execute('stage', [bench.unit('a', epochs=1)])
  assert executor.execute('stage', [unit(runs=1)]).made == 1
  assert executor.execute('stage', [unit(runs=1)]).kept == 1
  assert executor.execute('stage', [unit(runs=2)]).made == 1
  os.remove(bench.done('a'))
  executor.execute('stage', [bench.unit('a', epochs=2)])
  assert executor.execute('stage', [unit(runs=2)]).made == 1


@PARALLEL
def test_a_heartbeat_is_told_of_every_unit(bench, tmp_path, parallel):
  executor.execute('rank', [bench.unit('kept')])
  units = [
    bench.unit('a'),
    bench.unit('kept'),
    bench.unit('b', error=errors.DataError('file x is damaged')),
    bench.unit('c', inputs=['y']),
    bench.unit('whole', inputs=['b'], shared=True),
  ]
  place = workspace.Workspace(str(tmp_path / 'w'))
  with heartbeat.Heartbeat(place, 'mine') as beat:
    # Two workers: what is left to the other is no failure.
    for worker in (0, 1):
      tally = executor.execute(
        'rank',
        units,
        worker=worker,
        num_workers=2,
        parallel=parallel,
        heartbeat=beat,
      )
  assert len(tally.failures) == 1
  (path,) = place.heartbeats('mine')
  record = heartbeat.parse(workspace.read_bytes(path))
  counts = record.stages['rank']
  assert (counts.made, counts.kept, counts.failed) == (1, 1, 2)
  assert {(f.unit, f.missing) for f in record.failures} == {
    ('b', False),
    ('c', True),
  }
  assert record.failures[0].text == 'b: file x is damaged'


def test_a_unit_at_work_is_current(bench, tmp_path):
  place = workspace.Workspace(str(tmp_path / 'w'))
  seen = []
  with heartbeat.Heartbeat(place, 'mine') as beat:

    def work(pending):
      seen.append(heartbeat.parse(beat._content()).current)
      pending[0][0].commit(pending[0][1])

    unit = Unit('u', (Target(bench.done('u'), 'train', 1, {}),), work)
    executor.execute('train', [unit], heartbeat=beat)
    assert not heartbeat.parse(beat._content()).current
  (((stage, name, _),),) = seen
  assert (stage, name) == ('train', 'u')


@pytest.mark.parametrize(
  'error, again',
  [
    (OSError(errno.EIO, 'Input/output error'), True),
    (FileNotFoundError(errno.ENOENT, 'not seen yet'), True),
    (tf.errors.UnavailableError(None, None, 'the store is busy'), True),
    (OSError(errno.ENOSPC, 'No space left on device'), False),
    (PermissionError(errno.EACCES, 'Permission denied'), False),
    (tf.errors.InvalidArgumentError(None, None, 'shapes'), False),
    (errors.DataError('file x is damaged'), False),
    (ValueError('shapes (3,) and (4,)'), False),
  ],
)
def test_only_what_may_pass_is_worth_another_try(error, again, bench):
  outcome = executor.attempt(bench.unit('a', error=error))
  assert (outcome.kind, outcome.again) == ('failed', again)


def test_inputs_that_are_missing_may_come():
  # ... later, from another machine.
  unit = Bench('/no/where').unit('a', inputs=['x'])
  assert executor.attempt(unit).again
