"""Tests of the precision that models compute in."""

import os
import subprocess
import sys

import keras
import pytest

from roar_tf.models import factories, precision, resnet


@pytest.mark.parametrize(
  'name, computes', [('float32', 'float32'), ('bfloat16', 'bfloat16')]
)
def test_models_built_inside_compute_in_it(name, computes):
  before = keras.config.dtype_policy()
  with precision.computing_in(name):
    model = resnet.small_resnet((8, 8, 3), 4, width=2, stages=2)
  assert keras.config.dtype_policy() == before
  assert model.layers[1].compute_dtype == computes
  assert {v.dtype for v in model.variables} == {'float32'}
  assert model.output.dtype == 'float32'


def test_the_setting_of_keras_comes_back_after_an_error():
  before = keras.config.dtype_policy()
  with pytest.raises(KeyError), precision.computing_in('bfloat16'):
    raise KeyError
  assert keras.config.dtype_policy() == before


def test_settings_of_keras_change_no_model():
  """~/.keras/keras.json, or a user's module, may have set them."""
  config = keras.config
  setters = (
    (config.set_floatx, config.floatx(), 'float64'),
    (config.set_image_data_format, 'channels_last', 'channels_first'),
    (config.set_dtype_policy, config.dtype_policy(), 'mixed_bfloat16'),
  )

  def build():
    def factory(shape, classes):
      layers = keras.layers
      return keras.Sequential(
        [
          keras.Input(shape),
          layers.Conv2D(3, 3),
          layers.GlobalAveragePooling2D(),
          layers.Dense(classes),
        ]
      )

    return factories.build(factory, (8, 6, 3), 4, 'float32').get_config()

  expected = build()
  for setter, _, value in setters:
    setter(value)
  try:
    found = build()
    assert config.floatx() == 'float64'
    assert config.image_data_format() == 'channels_first'
    assert config.dtype_policy().name == 'mixed_bfloat16'
  finally:
    for setter, value, _ in setters:
      setter(value)
  for one, other in zip(found['layers'], expected['layers'], strict=True):
    for each in (one, other):
      for name in ('name', 'layers'):
        each['config'].pop(name, None)
    assert one == other


@pytest.mark.parametrize('backend', ['jax', 'nonsense'])
def test_another_backend_of_keras_is_refused_in_one_sentence(backend):
  program = 'from roar_tf.lazy import keras; keras.layers'
  outcome = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'KERAS_BACKEND': backend},
    capture_output=True,
    text=True,
  )
  last = outcome.stderr.splitlines()[-1]
  assert 'UsageError' in last and 'KERAS_BACKEND=tensorflow' in last
  assert f'"{backend}"' in last
