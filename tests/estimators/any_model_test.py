"""Tests of what a model may be: its last layer, its types, where it runs."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import randomness
from roar_tf.estimators import plan

L = keras.layers
SHAPE = (6, 5, 3)
CLASSES = 4
FLOAT64 = {'dtype': 'float64'}
FIFTEEN = tuple(
  prefix + base
  for base in ('grad', 'gb', 'ig')
  for prefix in ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
)
"""The paper's fifteen gradient estimators."""


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).normal(size=(3, *SHAPE))


class Applied(L.Layer):
  """Applies a function of tensors, which Keras does not look into."""

  def __init__(self, function, **arguments):
    super().__init__(**arguments)
    self.function = function

  def call(self, inputs):
    return self.function(inputs)


def _model(*last, activation=None, dtype='float64', units=CLASSES, seed=0):
  """A small network, equal for equal seeds, with more layers at its end."""
  keras.utils.set_random_seed(seed)
  return keras.Sequential(
    [
      keras.Input(SHAPE, dtype='float64' if dtype == 'float64' else 'float32'),
      L.Conv2D(4, 3, activation='relu', dtype=dtype),
      L.Conv2D(5, 2, dtype=dtype),
      L.BatchNormalization(dtype=dtype),
      L.ReLU(dtype=dtype),
      L.Flatten(dtype=dtype),
      L.Dense(units, activation=activation, dtype=dtype),
      *last,
    ]
  )


def _explain(model, images, names=FIFTEEN, **arguments):
  arguments = {'samples': 2, 'steps': 3, 'ids': range(len(images)), **arguments}
  found = roar_tf.explain(model, images, names, **arguments)
  return {name: scores.numpy() for name, scores in found.items()}


def _assert_equal(found, expected, rtol):
  assert found.keys() == expected.keys()
  for name, goal in expected.items():
    scale = np.abs(goal).max()
    assert scale > 0, name
    np.testing.assert_allclose(
      found[name], goal, rtol=0, atol=rtol * scale, err_msg=name
    )


# --- the last layer -----------------------------------------------------------


class Subclass(keras.Model):
  """A network and a function of tensors after it."""

  def __init__(self, function):
    super().__init__(**FLOAT64)
    self.network = _model()
    self.function = function

  def call(self, inputs):
    return self.function(self.network(inputs))


SOME = ('grad', 'sg_gb')


@pytest.fixture(scope='module')
def of_logits(images):
  """Names to scores of the network of logits."""
  return _explain(_model(), images, SOME)


ENDS = {
  'softmax_layer': lambda: _model(L.Softmax(**FLOAT64)),
  'softmax_activation': lambda: _model(L.Activation('softmax', **FLOAT64)),
  'softmax_argument': lambda: _model(activation='softmax'),
  'softmax_tensorflow': lambda: _model(Applied(tf.nn.softmax, **FLOAT64)),
  'softmax_keras': lambda: _model(Applied(keras.ops.softmax, **FLOAT64)),
  'softmax_subclass': lambda: Subclass(tf.nn.softmax),
  'softmax_dropout': lambda: _model(
    L.Softmax(**FLOAT64), L.Dropout(0.5, **FLOAT64)
  ),
  'log_softmax': lambda: _model(activation='log_softmax'),
  'sigmoid_layer': lambda: _model(L.Activation('sigmoid', **FLOAT64)),
  'sigmoid_argument': lambda: _model(activation='sigmoid'),
  'sigmoid_subclass': lambda: Subclass(tf.nn.sigmoid),
  'logits_subclass': lambda: Subclass(tf.identity),
}


@pytest.mark.parametrize('end', ENDS)
def test_the_logits_are_explained(end, images, of_logits):
  _assert_equal(_explain(ENDS[end](), images, SOME), of_logits, rtol=1e-12)


def test_the_logits_of_a_nested_model_are_explained(images, of_logits):
  inputs = keras.Input(SHAPE, **FLOAT64)
  model = keras.Model(inputs, _model(activation='softmax')(inputs))
  _assert_equal(_explain(model, images, SOME), of_logits, rtol=1e-12)


def test_one_sigmoid_is_a_classifier_too(images):
  model, logit = _model(activation='sigmoid', units=1), _model(units=1)
  found, expected = (_explain(m, images, SOME) for m in (model, logit))
  _assert_equal(found, expected, rtol=1e-12)


def test_probabilities_of_mixed_models(images):
  # Keras' advice: logits in bfloat16, the softmax in float32.
  images = images.astype(np.float32)
  dtype = 'mixed_bfloat16'
  model = _model(L.Activation('softmax', dtype='float32'), dtype=dtype)
  logits = _model(L.Activation('linear', dtype='float32'), dtype=dtype)
  names = ('grad', 'ig', 'gb')
  targets = np.array([0, 1, 2])
  expected = _explain(logits, images, names, targets=targets)
  found = _explain(model, images, names, targets=targets)
  # Flips of single ReLUs aside.
  for name in names:
    correlation = np.corrcoef(found[name].ravel(), expected[name].ravel())[0, 1]
    assert correlation > 0.99, name


def test_a_sigmoid_inside_of_the_model_stays(images):
  def gated(x):
    return x * tf.nn.sigmoid(x)

  @tf.function(autograph=False)
  def gradient(images):
    logits = gated(network(images, training=False))
    return tf.gradients(tf.reduce_max(logits, -1), images)[0]

  network = _model()
  found = _explain(_model(Applied(gated, **FLOAT64)), images, 'grad')
  expected = {'grad': gradient(tf.constant(images)).numpy()}
  _assert_equal(found, expected, rtol=1e-12)


@pytest.mark.parametrize('dtype', ['float64', 'float32', 'mixed_bfloat16'])
def test_a_softmax_out_of_reach_is_refused(dtype, images):
  hidden = Applied(tf.function(tf.nn.softmax), dtype=dtype)
  model = _model(hidden, dtype=dtype)
  images = images.astype('float64' if dtype == 'float64' else 'float32')
  for name in ('grad', 'gb'):
    with pytest.raises(ValueError, match='returns probabilities') as refusal:
      _explain(model, images, name)
    message = str(refusal.value)
    assert 'give a model that returns logits.' in message
    assert '\n' not in message


def test_probabilities_that_are_rounded_to_bfloat16_are_refused():
  # They add up to one up to their own rounding only, 2^-9 of each.
  def probabilities(images):
    return tf.zeros_like(images[:, 0, 0]) + tf.constant([0.6, 0.4], 'bfloat16')

  found = Applied(tf.function(probabilities), dtype='bfloat16')
  model = keras.Sequential([keras.Input((4, 4, 1)), found])
  with pytest.raises(ValueError, match='returns probabilities'):
    _explain(model, np.zeros((1, 4, 4, 1), np.float32), 'grad')


def test_a_single_logit_of_one_is_no_probability():
  model = keras.Sequential(
    [
      keras.Input((4, 4, 1)),
      L.Flatten(),
      L.Dense(1, kernel_initializer='ones', bias_initializer='ones'),
    ]
  )
  found = _explain(model, np.zeros((1, 4, 4, 1), np.float32), 'grad')['grad']
  np.testing.assert_array_equal(found, np.ones((1, 4, 4, 1)))


def test_a_softmax_before_the_last_operation_is_refused(images):
  model = _model(L.Softmax(**FLOAT64), L.Reshape((CLASSES,), **FLOAT64))
  with pytest.raises(ValueError, match='returns probabilities'):
    _explain(model, images, 'grad')


# --- types of numbers ---------------------------------------------------------


@pytest.mark.parametrize(
  ('dtype', 'images_dtype'),
  [
    ('float64', 'float64'),
    ('float64', 'float32'),
    ('mixed_bfloat16', 'float32'),
    ('mixed_bfloat16', 'float64'),
  ],
)
def test_scores_have_the_type_of_the_images(dtype, images_dtype, images):
  names = SOME if dtype == images_dtype else FIFTEEN
  found = _explain(_model(dtype=dtype), images.astype(images_dtype), names)
  for name, scores in found.items():
    assert scores.dtype == images_dtype and scores.shape == images.shape
    assert np.isfinite(scores).all() and scores.any(), name
    if 'sq' in name or 'var' in name:
      assert (scores >= 0).all(), name


def test_bfloat16_is_close_to_float32(images):
  images = images.astype(np.float32)
  names, targets = ('grad', 'ig'), [0, 1, 2]
  exact = _explain(_model(dtype='float32'), images, names, targets=targets)
  found = _explain(
    _model(dtype='mixed_bfloat16'), images, names, targets=targets
  )
  # Flips of single ReLUs are part of it.
  for name in names:
    correlation = np.corrcoef(found[name].ravel(), exact[name].ravel())[0, 1]
    assert correlation > 0.9, name


# --- where it runs ------------------------------------------------------------


def _scores(model, images, names, *, jit_compile, **settings):
  some = plan.Plan(names, plan.Settings(samples=2, steps=3, **settings))
  function = tf.function(
    plan.compile_plan(some, model).python_function,
    autograph=False,
    jit_compile=jit_compile,
  )
  found = function(
    tf.constant(images),
    None,
    randomness.keys_of_ids(list('abc')),
    None,
    tf.constant(0),
    tf.constant(0.1, images.dtype),
  )
  return {name: scores.numpy() for name, scores in found.items()}


def test_all_compile_under_xla_and_agree(images):
  model = _model()
  found, expected = (
    _scores(model, images, FIFTEEN, jit_compile=jit, batch_size=4)
    for jit in (True, False)
  )
  clean = [name for name in FIFTEEN if 'sg_' not in name and 'var_' not in name]
  assert len(clean) == 6
  _assert_equal(
    {n: found[n] for n in clean}, {n: expected[n] for n in clean}, 1e-9
  )
  # The noise: XLA's erfinv in float32 has other last digits, and a ReLU may
  # open in one program only.
  for name in set(FIFTEEN) - set(clean):
    error = np.linalg.norm(found[name] - expected[name])
    assert error < 0.1 * np.linalg.norm(expected[name]), name


def test_ensembles_agree_under_xla_where_there_is_no_noise(images):
  model = _model()
  names = ['sg_grad', 'sg_sq_gb', 'sg_ig']
  found, expected = (
    _scores(model, images, names, jit_compile=jit, noise=0.0)
    for jit in (True, False)
  )
  _assert_equal(found, expected, rtol=1e-9)


TWO_DEVICES = """
import os
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import keras
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.set_logical_device_configuration(
  tf.config.list_physical_devices('CPU')[0],
  [tf.config.LogicalDeviceConfiguration()] * 2,
)
from roar_tf import randomness
from roar_tf.estimators import plan

NAMES = {names!r}
L, F = keras.layers, {{'dtype': 'float64'}}
strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
assert strategy.num_replicas_in_sync == 2
keras.utils.set_random_seed(0)
with strategy.scope():
  model = keras.Sequential([
    keras.Input((5, 4, 3), **F),
    L.Conv2D(4, 3, **F),
    L.BatchNormalization(**F),
    L.ReLU(**F),
    L.Flatten(**F),
    L.Dense(4, **F),
  ])
images = tf.constant(np.random.default_rng(0).normal(size=(6, 5, 4, 3)))
keys = randomness.keys_of_ids(list('abcdef'))
some = plan.Plan(NAMES, plan.Settings(samples=3, steps=4, batch_size=8))

def scores(images, keys):
  return some.scores(model, images, None, keys)

def halves(values):
  return strategy.experimental_distribute_values_from_function(
    lambda context: tf.split(values, 2)[context.replica_id_in_sync_group]
  )

@tf.function(autograph=False)
def replicated(images, keys):
  return strategy.run(scores, args=(images, keys))

found = replicated(halves(images), halves(keys))
expected = tf.function(scores, autograph=False)(images, keys)
for name in NAMES:
  parts = strategy.experimental_local_results(found[name])
  assert [part.shape[0] for part in parts] == [3, 3]
  goal = expected[name].numpy()
  scale = np.abs(goal).max()
  assert scale > 0, name
  np.testing.assert_allclose(
    np.concatenate(parts), goal, rtol=0, atol=1e-10 * scale, err_msg=name
  )
print('equal', len(NAMES))
"""


def test_two_replicas_equal_one_device():
  # Logical devices are set before TensorFlow starts: a process of its own.
  root = pathlib.Path(roar_tf.__file__).resolve().parents[1]
  outcome = subprocess.run(
    [sys.executable, '-c', TWO_DEVICES.format(names=FIFTEEN)],
    capture_output=True,
    text=True,
    timeout=120,
    env={**os.environ, 'PYTHONPATH': str(root)},
  )
  assert outcome.returncode == 0, outcome.stderr[-3000:]
  assert outcome.stdout.strip().splitlines()[-1] == 'equal 15'
