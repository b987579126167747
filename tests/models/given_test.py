"""Tests of explained models from elsewhere: what they take and return."""

import inspect
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.models import given

L = keras.layers
SHAPE, CLASSES = (8, 6, 3), 4
# A model of these is small, and cares about the order of channels.
APPLICATION, SMALL = 'MobileNet', (32, 32, 3)


def _random(model, seed=0):
  generator = np.random.default_rng(seed)
  model.set_weights(
    [generator.normal(0, 0.3, w.shape) for w in model.get_weights()]
  )
  return model


def _classifier(*last, shape=SHAPE):
  layers = [keras.Input(shape), L.Conv2D(5, 3, activation='relu')]
  return _random(keras.Sequential([*layers, L.GlobalAveragePooling2D(), *last]))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A model of logits and its file."""
  path = tmp_path_factory.mktemp('given') / 'logits.keras'
  model = _classifier(L.Dense(CLASSES))
  model.save(path)
  return model, str(path)


def _images(shape=SHAPE, count=5):
  return np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)


# --- settings -----------------------------------------------------------------


@pytest.mark.parametrize(
  ('values', 'words'),
  [
    ({'file': 'a.keras'}, 'input'),
    ({'file': 'a.keras', 'input': '0..256'}, 'input.*0..256'),
    ({'file': 'a.keras', 'input': '0..1', 'application': 'VGG16'}, 'VGG16'),
    ({'application': 'ResNet50'}, 'weights'),
    ({'weights': 'imagenet'}, 'application'),
    ({'application': 'ResNet5O', 'weights': 'imagenet'}, 'ResNet50V2'),
  ],
)
def test_what_means_nothing_is_refused_by_name(values, words):
  with pytest.raises(errors.UsageError, match=rf'ExplainedModel\..*{words}'):
    given.ExplainedModel(**values)


# --- what models take ---------------------------------------------------------


@pytest.mark.parametrize(
  'name',
  sorted(
    k for k, v in vars(keras.applications).items() if inspect.isfunction(v)
  ),
)
def test_applications_take_what_keras_says(name):
  model = given.ExplainedModel(application=name, weights='imagenet')
  images = _images()
  found = model.scaled([9, 9, 9], [9, 9, 9])(images).numpy()
  if model.takes == 'caffe':  # The model itself turns the channels round.
    found = found[..., ::-1]
  module = sys.modules[getattr(keras.applications, name).__module__]
  expected = module.preprocess_input(images.astype(np.float32))
  np.testing.assert_allclose(found, expected, atol=1e-3)


def test_normalised_is_by_the_sources_statistics():
  model = given.ExplainedModel(file='a.keras', input='normalised')
  found = model.scaled([10, 20, 30], [1, 2, 4])(np.full((1, 1, 1, 3), 40))
  np.testing.assert_array_equal(found[0, 0, 0], [30, 10, 2.5])


def test_zero_to_one():
  model = given.ExplainedModel(file='a.keras', input='0..1')
  found = model.scaled([9], [9])(np.array([0, 51, 255]).reshape(1, 1, 3, 1))
  np.testing.assert_allclose(found[0, 0, :, 0], [0, 0.2, 1])


# --- files --------------------------------------------------------------------


def test_a_file_gives_its_logits(saved):
  model, path = saved
  loaded = given.ExplainedModel(file=path, input='0..1').load(SHAPE, CLASSES)
  images = tf.random.stateless_uniform((3, *SHAPE), (0, 1))
  np.testing.assert_array_equal(loaded(images), model(images))


def test_caffe_scores_are_those_of_rgb(saved):
  model, path = saved
  loaded = given.ExplainedModel(file=path, input='caffe').load(SHAPE, CLASSES)
  images = tf.random.stateless_uniform((2, *SHAPE), (0, 1))
  gradients = []
  for function, inputs in ((loaded, images), (model, images[..., ::-1])):
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      logits = function(inputs)
    gradients.append((logits, tape.gradient(logits, inputs)))
  (ours, of_rgb), (theirs, of_bgr) = gradients
  np.testing.assert_allclose(ours, theirs, rtol=1e-6)
  np.testing.assert_allclose(of_rgb, of_bgr[..., ::-1], rtol=1e-5, atol=1e-7)


def test_other_images_are_refused(saved):
  _, path = saved
  model = given.ExplainedModel(file=path, input='0..255')
  message = rf'{path}.*\(8, 6, 3\).*\(8, 8, 3\)'
  with pytest.raises(errors.UsageError, match=message):
    model.load((8, 8, 3), CLASSES)


@pytest.mark.parametrize('content', [None, b'no model'])
def test_a_file_that_keras_cannot_load_is_refused(content, tmp_path):
  path = tmp_path / 'm.keras'
  if content:
    path.write_bytes(content)
  model = given.ExplainedModel(file=str(path), input='0..255')
  with pytest.raises(errors.UsageError, match=f'{path}.*cannot load'):
    model.load(SHAPE, CLASSES)


def test_code_in_a_file_is_not_run(tmp_path):
  inputs = keras.Input(SHAPE)
  outputs = L.Lambda(lambda x: x[:, 0, 0, :])(inputs)
  keras.Model(inputs, outputs).save(tmp_path / 'm.keras')
  model = given.ExplainedModel(file=f'{tmp_path}/m.keras', input='0..255')
  with pytest.raises(errors.UsageError, match='[Ll]ambda'):
    model.load(SHAPE, 3)


def test_channels_of_imagenet_are_three():
  model = given.ExplainedModel(file='a.keras', input='torch')
  with pytest.raises(errors.UsageError, match="'torch'.* 3 channels.* 1"):
    model.load((8, 8, 1), CLASSES)


# --- applications -------------------------------------------------------------


def test_an_application_has_the_logits_of_keras(randomise, tmp_path):
  model = getattr(keras.applications, APPLICATION)(
    weights=None, input_shape=SMALL, classes=CLASSES
  )
  randomise(model)
  path = f'{tmp_path}/m.weights.h5'
  model.save_weights(path)
  own = given.ExplainedModel(application=APPLICATION, weights=path)
  images = own.scaled(None, None)(_images(SMALL))
  logits = own.load(SMALL, CLASSES)(images).numpy()
  assert (logits < 0).any()
  np.testing.assert_allclose(
    tf.nn.softmax(logits), model(images), rtol=1e-4, atol=1e-6
  )
  # Another model of the same kind, until it has its weights.
  bare = own.load(SMALL, CLASSES, with_weights=False)
  assert np.abs(bare(images).numpy() - logits).max() > 1e-3


def test_weights_of_another_architecture_are_refused(saved, tmp_path):
  model, _ = saved
  path = f'{tmp_path}/m.weights.h5'
  model.save_weights(path)
  own = given.ExplainedModel(application=APPLICATION, weights=path)
  with pytest.raises(errors.UsageError, match=APPLICATION):
    own.load(SMALL, CLASSES)
