"""Tests of roar_tf.planning.sizes."""

import shutil

import pytest

from roar_tf.planning import amounts, sizes
from roar_tf.study import STAGES


def _estimate(works):
  tallies, amount = amounts.left(works, STAGES)
  return sizes.estimate(works, tallies, amount)


def test_bytes_are_as_large_as_what_is_there(tiny, damaged):
  kinds = {
    'rank': 'ranking_grad_pixel',
    'shards': 'grad_pixel_remove_30',
  }
  lost = {}
  for stage, name in kinds.items():
    folder = damaged / f'tfds/roar_tiny/{name}'
    files = list(folder.rglob('*.tfrecord-?????-of-?????'))
    lost[stage] = sum(file.stat().st_size for file in files)
    shutil.rmtree(folder)
  run = damaged / 'runs/small/tiny/grad_pixel_remove_30'
  lost['train'] = sum(f.stat().st_size for f in run.rglob('*') if f.is_file())
  shutil.rmtree(run)
  found = _estimate(tiny.works(damaged))
  assert found['source'] == found['model'] == 0
  for stage, bytes_ in lost.items():
    # PNGs of another threshold are not quite as large.
    assert found[stage] == pytest.approx(bytes_, rel=0.2), stage


def test_without_anything_there_estimates_have_the_right_size(
  tiny, finished, tmp_path
):
  found = _estimate(tiny.works(tmp_path / 'w'))
  for stage, pattern in {
    'source': 'tfds/roar_tiny/original/**/*.tfrecord-*-of-*[0-9]',
    'rank': 'tfds/roar_tiny/ranking_*/**/*.tfrecord-*-of-*[0-9]',
    'shards': 'tfds/roar_tiny/*_remove_*/**/*.tfrecord-*-of-*[0-9]',
    'train': 'runs/**/*',
  }.items():
    real = sum(f.stat().st_size for f in finished.glob(pattern) if f.is_file())
    assert 0.6 < found[stage] / real < 1.6, (stage, found[stage], real)


@pytest.mark.parametrize(
  'shape, cuts, kind, kilobytes',
  [  # The tables in WORKSPACE.md.
    ((224, 224, 3), None, 'pixel', 42.2),
    ((224, 224, 3), (10, 30, 50, 70, 90), 'pixel', 16.9),
    ((224, 224, 3), None, 'element', 126.5),
    ((224, 224, 3), (10, 30, 50, 70, 90), 'element', 50.7),
    ((224, 224, 3), None, 'original', 80.2),
  ],
)
def test_estimates_are_the_documented_ones(shape, cuts, kind, kilobytes, tiny):
  (work,) = tiny.works(
    'unused', f'Source.image_shape = {shape}', f'Ranking.cuts = {cuts}'
  )
  found = sizes.record(work.context.experiment, kind)
  assert found == pytest.approx(kilobytes * 1000, rel=0.07)
