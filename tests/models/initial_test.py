"""Initial weights are those of models that are built under the same seed."""

import random

import keras
import numpy as np
import pytest

from roar_tf.models import initial, resnet

SHAPE, CLASSES = (8, 8, 3), 5


def _small_resnet():
  return resnet.small_resnet(SHAPE, CLASSES, width=2, stages=2)


def _layers(*layers):
  return keras.Sequential(
    [keras.Input(SHAPE), *layers, keras.layers.Flatten(), _classes()]
  )


def _classes():
  return keras.layers.Dense(CLASSES, bias_initializer='random_normal')


def _dropouts():
  return _layers(keras.layers.Dropout(0.5), keras.layers.SpatialDropout2D(0.1))


def _depthwise():
  return _layers(
    keras.layers.DepthwiseConv2D(3), keras.layers.SeparableConv2D(4, 3)
  )


def _recurrent():
  return _layers(keras.layers.Reshape((64, 3)), keras.layers.SimpleRNN(4))


def _with_layers_that_are_thrown_away():
  return _layers(
    keras.layers.Reshape((64, 3)),
    keras.layers.Bidirectional(keras.layers.SimpleRNN(4)),
  )


def _with_a_bias_made_of_two():
  return _layers(keras.layers.Reshape((64, 3)), keras.layers.LSTM(4))


def _seeded_by_its_factory():
  fixed = keras.initializers.HeNormal(seed=7)
  return _layers(keras.layers.Conv2D(4, 3, kernel_initializer=fixed))


def _one_initialiser_for_two_layers():
  shared = keras.initializers.GlorotNormal()
  return _layers(
    *(keras.layers.Conv2D(3, 3, kernel_initializer=shared) for _ in range(2))
  )


def _scaled_at_random():
  scale = random.choice([0.5, 2.0])
  return _layers(
    keras.layers.Conv2D(
      4, 3, kernel_initializer=keras.initializers.RandomNormal(0, scale)
    )
  )


def _assigned():
  model = _layers(keras.layers.Conv2D(4, 3))
  kernel = model.layers[0].kernel
  kernel.assign(kernel / 2)
  return model


class _OfItsOwn(keras.initializers.Initializer):
  def __call__(self, shape, dtype=None):
    return keras.ops.full(shape, random.random(), dtype)


def _by_an_initialiser_of_its_own():
  return _layers(keras.layers.Conv2D(4, 3, kernel_initializer=_OfItsOwn()))


def _of_numpy():
  model = _layers(keras.layers.Conv2D(4, 3))
  kernel = model.layers[0].kernel
  draws = np.random.default_rng(random.getrandbits(32))
  kernel.assign(draws.normal(size=kernel.shape))
  return model


KERAS = [
  _small_resnet,
  _dropouts,
  _depthwise,
  _recurrent,
  _seeded_by_its_factory,
  _one_initialiser_for_two_layers,
]
OTHERS = [
  _with_layers_that_are_thrown_away,
  _with_a_bias_made_of_two,
  _scaled_at_random,
  _assigned,
  _by_an_initialiser_of_its_own,
  _of_numpy,
]


@pytest.mark.parametrize('factory', [*KERAS, *OTHERS])
def test_values_are_those_of_a_model_built_under_the_seed(factory):
  builds = []

  def build():
    builds.append(factory())
    return builds[-1]

  weights = initial.InitialWeights(build)
  for seed in (3, 3, 8, 3, 11, 12):
    found = weights(seed)
    state = random.getstate()
    random.seed(seed)
    model = factory()
    random.setstate(state)
    for values, variables in zip(
      found,
      (model.trainable_variables, model.non_trainable_variables),
      strict=True,
    ):
      assert len(values) == len(variables)
      for value, variable in zip(values, variables, strict=True):
        assert value.dtype == variable.dtype
        np.testing.assert_array_equal(value, variable)
  # Two builds under one seed prove nothing; the third one is under another.
  assert len(builds) == (3 if factory in KERAS else 6)


def test_python_draws_what_it_would_have_drawn():
  weights = initial.InitialWeights(_small_resnet)
  random.seed(5)
  expected = [random.random() for _ in range(4)]
  random.seed(5)
  found = []
  for seed in range(4):
    found.append(random.random())
    weights(seed)
  assert found == expected
