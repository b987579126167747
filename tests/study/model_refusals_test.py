"""Tests of models that can never be trained: refused before any work."""

import sys

import pytest

from roar_tf.study import experiment

MODELS = """
import gin
import keras


@gin.configurable
def of_a_size(image_shape, num_classes, size=9):
  images = keras.Input((size, size, 3))
  return keras.Model(
    images, keras.layers.Dense(num_classes)(keras.layers.Flatten()(images))
  )


@gin.configurable
def of_probabilities(image_shape, num_classes):
  layer = keras.layers.Dense(num_classes, activation='softmax')
  return keras.Sequential(
    [keras.Input(image_shape), keras.layers.Flatten(), layer]
  )


@gin.configurable
def of_one_argument(image_shape):
  raise AssertionError


@gin.configurable
def of_another_name(image_shape, num_classes, *, needed):
  raise AssertionError


of_a_size.roar_version = 'first'
"""


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """A gin file that brings a user's factories, which gin loads once."""
  folder = tmp_path_factory.mktemp('models')
  (folder / 'refused_models.py').write_text(MODELS)
  (folder / 'own.gin').write_text('import refused_models\n')
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(folder))
    yield str(folder / 'own.gin')


@pytest.mark.parametrize(
  'binding, words',
  [
    ('Training.model = @of_a_size', ['of_a_size', '(None, 8, 8, 3)', '9']),
    ('explained/Training.model = @of_probabilities', ['explained', 'softmax']),
    ('Training.model = @of_one_argument', ['of_one_argument', 'too many']),
    ('Training.model = @of_another_name', ['of_another_name', "'needed'"]),
    ('small_resnet.width = 0', ['small_resnet', 'Training.model']),
  ],
)
def test_a_model_that_cannot_be_is_refused_before_any_work(
  binding, words, models, refused, tiny
):
  flags = [f'--study={tiny.study}', f'--data_dir={tiny.data_dir}']
  more = [f'--gin_file={models}', f'--gin_bindings={binding}']
  refused('roar_study', [*flags, *more], words)


def test_the_users_word_for_a_models_version_takes_its_codes_place(
  models, tiny
):
  def code():
    (loaded,) = experiment.load(
      study=tiny.study,
      gin_files=[models],
      gin_bindings=['Training.model = @of_a_size'],
    )
    return loaded.retrained_model.code

  assert code() == {'version of model "of_a_size"': 'first'}
  sys.modules['refused_models'].of_a_size.roar_version = 'second'
  assert code() == {'version of model "of_a_size"': 'second'}
