"""Tests of what explain refuses, and how it says so."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import estimators

SHAPE = (4, 5, 3)
CLASSES = 4

pytestmark = pytest.mark.usefixtures('own_registry')


# --- refusals -----------------------------------------------------------------


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda x: x[0], r'images must be floating point .* \(4, 5, 3\)'),
    (lambda x: x.astype(np.int32), 'images must be floating point .* int32'),
    (lambda x: x[:0], r'must not be empty, found shape \(0, 4, 5, 3\)'),
  ],
)
def test_bad_images_are_refused(model, images, change, message):
  with pytest.raises(ValueError, match=message):
    estimators.explain(model, change(images), 'grad')


def test_the_first_image_that_is_not_finite_is_named(model, images):
  images = images.copy()
  images[1, 2, 2, 0], images[2, 0, 0, 0] = np.inf, np.nan
  with pytest.raises(ValueError, match='image 1 of the batch holds NaN'):
    estimators.explain(model, images, 'grad')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('untrained_sg_grad', 'such weights by "sg_grad"'),
    ('blur_untrained_grad', 'such weights by "blur_grad"'),
    ('shuffle_grad', 'made from the ranking "grad" of a whole dataset'),
    ('oracle_30', 'made from the ranking "oracle"'),
  ],
)
def test_what_only_a_study_knows_is_refused(model, images, name, message):
  with pytest.raises(ValueError, match=f'"{name}" cannot be.*{message}'):
    estimators.explain(model, images, ['grad', name])


@pytest.mark.parametrize(
  ('targets', 'message'),
  [
    ([0, 1], r'targets must be integers \[3\].*, found int64 \(2,\)'),
    (np.eye(3, 4) / 2, r'must be one-hot \[3, 4\].* float64 \(3, 4\)'),
    (np.eye(3, 5), r'must be one-hot \[3, 4\]'),
    (4, r'classes 0\.\.3, found 4\.\.4'),
    ([0.0, 1.0, 2.0], 'targets must be integers .* float64'),
    ([0, 1, 4], r'classes 0\.\.3, found 0\.\.4'),
    ([-1, 1, 2], r'classes 0\.\.3, found -1\.\.2'),
  ],
)
def test_bad_targets_are_refused(model, images, targets, message):
  with pytest.raises(ValueError, match=message):
    estimators.explain(model, images, 'grad', targets=targets)


@pytest.mark.parametrize(
  ('ids', 'message'),
  [
    (['a', 'b'], '2 ids were given for 3 images'),
    ([1.0, 2.0, 3.0], 'strings or integers'),
    ('abc', r'shape \[batch\]'),
  ],
)
def test_bad_ids_are_refused(model, images, ids, message):
  with pytest.raises(ValueError, match=message):
    estimators.explain(model, images, 'grad', ids=ids)


@pytest.mark.parametrize('truth', [None, np.ones((3, 4, 5, 3))])
def test_oracles_need_truth(images, truth):
  with pytest.raises(ValueError, match=r'truth of shape \(3, 4, 5, 1\), found'):
    estimators.explain(None, images, 'oracle', truth=truth)


def test_a_missing_model_is_named(images):
  with pytest.raises(ValueError, match='a model is needed for .*grad, found'):
    estimators.explain(None, images, ['sobel', 'grad'])


@pytest.mark.parametrize('path', ['my.keras', pathlib.Path('my.keras')])
def test_a_path_in_the_place_of_a_model(images, path):
  with pytest.raises(ValueError, match="'my.keras': load it with keras.saving"):
    estimators.explain(path, images, 'grad')


def test_a_model_of_two_inputs(images):
  class Subclass(keras.Model):
    def call(self, images, hints):
      return images[:, 0, 0] + hints

  inputs = [keras.Input(SHAPE, name='picture'), keras.Input((3,), name='hints')]
  outputs = keras.layers.Flatten()(inputs[0])[:, :3] + inputs[1]
  for model, names in (
    (keras.Model(inputs, outputs), r'\(picture, hints\)'),
    (Subclass(), r'\(images, hints\)'),
  ):
    with pytest.raises(ValueError, match=f'takes 2 inputs {names}'):
      estimators.explain(model, images, 'grad')


def test_a_layer_without_a_gradient_is_named(images):
  model = keras.Sequential(
    [
      keras.Input(SHAPE),
      keras.layers.Resizing(2, 2, interpolation='area'),
      keras.layers.Flatten(),
      keras.layers.Dense(2),
    ]
  )
  with pytest.raises(ValueError, match='without a gradient, ResizeArea at .*/'):
    estimators.explain(model, images, 'grad')


def test_running_functions_eagerly_is_refused(model, images):
  tf.config.run_functions_eagerly(True)
  try:
    with pytest.raises(ValueError, match=r'run_functions_eagerly\(False\)'):
      estimators.explain(model, images, 'grad')
  finally:
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize('seed', [1.7, None, True, '1', 2**31], ids=str)
def test_a_seed_that_is_no_integer(model, images, seed):
  for call in (
    lambda: estimators.explain(model, images, 'sg_grad', seed=seed),
    lambda: roar_tf.rank(images, seed=seed),
  ):
    with pytest.raises(ValueError, match='a seed must be'):
      call()


def test_a_model_without_logits_is_refused(images):
  model = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(3, 3)])
  with pytest.raises(ValueError, match=r'logits \[batch, classes\]'):
    estimators.explain(model, images, 'grad')


def test_bad_settings_and_names_are_refused_before_any_work(model, images):
  for arguments in ({'samples': 0}, {'noise': -1.0}):
    with pytest.raises(ValueError, match=next(iter(arguments))):
      estimators.explain(model, images, 'grad', **arguments)
  with pytest.raises(ValueError, match='Did you mean "sg_sq_grad"'):
    estimators.explain(model, images, ['grad', 'sgsq_grad'])


@pytest.mark.parametrize('names', [[], ['grad', None]])
def test_estimators_that_are_no_names_are_refused(model, images, names):
  with pytest.raises(ValueError, match='estimators must be one or more names'):
    estimators.explain(model, images, names)


def test_images_of_another_size_are_refused_in_one_sentence(model, images):
  message = r'images \(3, 4, 5, 1\) do not fit .* \(None, 4, 5, 3\)\.$'
  with pytest.raises(ValueError, match=message):
    estimators.explain(model, images[..., :1], 'grad')


# --- inside of a user's own graph ---------------------------------------------


def _softmax(logits):
  exponentials = tf.exp(logits)
  return exponentials / tf.reduce_sum(exponentials, -1, keepdims=True)


def test_a_model_is_checked_inside_of_a_tf_function_too(model, images):
  norm = keras.layers.BatchNormalization()
  coupled = keras.layers.Lambda(lambda x: norm(x, training=True))
  softmax = keras.layers.Lambda(_softmax)
  for layers, words in (
    ([coupled, model], 'assigns variables in evaluation mode'),
    ([model, softmax], 'probabilities, from a softmax'),
  ):
    bad = keras.Sequential([keras.Input(SHAPE), *layers])
    explain = tf.function(lambda x, bad=bad: roar_tf.explain(bad, x, 'grad'))
    with pytest.raises(ValueError, match=words):
      explain(images)
  explain = tf.function(
    lambda x, targets: roar_tf.explain(model, x, 'grad', targets=targets)
  )
  with pytest.raises(ValueError, match=r'classes 0\.\.3, found 4\.\.4'):
    explain(images, 4)
  np.testing.assert_allclose(
    explain(images, 3)['grad'],
    roar_tf.explain(model, images, 'grad', targets=3)['grad'],
    rtol=1e-5,
  )
