"""Tests of roar_tf.planning.calibration: small, but like the study."""

import dataclasses

import numpy as np
import pytest

from roar_tf import errors
from roar_tf.estimators import registry
from roar_tf.planning import amounts, calibration
from roar_tf.study import experiment

PAPER = [
  "Study.sources = ('imagenet2012', 'food101')",
  "Study.estimators = ('random', 'grad', 'ig', 'gb', 'sg_ig', 'var_gb')",
]


@pytest.fixture
def large():
  """Experiments of the paper's size; nothing of them is built."""
  return experiment.load(study='quickstart', gin_bindings=PAPER)


def test_large_images_are_few(large):
  real = large[0]
  names = real.study.estimators
  small = calibration.small_experiment(real, names, 2, True, 1)
  assert small.source.image_shape == (224, 224, 3)
  assert small.retrained.batch_size <= 5
  assert small.retrained.steps(small.source.count('train')) <= 5
  assert small.source.count('train') + small.source.count('test') <= 48
  each = amounts.gradient_evaluations(small, names)
  assert 0 < each * 16 * 224**2 <= calibration.GRADIENT_PIXELS
  # What a step or a gradient costs is the study's own.
  assert small.retrained_model == real.retrained_model
  assert small.retrained.augmentation == real.retrained.augmentation
  assert small.attribution.batch_size == real.attribution.batch_size
  # An accelerator takes whole batches and all copies.
  other = calibration.small_experiment(real, names, 1, False, 4)
  assert other.retrained.batch_size == real.retrained.batch_size
  assert other.attribution == real.attribution


def test_small_images_are_explained_in_full(tiny):
  (work,) = tiny.works('unused')
  real = work.context.experiment
  small = calibration.small_experiment(real, real.study.estimators, 2, True, 1)
  assert small.attribution == real.attribution
  assert small.retrained.batch_size == real.retrained.batch_size
  assert len(small.source.shard_bounds('train')) == 4  # Two for each of two.


def test_sources_that_differ_in_counts_are_measured_once(tiny, tmp_path):
  (work,) = tiny.works(tmp_path)
  (more,) = tiny.works(
    tmp_path, 'Source.train_images = 999', 'Training.epochs = 3'
  )
  (wider,) = tiny.works(tmp_path, 'small_resnet.width = 5')
  (streamed,) = tiny.works(tmp_path, 'Source.train_images = 99999999')
  assert calibration.alike(work) == calibration.alike(more)
  assert calibration.alike(work) != calibration.alike(wider)
  assert calibration.alike(work) != calibration.alike(streamed)


@pytest.mark.parametrize('preprocessing', ['none', 'resize_crop'])
def test_synthetic_examples_are_like_real_ones(preprocessing, tiny):
  (work,) = tiny.works('unused')
  source = dataclasses.replace(
    work.context.experiment.source,
    preprocessing=preprocessing,
    truth=preprocessing == 'none',
  )
  batches = list(calibration.Synthetic(source).batches('test', 3, 10, 4))
  assert [len(b['id']) for b in batches] == [4, 3]
  for batch in batches:
    assert batch['image'].shape[1:] == source.image_shape
    assert batch['image'].dtype == np.uint8 and batch['image'].std() > 10
    assert set(batch['label']) <= {0, 1, 2}
    assert ('truth' in batch) == source.truth
  ids = [i for batch in batches for i in batch['id']]
  assert ids == [f'test_{i}'.encode() for i in range(3, 10)]


def test_an_estimator_that_raises_is_named(tiny, tmp_path, monkeypatch):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))

  @registry.register('broken')
  def broken(model, images, targets, keys):
    raise KeyError('oh')

  works = tiny.works(tmp_path / 'w', "Study.estimators = ('broken',)")
  with pytest.raises(errors.UsageError, match='broken.*oh.*--rates=none') as e:
    calibration.measure(works, 1)
  assert '\n' not in str(e.value)
  assert not (tmp_path / 'w').exists()
