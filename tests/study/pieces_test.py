"""Tests of reports over runs that were made elsewhere."""

import json
import shutil

import pandas as pd
import pytest

from roar_tf.analysis import results


@pytest.fixture(scope='module')
def flags(tiny):
  """The flags of a study, but for its workspace."""
  return [f'--study={tiny.study}', f'--data_dir={tiny.data_dir}']


def _without_images(folder):
  """Returns what a report says but for the page, which shows test images."""
  names = ('results.csv', 'statistics.csv', 'predictions.npz', 'table.md')
  return {name: (folder / name).read_bytes() for name in names}


def test_pieces_of_two_machines_make_the_report_of_one(
  finished, flags, tool, tmp_path
):
  whole = finished / 'reports/small'
  pieces = []
  for seed in (0, 1):
    mine = tmp_path / f'machine_{seed}'
    shutil.copytree(finished, mine)
    shutil.rmtree(mine / 'reports')
    for run in mine.glob(f'runs/small/tiny/*/seed_{1 - seed}'):
      shutil.rmtree(run)
    outcome = tool('roar_report', *flags, f'--workspace={mine}')
    assert outcome.status == 1  # It is not whole.
    piece = tmp_path / f'piece_{seed}'
    shutil.copytree(mine / 'reports/small', piece)
    pieces.append(str(piece))
  merged, again = tmp_path / 'merged', tmp_path / 'again'
  nothing = f'--workspace={tmp_path}/nothing'
  outcome = tool(
    'roar_report',
    *flags,
    nothing,
    f'--results={",".join(pieces)}',
    f'--output={merged}',
  )
  assert outcome.status == 0, outcome.err
  assert f'Report: {merged}/index.html' in outcome.out
  assert _without_images(merged) == _without_images(whole)
  assert not (tmp_path / 'nothing').exists()
  # A report is all that the same report needs.
  tool(
    'roar_report',
    *flags,
    nothing,
    f'--results={merged},{pieces[1]}',
    f'--output={again}',
  )
  for file in merged.iterdir():
    assert file.read_bytes() == (again / file.name).read_bytes(), file.name
  # One piece alone lacks runs, and they are named.
  outcome = tool(
    'roar_report', *flags, nothing, f'--results={pieces[0]}',
    f'--output={tmp_path}/one',
  )  # fmt: skip
  assert outcome.status == 1 and 'seed_1' in outcome.err


def test_accuracies_of_another_framework_join_those_of_a_workspace(
  damaged, flags, tool, tmp_path
):
  whole = damaged / 'reports/small'
  frame = results.read_csv(str(whole / 'results.csv'))
  ours = frame['estimator'] == 'grad'
  columns = ['source', 'estimator', 'granularity', 'mode', 'threshold', 'seed']
  table = tmp_path / 'pytorch.csv'
  frame.loc[ours, [*columns, 'accuracy', 'test_images']].to_csv(
    table, index=False
  )
  for run in damaged.glob('runs/small/tiny/grad*'):
    shutil.rmtree(run)
  outcome = tool(
    'roar_report',
    *flags,
    f'--workspace={damaged}',
    f'--results={table}',
    f'--output={tmp_path}/joined',
  )
  assert outcome.status == 0, outcome.err
  joined = results.read_csv(f'{tmp_path}/joined/results.csv')
  key = [*columns, 'accuracy']
  assert joined[key].equals(frame[key])
  # Without answers image by image, the error is that of seeds alone.
  assert 'data:image/png' in (tmp_path / 'joined/index.html').read_text()


def _piece(finished, tmp_path):
  return shutil.copytree(finished / 'reports/small', tmp_path / 'piece')


def _change(folder, change):
  path = folder / 'results.csv'
  frame = pd.read_csv(path, dtype=str, na_filter=False)
  change(frame)
  frame.to_csv(path, index=False)


@pytest.mark.parametrize(
  'change, status, words',
  [
    (lambda f: (f / 'results.csv').unlink(), 2, 'there is no'),
    (
      lambda f: _change(f, lambda t: t.__setitem__('estimator', 'sobel')),
      2,
      'estimator sobel',
    ),
    (lambda f: _change(f, lambda t: t.pop('accuracy')), 1, 'no table'),
    (
      lambda f: _change(f, lambda t: t.__setitem__('accuracy', '0.5')),
      1,
      'does not fit the accuracy',
    ),
    (lambda f: (f / 'predictions.npz').write_bytes(b'PK'), 1, 'predictions'),
    (lambda f: (f / 'about.json').write_text('[1]'), 1, 'about.json'),
    (
      lambda f: (f / 'about.json').write_text(json.dumps({'facts': [1]})),
      1,
      'about.json',
    ),
  ],
)
def test_what_is_no_piece_is_refused_by_name(
  finished, flags, tool, tmp_path, change, status, words
):
  piece = _piece(finished, tmp_path)
  change(piece)
  outcome = tool(
    'roar_report',
    *flags,
    f'--workspace={tmp_path}/nothing',
    f'--results={piece}',
    f'--output={tmp_path}/out',
  )
  assert outcome.status == status and words in outcome.err
  assert 'Traceback' not in outcome.err


def test_pieces_that_disagree_are_refused(finished, flags, tool, tmp_path):
  piece = _piece(finished, tmp_path)
  _change(piece, lambda t: t.__setitem__('accuracy', '0.5'))
  (piece / 'predictions.npz').unlink()
  outcome = tool(
    'roar_report',
    *flags,
    f'--workspace={finished}',
    f'--results={piece}',
    f'--output={tmp_path}/out',
  )
  assert outcome.status == 1 and 'leave one of them out' in outcome.err


def test_the_two_flags_belong_together(flags, refused):
  for flag in ('--results=piece', '--output=merged'):
    refused('roar_report', [*flags, flag], ['--results', '--output'])
