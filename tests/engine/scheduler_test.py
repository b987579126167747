"""Tests of how units are shared out, tried, stopped and counted."""

import threading

import pytest

from roar_tf import engine, errors
from roar_tf.engine import scheduler

PARALLEL = pytest.mark.parametrize('pool', [1, 3], indirect=True)


@pytest.fixture
def pool(request):
  return engine.ThreadPool(getattr(request, 'param', 1))


def _many(bench, count, **more):
  for number in range(count):
    bench.add(f'u{number}', **more)


@PARALLEL
def test_finished_units_are_kept(bench, pool):
  _many(bench, 6)
  assert bench.make('u0', 'u1', 'u2', 'u3', pool=pool).counts() == {'made': 4}
  log = bench.make(pool=pool)
  assert log.counts() == {'made': 2, 'kept': 4}
  assert log.plans == {'toy': 6} and log.used == {1}
  assert sorted(log.begun) == ['u4', 'u5']
  assert sorted(bench.worked) == [f'u{n}' for n in range(6)]


@PARALLEL
def test_a_failed_unit_is_named_and_the_rest_done(bench, pool):
  for name in 'ab':
    bench.add(name)
    bench.add(f'of {name}', inputs=[name])
  bench.add('of both', inputs=['a', 'b'])
  bench.add('all', inputs=['of a', 'of b', 'of both'])
  bench.errors['b'] = errors.DataError('file x is damaged')
  log = bench.make(pool=pool)
  assert log.counts() == {'made': 2, 'failed': 1, 'missing': 3}
  assert bench.there() == {'a', 'of a'}
  first, *lines = log.error.splitlines()
  assert first.startswith('4 of the units failed, the rest is done')
  assert '  b: file x is damaged' in lines
  assert '  of b: not begun, since b is not finished.' in lines


def test_what_can_never_be_made_is_refused_before_what_it_waits_for(bench):
  bench.add('a')
  bench.add('b', stage='late', inputs=['a'])

  def refuse():
    raise errors.UsageError('b can never be made')

  bench.stage('late').check = refuse
  with pytest.raises(errors.UsageError, match='b can never be made'):
    bench.make()
  assert bench.make('a').counts() == {'made': 1}
  assert bench.worked == ['a']
  bench.make()  # Now it waits for nothing, and would refuse itself.
  assert bench.worked == ['a', 'b']


def test_a_failing_unit_keeps_what_it_yielded(bench):
  class Together(engine.Stage):
    name = 'together'

    def units(self, artefacts):
      return [engine.Unit('all of it', tuple(artefacts), self.run)]

    def run(self, artefacts):
      for artefact in artefacts:
        yield bench.write(artefact)

  stage = Together()
  for name in 'abc':
    bench.add(name, stage)
    bench.add(f'of {name}', inputs=[name])
  bench.errors['b'] = ValueError('no luck')
  log = bench.make()
  assert bench.there() == {'a', 'of a'}
  assert log.states == {
    **{'all of it': 'failed', 'of a': 'made'},
    **{'of b': 'missing', 'of c': 'missing'},
  }
  assert 'all of it: ValueError: no luck' in log.error
  bench.errors.clear()
  bench.worked.clear()
  bench.make()
  assert bench.there() == set(bench.artefacts)
  assert sorted(bench.worked) == ['b', 'c', 'of b', 'of c']


def test_a_unit_begins_when_its_inputs_are_there(bench):
  """What others of its stages still do is not waited for."""
  bench.add('slow')
  bench.add('fast')
  bench.add('of fast', 'next', inputs=['fast'])
  ended = threading.Event()
  write = bench.write

  def wait(artefact):
    if bench.name_of(artefact) == 'slow':
      assert ended.wait(20)
    made = write(artefact)
    if bench.name_of(artefact) == 'of fast':
      ended.set()
    return made

  bench.write = wait
  assert bench.make(pool=engine.ThreadPool(2)).counts() == {'made': 3}


def test_what_comes_first_is_begun_first(bench):
  _many(bench, 12)
  for number in range(3):
    bench.add(f'of {number}', 'next', inputs=[f'u{number}'])
  log = bench.make()
  assert log.begun == [*(f'u{n}' for n in range(12)), 'of 0', 'of 1', 'of 2']


# --- workers ------------------------------------------------------------------


@pytest.mark.parametrize('workers', [1, 2, 3, 7])
def test_every_unit_belongs_to_one_worker(workers, bench):
  _many(bench, 5)
  logs = [
    bench.make(share=engine.Share(worker, workers)) for worker in range(workers)
  ]
  assert sorted(bench.worked) == [f'u{n}' for n in range(5)]
  counts = [log.counts().get('made', 0) for log in logs]
  assert max(counts) - min(counts) <= 1
  # Each hears of its own units only.
  assert [log.plans['toy'] for log in logs] == counts


@PARALLEL
def test_what_is_light_is_left_to_whoever_finishes_last(bench, pool):
  _many(bench, 3)
  bench.add('whole', 'wholes', ['u0', 'u1', 'u2'], light=True)
  bench.add('cover', 'covers', ['whole'], light=True)
  one, other = (engine.Share(worker, 2) for worker in range(2))
  log = bench.make(pool=pool, share=other)
  assert not log.error and log.counts() == {'made': 1, 'left': 2}
  log = bench.make(pool=pool, share=one)
  assert not log.error and log.counts() == {'made': 4}
  log = bench.make(pool=pool, share=other)
  assert log.counts() == {'kept': 3} and log.plans['wholes'] == 1


def test_what_another_worker_made_meanwhile_is_seen(bench):
  _many(bench, 2)
  bench.add('whole', 'wholes', ['u0', 'u1'], light=True)
  bench.add('next', 'next', ['whole'])
  write = bench.write

  def beside(artefact):
    bench.write = write
    bench.make('u1', share=engine.Share(0, 1))
    return write(artefact)

  bench.write = beside
  log = bench.make(share=engine.Share(0, 2))
  assert log.states == {'u0': 'made', 'whole': 'made', 'next': 'made'}


def test_a_worker_names_what_it_cannot_make_without_the_others(bench):
  _many(bench, 2)
  bench.add('of u1', 'next', inputs=['u1'])
  bench.add('sum', 'sum', soft=['u0', 'of u1'], light=True)
  log = bench.make(share=engine.Share(0, 2))
  # A report is made of what is there, once nothing else can be done.
  assert log.states == {'u0': 'made', 'of u1': 'missing', 'sum': 'made'}
  assert f'of u1: {bench.marker("u1")} is not there yet' in log.error
  log = bench.make(share=engine.Share(1, 2))
  assert log.states == {'u1': 'made', 'sum': 'kept'}
  log = bench.make(share=engine.Share(0, 2))
  assert log.states == {'u0': 'kept', 'of u1': 'made', 'sum': 'made'}


# --- stop and resume ----------------------------------------------------------


@PARALLEL
def test_stopping_leaves_finished_units_and_begins_no_other(bench, pool):
  _many(bench, 20)
  with pytest.raises(errors.PreemptedError, match='same command') as caught:
    bench.make(pool=pool, stop=lambda: len(bench.worked) >= 4)
  assert caught.value.exit_status == 75
  assert 4 <= len(bench.worked) < 4 + 3
  assert bench.there() == set(bench.worked)
  kept = len(bench.worked)
  assert bench.make().counts() == {'made': 20 - kept, 'kept': kept}


@PARALLEL
@pytest.mark.parametrize(
  'error', [errors.PreemptedError('saved.'), errors.UsageError('not so.')]
)
def test_a_unit_may_end_all(error, bench, pool):
  _many(bench, 40)
  bench.errors['u3'] = error
  with pytest.raises(type(error), match=str(error)):
    bench.make(pool=pool)
  assert len(bench.worked) < 20
  assert bench.there() == set(bench.worked) - {'u3'}


def test_a_unit_that_a_pool_has_not_begun_is_stopped_without_failure(bench):
  _many(bench, 2)

  class Slow(engine.ThreadPool):
    """Has room for units that its only thread has not begun."""

    def has_room(self, stage, running):
      return True

  begun, go_on = threading.Event(), threading.Event()
  write = bench.write

  def wait(artefact):
    begun.set()
    assert go_on.wait(20)
    return write(artefact)

  bench.write = wait
  pool = Slow()
  pool.cancel = lambda handle: (
    engine.ThreadPool.cancel(pool, handle),
    go_on.set(),
  )
  with pytest.raises(errors.PreemptedError, match='same command'):
    bench.make(pool=pool, stop=begun.is_set)
  assert bench.there() == {'u0'}


# --- retries ------------------------------------------------------------------


def test_what_may_pass_is_tried_again(bench, monkeypatch):
  monkeypatch.setattr(scheduler, 'PAUSES', (0.01, 0.02))
  for name in 'abc':
    bench.add(name)
  bench.add('of a', inputs=['a'])
  bench.errors['a'] = OSError(5, 'Input/output error')
  bench.errors['b'] = OSError(5, 'Input/output error')
  bench.errors['c'] = ValueError('no luck')
  write = bench.write

  def mending(artefact):
    if bench.worked.count('a') == 3:
      bench.errors.pop('a', None)
    return write(artefact)

  bench.write = mending
  pool = engine.ThreadPool()
  pool.retries = 3
  log = bench.make(pool=pool)
  assert {n: bench.worked.count(n) for n in 'abc'} == {'a': 4, 'b': 4, 'c': 1}
  assert log.states == {
    **{'a': 'made', 'of a': 'made', 'b': 'failed', 'c': 'failed'}
  }


def test_many_units_that_wait_take_no_time(bench):
  """A pool is asked for room once a unit, not once a unit that waits."""
  _many(bench, 300)
  pool, asked = engine.ThreadPool(), []
  has_room = pool.has_room
  pool.has_room = lambda *a: asked.append(1) or has_room(*a)
  assert bench.make(pool=pool).counts() == {'made': 300}
  assert len(asked) < 4 * 300
