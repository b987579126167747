"""Tests of integrity: any change is found and named, and mended to the bit."""

import json
import pathlib
import random
import shutil

import pytest

from roar_tf import errors, workspace
from roar_tf.study import integrity, pipeline

CONFIGS = ('original', 'ranking_grad_pixel', 'grad_pixel_remove_70')


def _folders(root, source=None):
  return integrity.folders(workspace.Workspace(str(root)), source)


def _damages(root, folders=None):
  """Returns {path below the root: reason}."""
  findings = integrity.verify(folders or _folders(root))
  return {
    str(pathlib.Path(d.path).relative_to(root)): d.reason
    for d in findings.damages
  }


def _repair(works, folders=None):
  root = works[0].context.workspace.root
  findings = integrity.verify(folders or _folders(root))
  return integrity.repair(works, pipeline.STAGES, findings.damages)


def _shard(root, config, split='train', index=0):
  (path,) = pathlib.Path(root).glob(
    f'tfds/roar_tiny/{config}/*/*-{split}.tfrecord-{index:05d}-of-0000?'
  )
  return path


def _marker(path):
  return path.with_name(f'{path.name}.DONE')


def _flip(path, bit):
  data = bytearray(path.read_bytes())
  data[bit // 8] ^= 1 << bit % 8
  path.write_bytes(bytes(data))


# --- what is found ----------------------------------------------------------


@pytest.mark.parametrize('pattern', ['*.tfrecord-?????-of-?????', '*DONE'])
def test_a_hundred_flipped_bits_are_found_and_named(pattern, damaged):
  rng = random.Random(7)
  files = [
    path
    for config in CONFIGS
    for path in sorted(damaged.glob(f'tfds/roar_tiny/{config}/*/{pattern}'))
  ]
  folders = sorted({str(path.parent) for path in files})
  for _ in range(-(-100 // len(files))):
    bits = {path: rng.randrange(8 * path.stat().st_size) for path in files}
    for path, bit in bits.items():
      _flip(path, bit)
    found = {d.path for d in integrity.verify(folders).damages}
    missed = {path: bit for path, bit in bits.items() if str(path) not in found}
    assert not missed and len(found) == len(files)
    for path, bit in bits.items():
      _flip(path, bit)
  assert not integrity.verify(folders).damages


def test_flips_in_what_is_not_a_shard_are_found(damaged):
  rng = random.Random(8)
  names = ['dataset_info.json', 'features.json', 'manifest.json']
  names += ['result.json', 'test_predictions.npz', 'weights.npz', 'DONE']
  for name in names:
    path = next(iter(sorted(damaged.rglob(name))))
    for _ in range(5):
      bit = rng.randrange(8 * path.stat().st_size)
      _flip(path, bit)
      found = integrity.verify([str(path.parent)]).damages
      assert [d.path for d in found] == [str(path)], (path, bit)
      _flip(path, bit)


def _swap(one, two):
  data = one.read_bytes()
  one.write_bytes(two.read_bytes())
  two.write_bytes(data)


@pytest.mark.parametrize('config', CONFIGS)
@pytest.mark.parametrize(
  'change, named',
  [
    (lambda a, b: a.write_bytes(a.read_bytes()[:-1]), 'a'),
    (lambda a, b: a.write_bytes(a.read_bytes() + b'\0'), 'a'),
    (lambda a, b: a.write_bytes(a.read_bytes() + b.read_bytes()), 'a'),
    (lambda a, b: a.write_bytes(b''), 'a'),
    (lambda a, b: a.unlink(), 'a'),
    (lambda a, b: _swap(a, b), 'ab'),
    (lambda a, b: (_swap(a, b), _swap(_marker(a), _marker(b))), 'ab'),
    (lambda a, b: _marker(a).unlink(), 'A'),
    (lambda a, b: _marker(a).write_text('no json'), 'A'),
    (lambda a, b: _marker(a).write_text('[]'), 'A'),
    (lambda a, b: _marker(a).write_text('{}'), 'A'),
    (lambda a, b: shutil.copy(a.with_name('DONE'), _marker(a)), 'A'),
    (lambda a, b: (a.unlink(), _marker(a).unlink()), 'aA'),
    (lambda a, b: shutil.copy(a, a.with_name(a.name[:-1] + '9')), 's'),
    (lambda a, b: a.with_name('DONE').unlink(), 'D'),
    (lambda a, b: a.with_name('dataset_info.json').unlink(), 'i'),
  ],
)
def test_other_faults_are_found_named_and_mended(
  change, named, config, tiny, finished, damaged, artefacts
):
  one, two = (_shard(damaged, config, 'train', i) for i in (0, 1))
  places = {
    'a': one,
    'b': two,
    'A': _marker(one),
    's': one.with_name(one.name[:-1] + '9'),
    'D': one.with_name('DONE'),
    'i': one.with_name('dataset_info.json'),
  }
  change(one, two)
  expected = {str(places[n].relative_to(damaged)) for n in named}
  folders = [str(one.parent)]
  assert set(_damages(damaged, folders)) == expected
  if config == CONFIGS[-1]:  # One stage tells how they are mended.
    assert _repair(tiny.works(damaged), folders) == []
    assert artefacts(damaged) == artefacts(finished)


def test_what_is_unfinished_is_not_damaged(tiny, finished, damaged):
  work = damaged / 'tfds/roar_tiny/grad_pixel_remove_70/1.0.0'
  for name in ('DONE', 'dataset_info.json', 'features.json'):
    (work / name).unlink()
  shard = _shard(damaged, 'grad_pixel_remove_70')
  _marker(shard).unlink()  # Published, and killed before it was committed.
  shard.with_name(f'{shard.name}.tmp-{"0" * 32}').write_bytes(b'half')
  run = damaged / 'runs/small/tiny/original/seed_0'
  workspace.remove(str(run))
  run.mkdir()
  (run / 'checkpoint.npz').write_bytes(b'state')
  findings = integrity.verify(_folders(damaged))
  assert not findings.damages
  assert findings.unfinished == 2
  assert 'not finished: 2' in str(findings)
  _shard(damaged, 'grad_pixel_remove_70', 'train', 1).unlink()
  assert len(_damages(damaged)) == 1


def test_a_file_that_cannot_be_read_is_damaged(finished, monkeypatch):
  shard = str(_shard(finished, 'original'))
  sha256 = workspace.sha256

  def broken(path):
    if path == shard:
      raise OSError(5, 'Input/output error')
    return sha256(path)

  monkeypatch.setattr(workspace, 'sha256', broken)
  (reason,) = _damages(finished).values()
  assert 'Input/output error' in reason


def test_many_threads_find_what_one_finds_and_stop_when_asked(damaged):
  for config in CONFIGS:
    _flip(_shard(damaged, config), 1000)
  folders = _folders(damaged)
  one, many = (integrity.verify(folders, parallel=n) for n in (1, 8))
  assert one == many and len(one.damages) == 3
  with pytest.raises(errors.PreemptedError):
    integrity.verify(folders, stop=lambda: True)


def test_a_source_alone(damaged):
  shutil.copytree(damaged / 'models/tiny', damaged / 'models/other')
  (damaged / 'models/tiny/weights.npz').unlink()
  assert not integrity.verify(_folders(damaged, 'other')).damages
  assert len(integrity.verify(_folders(damaged, 'tiny')).damages) == 1
  assert len(_folders(damaged)) == len(_folders(damaged, 'tiny')) + 2


def test_a_marker_without_a_checksum_is_refused(tiny, damaged):
  marker = damaged / 'tfds/roar_tiny/original/1.0.0/DONE'
  content = json.loads(marker.read_text())
  del content['checksum']
  marker.write_text(json.dumps(content, indent=1, sort_keys=True) + '\n')
  with pytest.raises(errors.DataError, match=f'{marker}.*checksum') as caught:
    pipeline.run(tiny.works(damaged), ['source'])
  assert len(str(caught.value).splitlines()) == 1


# --- what is mended ---------------------------------------------------------


def test_damage_of_every_kind_at_once_is_mended_to_the_bit(
  tiny, finished, damaged, artefacts
):
  run = damaged / 'runs/small/tiny/grad_pixel_remove_30/seed_0'
  paths = [_shard(damaged, config, 'test', 1) for config in CONFIGS]
  paths += [_marker(_shard(damaged, config)) for config in CONFIGS]
  paths += [_shard(damaged, 'original').with_name('manifest.json')]
  paths += [damaged / 'models/tiny/weights.npz', run / 'result.json']
  paths += [damaged / 'reports/small/DONE']
  for path in paths:
    _flip(path, 99)
  assert len(_damages(damaged)) == len(paths)
  untouched = {
    path: path.stat().st_mtime_ns
    for path in damaged.rglob('*')
    if path.is_file() and 'random_pixel' in str(path)
  }
  assert _repair(tiny.works(damaged)) == []
  assert artefacts(damaged) == artefacts(finished)
  assert all(p.stat().st_mtime_ns == then for p, then in untouched.items())


def test_mending_brings_back_only_what_it_reads(
  tiny, finished, damaged, artefacts
):
  # The cache was cleaned, and then a run was damaged.
  for path in damaged.glob('tfds/roar_tiny/*_remove_*'):
    shutil.rmtree(path)
  cell = 'grad_pixel_remove_30'
  (damaged / f'runs/small/tiny/{cell}/seed_0/result.json').unlink()
  assert _repair(tiny.works(damaged)) == []
  expected = artefacts(finished)
  for name in list(expected):
    if name.startswith('tfds/') and '_remove_' in name and cell not in name:
      del expected[name]
  assert artefacts(damaged) == expected


def test_other_bytes_than_before_are_told(tiny, damaged, monkeypatch):
  from roar_tf import shards

  shard = _shard(damaged, 'grad_pixel_remove_70')
  _flip(shard, 99)
  compress = shards.encode_png
  # As another version of a library may do.
  monkeypatch.setattr(
    shards, 'encode_png', lambda images: compress(images // 2)
  )
  with pytest.raises(errors.DataError, match='other bytes than before') as e:
    _repair(tiny.works(damaged))
  assert shard.name in str(e.value)


def test_another_model_than_before_is_told(tiny, damaged, monkeypatch):
  from roar_tf.study import trainings

  _flip(damaged / 'models/tiny/weights.npz', 99)
  monkeypatch.setattr(
    trainings,
    'save_weights',
    lambda directory, state: workspace.write_atomic(
      f'{directory}/weights.npz', b'of another device'
    ),
  )
  with pytest.raises(errors.DataError, match='models/tiny/DONE.*before'):
    _repair(tiny.works(damaged), [str(damaged / 'models/tiny')])


def test_only_what_the_configuration_makes_is_touched(tiny, damaged, artefacts):
  mine, other = (
    _shard(damaged, f'{e}_pixel_remove_70') for e in ('grad', 'random')
  )
  _flip(mine, 99)
  _flip(other, 99)
  broken = other.read_bytes()
  (left,) = _repair(tiny.works(damaged, "Study.estimators = ('grad',)"))
  assert left.path == str(other) and other.read_bytes() == broken
  assert list(_damages(damaged)) == [str(other.relative_to(damaged))]


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
    ('tfds/roar_x/mine_pixel_keep_5/1.0.0/DONE', '--study=NAME'),
    ('runs/paper/x/original/seed_3/DONE', '--study=paper'),
    ('reports/paper/DONE', '--study=paper'),
  ],
)
def test_the_command_is_told_by_the_path(done, flags):
  place = workspace.Workspace('/w')
  damage = integrity.Damage(f'/w/{done}', '', f'/w/{done}')
  expected = f'roar_shards --repair --workspace=/w {flags}'
  assert integrity.command(place, [damage, damage]) == expected
  other = integrity.Damage('/w/models/y', '', '/w/models/y/DONE')
  assert integrity.command(place, [damage, other]).endswith('--study=NAME')
