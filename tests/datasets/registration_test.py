"""Tests of the TFDS builders: their names, what they make, what they refuse."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from roar_tf import cells, config, errors
from roar_tf.engine import verify
from roar_tf.study import paths, repairs

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTED = 'grad_pixel_remove_30'
UNLISTED = 'random_pixel_keep_7_imagenet_mean'

# `tfds build` with its own flags. The rest of the command `tfds` needs packages
# that TFDS does not install.
BUILD = """
import sys
import simple_parsing
from tensorflow_datasets.scripts.cli import build

assert 'roar_tf' not in sys.modules
parser = simple_parsing.ArgumentParser()
parser.add_arguments(build.Args, dest='build')
parser.parse_args(sys.argv[1:]).build.execute()
"""


def _python(code, *arguments, flags=(), **environment):
  return subprocess.run(
    [sys.executable, *flags, '-c', code, *map(str, arguments)],
    capture_output=True,
    text=True,
    env={'PATH': '', 'TF_CPP_MIN_LOG_LEVEL': '3', **environment},
  )


def _folder(root, config_name):
  return pathlib.Path(root) / 'tfds/roar_tiny' / config_name / '1.0.0'


def _builder(root, config_name, name='roar_tiny', **arguments):
  return tfds.builder(
    f'{name}/{config_name}', data_dir=root / 'tfds', **arguments
  )


def _contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- names ------------------------------------------------------------------


def test_every_source_that_comes_along_has_a_builder():
  registered = set(tfds.list_builders(with_community_datasets=False))
  for source in config.available('datasets'):
    assert f'roar_{source}' in registered
    builder = tfds.builder_cls(f'roar_{source}')
    assert builder.name == f'roar_{source}'
    assert str(builder.VERSION) == paths.VERSION


def test_configs_are_original_and_the_grid_of_the_paper():
  estimators = (
    'grad gb ig sq_grad sq_gb sq_ig sg_grad sg_gb sg_ig sg_sq_grad sg_sq_gb '
    'sg_sq_ig var_grad var_gb var_ig sq_sg_grad random sobel'
  ).split()
  expected = {
    f'{estimator}_{granularity}_{mode}_{threshold}'
    for estimator in estimators
    for granularity in ('pixel', 'element')
    for mode in ('remove', 'keep')
    for threshold in (10, 30, 50, 70, 90)
  }
  assert len(expected) == 360
  builder = tfds.builder_cls('roar_food101')
  names = [c.name for c in builder.BUILDER_CONFIGS]
  assert len(names) == len(expected) + 1
  assert set(names) == {'original', *expected}
  assert builder.default_builder_config.name == 'original'
  for name in expected:
    assert cells.parse_cell(name).name == name


# --- what is made -----------------------------------------------------------


@pytest.mark.parametrize('name', [LISTED, UNLISTED])
def test_a_cell_is_what_roar_shards_writes(
  name, tiny, finished, damaged, tmp_path, work
):
  expected = _folder(shutil.copytree(finished, tmp_path / 'other'), name)
  pipeline = tiny.pipeline(tmp_path / 'other')
  shutil.rmtree(expected, ignore_errors=True)
  work(pipeline, [pipeline.stages[0].shards.masked(cells.parse_cell(name))])
  found = _folder(damaged, name)
  shutil.rmtree(found, ignore_errors=True)
  builder = _builder(damaged, name)
  assert not builder.is_prepared()
  builder.download_and_prepare()
  assert builder.is_prepared()
  # One process and so one environment: markers are equal too.
  assert _contents(found) == _contents(expected)
  assert builder.info.splits['train'].num_examples == 120
  assert set(builder.info.features) == {'image', 'label', 'id'}
  folders = repairs.folders(paths.Workspace(str(damaged)))
  assert not verify.verify(folders, layout=repairs.LAYOUT).damages


def test_what_was_begun_is_completed_and_what_is_finished_kept(
  finished, damaged
):
  folder = _folder(damaged, LISTED)
  for name in ('DONE', 'dataset_info.json', 'features.json'):
    (folder / name).unlink()
  shard = folder / 'roar_tiny-train.tfrecord-00001-of-00003'
  shard.unlink()
  shard.with_name(f'{shard.name}.DONE').unlink()
  kept = folder / 'roar_tiny-train.tfrecord-00000-of-00003'
  before = kept.stat().st_mtime_ns
  # Through `tfds.load`: to TFDS a folder that is there is a dataset.
  tfds.load(f'roar_tiny/{LISTED}', data_dir=damaged / 'tfds')
  assert _contents(folder) == _contents(_folder(finished, LISTED))
  assert kept.stat().st_mtime_ns == before
  mode = tfds.download.GenerateMode.FORCE_REDOWNLOAD
  wishes = tfds.download.DownloadConfig(download_mode=mode)
  _builder(damaged, LISTED).download_and_prepare(download_config=wishes)
  assert _contents(folder) == _contents(_folder(finished, LISTED))
  assert kept.stat().st_mtime_ns != before


def test_tfds_build_makes_a_cell(finished, damaged):
  folder = _folder(damaged, LISTED)
  shutil.rmtree(folder.parent)
  command = [f'roar_tiny/{LISTED}', '--imports=roar_tf.datasets']
  command += [f'--data_dir={damaged}/tfds']
  done = _python(BUILD, *command, PYTHONPATH=str(ROOT))
  assert done.returncode == 0, done.stderr[-2000:]
  found, expected = _contents(folder), _contents(_folder(finished, LISTED))
  assert set(found) == set(expected)
  for name, content in found.items():
    if name.endswith('DONE'):  # Nobody set the number of threads.
      one, other = json.loads(content), json.loads(expected[name])
      assert {**one, 'environment': 0, 'checksum': 0} == {
        **other,
        'environment': 0,
        'checksum': 0,
      }
    else:
      assert content == expected[name]


def test_a_cell_without_its_workspace_can_be_read(finished, tmp_path):
  shutil.copytree(
    _folder(finished, LISTED), tmp_path / 'roar_tiny' / LISTED / '1.0.0'
  )
  data = tfds.load(f'roar_tiny/{LISTED}', data_dir=tmp_path, split='test')
  assert len(data) == 60


def test_scores_made_elsewhere_have_cells_too(tool, tiny, damaged, tmp_path):
  originals = [
    example
    for split in tfds.load('roar_tiny/original', data_dir=damaged / 'tfds')
    for example in tfds.as_numpy(
      tfds.load('roar_tiny/original', data_dir=damaged / 'tfds', split=split)
    )
  ]
  scores = np.random.default_rng(0).normal(size=(len(originals), 8, 8, 1))
  (tmp_path / 'scores').mkdir()
  np.savez(
    tmp_path / 'scores/all.npz',
    ids=np.array([e['id'].decode() for e in originals]),
    scores=scores.astype(np.float32),
  )
  flags = [f'--dataset={tiny.dataset}', *tiny.flags(damaged)]
  flags += [f'--scores={tmp_path}/scores', '--estimators=my_maps']
  assert tool('roar_rank', *flags).status == 0
  data = tfds.load(
    'roar_tiny/my_maps_pixel_remove_50', data_dir=damaged / 'tfds'
  )
  images = {e['id']: e['image'] for e in originals}
  for example in tfds.as_numpy(data['test']):
    changed = (example['image'] != images[example['id']]).any(axis=-1)
    assert 30 <= changed.sum() <= 32  # Some pixels have the fill's colour.


# --- what is refused --------------------------------------------------------


@pytest.mark.parametrize(
  'name, words',
  [
    ('typo', ['roar_tiny/typo is no cell']),
    ('gradd_pixel_remove_50', ['"gradd"', '"grad"', '--imports=']),
    ('grad_pixel_remove_0', ['1 to 100', '"original"']),
    ('grad_pixel_remove_50_blue', ['fill', '"blue"', 'imagenet_mean']),
  ],
)
def test_names_of_no_cell_are_refused_at_once(name, words, finished):
  with pytest.raises(errors.UsageError) as caught:
    _builder(finished, name)
  assert len(str(caught.value).splitlines()) == 1
  for word in words:
    assert word in str(caught.value)


@pytest.mark.parametrize(
  'dataset, name, words',
  [
    ('roar_tiny', 'sobel_pixel_remove_50', ['--estimators=sobel', 'tiny.gin']),
    ('roar_tiny', 'sobel_element_keep_3', ['--granularity=element']),
    ('roar_tiny', 'ranking_gb_pixel', ['roar_rank', '--estimators=gb']),
    ('roar_cifar10', 'grad_pixel_remove_50', ['/original/', '=cifar10 ']),
    ('roar_cifar10', 'original', ['roar_study', '--stage=source']),
  ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(
  dataset, name, words, finished, artefacts
):
  before = artefacts(finished)
  with pytest.raises(errors.MissingInputsError) as caught:
    tfds.load(f'{dataset}/{name}', data_dir=finished / 'tfds')
  assert len(str(caught.value).splitlines()) == 1
  for word in (f'--workspace={finished}', *words):
    assert word in str(caught.value)
  assert artefacts(finished) == before


def test_a_folder_that_is_no_workspaces_is_refused(finished):
  with pytest.raises(errors.UsageError, match='WORKSPACE/tfds'):
    tfds.load('roar_tiny/grad_pixel_remove_50', data_dir=finished)


@pytest.mark.parametrize('config_name', ['original', 'ranking_grad_pixel'])
def test_what_other_stages_make_is_never_deleted(
  config_name, damaged, artefacts
):
  before = artefacts(damaged)
  mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
  wishes = tfds.download.DownloadConfig(download_mode=mode)
  builder = tfds.builder_cls('roar_tiny')(
    config=config_name, data_dir=damaged / 'tfds'
  )
  # `tfds build --overwrite` deletes what is prepared.
  assert not builder.is_prepared()
  with pytest.raises(errors.UsageError, match='not overwritten'):
    builder.download_and_prepare(download_config=wishes)
  builder.download_and_prepare()
  assert artefacts(damaged) == before


def test_other_shards_than_those_of_original_are_refused(damaged):
  shutil.rmtree(_folder(damaged, LISTED))
  for wishes in ({'max_examples_per_split': 3}, {'num_shards': 2}):
    download_config = tfds.download.DownloadConfig(**wishes)
    with pytest.raises(errors.UsageError, match=next(iter(wishes))):
      _builder(damaged, LISTED).download_and_prepare(
        download_config=download_config
      )
  with pytest.raises(errors.UsageError, match='file_format=riegeli'):
    _builder(damaged, LISTED, file_format='riegeli').download_and_prepare()
  assert not _folder(damaged, LISTED).exists()


@pytest.mark.parametrize('config_name', ['original', 'ranking_grad_pixel'])
def test_damaged_shards_are_named_and_make_no_cell(config_name, damaged):
  shutil.rmtree(_folder(damaged, LISTED))
  name = 'roar_tiny-train.tfrecord-00001-of-00003'
  shard = _folder(damaged, config_name) / name
  data = bytearray(shard.read_bytes())
  data[len(data) // 2] ^= 1
  shard.write_bytes(data)
  with pytest.raises(errors.UnitsFailedError) as caught:
    tfds.load(f'roar_tiny/{LISTED}', data_dir=damaged / 'tfds')
  assert str(shard) in str(caught.value)
  assert 'roar_shards --verify' in str(caught.value)
  assert not (_folder(damaged, LISTED) / 'DONE').exists()
  assert not _builder(damaged, LISTED).is_prepared()
