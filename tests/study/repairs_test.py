"""Tests of verified and repaired workspaces; tests/engine has the faults."""

import random
import shutil

import pytest

from roar_tf import errors
from roar_tf.engine import verify
from roar_tf.study import paths, repairs

CONFIGS = ('original', 'ranking_grad_pixel', 'grad_pixel_remove_70')


def _folders(root, source=None):
  return repairs.folders(paths.Workspace(str(root)), source)


def _damages(root, folders=None):
  """Returns the damages in a workspace, or in some of its folders."""
  folders = folders or _folders(root)
  return verify.verify(folders, layout=repairs.LAYOUT).damages


def _marker(path):
  return path.with_name(f'{path.name}.DONE')


# --- what is found -----------------------------------------------------------


def test_flips_in_what_is_not_a_shard_are_found(damaged, flip):
  rng = random.Random(8)
  names = ['dataset_info.json', 'features.json', 'manifest.json']
  names += ['result.json', 'test_predictions.npz', 'weights.npz', 'DONE']
  for name in names:
    path = min(damaged.rglob(name))
    for _ in range(5):
      bit = rng.randrange(8 * path.stat().st_size)
      flip(path, bit)
      found = _damages(damaged, [str(path.parent)])
      assert [d.path for d in found] == [str(path)], (path, bit)
      flip(path, bit)


def test_names_tell_where_markers_are_missing(damaged, shard_of):
  """Shards are told by their names; a dataset without DONE is unfinished."""
  shard = shard_of(damaged, 'grad_pixel_remove_70')
  folder = [str(shard.parent)]
  stray = shutil.copy(shard, shard.with_name(f'{shard.name[:-1]}9'))
  (damage,) = _damages(damaged, folder)
  assert damage.path == str(stray)
  stray.unlink()
  shard.with_name('DONE').unlink()  # Killed after the metadata were written.
  assert not _damages(damaged, folder)
  _marker(shard).unlink()  # Published, and killed before it was committed.
  assert not _damages(damaged, folder)


def test_a_source_alone(damaged):
  shutil.copytree(damaged / 'models/tiny', damaged / 'models/other')
  weights = damaged / 'models/tiny/weights.npz'
  weights.unlink()
  assert not _damages(damaged, _folders(damaged, 'other'))
  (damage,) = _damages(damaged, _folders(damaged, 'tiny'))
  assert damage.path == str(weights)
  # The report is no source's.
  assert len(_folders(damaged)) == len(_folders(damaged, 'tiny')) + 2


def test_nothing_to_verify_is_refused(damaged, tmp_path):
  with pytest.raises(errors.UsageError, match='of dataset "tinny".*"tiny"'):
    _folders(damaged, 'tinny')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.UsageError, match='holds no artefacts'):
    _folders(tmp_path / 'empty')
  with pytest.raises(errors.UsageError, match='is no directory'):
    _folders(tmp_path / 'none')


# --- what is mended ----------------------------------------------------------


def test_damage_of_every_sort_at_once_is_mended_to_the_bit(
  tool, tiny, finished, damaged, artefacts, assert_same, shard_of, run_of, flip
):
  flipped = [shard_of(damaged, config, 'test', 1) for config in CONFIGS]
  flipped += [_marker(shard_of(damaged, config)) for config in CONFIGS]
  flipped += [
    damaged / f'tfds/roar_tiny/original/{paths.VERSION}/manifest.json'
  ]
  flipped += [damaged / 'models/tiny/weights.npz']
  flipped += [run_of(damaged, 'grad_pixel_remove_30') / 'result.json']
  flipped += [damaged / 'reports/small/DONE']
  for path in flipped:
    flip(path, 99)
  outcome = tool('roar_shards', '--verify', f'--workspace={damaged}')
  assert outcome.status == 1
  assert f'{len(flipped)} files are damaged' in outcome.err
  for path in flipped:
    assert f'\n  {path.relative_to(damaged)}: ' in outcome.err
  command = f'roar_shards --repair --workspace={damaged} --study=NAME'
  assert command in outcome.err
  untouched = {
    path: path.stat().st_mtime_ns
    for path in damaged.rglob('*')
    if path.is_file() and 'random_pixel' in str(path)
  }
  repair = ['--repair', f'--study={tiny.study}', *tiny.flags(damaged)]
  outcome = tool('roar_shards', *repair)
  assert outcome.status == 0, outcome.err
  assert f'repaired: {len(flipped)} of ' in outcome.out
  assert_same(artefacts(damaged), artefacts(finished))
  assert all(p.stat().st_mtime_ns == then for p, then in untouched.items())
  outcome = tool('roar_shards', '--verify', f'--workspace={damaged}')
  assert outcome.status == 0 and 'all intact' in outcome.out


def test_a_cell_is_mended_by_the_command_that_its_path_tells(
  tool, tiny, finished, damaged, artefacts, assert_same, shard_of, flip
):
  mine, other = (
    shard_of(damaged, f'{e}_pixel_remove_70') for e in ('grad', 'random')
  )
  for shard in (mine, other):
    flip(shard)
  repair = ['--repair', *tiny.flags(damaged), f'--dataset={tiny.dataset}']
  cell = ['--granularity=pixel', '--mode=remove', '--threshold=70']
  outcome = tool('roar_shards', *repair, '--estimator=grad', *cell)
  # What is not of this cell is left as it is, and named with its command.
  assert outcome.status == 1
  assert '1 file is damaged; ' in outcome.err
  flags = ' '.join(['--dataset=tiny', '--estimator=random', *cell])
  assert f'--workspace={damaged} {flags} --fill=mean' in outcome.err
  (damage,) = _damages(damaged)
  assert damage.path == str(other)
  outcome = tool('roar_shards', *repair, '--estimator=random', *cell)
  assert outcome.status == 0, outcome.err
  assert_same(artefacts(damaged), artefacts(finished))


@pytest.mark.parametrize(
  'done, flags',
  [
    ('tfds/roar_x/original/1.0.0/a.DONE', '--dataset=x'),
    ('models/x/DONE', '--dataset=x'),
    (
      'tfds/roar_x/ranking_sg_sq_grad_element/1.0.0/DONE',
      '--dataset=x --estimator=sg_sq_grad --granularity=element',
    ),
    (
      'tfds/roar_x/grad_pixel_keep_5_imagenet_mean/1.0.0/DONE',
      '--dataset=x --estimator=grad --granularity=pixel --mode=keep '
      '--threshold=5 --fill=imagenet_mean',
    ),
    ('tfds/roar_x/mine_pixel_keep_5_blue/1.0.0/DONE', '--study=NAME'),
    ('runs/paper/x/original/seed_3/DONE', '--study=paper'),
    ('reports/paper/DONE', '--study=paper'),
  ],
)
def test_the_command_is_told_by_the_path(done, flags):
  workspace = paths.Workspace('/w')
  damage = verify.Damage(f'/w/{done}', '', f'/w/{done}')
  expected = f'roar_shards --repair --workspace=/w {flags}'
  assert repairs.command(workspace, [damage, damage]) == expected
  other = verify.Damage('/w/models/y', '', '/w/models/y/DONE')
  assert repairs.command(workspace, [damage, other]).endswith('--study=NAME')
