"""Tests of what goals need, and of what waits for what."""

import os

import pytest

from roar_tf import engine, errors


@pytest.fixture
def study(bench):
  """Two wholes of two parts each, which are caches, a reader of each, a sum."""
  bench.add('origin', 'first')
  for name in 'ab':
    parts = [f'{name}/{n}' for n in range(2)]
    for part in parts:
      bench.add(part, 'cache', ['origin'], intermediate=True)
    bench.add(name, 'cache', ['origin'], parts, intermediate=True)
    bench.add(f'read_{name}', 'read', [name, 'origin'])
  bench.add('sum', 'sum', soft=['read_a', 'read_b'])
  return bench


GOALS = ('read_a', 'read_b', 'sum')


def test_goals_are_made_with_all_they_need(study):
  log = study.make(*GOALS)
  assert study.there() == set(study.artefacts)
  assert log.counts() == {'made': 10}
  assert study.graph(*GOALS).stages == ['first', 'cache', 'read', 'sum']
  assert not study.pending(*GOALS)
  before = study.contents()
  assert study.make(*GOALS).counts() == {'kept': 10}
  assert study.contents() == before


def test_intermediates_are_made_for_unfinished_readers_only(study):
  study.make(*GOALS)
  before = study.contents()
  study.delete('a', 'b')
  assert not study.pending(*GOALS)
  assert {node.unit.name for node in study.graph(*GOALS).nodes} == {
    *('origin', 'read_a', 'read_b', 'sum')
  }
  study.delete('read_b')
  assert study.pending(*GOALS) == ['b', 'b/0', 'b/1', 'read_b', 'sum']
  study.make(*GOALS)
  assert 'a' not in study.there()
  study.make('a')  # An intermediate that somebody asks for.
  assert study.contents() == before


@pytest.mark.parametrize('read_first', [True, False])
def test_parts_of_a_whole_are_made_again_when_somebody_reads_it(
  read_first, study
):
  study.make()
  before = study.contents()
  study.add('other', 'read', ['b'])
  study.delete('b/1', 'a/0')
  assert not study.pending(*GOALS)  # Finished readers ask for no cache.
  goals = [*GOALS, 'other'] if read_first else ['other', *GOALS]
  assert study.pending(*goals) == ['b', 'b/1', 'other']
  log = study.make(*goals)
  assert (log.states['b/1'], log.states['b']) == ('made', 'kept')
  study.delete('other')
  study.make('a')
  assert study.contents() == before


def test_parts_of_what_is_no_cache_are_always_made_again(bench):
  parts = [f'a/{n}' for n in range(3)]
  for part in parts:
    bench.add(part)
  bench.add('a', parts=parts)
  bench.make('a')
  before = bench.contents()
  bench.delete('a/1')
  assert bench.pending('a') == ['a', 'a/1']
  assert bench.make('a').states == {
    **{'a/0': 'kept', 'a/1': 'made', 'a/2': 'kept', 'a': 'kept'}
  }
  assert bench.contents() == before


def test_inputs_of_finished_goals_are_made_again(bench):
  bench.add('a')
  bench.add('b', inputs=['a'])
  bench.make('b')
  before = bench.contents()
  bench.delete('a')
  assert bench.pending('b') == ['a', 'b']
  # For whoever only asks what is there, the reader is finished.
  assert bench.pending('b', checks=False) == ['a']
  assert bench.make('b').states == {'a': 'made', 'b': 'kept'}
  assert bench.contents() == before


def test_what_others_make_must_be_there(study):
  assert study.pending('read_a', within={'read'}) == ['read_a']
  log = study.make('read_a', within={'read'})
  assert log.counts() == {'missing': 1}
  assert 'is not there yet' in log.error
  study.make('a')
  assert study.make('read_a', within={'read'}).counts() == {'made': 1}


# --- soft inputs --------------------------------------------------------------


@pytest.mark.parametrize('checks', [True, False])
@pytest.mark.parametrize('goals', [GOALS, GOALS[::-1]])
def test_a_report_is_made_anew_when_more_is_there(goals, checks, study):
  study.make('read_a', 'sum')
  pending = study.pending(*goals, checks=checks)
  assert pending == ['b', 'b/0', 'b/1', 'read_b', 'sum']
  assert not study.pending('read_a', 'sum', checks=checks)
  assert study.make(*goals).states['sum'] == 'made'
  assert not study.pending(*goals, checks=checks)
  # What was made again is the same.
  study.delete('read_a')
  assert study.pending('sum', checks=checks) == ([] if not checks else ['sum'])
  assert study.make(*goals).states['sum'] == 'kept'


def test_a_report_is_made_although_an_input_failed(study):
  study.errors['b/1'] = ValueError('no luck')
  log = study.make(*GOALS)
  assert log.states['sum'] == 'made'
  assert (log.states['b/1'], log.states['b']) == ('failed', 'missing')
  assert log.states['read_b'] == 'missing'
  assert 'read_b' in log.error and 'b is not finished' not in log.error
  assert not study.pending('sum')
  study.errors.clear()
  assert study.make(*GOALS).states['sum'] == 'made'


def test_a_report_of_other_settings_or_damaged_is_made_anew(bench):
  bench.add('a')
  bench.add('sum', 'sum', soft=['a'], price=1)
  bench.make()
  assert not bench.pending()
  bench.add('sum', 'sum', soft=['a'], price=2)
  assert bench.pending() == ['sum']
  assert bench.make().states == {'a': 'kept', 'sum': 'made'}
  with open(bench.marker('sum'), 'w') as file:
    file.write('{')
  # Whoever looks is told that it is unfinished, whoever works is told why.
  assert bench.pending(checks=False) == ['sum']
  with pytest.raises(errors.DataError, match=bench.marker('sum')):
    bench.graph()


def test_a_damaged_soft_input_is_another_input(bench):
  bench.add('a')
  bench.add('sum', 'sum', soft=['a'])
  bench.make()
  with open(bench.marker('a'), 'w') as file:
    file.write('{')
  assert bench.make('sum').states == {'sum': 'made'}
  assert bench.make('sum').states == {'sum': 'kept'}


def test_a_report_names_a_required_input_that_is_not_there(bench):
  bench.add('base', 'first')
  bench.add('a')
  bench.add('sum', 'sum', ['base'], soft=['a'])
  bench.make()
  bench.delete('base')
  log = bench.make('sum', within={'sum'})
  assert log.states == {'sum': 'missing'}
  assert bench.marker('base') in log.error


def test_what_varies_is_made_anew_of_other_inputs_and_of_them_alone(bench):
  for name in 'abc':
    bench.add(name)
  bench.add('look', 'look', ['a', 'b'], varies=True, price=1)
  bench.make()
  assert not bench.pending()
  for inputs in (['a', 'b', 'c'], ['c']):
    bench.add('look', 'look', inputs, varies=True, price=1)
    assert bench.pending() == bench.pending(checks=False) == ['look']
    assert bench.make().states['look'] == 'made'
    assert bench.make().states['look'] == 'kept'
  bench.add('look', 'look', ['a', 'c'], varies=True, price=2)
  with pytest.raises(errors.UsageError, match='price: 1 there, 2 asked for'):
    bench.make()
  # What it keeps must be what it was.
  bench.delete('c')
  bench.salt = 'another c'
  bench.make('c')
  bench.add('look', 'look', ['a', 'c'], varies=True, price=1)
  with pytest.raises(errors.UsageError, match='its input c has changed'):
    bench.make()


# --- refusals -----------------------------------------------------------------


def test_other_settings_are_refused_before_anything_is_made(study):
  study.add('origin', 'first', words=1)
  study.make('origin')
  study.add('origin', 'first', words=2)
  before = study.contents()
  study.add('new', 'a_new_stage')
  study.add('a', 'cache', ['origin'])
  with pytest.raises(errors.UsageError, match='words: 1 there, 2 asked for'):
    study.make('new', 'a')
  assert study.contents() == before and study.worked == ['origin']


def test_other_inputs_are_refused(bench):
  bench.add('a', words=1)
  bench.add('b', inputs=['a'])
  bench.make('b')
  bench.delete('a')
  bench.add('a', words=2)
  bench.add('b', inputs=['a'])
  bench.graph('b', checks=False)
  # Deleted to save space, it cannot be compared before it is made again.
  with pytest.raises(errors.UsageError, match='its input a has changed'):
    bench.make('b')
  bench.worked.clear()
  with pytest.raises(errors.UsageError, match='its input a has changed'):
    bench.make('b')
  assert not bench.worked
  # An input more than before is one, too.
  bench.add('c')
  bench.add('d')
  bench.make('c', 'd')
  bench.add('d', inputs=['c'])
  with pytest.raises(errors.UsageError, match='its input c has changed'):
    bench.make('d')


def test_another_version_or_stage_is_refused(bench):
  bench.add('a', 'one')
  bench.make()
  bench.add('a', 'two')
  with pytest.raises(errors.UsageError, match='of stage one.*of stage two'):
    bench.graph()
  bench.add('a', 'one').stage.version = 7
  with pytest.raises(errors.UsageError, match='version 1 of stage one.* 7'):
    bench.graph()


def test_a_damaged_marker_is_named(study):
  study.make(*GOALS)
  with open(study.marker('origin'), 'w') as file:
    file.write('{}')
  with pytest.raises(errors.DataError, match=study.marker('origin')):
    study.graph(*GOALS)
  assert not study.pending(*GOALS, checks=False)


# --- who waits for what -------------------------------------------------------


def _names(graph, indices):
  return [graph.nodes[index].unit.name for index in indices]


def _index(graph, name):
  return [node.unit.name for node in graph.nodes].index(name)


def test_units_wait_for_what_they_read_and_nothing_else(study):
  graph = study.graph(*GOALS)
  assert _names(graph, graph.ready()) == ['origin']
  assert _names(graph, graph.settle([study.marker('origin')])[0]) == [
    *('a/0', 'a/1', 'b/0', 'b/1')
  ]
  assert graph.settle([study.marker('a/1')]) == ([], [])
  assert _names(graph, graph.settle([study.marker('a/0')])[0]) == ['a']
  assert _names(graph, graph.settle([study.marker('a')])[0]) == ['read_a']
  assert graph.settle([study.marker('read_a')]) == ([], [])
  names = [artefact.marker for artefact in graph.first()]
  assert names == [study.marker(n) for n in ('origin', 'a/0', 'read_a', 'sum')]


def test_what_is_lost_takes_along_what_requires_it(study):
  graph = study.graph(*GOALS)
  graph.settle([study.marker('origin')])
  lost = [study.marker('b/0')]
  ready, hopeless = graph.settle(lost, lost)
  assert not ready and _names(graph, hopeless) == ['b', 'read_b']
  # What cannot be is not taken up again, nor told twice.
  lost = [study.marker('b/1')]
  assert graph.settle(lost, lost) == ([], [])
  lost = [study.marker('read_a')]
  assert _names(graph, graph.settle(lost, lost)[0]) == ['sum']
  assert _names(graph, graph.waiting()) == ['a', 'read_a']
  assert graph.forget(_index(graph, 'a')) == [
    *map(study.marker, ('a/0', 'a/1'))
  ]
  assert not graph.waits_for(_index(graph, 'a'))


def test_stages_of_one_name_are_numbered_through(bench):
  stages = [type(bench.stage('toy'))(bench, 'toy') for _ in range(3)]
  for number, stage in enumerate(stages):
    for part in range(2):
      bench.add(f'{number}{part}', stage)
  units = [node.unit for node in bench.graph().nodes]
  assert sorted(unit.number for unit in units) == list(range(6))


# --- requests to storage ------------------------------------------------------


@pytest.fixture
def requests(monkeypatch):
  """Lists of the directories that are listed, and of the files opened."""
  listed, opened = [], []
  listdir, open_ = os.listdir, engine.files.opened
  monkeypatch.setattr(os, 'listdir', lambda p: listed.append(p) or listdir(p))
  monkeypatch.setattr(
    engine.files, 'opened', lambda p, mode: opened.append(p) or open_(p, mode)
  )
  return listed, opened


def test_nothing_is_listed_below_a_missing_directory(bench, requests):
  listed, _ = requests
  os.makedirs(f'{bench.root}/there')
  snapshot = bench.snapshot()
  paths = [f'{bench.root}/{n % 3}/{n % 5}/{n}.DONE' for n in range(60)]
  for _ in range(2):
    snapshot.look(paths)
    assert not any(snapshot.exists(path) for path in paths)
  assert listed == [bench.root]
  assert not snapshot.exists(f'{bench.root}/there/x')
  assert listed == [bench.root, f'{bench.root}/there']


def test_conflicts_of_all_stages_are_told_at_once(bench):
  bench.add('a', stage='first', steps=1)
  for name in ('b', 'c'):
    bench.add(name, stage='second', inputs=('a',), noise=1)
  bench.make()
  worked = len(bench.worked)
  bench.add('a', stage='first', steps=2)
  for name in ('b', 'c'):
    bench.add(name, stage='second', inputs=('a',), noise=3)
  with pytest.raises(errors.UsageError) as caught:
    bench.make()
  head, *told = str(caught.value).splitlines()
  assert head == '2 mistakes:'
  assert 'steps: 1 there, 2 asked for' in told[0]
  assert 'noise: 1 there, 3 asked for' in told[1]  # Of b, and not of c too.
  assert len(bench.worked) == worked
