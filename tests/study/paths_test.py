"""Tests of where artefacts lie."""

import pytest

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.study import paths


def test_paths_are_those_of_the_design():
  workspace = paths.Workspace('/data/w/')
  version = paths.VERSION
  assert workspace.tfds == '/data/w/tfds'
  assert workspace.dataset('food101', 'original') == (
    f'/data/w/tfds/roar_food101/original/{version}'
  )
  assert workspace.shard('food101', 'grad_pixel_keep_5', 'test', 2, 10) == (
    f'/data/w/tfds/roar_food101/grad_pixel_keep_5/{version}'
    '/roar_food101-test.tfrecord-00002-of-00010'
  )
  assert workspace.model('food101') == '/data/w/models/food101'
  assert workspace.run('paper', 'food101', 'original', 3) == (
    '/data/w/runs/paper/food101/original/seed_3'
  )
  assert workspace.report('paper') == '/data/w/reports/paper'
  assert workspace.heartbeats('paper') == '/data/w/status/paper'


@pytest.mark.parametrize('root', ['/data/w', 'w', '.', 'gs://bucket/w'])
def test_a_workspace_is_found_by_the_folder_that_tfds_reads(root):
  workspace = paths.Workspace(root)
  for directory in (workspace.tfds, f'{workspace.tfds}/'):
    assert paths.Workspace.of_tfds(directory).root == workspace.root
  with pytest.raises(errors.UsageError, match=f'data_dir={root} .*WORKSPACE'):
    paths.Workspace.of_tfds(root)


def test_artefacts_are_found_where_they_are_made(tmp_path):
  workspace = paths.Workspace(str(tmp_path))
  assert not list(workspace.artefacts()) and not list(workspace.aside())
  sources = {
    workspace.dataset('x', 'original'): 'x',
    workspace.dataset('y_z', 'grad_pixel_keep_5'): 'y_z',
    workspace.model('x'): 'x',
    workspace.run('paper', 'x', 'original', 3): 'x',
    workspace.report('paper'): None,
  }
  for folder in sources:
    files.publish_json(f'{folder}/DONE', {})
  # What TFDS keeps beside them, and files where folders belong.
  for name in ('tfds/mnist/3.0.1/x', 'tfds/notes', 'models/notes', 'x/y/DONE'):
    files.publish_json(f'{workspace.root}/{name}', {})
  found = {path: workspace.source_of(path) for path in workspace.artefacts()}
  assert found == sources
  aside = f'{workspace.model("x")}/weights.npz.tmp-{"0a" * 16}'
  half = f'{workspace.heartbeats("y")}/node.json.tmp-{"0a" * 16}'
  for path in (aside, half):
    files.publish_json(path, {})
  assert sorted(workspace.aside()) == sorted([aside, half])
  assert workspace.all_heartbeats() == [workspace.heartbeats('y')]


@pytest.mark.parametrize(
  'there, name',
  [('Small', 'small'), ('small', 'sMALL'), ('e\u0301t\xe9', '\xe9t\xe9')],
)
def test_studies_that_a_disk_may_take_for_one_are_refused(
  there, name, tmp_path
):
  workspace = paths.Workspace(str(tmp_path))
  workspace.check_study(name)
  (tmp_path / 'runs' / there).mkdir(parents=True)
  workspace.check_study(there)
  workspace.check_study(f'{name}er')
  with pytest.raises(errors.UsageError, match=f'"{there}".*"{name}"'):
    workspace.check_study(name)


def test_a_workspace_is_made_empty(tmp_path):
  paths.Workspace(f'{tmp_path}/a/b').create()
  assert list(tmp_path.rglob('*')) == [tmp_path / 'a', tmp_path / 'a/b']


@pytest.mark.parametrize('below', ['', '/below'])
def test_a_file_in_its_place_is_no_workspace(below, tmp_path):
  (tmp_path / 'w').write_text('a file')
  with pytest.raises(
    errors.UsageError, match='--workspace=.*cannot be written'
  ):
    paths.Workspace(f'{tmp_path}/w{below}').create()


def test_an_empty_workspace_flag_is_not_the_root_of_the_disk():
  with pytest.raises(errors.UsageError, match='--workspace is empty'):
    paths.Workspace('')
