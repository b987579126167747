"""Tests of the sequential design: looks, what is due, what is decided."""

import json
import pathlib
import shutil

import pytest

from roar_tf import errors
from roar_tf.analysis import judging
from roar_tf.study import finished

STUDY = """
Study.sources = ('{dataset}',)
Study.estimators = ('random', 'grad', 'sobel', 'oracle')
Study.thresholds = (50,)
Study.design = 'sequential'
Study.looks = (3, 4, 6)
Study.spending = (0.4, 0.3, 0.3)
Study.random_seeds = 5
Study.margin = 0.02
Study.comparisons = 4
Study.masking = 'ranking'
Training.epochs = 2
"""


@pytest.fixture(scope='module')
def sequential(tiny, tmp_path_factory):
  """The gin file of a sequential study on `tiny`."""
  path = tmp_path_factory.mktemp('study') / 'by_looks.gin'
  path.write_text(STUDY.format(dataset=tiny.dataset))
  return str(path)


@pytest.fixture(scope='module')
def whole(tiny, sequential, tmp_path_factory, work):
  """A workspace in which every look that was due is decided."""
  root = tmp_path_factory.mktemp('looks')
  dues = []
  pipeline = tiny.pipeline(root, study=sequential)
  while not pipeline.looks.is_over():
    dues.append([str(run) for run in pipeline.looks.due()])
    work(pipeline, pipeline.goals(report=False))
  work(pipeline, pipeline.goals())
  return root, pipeline, dues


def _decisions(root, number):
  path = pathlib.Path(f'{root}/looks/by_looks/{number}/decisions.json')
  return json.loads(path.read_text())


def test_the_runs_are_those_of_all_looks_and_keep_their_numbers(
  tiny, sequential, whole
):
  root, pipeline, _ = whole
  fresh = tiny.pipeline(root / 'empty', study=sequential)
  assert fresh.runs == pipeline.runs
  seeds = {}
  for run in pipeline.runs:
    seeds.setdefault(run.cell_name, []).append(run.seed)
  assert seeds['original'] == [0, 1, 2]
  assert seeds['random_pixel_remove_50'] == list(range(5))
  assert seeds['oracle_pixel_remove_50'] == [0, 1, 2]
  assert seeds['grad_pixel_remove_50'] == list(range(6))


def test_only_what_is_undecided_gets_more_seeds(whole):
  root, pipeline, dues = whole
  assert len(dues[0]) == 3 + 5 + 3 * 3
  assert not any('/seed_3' in run for run in dues[0] if 'random' not in run)
  for number, due in enumerate(dues[1:], 1):
    words = {
      one['comparison'][-1]: one['word']
      for one in _decisions(root, number)['decisions']
    }
    assert set(words) == {'grad', 'sobel'}
    new = set(due) - set(dues[number - 1])
    for name, word in words.items():
      expected = word == 'undecided'
      assert any(f'/{name}_pixel' in run for run in new) == expected
  made = sorted(
    str(path.parent.relative_to(root / 'runs' / 'by_looks'))
    for path in (root / 'runs').rglob('DONE')
  )
  assert made == sorted(dues[-1])


def test_a_look_says_what_the_report_says(whole):
  root, pipeline, dues = whole
  runs = {run: pipeline.of(run).train.artefact(run) for run in pipeline.runs}
  evidence = pipeline.looks.evidence(finished.read(runs))
  judged = {v.estimator: v for v in judging.judge(evidence) if v.member}
  for one in _decisions(root, len(dues))['decisions']:
    own = judged[one['comparison'][-1]]
    assert (own.word, own.look, own.seeds) == (
      one['word'],
      one['look'],
      one['seeds'],
    )
    assert list(own.lead) == one['lead']
    spent = sum((0.4, 0.3, 0.3)[: own.look]) * 0.05 / 4  # Study.comparisons.
    assert own.spent == pytest.approx(spent)


def test_a_finished_study_is_whole_and_nothing_is_due(whole, make):
  root, pipeline, _ = whole
  table = (root / 'reports' / 'by_looks' / 'statistics.csv').read_text()
  assert 'missing_runs' not in table
  pipeline.report.require_all()
  assert pipeline.looks.is_over() and 'decided' in str(pipeline.looks)
  counts = make(pipeline)
  assert not counts.made


@pytest.mark.parametrize(
  'binding',
  [
    'Study.margin = 0.03',
    'Study.comparisons = 7',
    'Study.spending = (0.2, 0.4, 0.4)',
  ],
)
def test_what_a_look_was_decided_by_cannot_change(
  whole, tiny, sequential, binding, work
):
  root, *_ = whole
  pipeline = tiny.pipeline(root, binding, study=sequential)
  with pytest.raises(errors.UsageError) as caught:
    work(pipeline, pipeline.goals(report=False))
  name = binding.split(' ')[0]
  assert name in str(caught.value)
  assert 'another name' in str(caught.value)


def test_other_estimators_are_looked_at_and_decide_nothing_else_anew(
  whole, tiny, sequential, tool, tmp_path, states
):
  names, due = ('random', 'sq_grad', 'sobel'), 3 + 5 + 3 + 3
  root, pipeline, _ = whole
  copy = tmp_path / 'copy'
  shutil.copytree(root, copy)
  flags = [f'--study={sequential}', *tiny.flags(copy)]
  flags.append(f'--gin_bindings=Study.estimators = {names}')
  refusal = tool('roar_study', *flags, '--gin_bindings=Study.margin = 0.5')
  assert refusal.status == 2 and 'Study.margin' in refusal.err
  assert 'inputs' not in refusal.err
  outcome = tool('roar_study', *flags, '--dry_run')
  assert f'Look 1 of 3 is due: {due} runs' in outcome.out, outcome.err
  before = states(copy / 'runs')
  outcome = tool('roar_study', *flags)
  assert outcome.status == 0, outcome.err
  after = states(copy / 'runs')
  assert before == {path: after[path] for path in before}
  for number in range(1, pipeline.looks.current() + 1):
    old, new = (
      {one['comparison'][-1]: one for one in _decisions(r, number)['decisions']}
      for r in (root, copy)
    )
    kept = old.keys() & set(names)
    assert {n: old[n] for n in kept} == {n: new[n] for n in kept}
    assert set(new) == set(names) - {'random', 'oracle'}
  again = tool('roar_study', *flags)
  assert again.status == 0 and 'was the last' in again.out


def test_any_worker_decides_the_same_looks(
  whole, tiny, sequential, tool, tmp_path, artefacts
):
  root, *_ = whole
  copy = tmp_path / 'copy'
  shutil.copytree(root, copy)
  for folder in ('looks', 'reports'):
    shutil.rmtree(copy / folder)
  flags = [f'--study={sequential}', *tiny.flags(copy)]
  outcome = tool('roar_study', *flags, '--list')
  assert outcome.out.count('# due') == 3 + 5 + 3 * 3
  outcome = tool('roar_study', *flags, '--dry_run')
  assert 'Look 1 of 3 is due: 17 runs' in outcome.out
  outcome = tool('roar_study', *flags, '--num_workers=2', '--worker=1')
  assert outcome.status == 0 and 'was the last' in outcome.out
  assert artefacts(copy) == artefacts(root)


def test_a_worker_leaves_a_look_to_the_one_that_finishes_last(
  whole, tiny, sequential, tool, tmp_path
):
  root, *_ = whole
  copy = tmp_path / 'copy'
  shutil.copytree(root, copy)
  for folder in ('looks', 'reports'):
    shutil.rmtree(copy / folder)
  shutil.rmtree(copy / 'runs/by_looks/tiny/original/seed_0')  # Worker 0's.
  flags = [f'--study={sequential}', *tiny.flags(copy), '--num_workers=2']
  outcome = tool('roar_study', *flags, '--worker=1')
  assert outcome.status == 0 and 'Look 1 is left' in outcome.out
  assert not (copy / 'looks').exists()


@pytest.mark.parametrize(
  'binding, words',
  [
    ('Study.design = "adaptive"', 'Study.design'),
    ('Study.looks = (2, 3)', 'Study.looks'),
    ('Study.looks = (3, 3)', 'Study.looks'),
    ('Study.spending = (0.5, 0.5)', 'Study.spending'),
    ('Study.spending = (0.5, 0.4, 0.2)', 'Study.spending'),
    ('Study.estimators = ("grad",)', '"random"'),
    ('Study.comparisons = 0', 'Study.comparisons'),
    ('Study.margin = 1', 'Study.margin'),
    ('Study.random_seeds = 0', 'Study.random_seeds'),
  ],
)
def test_impossible_designs_are_refused(
  tiny, sequential, tmp_path, binding, words
):
  with pytest.raises(errors.UsageError, match=words):
    tiny.pipeline(tmp_path, binding, study=sequential)
