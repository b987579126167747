"""Tests of what an outcome of the one pass depends on, and of nothing else."""

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from roar_tf import randomness
from roar_tf.estimators import compiled, plan

ALL = (
  'grad',
  'sq_grad',
  'sg_grad',
  'sg_sq_grad',
  'var_grad',
  'sq_sg_grad',
  'gb',
  'var_gb',
  'ig',
  'sg_sq_ig',
  'var_ig',
  'random',
  'sobel',
)
IDS = 'vwxyz'


@pytest.fixture(scope='module')
def network():
  """A network with curvature and ReLUs.

  In float64, where no ReLU is open in one program and shut in another because
  of rounding.
  """
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input((6, 6, 3), dtype='float64'),
      keras.layers.Conv2D(4, 3, activation='tanh', dtype='float64'),
      keras.layers.Conv2D(4, 2, activation='relu', dtype='float64'),
      keras.layers.Flatten(dtype='float64'),
      keras.layers.Dense(4, dtype='float64'),
    ]
  )


@pytest.fixture(scope='module')
def batch():
  return np.random.default_rng(3).normal(size=(5, 6, 6, 3))


@pytest.fixture(scope='module')
def scores(compute, network, batch):
  """Function that computes the estimators of the batch, but for changes."""

  def explain(names=ALL, images=batch, **changes):
    changes = {'ids': IDS, 'samples': 4, 'steps': 6, **changes}
    return compute(network, images, names, **changes)

  return explain


@pytest.fixture(scope='module')
def together(scores):
  return scores()


@pytest.fixture(scope='module')
def in_blocks(scores):
  """The same from blocks of three rows, the last ones padded."""
  return scores(batch_size=3)


@pytest.mark.parametrize(
  'name', ['grad', 'sg_grad', 'var_gb', 'sg_sq_ig', 'random']
)
def test_outcome_does_not_depend_on_the_others_asked_for(
  name, scores, in_blocks
):
  alone = scores([name], batch_size=3)
  assert list(alone) == [name]
  np.testing.assert_array_equal(alone[name], in_blocks[name])


def test_outcome_does_not_depend_on_the_blocks(
  together, in_blocks, assert_close
):
  assert_close(in_blocks, together)


def test_outcome_does_not_depend_on_the_order_of_the_batch(
  scores, batch, in_blocks, assert_close
):
  order = [3, 0, 4, 1, 2]
  found = scores(images=batch[order], ids=[IDS[i] for i in order], batch_size=3)
  # A row's arithmetic may depend on its place in a vector of the processor.
  assert_close(found, {name: in_blocks[name][order] for name in ALL})
  np.testing.assert_array_equal(found['random'], in_blocks['random'][order])


def test_outcome_does_not_depend_on_the_neighbours(scores, batch, together):
  others = batch + 1
  others[2] = batch[2]
  found = scores(images=others)
  for name in ALL:
    equal = (found[name] == together[name]).all(axis=(1, 2, 3))
    # `random` looks at the id alone, `sobel` at differences of pixels.
    if name not in ('random', 'sobel'):
      assert equal.tolist() == [False, False, True, False, False], name
    assert equal[2], name


def _is_noisy(name):
  return any(part in name for part in ('sg', 'var', 'random'))


def test_outcome_depends_on_the_id_through_the_noise_alone(scores, together):
  found = scores(ids=[*'vwxy', 'other'])
  for name in ALL:
    differs = (found[name] != together[name]).any(axis=(1, 2, 3))
    assert differs.tolist() == [False] * 4 + [_is_noisy(name)], name


def test_seed_changes_what_is_random_and_nothing_else(scores, together):
  found = scores(seed=1)
  for name in ALL:
    assert (found[name] == together[name]).all() != _is_noisy(name), name


def test_target_defaults_to_the_class_predicted_on_the_clean_image(
  scores, network, batch, together
):
  predicted = np.argmax(network(batch), axis=1)
  assert len(set(predicted)) > 1
  for targets, equal in ((predicted, True), ((predicted + 1) % 4, False)):
    found = scores(targets=targets)
    for name in ('grad', 'sg_grad', 'sg_sq_grad', 'var_grad'):
      same = np.isclose(found[name], together[name], rtol=1e-9, atol=1e-12)
      assert same.all(axis=(1, 2, 3)).tolist() == [equal] * 5, name


# --- filters ------------------------------------------------------------------

FILTERED = ('blur_sg_sq_grad', 'max_ig', 'blur_random', 'max_random')
FILTERS = {'blur_sigma': 0.8, 'max_size': 5}


@pytest.fixture(scope='module')
def filtered(scores):
  return scores((*ALL, *FILTERED), **FILTERS)


def test_filters_are_those_of_scipy_over_the_same_scores(
  filtered, together, assert_close
):
  for name in ALL:
    np.testing.assert_array_equal(filtered[name], together[name])
  for name in FILTERED:
    kind, of = name.split('_', 1)
    expected = (
      scipy.ndimage.gaussian_filter(together[of], (0, 0.8, 0.8, 0))
      if kind == 'blur'
      else scipy.ndimage.maximum_filter(together[of], (1, 5, 5, 1))
    )
    assert_close({name: filtered[name]}, {name: expected})
    assert (filtered[name] != together[of]).any()


# --- size ---------------------------------------------------------------------


def test_graph_does_not_grow_with_the_number_of_samples(network, batch):
  def size(samples):
    some = plan.Plan(['var_grad'], plan.Settings(samples=samples))
    concrete = compiled.compile_plan(some, network).get_concrete_function(
      tf.constant(batch),
      None,
      randomness.keys_of_ids(list(IDS)),
      None,
      tf.constant(0),
    )
    return len(concrete.graph.as_graph_def().SerializeToString())

  # A few operations more leave the padding of the last block out.
  assert size(500) <= 1.05 * size(5)
