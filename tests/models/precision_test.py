"""Tests of the precision that models compute in."""

import keras
import pytest

from roar_tf.models import precision, resnet


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
