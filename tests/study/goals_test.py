"""Tests of what commands ask for: stages, chosen runs, first units."""

import pathlib

import pytest

from roar_tf import engine, errors
from roar_tf.study import paths

STAGES = ['source', 'model', 'rank', 'shards', 'train', 'report']


@pytest.fixture
def pipeline(tiny, tmp_path):
  """A study of both modes with controls, of which nothing is there."""
  return tiny.pipeline(
    tmp_path / 'w',
    "Study.modes = ('remove', 'keep')",
    'Study.mask_only_seeds = 1',
    'Study.deletion = True',
  )


def _names(pipeline) -> list[str]:
  return [str(run) for run in pipeline.chosen]


def _units(pipeline, goals) -> tuple[int, ...]:
  """Returns how many units of every stage the goals take."""
  root = pipeline.context.workspace.root
  nodes = engine.Graph(goals, engine.Snapshot(root)).nodes
  stages_ = [node.unit.stage for node in nodes]
  return tuple(map(stages_.count, pipeline.names))


def test_keys_must_all_hold_and_values_are_alternatives(pipeline):
  pipeline.choose(['estimator:grad,threshold:30,seed:1'])
  assert _names(pipeline) == [
    'tiny/grad_pixel_remove_30/seed_1',
    'tiny/grad_pixel_keep_30/seed_1',
  ]
  pipeline.choose(['mode:keep,input:image', 'threshold:30,threshold:70,seed:0'])
  assert _names(pipeline) == [
    f'tiny/{estimator}_pixel_keep_{t}/seed_0'
    for estimator in ('random', 'grad')
    for t in (30, 70)
  ]


@pytest.mark.parametrize(
  'key',
  'source estimator granularity mode threshold fill input seed'.split(),
)
def test_every_key_says_what_results_say_of_it(key, pipeline):
  having = [run for run in pipeline.runs if run.columns[key] != '']
  found = []
  for value in {str(run.columns[key]) for run in having}:
    pipeline.choose([f'{key}:{value}'])
    found += pipeline.chosen
  assert sorted(map(str, found)) == sorted(map(str, having))


@pytest.mark.parametrize(
  'condition, counts',
  [
    ('estimator:original,input:image', (6, 0, 0, 0, 2)),
    ('estimator:random,mode:keep,input:image', (6, 0, 6, 7, 4)),
    ('estimator:grad,threshold:30,input:image', (6, 1, 6, 7, 4)),
    ('seed:1', (6, 1, 7, 18, 9)),
    # Masks alone are read from rankings; no masked image is.
    ('input:maskonly,estimator:random', (6, 0, 6, 0, 2)),
    # What is not retrained needs the explained model, whatever ranks.
    ('input:deletion,estimator:random,threshold:30', (6, 1, 6, 7, 2)),
    ('input:deletion,estimator:original', (6, 1, 0, 0, 1)),
  ],
)
def test_only_what_the_chosen_runs_need_is_made(condition, counts, pipeline):
  every = pipeline.report.artefact
  pipeline.choose([condition])
  assert _units(pipeline, pipeline.goals()) == (*counts, 1)
  assert pipeline.goals()[-1] is every  # It is about the whole study.
  assert _units(pipeline, pipeline.goals(report=False)) == (*counts, 0)


def test_a_stage_is_a_choice_of_goals(pipeline):
  assert pipeline.names == STAGES
  for stage in pipeline.names:
    goals = pipeline.goals(stage)
    assert goals and {goal.stage.name for goal in goals} == {stage}
    assert len({goal.marker for goal in goals}) == len(goals)
  pipeline.choose(['estimator:random,input:image'])
  assert pipeline.goals('model') == []
  with pytest.raises(errors.UsageError, match='--stage=trian.*"train".*source'):
    pipeline.goals('trian')


def test_a_source_without_a_chosen_run_has_no_work(tiny, tmp_path):
  other = tmp_path / 'other.gin'
  other.write_text(pathlib.Path(tiny.dataset).read_text())
  sources = f'Study.sources = ({tiny.dataset!r}, {str(other)!r})'
  pipeline = tiny.pipeline(tmp_path / 'w', sources)
  assert [run.source for run in pipeline.runs] == ['tiny'] * 10 + ['other'] * 10
  pipeline.choose(['source:other,estimator:grad'])
  goals = pipeline.goals(report=False)
  nodes = engine.Graph(goals, engine.Snapshot('none')).nodes
  assert nodes and all(n.unit.name.startswith('other') for n in nodes)
  of = {pipeline.source_of(node.unit.makes[0].stage) for node in nodes}
  assert of == {'other'} and pipeline.source_of(pipeline.report) == ''


def test_a_run_is_chosen_by_its_number(pipeline):
  every = list(pipeline.numbered())
  assert every == list(enumerate(pipeline.runs))
  pipeline.choose(['estimator:grad,seed:1'])
  assert list(pipeline.numbered()) == [
    (number, run) for number, run in every if run in pipeline.chosen
  ]
  for number in (0, 7, len(every) - 1):
    pipeline.choose_number(number)
    assert list(pipeline.numbered()) == [every[number]]


def test_first_units_of_every_stage_are_chosen(tiny, pipeline, tmp_path):
  first = pipeline.first(pipeline.goals(), None)
  names = [artefact.marker.split('/w/')[1] for artefact in first]
  version, shard = paths.VERSION, 'roar_tiny-train.tfrecord-00000-of-00003.DONE'
  assert names == [
    f'tfds/roar_tiny/original/{version}/{shard}',
    'models/tiny/DONE',
    *(
      f'tfds/roar_tiny/ranking_{e}_pixel/{version}/{shard}'
      for e in ('random', 'grad')
    ),
    *(
      f'tfds/roar_tiny/random_pixel_{mode}_{t}/{version}/{shard}'
      for mode in ('remove', 'keep')
      for t in (30, 70)
    ),
    'runs/small/tiny/original/seed_0/DONE',
  ]
  (run,) = pipeline.first(pipeline.goals(), ('train',))
  assert run.marker == first[-1].marker


@pytest.mark.parametrize(
  'condition, words',
  [
    ('estimator:gard', ['--only=estimator:gard', '"grad"', 'original']),
    ('estimtor:grad', ['estimtor', '"estimator"']),
    ('estimator', ['"estimator" is not KEY:VALUE']),
    ('', ['KEY:VALUE']),
    ('threshold:90', ['threshold:90', '30, 70']),
    ('seed:2', ['seed:2', '0, 1']),
    ('estimator:original,threshold:30', ['none with all']),
    (10**6, ['--run=1000000', '31 runs', '0 to 30']),
    (-1, ['--run=-1']),
  ],
)
def test_a_choice_of_nothing_is_refused(condition, words, pipeline):
  with pytest.raises(errors.UsageError) as caught:
    if isinstance(condition, int):
      pipeline.choose_number(condition)
    else:
      pipeline.choose([condition])
  assert '\n' not in str(caught.value)
  for word in words:
    assert word in str(caught.value)
