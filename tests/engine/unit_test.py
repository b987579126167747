"""Tests of one unit: what it makes, commits and says of a failure."""

import dataclasses
import errno

import pytest

from roar_tf import engine, errors
from roar_tf.engine import markers, unit


def _unit(bench, *names):
  artefacts = tuple(bench.artefacts[name] for name in names)
  return engine.Unit('toys', artefacts, bench.stage('toy').run)


def test_only_what_is_unfinished_is_made(bench):
  for name in 'abc':
    bench.add(name)
  assert unit.attempt(_unit(bench, 'b')).state == 'made'
  assert unit.attempt(_unit(bench, *'abc')).state == 'made'
  assert bench.worked == ['b', 'a', 'c']
  assert unit.attempt(_unit(bench, *'abc')).state == 'kept'
  only = _unit(bench, *'abc').only([bench.marker('c'), bench.marker('x')])
  assert [bench.name_of(artefact) for artefact in only.makes] == ['c']


def test_each_artefact_is_committed_when_it_is_yielded(bench):
  for name in 'ab':
    bench.add(name)
  there = []

  def run(artefacts):
    for artefact in artefacts:
      yield bench.write(artefact)
      there.append(bench.there())

  makes = tuple(bench.artefacts.values())
  unit.attempt(engine.Unit('toys', makes, run))
  assert there == [{'a'}, {'a', 'b'}]
  bench.delete('a', 'b')
  outcome = unit.attempt(engine.Unit('toys', makes, run), commits=False)
  assert outcome.state == 'made' and not bench.there()


@pytest.mark.parametrize(
  'error, words, passing',
  [
    (errors.DataError('file x is damaged'), 'file x is damaged', False),
    (errors.RoarError('the loss became nan'), 'the loss became nan', False),
    (OSError(errno.ENOSPC, 'No space left'), 'the disk is full', False),
    (OSError(errno.EDQUOT, 'quota', '/w/x'), 'no room for /w/x', False),
    (PermissionError(errno.EACCES, 'Not permitted'), 'Not permitted', False),
    (OSError(errno.EIO, 'Input/output error'), 'Input/output error', True),
    (FileNotFoundError(errno.ENOENT, 'not yet'), 'not yet', True),
    (OSError(), 'OSError', True),
    # What the code of a user may raise.
    (ValueError('shapes (3,) and (4,)'), 'ValueError: shapes', False),
    (KeyError(), 'KeyError: ', False),
  ],
)
def test_a_failure_is_told_in_a_sentence(error, words, passing, bench):
  bench.add('a')
  bench.errors['a'] = error
  outcome = unit.attempt(_unit(bench, 'a'))
  assert (outcome.state, outcome.passing) == ('failed', passing)
  assert outcome.failure.startswith('toys: ') and words in outcome.failure
  assert len(outcome.failure.splitlines()) == 1


def test_parts_that_failed_have_a_line_each(bench):
  bench.add('a')
  bench.errors['a'] = errors.PartsFailedError('one: no luck\ntwo: no luck')
  failure = unit.attempt(_unit(bench, 'a')).failure
  assert failure == 'toys: one: no luck\n  toys: two: no luck'


def test_missing_inputs_may_come(bench):
  bench.add('x')
  bench.add('a', inputs=['x'])
  outcome = unit.attempt(_unit(bench, 'a'))
  assert (outcome.state, outcome.passing) == ('missing', True)
  assert f'{bench.marker("x")} is not there yet' in outcome.failure


def test_what_a_unit_forgets_has_failed(bench):
  for name in 'ab':
    bench.add(name)
  makes = tuple(bench.artefacts.values())
  forgets = engine.Unit('toys', makes, lambda todo: [bench.write(todo[0])])
  outcome = unit.attempt(forgets)
  assert outcome.state == 'failed'
  assert outcome.failure == f'toys: it ended without {bench.marker("b")}.'
  assert bench.there() == {'a'}


def test_measured_numbers_are_added_up_and_in_no_marker(bench):
  for name in 'ab':
    bench.add(name)

  def run(artefacts):
    for artefact in artefacts:
      yield engine.Made(artefact, {'files': {}}, {'steps': 2.5})

  outcome = unit.attempt(engine.Unit('u', tuple(bench.artefacts.values()), run))
  assert outcome.measured == {'steps': 5.0}
  assert 'steps' not in engine.files.read(bench.marker('a')).decode()


# --- discovered settings ------------------------------------------------------


@pytest.mark.parametrize('number', [1, 2])
def test_settings_that_the_work_discovers_are_recorded(number, bench):
  class Discovers(engine.Stage):
    """Finds out that even numbers depend on the draws of this machine."""

    name = 'discovers'

    def run(self, artefacts):
      for artefact in artefacts:
        if artefact.settings['number'] % 2 == 0:
          settings = {**artefact.settings, 'draws': 5}
          artefact = dataclasses.replace(artefact, settings=settings)
        yield bench.write(artefact)

  stage = Discovers()
  bench.add('a', stage, number=number, discovered=('draws',))
  bench.add('b', inputs=['a'])
  assert bench.make('b').counts() == {'made': 2}
  settings = markers.read(bench.marker('a'))['fingerprint']['settings']
  assert ('draws' in settings) == (number == 2)
  assert bench.make('b').counts() == {'kept': 2}
  bench.add('a', stage, number=7, discovered=('draws',))
  with pytest.raises(errors.UsageError, match=f'number: {number} there') as e:
    bench.make('a')
  assert 'draws' not in str(e.value)
