"""Tests of commands as a user types them: help, versions, verbs, mistakes.

Processes cost a test seconds, so only what depends on how a command is
installed runs in one, and from another directory.
"""

import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

COMMANDS = ('preflight', 'rank', 'report', 'shards', 'study', 'toy', 'train')
BIN = pathlib.Path(sys.executable).parent


def _installed(folder, line: str) -> subprocess.CompletedProcess:
  """Runs a line of bash in a folder, where installed commands are found."""
  return subprocess.run(
    ['bash', '-c', f'export PATH="{BIN}:$PATH"; {line}'],
    cwd=folder,
    capture_output=True,
    text=True,
    timeout=120,
  )


def _refuses(outcome, *words) -> None:
  """Asserts bad usage: status 2 and one line on stderr with these words."""
  assert outcome.status == 2 and not outcome.out, outcome
  (line,) = outcome.err.splitlines()
  for word in words:
    assert word in line


# --- help and version ---------------------------------------------------------


def _flags(text: str) -> list[str]:
  return re.findall(r'^  --(?:\[no\])?(\w+)', text, re.M)


def test_installed_commands_list_their_flags_in_groups(tmp_path):
  titles = ['Where and what', 'CPU', 'Devices', 'Several workers']
  expected = {
    'roar_study --help': [*titles, 'A Ray cluster'],
    'roar_rank -h': titles,
    'roar_tf train --help': titles[:3],
    'roar_toy -help': titles[:1],
  }
  for line, sections in expected.items():
    done = _installed(tmp_path, line)
    assert (done.returncode, done.stderr) == (0, '')
    name = line.rpartition(' ')[0]
    text = done.stdout
    assert text.startswith(f'Usage: {name} [')
    assert re.findall(r'^(\S.*):$', text, re.M) == [
      *(f'Flags of {name}', *sections, 'Every command')
    ]
    assert len(re.findall(r'^  roar_\w+ --', text, re.M)) >= 1
    assert max(map(len, text.splitlines())) <= 80
    assert 'pdb' not in text and 'repeat this option' not in text
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('command', COMMANDS)
def test_help_has_every_flag_and_a_verb_those_that_it_takes(command, tool):
  name = f'roar_{command}'
  outcome = tool(name, '--help')
  assert outcome.status == 0 and not outcome.err
  known = re.findall(r'<name>(\w+)</name>', tool(name, '--helpxml').out)
  *found, help_, version, flagfile, undefok = _flags(outcome.out)
  assert sorted(found) == sorted(known)
  assert [help_, version, flagfile, undefok] == [
    *('help', 'version', 'flagfile', 'undefok')
  ]
  verb = tool('roar_tf', command, '-h')
  assert verb.out == outcome.out.replace(
    f'Usage: {name} ', f'Usage: roar_tf {command} '
  ).replace(f'Flags of {name}:', f'Flags of roar_tf {command}:')


def test_every_verb_is_in_the_help_and_explains_itself(tool):
  from roar_tf.__main__ import VERBS

  overview = tool('roar_tf', '--help')
  assert overview.status == 0
  assert set(VERBS) == {
    *COMMANDS,
    *(
      'list',
      'status',
      'plan',
      'clean',
      'verify',
      'repair',
      'params',
      'compare',
    ),
  }
  for verb in VERBS:
    assert re.search(rf'^  {verb} +\w', overview.out, re.M)
    text = tool('roar_tf', verb, '--help').out
    assert text == tool('roar_tf', 'help', verb).out
    assert text.startswith(f'Usage: roar_tf {verb} ')
    assert re.search(rf'^  roar_(tf )?{verb}\b', text, re.M)
    (examples,) = re.findall(r'(?:^  roar_.*\n)+', text, re.M)
    assert set(re.findall(r'--(\w+)', examples)) <= set(_flags(text))
  assert set(_flags(tool('roar_tf', 'list', '-h').out)) == {
    *('study', 'dataset', 'gin_file', 'gin_bindings', 'seed', 'only', 'run'),
    *('workspace', 'data_dir', 'help', 'version', 'flagfile', 'undefok'),
  }


def test_every_command_tells_versions(tool, tmp_path):
  version = importlib.metadata.version
  names = ('tensorflow', 'tensorflow-cpu', 'tensorflow-tpu')
  tensorflow = next(
    found
    for name in names
    if (found := next(importlib.metadata.distributions(name=name), None))
  ).version
  expected = (
    f'roar_tf {version("roar_tf")}\nTensorFlow {tensorflow}\n'
    f'Keras {version("keras")}\nPython {sys.version.split()[0]}\n'
  )
  for command in COMMANDS:
    assert tool(f'roar_{command}', '--version').out == expected
  assert tool('roar_tf', 'list', '--version').out == expected
  done = _installed(tmp_path, 'roar_tf --version')
  assert (done.returncode, done.stdout) == (0, expected)


# --- verbs --------------------------------------------------------------------


@pytest.mark.parametrize(
  'words, expected',
  [
    (['lst'], ['no verb "lst"', '"list"', '--help']),
    (['Study'], ['no verb "Study"', '"study"']),
    ([], ['begin with a verb']),
    (['--study=quickstart', 'list'], ['begin with a verb', '--study']),
    (['list', '--study=quickstart', '--first'], ['takes no --first']),
    (
      ['list', '--study=quickstart', '--first', '--threads=2'],
      ['takes no --first and no --threads; leave them out'],
    ),
    (['list', '--stuyd=quickstart'], ['--stuyd', '"--study"']),
    (['toy', '--dataset=mnist'], ['--dataset: there is no such flag. See']),
    (['status', '--study=quickstart', 'now'], ['"now"']),
    (['verify', '--threshold=50'], ['takes no --threshold']),
    (['repair', '--dataset=x', '--threshold=5'], ['takes no --threshold']),
    (['clean', '--study=quickstart'], ['shards or temporary']),
    (['clean', 'shrads', '--study=quickstart'], ['shrads']),
    (['clean', 'temporary', '--only=estimator:grad'], ['takes no --only']),
    (['params', 'Study.seed'], ['Study.seed', '"Study.seeds"']),
    (['plan', '--study=quickstart', '--rates=none', '--price_per_hour=1'], []),
  ],
)
def test_a_mistake_in_a_verb_is_one_sentence(words, expected, tool):
  _refuses(tool('roar_tf', *words), *expected)


def test_a_verb_and_the_older_form_say_the_same(tool, tiny, finished):
  flags = [f'--study={tiny.study}', *tiny.flags(finished)]
  for verb, form in (
    (['list', '--only=estimator:grad'], ['--list', '--only=estimator:grad']),
    (['plan', '--stage=train'], ['--dry_run', '--stage=train']),
    (['status'], ['--status']),
    (['report'], None),
  ):
    new = tool('roar_tf', *verb, *flags)
    old = (
      tool('roar_study', *form, *flags) if form else tool('roar_report', *flags)
    )
    assert new.status == old.status == 0
    ages = r'\d+ s ago|[\d.]+ s\b|\d\d:\d\d:\d\d'
    assert re.sub(ages, '', new.out) == re.sub(ages, '', old.out)
  # A flag of a whole command is no obstacle to looking at it.
  more = ['--executor=ray', '--resources=train:CPU=2', '--parallel=2']
  assert tool('roar_study', '--list', *flags, *more).status == 0
  place = f'--workspace={finished}'
  verified = tool('roar_tf', 'verify', place)
  assert verified == tool('roar_shards', '--verify', place)
  assert 'all intact' in verified.out


def test_clean_and_repair_are_verbs(tool, tiny, damaged, artefacts):
  flags = [f'--study={tiny.study}', *tiny.flags(damaged)]
  before = artefacts(damaged)
  outcome = tool('roar_tf', 'clean', 'temporary', f'--workspace={damaged}')
  assert outcome.status == 0, outcome.err
  outcome = tool('roar_tf', 'clean', 'shards', *flags)
  assert outcome.status == 0 and 'masked datasets deleted' in outcome.out
  assert len(artefacts(damaged)) < len(before)
  outcome = tool('roar_tf', 'repair', *flags)
  assert outcome.status == 0 and 'all intact' in outcome.out


# --- flags of absl that do nothing here ---------------------------------------


def test_flags_of_absl_that_would_do_nothing_are_refused(tool, tmp_path):
  from absl import app, flags

  assert app.run
  kept = {'help', 'helpshort', 'helpfull', 'helpxml', '?'}
  dead = sorted(set(flags.FLAGS) - kept)
  assert {'only_check_args', 'pdb', 'profile_file', 'verbosity'} <= set(dead)
  for name in dead:
    flag = f'--{name}' if flags.FLAGS[name].boolean else f'--{name}=1'
    _refuses(tool('roar_toy', flag, '--draws=1'), f'--{name}: there is no')
  done = _installed(tmp_path, 'roar_toy --only_check_args')
  assert done.returncode == 2 and not list(tmp_path.iterdir())
  assert done.stderr.startswith('roar_toy: --only_check_args: there is no such')


def test_flags_of_absl_that_work_stay(tool, tmp_path):
  (tmp_path / 'flags').write_text('--study=quikstart\n')
  outcome = tool(
    'roar_study', f'--flagfile={tmp_path}/flags', '--undefok=pdb', '--pdb'
  )
  _refuses(outcome, '"quickstart"')
  for name in ('--helpshort', '--helpfull', '-?'):
    assert tool('roar_toy', name).out == tool('roar_toy', '--help').out


# --- without TensorFlow -------------------------------------------------------

MISTAKES = r"""
import contextlib, io, sys
import roar_tf
from roar_tf import __main__, cli_flags

def run(*words):
  for name in [n for n in sys.modules if n.startswith('roar_tf.tools.')]:
    del sys.modules[name]
  for flag in list(cli_flags.FLAGS):
    delattr(cli_flags.FLAGS, flag)
  sys.argv[:] = ['roar_tf', *words]
  err = io.StringIO()
  with contextlib.redirect_stderr(err):
    try:
      __main__.run()
    except SystemExit as e:
      return e.code, err.getvalue()

study, bind = ('study', '--study=quickstart'), '--gin_bindings='
dataset = '--dataset=planted_patch'
for words in (
  ('sutdy',),
  ('study',),
  ('study', '--pdb'),
  ('study', '--study=quikstart'),
  (*study, '--stage=trian'),
  (*study, bind + 'Study.seed = 5'),
  (*study, bind + 'Study.estimators = ("gard",)'),
  (*study, bind + 'Study.sources = ("planted_pacth",)'),
  (*study, bind + 'Training.epochs = -1'),
  (*study, '--list', '--only=estimator:gard'),
  (*study, '--tpu=local', '--strategy=mirrored'),
  (*study, '--strategy=multi_worker'),
  (*study, '--remake=gard'),
  ('plan', '--study=quickstart', '--rates=/no/file'),
  ('status', '--study=quickstart', '--workspace=/no/where'),
  ('rank', dataset, '--estimators=gard'),
  ('rank', '--dataset=planted_pacth', '--estimators=grad'),
  ('train', dataset, '--cell=gard_pixel_remove_90'),
  ('shards', dataset, '--estimator=grad', '--threshold=0'),
  ('report', '--study=quikstart'),
  ('preflight', '--dataset=planted_pacth'),
  ('preflight', dataset, '--topology=v5e:3x3x3'),
  ('toy', '--draws=0'),
  ('params', 'Study.seed'),
):
  status, text = run(*words)
  assert status == 2 and len(text.splitlines()) == 1, (words, status, text)
assert run('params') is not None and run('--version')[0] == 0
heavy = {'tensorflow', 'keras', 'tensorflow_datasets', 'pandas', 'scipy', 'jax'}
print('loaded', *heavy & set(sys.modules))
"""


def test_mistakes_are_answered_without_tensorflow(tmp_path):
  (tmp_path / 'mistakes.py').write_text(MISTAKES)
  done = _installed(tmp_path, 'python mistakes.py')
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == 'loaded'


# --- output -------------------------------------------------------------------


def test_a_reader_that_goes_is_no_error(tmp_path):
  for line, word in (
    ('roar_study --study=paper --list', 'roar_train'),
    ('roar_tf params', 'Attribution.samples'),
  ):
    done = _installed(tmp_path, f'{line} | head -1; exit ${{PIPESTATUS[0]}}')
    assert (done.returncode, done.stderr) == (0, '')
    assert word in done.stdout and len(done.stdout.splitlines()) == 1


def test_where_artefacts_go_is_said_first(tool, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  outcome = tool('roar_tf', 'clean', 'shards', '--study=quickstart')
  assert outcome.out.splitlines()[0] == f'Workspace: {tmp_path}/workspace'
  outcome = tool('roar_tf', 'status', '--study=quickstart')
  assert f'in {tmp_path}/workspace\n' in outcome.out
