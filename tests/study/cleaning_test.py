"""Tests of what may be deleted: only that, and in an order that is safe."""

import os
import time

import pytest

from roar_tf.engine import files, verify
from roar_tf.study import cleaning, paths, repairs

DAYS = 24 * 60 * 60


def _is_cached(name):
  return name.startswith('tfds/') and '_remove_' in name


def test_only_the_masked_shards_of_the_study_go(
  tool, tiny, finished, damaged, artefacts
):
  arguments = [f'--study={tiny.study}', *tiny.flags(damaged)]
  other = damaged / 'tfds/roar_tiny/grad_pixel_keep_5/1.0.0/DONE'
  other.parent.mkdir(parents=True)
  other.write_text('of another study')
  before = artefacts(finished)
  cached = {name: data for name, data in before.items() if _is_cached(name)}
  outcome = tool('roar_study', *arguments, '--clean=shards')
  assert outcome.status == 0, outcome.err
  size = sum(map(len, cached.values()))
  assert outcome.out.endswith(
    f'clean: 4 masked datasets deleted, {len(cached)} files, {size:,} bytes\n'
  )
  assert other.read_text() == 'of another study'
  other.unlink()
  left = {n: data for n, data in before.items() if n not in cached}
  assert artefacts(damaged) == left
  assert not list(damaged.glob('tfds/roar_tiny/*_remove_*'))
  # The study is done: it needs no shards, and neither has one of its runs.
  again = tool('roar_study', *arguments)
  assert again.status == 0, again.err
  assert all(made == 0 for made, _, _ in again.counts().values())
  assert 'shards' not in again.counts()
  assert artefacts(damaged) == left
  folders = repairs.folders(paths.Workspace(str(damaged)))
  assert not verify.verify(folders, layout=repairs.LAYOUT).damages
  nothing = tool('roar_study', *arguments, '--clean=shards')
  assert 'clean: 0 masked datasets' in nothing.out


def test_checkpoints_of_what_is_done_are_temporary(damaged, run_of):
  done, other = (run_of(damaged, 'original', seed) for seed in (0, 1))
  (other / 'DONE').unlink()
  for run in (done, other):
    (run / 'checkpoints').mkdir()
    (run / 'checkpoints/step_00000075.npz').write_bytes(b'state')
  cleaning.clean_temporary(paths.Workspace(str(damaged)), age=0)
  assert not list(done.glob('checkpoints/*'))
  assert list(other.glob('checkpoints/*'))


@pytest.mark.parametrize('after', [0, 1, 6, 9])
def test_what_a_killed_cleaning_leaves_passes_for_nothing(
  after, tiny, finished, damaged, monkeypatch, artefacts
):
  pipeline = tiny.pipeline(damaged, 'Study.thresholds = (30,)')
  remove, removed = files.remove, []

  def killed(path):
    if len(removed) == after:
      raise KeyboardInterrupt
    removed.append(path)
    remove(path)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(files, 'remove', killed)
    cleaning.clean_shards(pipeline)
  kinds = [
    (path.endswith('/DONE'), path.endswith('.DONE')) for path in removed[:8]
  ]
  assert (
    kinds
    == [(True, False), *[(False, True)] * 5, *[(False, False)] * 2][:after]
  )
  for marker in damaged.rglob('*.tfrecord-*.DONE'):
    assert marker.with_name(marker.name.removesuffix('.DONE')).exists()
  cleaning.clean_shards(pipeline)
  names = [n for n in artefacts(finished) if _is_cached(n) and '_30/' in n]
  assert not set(artefacts(damaged)) & set(names)


def test_old_temporary_files_go_and_nothing_else(tool, damaged, artefacts):
  before = artefacts(damaged)
  marker = next(damaged.glob('runs/**/DONE'))
  suffix = '.tmp-' + '0123456789abcdef' * 2
  old = [marker.with_name('result.json' + suffix)]
  old += [path.with_name(path.name + suffix) for path in damaged.glob('*/*/*')]
  young = [marker.with_name(f'DONE{suffix[:-1]}0')]
  foreign = [marker.with_name('notes.tmp-1'), damaged / f'mine{suffix}']
  for path in (*old, *young, *foreign):
    path.write_bytes(b'half')
    age = 0.9 if path in young else 1.1
    then = time.time() - age * DAYS
    os.utime(path, (then, then))
  outcome = tool('roar_study', '--clean=temporary', f'--workspace={damaged}')
  assert outcome.status == 0, outcome.err
  assert outcome.out == (
    f'clean: {len(old)} temporary files deleted, {4 * len(old)} bytes; '
    '1 are not a day old\n'
  )
  assert all(path.exists() for path in (*young, *foreign))
  assert not any(path.exists() for path in old)
  assert artefacts(damaged) == before


def test_heartbeats_of_a_month_ago_go(tool, damaged, artefacts):
  before = artefacts(damaged)
  folder = damaged / 'status/small'
  folder.mkdir(parents=True)
  for name, days in (('old', 31), ('young', 29)):
    (folder / f'{name}.json').write_text('{}')
    then = time.time() - days * DAYS
    os.utime(folder / f'{name}.json', (then, then))
  outcome = tool('roar_study', '--clean=temporary', f'--workspace={damaged}')
  assert outcome.status == 0, outcome.err
  assert outcome.out.endswith('; 1 heartbeats of a month ago deleted\n')
  assert os.listdir(folder) == ['young.json']
  assert artefacts(damaged) == before
