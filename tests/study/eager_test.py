"""Tests of rankings by estimators that Python calls."""

import shutil

import numpy as np
import pytest

import roar_tf
from roar_tf import errors
from roar_tf.estimators import registry
from roar_tf.training import distribution

STUDY = "Study.estimators = ('random', 'sg_sq_numpy', 'blur_numpy')"


@pytest.fixture(autouse=True)
def estimator(monkeypatch):
  """An estimator of NumPy that asks the model; how large its batches were."""
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  sizes = set()

  @roar_tf.register('numpy', eager=True, version='1')
  def in_numpy(model, images, targets, keys):
    sizes.add(len(images))
    assert model.output_shape == (None, 3) and targets.max() < 3
    return np.abs(images) * (1 + targets[:, None, None, None])

  return sizes


def _rankings(root):
  return {
    f'{path.parents[1].name}/{path.name}': path.read_bytes()
    for path in root.glob('tfds/roar_tiny/ranking_*numpy*/*/*tfrecord-*')
    if not path.name.endswith('DONE')
  }


def test_bytes_are_the_same_for_any_workers_and_batches(
  tiny, damaged, tmp_path, make, assert_same, estimator
):
  alone, batches = (
    shutil.copytree(damaged, tmp_path / name) for name in ('alone', 'batches')
  )
  assert make(tiny.pipeline(damaged, STUDY), 'rank', parallel=3).made['rank']
  make(tiny.pipeline(alone, STUDY), 'rank')
  found = _rankings(damaged)
  assert len(found) >= 10
  assert_same(_rankings(alone), found)
  estimator.clear()
  one = "Study.estimators = ('random', 'blur_numpy')"
  make(tiny.pipeline(batches, one, 'Attribution.batch_size = 50'), 'rank')
  assert estimator == {50}
  assert_same(
    _rankings(batches), {k: v for k, v in found.items() if 'blur' in k}
  )


@pytest.mark.slow
def test_the_replicas_of_a_program_have_a_part_each(
  tiny, damaged, tmp_path, make, assert_same, monkeypatch
):
  other = shutil.copytree(damaged, tmp_path / 'other')
  make(tiny.pipeline(damaged, STUDY), 'rank')
  monkeypatch.setattr(distribution.Devices, 'explaining', 2)
  make(tiny.pipeline(other, STUDY), 'rank')
  assert_same(_rankings(other), _rankings(damaged))


def test_a_tpu_and_xla_are_refused_before_any_work(tiny, damaged, make, tool):
  with pytest.raises(errors.UsageError, match='_numpy".*Attribution.jit'):
    tiny.pipeline(damaged, STUDY, 'Attribution.jit_compile = True')
  # Nothing is connected before: there need be no such TPU here.
  outcome = tool(
    'roar_rank',
    f'--dataset={tiny.dataset}',
    *tiny.flags(damaged),
    '--estimators=sg_sq_numpy',
    '--tpu=nowhere',
  )
  assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
  for word in ('"sg_sq_numpy"', 'eager=True', 'a TPU', '--tpu'):
    assert word in outcome.err
  assert not _rankings(damaged)
  # A ranking that is there takes no TPU: what follows may.
  make(tiny.pipeline(damaged, STUDY), 'rank')
  pipeline = tiny.pipeline(damaged, STUDY, on_tpu=True)
  assert not make(pipeline, 'rank').made
