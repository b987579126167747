"""Tests of roar_study: what a user meets."""

import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = ('source', 'model', 'rank', 'shards', 'train', 'report')


@dataclasses.dataclass
class Outcome:
  """How a process of its own ended."""

  status: int
  out: str
  err: str


def _sentence(outcome, *words):
  """Asserts bad usage: status 2 and one line on stderr with these words."""
  assert outcome.status == 2, outcome
  lines = outcome.err.splitlines()
  assert len(lines) == 1, outcome.err
  for word in words:
    assert word in lines[0]
  assert 'Traceback' not in outcome.err


def _process(*arguments):
  return subprocess.Popen(
    [sys.executable, str(ROOT / 'tools' / 'roar_study.py'), *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )


# --- bad input --------------------------------------------------------------


@pytest.mark.parametrize(
  'arguments, words',
  [
    (['--study=quikstart'], ['--study=quikstart', '"quickstart"']),
    ([], ['--study']),
    (['--study=/no/where.gin'], ['/no/where.gin']),
    (['--stuyd=quickstart'], ['stuyd', 'study']),
    (['--study=quickstart', 'train'], ['"train"']),
    (['--study=quickstart', '--stage=trian'], ['stage', 'trian']),
    (['--study=quickstart', '--clean=shards', '--list'], ['--clean', '--list']),
    (['--study=quickstart', '--status'], ['--workspace', 'no directory']),
    (['--status'], ['--study']),
    (
      ['--study=quickstart', '--status', '--price_per_hour=-1'],
      ['price_per_hour', '-1'],
    ),
    (['--study=quickstart', '--worker=2', '--num_workers=2'], ['--worker=2']),
    (['--study=quickstart', '--num_workers=0'], ['num_workers', '0']),
    (
      ['--study=quickstart', '--executor=ray', '--num_workers=2'],
      ['--num_workers', '--executor=local'],
    ),
    (
      ['--study=quickstart', '--executor=ray', '--strategy=multi_worker'],
      ['--strategy=multi_worker', '--executor=local'],
    ),
    (
      ['--study=quickstart', '--executor=ray', '--resources=tarin:GPU=1'],
      ['--resources=tarin:GPU=1', 'train'],
    ),
    (
      ['--study=quickstart', '--executor=ray', '--ray_address=127.0.0.1:1'],
      ['--ray_address=127.0.0.1:1', 'refused', 'ray start'],
    ),
    (['--study=quickstart', '--seed=-3'], ['seed', '-3']),
    # --workspace=$UNSET; --list lest a whole study be written into the root.
    (['--study=quickstart', '--list', '--workspace='], ['--workspace']),
  ],
)
def test_bad_usage_is_one_sentence(arguments, words, tool, tmp_path):
  outcome = tool('roar_study', f'--workspace={tmp_path}/w', *arguments)
  _sentence(outcome, *words)
  assert not (tmp_path / 'w' / 'tfds').exists()


@pytest.mark.parametrize(
  'binding, words',
  [
    ("Study.estimators = ('gard',)", ['gard', '"grad"']),
    ('Study.thresholds = (10, 101)', ['101']),
    ('Study.seed = 3', ['seed', 'Study']),
    ('Stduy.seeds = 3', ['Stduy']),
    ('Study.seeds = (3', ['Study.seeds = (3']),
  ],
)
def test_bad_gin_is_one_sentence(binding, words, tool, tmp_path):
  flags = ['--study=quickstart', f'--workspace={tmp_path}/w']
  outcome = tool('roar_study', *flags, f'--gin_bindings={binding}')
  _sentence(outcome, *words)
  # The same in a file, which is then named.
  (tmp_path / 'mine.gin').write_text(f'{binding}\n')
  outcome = tool('roar_study', *flags, f'--gin_file={tmp_path}/mine.gin')
  _sentence(outcome, *(word for word in words if 'Study.seeds' not in word))
  assert not (tmp_path / 'w' / 'tfds').exists()


def test_a_missing_dataset_is_named_with_where_it_was_sought(tool, tmp_path):
  outcome = tool(
    'roar_study',
    '--study=fashion_mnist',
    f'--workspace={tmp_path}/w',
    f'--data_dir={tmp_path}/data',
    '--gin_bindings=Source.tfds_name = "fashion_mnits"',
  )
  _sentence(outcome, 'fashion_mnits', f'{tmp_path}/data')


def test_a_process_of_its_own_says_one_sentence_too(tmp_path):
  process = _process('--study=quikstart', f'--workspace={tmp_path}/w')
  out, err = process.communicate(timeout=120)
  _sentence(Outcome(process.returncode, out, err), '"quickstart"')
  assert not out


def test_help_shows_every_flag():
  process = _process('--help')
  out, err = process.communicate(timeout=120)
  assert not err
  flags = (
    'study stage clean [no]list [no]status [no]dry_run rates price_per_hour '
    'only run workspace data_dir dataset seed gin_file gin_bindings worker '
    'num_workers executor ray_address resources retries'
  )
  for flag in flags.split():
    assert re.search(rf'^ *--{re.escape(flag)}\b', out, re.M), flag


# --- what it does -----------------------------------------------------------


def test_running_again_keeps_all_and_shows_the_outcome(tool, tiny, finished):
  outcome = tool('roar_study', f'--study={tiny.study}', *tiny.flags(finished))
  assert outcome.status == 0
  counts = {'source': 6, 'model': 1, 'rank': 7, 'shards': 14, 'train': 10}
  assert outcome.counts() == {
    stage: (0, kept, 0) for stage, kept in {**counts, 'report': 1}.items()
  }
  assert f'Report: {finished}/reports/small/index.html' in outcome.out
  assert not outcome.err


def test_the_workspace_may_stand_in_the_environment(
  tool, tiny, finished, monkeypatch
):
  monkeypatch.setenv('ROAR_WORKSPACE', str(finished))
  monkeypatch.setenv('TFDS_DATA_DIR', tiny.data_dir)
  outcome = tool('roar_study', f'--study={tiny.study}', '--stage=source')
  assert outcome.counts() == {'source': (0, 6, 0)}


def test_list_and_clean_wait_for_no_other_host(tool, tmp_path, monkeypatch):
  # A cluster sets it for whatever runs there; its other host never comes.
  hosts = '{"worker": ["localhost:1", "localhost:2"]}'
  task = '{"type": "worker", "index": 0}'
  monkeypatch.setenv('TF_CONFIG', f'{{"cluster": {hosts}, "task": {task}}}')
  monkeypatch.setattr(
    tf.distribute, 'MultiWorkerMirroredStrategy', lambda: pytest.fail('waits')
  )
  for flag in ('--list', '--clean=shards'):
    arguments = ['--study=quickstart', flag, f'--workspace={tmp_path}/w']
    assert tool('roar_study', *arguments).status == 0


def test_list_numbers_every_run_and_touches_nothing(tool, tmp_path):
  outcome = tool(
    'roar_study',
    '--study=quickstart',
    '--list',
    f'--workspace={tmp_path}/w',
    '--gin_bindings=Study.random_seeds = 9',
  )
  lines = outcome.out.splitlines()
  assert outcome.status == 0 and not outcome.err
  assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
  assert len(lines) == 2 + 9 + 5 * 5 + 3 + 3 * 3 + 7 + 1 + 7 + 3 * 3
  assert len({line.split(maxsplit=1)[1] for line in lines}) == len(lines)
  assert all('roar_train ' in line for line in lines)
  assert not list(pathlib.Path(tmp_path / 'w').glob('*'))


@pytest.mark.parametrize('seed', [0, 5])
def test_a_listed_command_makes_the_run_that_it_names(
  seed, tool, tiny, finished, damaged
):
  flags = tiny.flags(damaged)
  listed = tool(
    'roar_study', f'--study={tiny.study}', '--list', f'--seed={seed}', *flags
  ).out.splitlines()
  assert len(listed) == 10
  number, program, *arguments = shlex.split(listed[-1])
  assert (int(number), program) == (9, 'roar_train')
  assert f'--seed={seed + 1}' in arguments
  if seed:  # Another explained model: the same workspace refuses it.
    outcome = tool(program, *arguments, *flags)
    _sentence(outcome, 'seed: 0 there, 5 asked for')
    return
  run = 'runs/small/tiny/grad_pixel_remove_70/seed_1'
  shutil.rmtree(damaged / run)
  outcome = tool(program, *arguments, *flags)
  assert outcome.status == 0, outcome.err
  assert outcome.counts()['train'] == (1, 0, 0)
  for file in ('result.json', 'test_predictions.npz', 'config.gin'):
    made, expected = (root / run / file for root in (damaged, finished))
    assert made.read_bytes() == expected.read_bytes()


# --- the status -------------------------------------------------------------


def _rows(outcome):
  """Returns (units, done, running, failed, left) by stage, and of all."""
  assert outcome.status == 0 and not outcome.err, outcome
  lines = [x for x in outcome.out.splitlines() if not x.startswith('in /')]
  assert max(map(len, lines)) <= 80  # Paths are as long as they are.
  found = re.findall(r'^(\w+)' + r' +(\d+)' * 5 + r'(?: |$)', outcome.out, re.M)
  return {stage: tuple(map(int, numbers)) for stage, *numbers in found}


def _status(tool, tiny, root, *flags):
  return tool(
    'roar_study', f'--study={tiny.study}', '--status', *tiny.flags(root), *flags
  )


UNITS = dict(zip((*STAGES, 'all'), (6, 1, 7, 14, 10, 1, 39), strict=True))


def test_the_status_of_a_study_that_nobody_ran(tool, tiny, tmp_path):
  (tmp_path / 'w').mkdir()
  (tmp_path / 'w').chmod(0o500)  # To look needs no right to write.
  outcome = _status(tool, tiny, tmp_path / 'w')
  assert _rows(outcome) == {s: (n, 0, 0, 0, n) for s, n in UNITS.items()}
  assert '0 alive, 0 lost, 0 ended' in outcome.out
  assert not list((tmp_path / 'w').iterdir())


def test_the_status_of_a_finished_study(tool, tiny, damaged):
  shutil.rmtree(damaged / 'runs/small/tiny/original/seed_0')
  tool('roar_study', f'--study={tiny.study}', *tiny.flags(damaged))
  outcome = _status(tool, tiny, damaged, '--price_per_hour=3600')
  assert _rows(outcome) == {s: (n, n, 0, 0, 0) for s, n in UNITS.items()}
  assert '0 alive, 0 lost, 1 ended' in outcome.out
  assert '    all done\n' in outcome.out
  assert re.search(r'[\d.]+ device-hours, cost [\d,.]+ at 3,600', outcome.out)


def test_a_single_run_of_a_study_is_in_its_status(tool, tiny, damaged):
  shutil.rmtree(damaged / 'runs/small/tiny/original/seed_0')
  outcome = tool(
    'roar_train',
    f'--study={tiny.study}',
    f'--dataset={tiny.dataset}',
    '--cell=original',
    *tiny.flags(damaged),
  )
  assert outcome.status == 0, outcome.err
  (path,) = (damaged / 'status').iterdir()
  assert path.name == 'small' and len(list(path.iterdir())) == 1
  assert '1 ended' in _status(tool, tiny, damaged).out


def test_a_killed_study_is_shown_as_lost(tool, tiny, damaged):
  shutil.rmtree(damaged / 'runs')
  process = _process(f'--study={tiny.study}', *tiny.flags(damaged))
  try:
    end = time.monotonic() + 120
    while not list(damaged.glob('runs/*/*/grad*/*/DONE')):
      assert process.poll() is None and time.monotonic() < end
      time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # Lest it end while we look.
    alive = _status(tool, tiny, damaged)
  finally:
    process.kill()
    process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert '1 alive, 0 lost, 0 ended' in alive.out
  # Its number is no process's any more, on the same machine.
  outcome = _status(tool, tiny, damaged)
  assert '0 alive, 1 lost, 0 ended' in outcome.out
  assert f'process {process.pid}, heartbeat' in outcome.out
  rows = _rows(outcome)
  runs = len(list(damaged.glob('runs/*/*/*/*/DONE')))
  assert rows['train'] == (10, runs, 0, 0, 10 - runs) and runs
  assert rows['source'] == (6, 6, 0, 0, 0)
  assert rows['model'][1] == 1  # A run on masks by `grad` is done.


# --- an estimator of the user -----------------------------------------------

ESTIMATOR = """
import tensorflow as tf
from roar_tf import estimators


@estimators.register('brightness_of_mine')
def brightness(model, images, targets, keys):
  return images + 0.0 * tf.reduce_sum(model(images))

"""


@pytest.fixture
def own_estimators(tmp_path, monkeypatch):
  """A file of estimators beside the project, and a gin file that loads it."""
  from roar_tf.estimators import registry

  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'estimators_of_mine.py').write_text(ESTIMATOR)
  (tmp_path / 'mine.gin').write_text('import estimators_of_mine\n')
  yield f'--gin_file={tmp_path}/mine.gin'
  sys.modules.pop('estimators_of_mine', None)


def _with_estimators(tiny, own, root, *names):
  return [
    f'--study={tiny.study}',
    *tiny.flags(root),
    own,
    f'--gin_bindings=Study.estimators = {names!r}',
    '--gin_bindings=Study.thresholds = (50,)',
    '--gin_bindings=Study.seeds = 1',
    '--gin_bindings=Attribution.samples = 2',
  ]


def test_an_estimator_of_the_user_appears_with_its_prefixes(
  own_estimators, tool, tiny, damaged
):
  shutil.rmtree(damaged / 'reports')
  names = ('brightness_of_mine', 'sg_sq_brightness_of_mine')
  outcome = tool(
    'roar_study',
    *_with_estimators(tiny, own_estimators, damaged, 'random', *names),
  )
  assert outcome.status == 0, outcome.err
  assert outcome.counts()['model'] == (0, 1, 0)
  assert outcome.counts()['train'] == (3, 1, 0)
  page = (damaged / 'reports/small/index.html').read_text()
  for name in names:
    assert re.search(rf'^\W*{name}\W', outcome.out, re.M)
    assert name in page
    assert (damaged / f'runs/small/tiny/{name}_pixel_remove_50').is_dir()
