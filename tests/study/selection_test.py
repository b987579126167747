"""Tests of roar_tf.study.selection, and of the flags --only and --run."""

import csv
import pathlib
import shutil

import pytest

from roar_tf.study import pipeline, report_inputs, selection


def _names(works) -> list[str]:
  return [str(run) for work in works for run in work.chosen_runs]


@pytest.fixture
def works(tiny, tmp_path):
  return tiny.works(tmp_path / 'w', "Study.modes = ('remove', 'keep')")


def test_keys_must_all_hold_and_values_are_alternatives(works):
  chosen = selection.only(works, ['estimator:grad,threshold:30,seed:1'])
  assert _names(chosen) == [
    'tiny/grad_pixel_remove_30/seed_1',
    'tiny/grad_pixel_keep_30/seed_1',
  ]
  both = selection.only(
    works, ['mode:keep,seed:0', 'threshold:30,threshold:70']
  )
  assert _names(both) == [
    f'tiny/{estimator}_pixel_keep_{t}/seed_0'
    for estimator in ('random', 'grad')
    for t in (30, 70)
  ]


@pytest.mark.parametrize('key', selection.KEYS)
def test_every_key_says_what_results_say_of_it(key, works):
  runs = [run for work in works for run in work.runs]
  values = {str(report_inputs.identity(run)[key]) for run in runs} - {''}
  parts = [_names(selection.only(works, [f'{key}:{v}'])) for v in values]
  having = [r for r in runs if report_inputs.identity(r)[key] != '']
  assert sorted(sum(parts, [])) == sorted(map(str, having))


@pytest.mark.parametrize(
  'condition, counts',
  [
    # Five shards and what completes a dataset: of `original` (6), of a ranking
    # (5 + 1), of two cells from one read (5 + 2).
    ('estimator:original', (6, 0, 0, 0, 2)),
    ('estimator:random,mode:keep', (6, 0, 6, 7, 4)),
    ('estimator:grad,threshold:30', (6, 1, 6, 7, 4)),
    ('seed:1', (6, 1, 7, 18, 9)),
  ],
)
def test_only_what_the_chosen_runs_need_is_made(condition, counts, works):
  chosen = selection.only(works, [condition])
  stages = pipeline.STAGES[:-1]
  found = tuple(len(pipeline.units(chosen, s)) for s in stages)
  assert found == counts
  # The report is about the whole study.
  whole, some = (pipeline.units(w, 'report') for w in (works, chosen))
  assert whole[0].targets == some[0].targets


@pytest.mark.parametrize(
  'condition, counts',
  [
    # Masks alone are read from rankings; no masked image is.
    ('input:maskonly,estimator:random', (6, 0, 6, 0, 2)),
    ('input:maskonly,estimator:grad', (6, 1, 6, 0, 2)),
    # What is not retrained needs the explained model, whatever ranks.
    ('input:deletion,estimator:random,threshold:30', (6, 1, 6, 6, 1)),
    ('input:deletion,estimator:original', (6, 1, 0, 0, 1)),
  ],
)
def test_controls_are_chosen_by_input(condition, counts, tiny, tmp_path):
  works = tiny.works(
    tmp_path / 'w', 'Study.mask_only_seeds = 1', 'Study.deletion = True'
  )
  chosen = selection.only(works, [condition])
  stages = pipeline.STAGES[:-1]
  assert tuple(len(pipeline.units(chosen, s)) for s in stages) == counts


def test_a_source_without_a_chosen_run_has_no_work(tiny, tmp_path):
  other = tmp_path / 'other.gin'
  other.write_text(pathlib.Path(tiny.dataset).read_text())
  sources = f'Study.sources = ({tiny.dataset!r}, {str(other)!r})'
  works = selection.only(
    tiny.works(tmp_path / 'w', sources), ['source:other,estimator:grad']
  )
  for stage in pipeline.STAGES[:-1]:
    units = pipeline.units(works, stage)
    assert units and all(u.name.startswith('other') for u in units)


def test_numbers_are_those_of_the_list(works, tool, tiny):
  flags = [f'--study={tiny.study}', '--list', *tiny.flags('unused')]
  listed = tool('roar_study', *flags).out.splitlines()
  some = tool('roar_study', *flags, '--only=estimator:grad,seed:1').out
  assert [line for line in listed if line in some.splitlines()] == (
    some.splitlines()
  )
  assert len(some.splitlines()) == 2
  for line in some.splitlines():
    number = int(line.split()[0])
    one = tool('roar_study', *flags, f'--run={number}').out
    assert one.splitlines() == [line] == [listed[number]]
  every = [run for work in works for run in work.runs]
  for number in (0, 7, len(every) - 1):
    assert _names(selection.number(works, number)) == [str(every[number])]


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--only=estimator:gard'], ['estimator:gard', '"grad"', 'original']),
    (['--only=estimtor:grad'], ['estimtor', '"estimator"']),
    (['--only=estimator'], ['"estimator" is not KEY:VALUE']),
    (['--only='], ['KEY:VALUE']),
    (['--only=threshold:90'], ['threshold:90', '30, 70']),
    (['--only=seed:2'], ['seed:2', '0, 1']),
    (['--only=estimator:original,threshold:30'], ['none with all']),
    (['--run=10'], ['--run=10', '10 runs', '0 to 9']),
    (['--run=-1'], ['--run=-1']),
    (['--run=two'], ['two']),
    (['--run=2', '--only=seed:0'], ['--run=2', '--only']),
    (['--run=2', '--clean=temporary'], ['--clean=temporary', '--run']),
  ],
)
def test_a_mistake_is_one_sentence(flags, words, refused, tiny):
  refused('roar_study', [f'--study={tiny.study}', *flags], words)


def test_chosen_runs_are_made_and_the_report_says_what_is_missing(
  tool, tiny, finished, tmp_path
):
  root = tmp_path / 'w'
  flags = [f'--study={tiny.study}', *tiny.flags(root)]
  one = tool('roar_study', *flags, '--run=4')
  assert one.status == 0, one.err
  assert one.counts() == {
    'source': (6, 0, 0),
    'model': (0, 0, 0),
    'rank': (6, 0, 0),
    'shards': (6, 0, 0),
    'train': (1, 0, 0),
  }
  assert not (root / 'reports').exists()
  results = 'runs/small/tiny/random_pixel_remove_70/seed_0/result.json'
  assert [
    str(p.relative_to(root)) for p in root.glob('runs/**/result.json')
  ] == [results]
  assert (root / results).read_bytes() == (finished / results).read_bytes()
  more = tool('roar_study', *flags, '--only=estimator:random,seed:0')
  assert more.counts()['train'] == (1, 1, 0)
  rows = list(csv.DictReader((root / 'reports/small/results.csv').open()))
  assert [(r['estimator'], r['threshold']) for r in rows] == [
    ('random', '30'),
    ('random', '70'),
  ]
  page = (root / 'reports/small/index.html').read_text()
  for cell in ('original', 'random_pixel_remove_30', 'grad_pixel_remove_70'):
    assert f'tiny: {cell} lacks seed' in page


def test_two_workers_share_chosen_runs(tool, tiny, damaged):
  for estimator in ('random', 'grad'):
    shutil.rmtree(damaged / f'runs/small/tiny/{estimator}_pixel_remove_70')
  made = []
  for worker in (0, 1):
    outcome = tool(
      'roar_study',
      f'--study={tiny.study}',
      *tiny.flags(damaged),
      '--stage=train',
      '--only=estimator:grad',
      f'--worker={worker}',
      '--num_workers=2',
    )
    assert outcome.status == 0, outcome.err
    made.append(outcome.counts()['train'])
  assert made == [(1, 1, 0), (1, 1, 0)]
  assert not (damaged / 'runs/small/tiny/random_pixel_remove_70').exists()


def test_clean_deletes_the_cells_of_chosen_runs(tool, tiny, damaged):
  outcome = tool(
    'roar_study',
    f'--study={tiny.study}',
    *tiny.flags(damaged),
    '--clean=shards',
    '--only=estimator:grad,threshold:30',
  )
  assert outcome.out.startswith('clean: 1 masked datasets')
  left = sorted(p.name for p in damaged.glob('tfds/roar_tiny/*_remove_*'))
  assert left == [
    'grad_pixel_remove_70',
    'random_pixel_remove_30',
    'random_pixel_remove_70',
  ]
