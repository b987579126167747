"""Tests of what all tools share: paths, parallel work, where output goes."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path, monkeypatch) -> pathlib.Path:
  """The home of whoever runs a tool; it was called in another folder."""
  folder, elsewhere = tmp_path / 'home', tmp_path / 'elsewhere'
  for path in (folder, elsewhere):
    path.mkdir()
  monkeypatch.setenv('HOME', str(folder))
  monkeypatch.chdir(elsewhere)
  yield folder
  assert not list(elsewhere.iterdir())  # No folder called ~.


def _link(home, tiny):
  """Makes the files of `tiny` those of a user, who calls them so."""
  for name, path in (
    ('data', tiny.data_dir),
    ('tiny.gin', tiny.dataset),
    ('small.gin', tiny.study),
  ):
    (home / name).symlink_to(path)


@pytest.mark.parametrize('by', ['flags', 'variables'])
def test_a_home_in_any_path_is_found(
  by, home, tiny, damaged, tool, monkeypatch
):
  _link(home, tiny)
  damaged.rename(home / 'w')
  own = "Study.sources = ('~/tiny.gin',)\n"
  (home / 'own.gin').write_text(f"include '~/more.gin'\n{own}")
  (home / 'more.gin').write_text('Study.seeds = 2\n')
  flags = ['--study=~/small.gin', '--gin_file=~/own.gin']
  if by == 'flags':
    flags += ['--workspace=~/w', '--data_dir=~/data']
  else:
    monkeypatch.setenv('ROAR_WORKSPACE', '~/w')
    monkeypatch.setenv('TFDS_DATA_DIR', '~/data')
  outcome = tool('roar_study', *flags)
  assert outcome.status == 0, outcome.err
  counts = outcome.counts()
  assert counts.keys() >= {'source', 'model', 'train'}
  assert all(made == 0 for made, _, _ in counts.values())


@pytest.mark.parametrize(
  'flag, words',
  [
    ('--workspace=http://host/w', '--workspace=http://host/w is no local path'),
    ('--workspace=file://host/w', '--workspace=file://host/w is no local path'),
    ('--workspace=gs://', 'names no bucket'),
    ('--workspace=s3://b/w', '--workspace=s3://b/w: TensorFlow opens no s3://'),
    ('--workspace=a\nb', "--workspace='a\\nb' holds a line break"),
    ('--workspace=~nobody here/w', 'there is no user nobody here'),
    ('--data_dir=abfs://b/d', '--data_dir=abfs://b/d is no local path'),
    ('--gin_file=hdfs://b/x.gin', '--gin_file=hdfs://b/x.gin is no local'),
    ('--study=ram://x.gin', '--study=ram://x.gin is no local path'),
    ('--dataset=~nobody here/x.gin', '--dataset=~nobody here/x.gin: there is'),
    ('--gin_bindings=ExplainedModel.file = "hdfs://m"', 'ExplainedModel.file='),
    ('--gin_bindings=Source.folder = "hdfs://m"', 'Source.folder=hdfs://m'),
  ],
)
def test_a_path_that_cannot_be_one_is_refused(flag, words, tiny, home, tool):
  flags = [f'--study={tiny.study}', f'--data_dir={tiny.data_dir}', flag]
  if 'ExplainedModel' in flag:
    flags.append('--gin_bindings=ExplainedModel.input = "normalised"')
  if 'folder' in flag:
    flags.append('--gin_bindings=Source.tfds_name = None')
  if '--workspace' not in flag:
    flags.append(f'--workspace={home}/w')
  outcome = tool('roar_study', *flags)
  assert outcome.status in (1, 2) and words in outcome.err
  lines = [line for line in outcome.err.splitlines() if 'roar_study: ' in line]
  assert len(lines) == 1 and 'Traceback' not in outcome.err


def test_a_file_url_is_a_local_path(tiny, damaged, tool):
  flags = tiny.flags(f'file://{damaged}')
  outcome = tool('roar_study', f'--study={tiny.study}', *flags)
  assert outcome.status == 0 and f'Report: {damaged}/' in outcome.out


def test_names_that_globs_and_urls_know_are_names(
  tiny, damaged, tool, artefacts, finished
):
  import tensorflow_datasets as tfds

  root = damaged.rename(damaged.with_name('a [1]*?{x}#%20 ü'))
  cell = next(root.glob('tfds/roar_tiny/grad_pixel_remove_70/*'))
  for path in cell.iterdir():
    path.unlink()
  for path in root.glob('runs/small/tiny/grad_pixel_remove_70/seed_1/*.*'):
    path.unlink()
  next(root.glob('runs/small/tiny/grad_pixel_remove_70/seed_1/DONE')).unlink()
  outcome = tool('roar_study', f'--study={tiny.study}', *tiny.flags(root))
  assert outcome.status == 0, outcome.err
  assert outcome.counts()['train'] == (1, 9, 0)
  assert artefacts(root) == artefacts(finished)
  name = 'roar_tiny/grad_pixel_remove_70'
  assert len(tfds.load(name, split='test', data_dir=f'{root}/tfds')) == 60
  outcome = tool('roar_shards', '--verify', f'--workspace={root}')
  assert 'all intact' in outcome.out


# --- output -------------------------------------------------------------------

PROGRAM = """
import sys
from roar_tf import cli, errors

def main():
  print('Lead: \\u2013 3 \\u00fc')
  for line in range(100_000):
    print('one more line')
  print('a warning', file=sys.stderr)
  open('done', 'w').close()
  raise errors.UnitsFailedError('1 of the units failed \\u2013')

cli.run(main)
"""


def _program(folder, command, **environment):
  script = folder / 'program.py'
  script.write_text(PROGRAM)
  done = subprocess.run(
    ['bash', '-c', f'{sys.executable} {script} {command}'],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
    capture_output=True,
  )
  assert (folder / 'done').exists()
  assert b'Error' not in done.stderr and b'Exception' not in done.stderr
  return done


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1'])
def test_an_encoding_without_a_letter_of_the_report_ends_nothing(
  encoding, tmp_path
):
  done = _program(tmp_path, '', PYTHONIOENCODING=encoding)
  assert done.returncode == 1
  assert done.stdout.startswith(b'Lead: \\u2013 3 ')
  assert done.stderr.endswith(b'1 of the units failed \\u2013\n')


@pytest.mark.parametrize(
  'command', ['| head -1', '2>&1 | head -1', '>&-', '>&- 2>&-']
)
def test_a_reader_that_goes_ends_nothing(command, tmp_path):
  done = _program(tmp_path, f'{command}; exit ${{PIPESTATUS[0]}}')
  assert done.returncode == 1
