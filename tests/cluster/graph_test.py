"""Tests of what waits for what."""

from roar_tf.cluster.graph import Graph
from roar_tf.study import pipeline
from roar_tf.study.units import Target, Unit


def _unit(name, *makes, inputs=(), reads=()):
  targets = tuple(
    Target(done, 's', 1, {}, {i: i for i in inputs}, reads=tuple(reads))
    for done in makes or (name,)
  )
  return Unit(name, targets, work=lambda pending: None)


def test_units_wait_for_all_that_they_read_and_nothing_else():
  graph = Graph(
    [
      _unit('report', inputs=['train', 'shards']),
      _unit('train', inputs=['elsewhere'], reads=['shards']),
      _unit('a', 'a1', 'a2'),
      _unit('shards', inputs=['a1', 'b']),
      _unit('b'),
      # Of a dataset, the unit's own markers are no reason to wait.
      _unit('whole', 'part', 'whole', inputs=['part', 'a2']),
    ]
  )
  assert graph.first() == [2, 4]
  assert graph.settle(4) == ([], [])
  assert graph.settle(2) == ([3, 5], [])
  assert graph.settle(5) == ([], [])
  assert graph.settle(3) == ([1], [])
  assert graph.settle(1) == ([0], [])


def test_a_failure_takes_along_what_reads_the_lost_parts_and_no_other():
  graph = Graph(
    [
      _unit('rank', 'grad', 'faulty'),
      _unit('grad cells', inputs=['grad']),
      _unit('faulty cells', inputs=['faulty']),
      _unit('grad run', inputs=['grad'], reads=['grad cells']),
      _unit('faulty run', inputs=['faulty'], reads=['faulty cells']),
      _unit('both', inputs=['grad run', 'faulty run']),
    ]
  )
  assert graph.settle(0, lost=['faulty']) == ([1], [2, 4, 5])
  assert graph.settle(1) == ([3], [])
  # What cannot be is not taken up again, nor told twice.
  assert graph.settle(3) == ([], [])


def test_a_second_failure_names_only_what_still_hoped():
  units = [_unit('a'), _unit('b'), _unit('c', inputs=['a', 'b'])]
  units += [_unit('d', inputs=['b'])]
  graph = Graph(units)
  assert graph.settle(0, lost=['a']) == ([], [2])
  assert graph.settle(1, lost=['b']) == ([], [3])


def test_trainings_of_a_study_wait_for_their_own_cell_alone(tiny, tmp_path):
  works = tiny.works(tmp_path)
  stages = pipeline.STAGES[:5]
  units = [u for stage in stages for u in pipeline.units(works, stage)]
  names = [unit.name for unit in units]
  graph = Graph(units)
  ended, ready = set(), graph.first()
  assert [names[i] for i in ready] == [
    'tiny original train 0',
    'tiny original train 1',
    'tiny original train 2',
    'tiny original test 0',
    'tiny original test 1',
  ]
  wanted = 'tiny/grad_pixel_remove_30/seed_1'
  others = ('random_pixel', 'remove_70', '/seed_0')
  while wanted not in ended:
    # What concerns other cells comes last, and is not waited for.
    index = min(ready, key=lambda i: any(o in names[i] for o in others))
    ready.remove(index)
    ended.add(names[index])
    more, hopeless = graph.settle(index)
    ready += more
    assert not hopeless
  assert 'tiny explained model' in ended
  assert 'tiny ranking_grad_pixel' in ended
  assert 'tiny grad_pixel_remove_30' in ended
  assert not {'tiny ranking_random_pixel', 'tiny grad_pixel_remove_70'} & ended
