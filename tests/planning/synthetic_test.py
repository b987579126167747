"""Tests of roar_tf.planning.synthetic: small, but like the study."""

import dataclasses

import numpy as np
import pytest

from roar_tf.planning import amounts, synthetic
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
  small = synthetic.small_experiment(real, names, 2, True, 1)
  assert small.source.image_shape == (224, 224, 3)
  assert small.retrained.batch_size <= 5
  assert small.retrained.steps(small.source.count('train')) <= 5
  assert small.source.count('train') + small.source.count('test') <= 48
  each = amounts.gradient_evaluations(small, names)
  assert 0 < each * 16 * 224**2 <= synthetic.GRADIENT_PIXELS
  # What a step or a gradient costs is the study's own.
  assert small.retrained_model == real.retrained_model
  assert small.retrained.augmentation == real.retrained.augmentation
  assert small.attribution.batch_size == real.attribution.batch_size
  # An accelerator takes whole batches and all copies.
  other = synthetic.small_experiment(real, names, 1, False, 4)
  assert other.retrained.batch_size == real.retrained.batch_size
  assert other.attribution == real.attribution


def test_small_images_are_explained_in_full(tiny):
  (work,) = tiny.works('unused')
  real = work.context.experiment
  small = synthetic.small_experiment(real, real.study.estimators, 2, True, 1)
  assert small.attribution == real.attribution
  assert small.retrained.batch_size == real.retrained.batch_size
  assert len(small.source.shard_bounds('train')) == 4  # Two for each of two.


@pytest.mark.parametrize('preprocessing', ['none', 'resize_crop'])
def test_synthetic_examples_are_like_real_ones(preprocessing, tiny):
  (work,) = tiny.works('unused')
  source = dataclasses.replace(
    work.context.experiment.source,
    preprocessing=preprocessing,
    truth=preprocessing == 'none',
  )
  batches = list(synthetic.Reader(source).batches('test', 3, 10, 4))
  assert [len(b['id']) for b in batches] == [4, 3]
  for batch in batches:
    assert batch['image'].shape[1:] == source.image_shape
    assert batch['image'].dtype == np.uint8 and batch['image'].std() > 10
    assert set(batch['label']) <= {0, 1, 2}
    assert ('truth' in batch) == source.truth
  ids = [i for batch in batches for i in batch['id']]
  assert ids == [f'test_{i}'.encode() for i in range(3, 10)]
