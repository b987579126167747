"""Tests of GB against NumPy, and of what it needs of a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import estimators

L = keras.layers
SHAPE = (3, 2, 2)
SIZE, HIDDEN, CLASSES = 12, 9, 4
TARGETS = np.array([0, 3, 1, 1, 2, 0], np.int32)
FLOAT64 = {'dtype': 'float64'}


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).normal(size=(6, *SHAPE))


@pytest.fixture(scope='module')
def weights():
  """Kernels and biases of three layers, of either sign."""
  generator = np.random.default_rng(1)
  sizes = [SIZE, HIDDEN, HIDDEN, CLASSES]
  values = []
  for before, after in zip(sizes, sizes[1:], strict=False):
    values.append(generator.normal(size=(before, after)))
    values.append(generator.normal(size=after))
  return values


def _network(weights, relu):
  """Two hidden layers; `relu` makes a new layer of them each time."""
  model = keras.Sequential(
    [
      keras.Input(SHAPE, **FLOAT64),
      L.Flatten(**FLOAT64),
      L.Dense(HIDDEN, **FLOAT64),
      relu(),
      L.Dense(HIDDEN, **FLOAT64),
      relu(),
      L.Dense(CLASSES, **FLOAT64),
    ]
  )
  model.set_weights(weights)
  return model


def _by_hand(weights, images, limit=np.inf, guided=True):
  """Backwards through the two hidden layers, unit by unit."""
  kernel1, bias1, kernel2, bias2, kernel3, _ = weights
  first = images.reshape(len(images), -1) @ kernel1 + bias1
  second = np.clip(first, 0, limit) @ kernel2 + bias2
  gradient = kernel3[:, TARGETS].T
  for units, kernel in ((second, kernel2), (first, kernel1)):
    gradient = gradient * ((units > 0) & (units < limit))
    if guided:
      gradient = np.maximum(gradient, 0)
    gradient = gradient @ kernel.T
  return gradient.reshape(images.shape)


def _explain(model, images, names='gb', **arguments):
  arguments = {'targets': TARGETS, 'samples': 3, 'steps': 4, **arguments}
  return roar_tf.explain(model, images, names, **arguments)


# --- values -------------------------------------------------------------------


def test_two_layers_by_hand(weights, images):
  model = _network(weights, lambda: L.ReLU(**FLOAT64))
  found = _explain(model, images, ['gb', 'grad'])
  expected = _by_hand(weights, images)
  np.testing.assert_allclose(found['gb'], expected, rtol=1e-12, atol=1e-14)
  assert (expected < 0).any() and (expected > 0).any()
  # GRAD beside it is untouched.
  plain = _by_hand(weights, images, guided=False)
  np.testing.assert_allclose(found['grad'], plain, rtol=1e-12, atol=1e-14)
  assert not np.allclose(expected, plain)


def test_relu_six_by_hand(weights, images):
  # Activations beyond 6 must occur, and units that are negative.
  images = 4 * images
  expected = _by_hand(weights, images, limit=6)
  assert not np.allclose(expected, _by_hand(weights, images))
  for relu in (
    lambda: L.ReLU(max_value=6, **FLOAT64),
    lambda: L.Lambda(tf.nn.relu6, **FLOAT64),
  ):
    found = _explain(_network(weights, relu), images, ['gb', 'grad'])
    np.testing.assert_allclose(found['gb'], expected, rtol=1e-12, atol=1e-13)
    plain = _by_hand(weights, images, limit=6, guided=False)
    np.testing.assert_allclose(found['grad'], plain, rtol=1e-12, atol=1e-13)


# --- wherever a ReLU stands ---------------------------------------------------


def _as_argument(weights):
  arguments = {'activation': 'relu', **FLOAT64}
  return keras.Sequential(
    [
      keras.Input(SHAPE, **FLOAT64),
      L.Flatten(**FLOAT64),
      L.Dense(HIDDEN, **arguments),
      L.Dense(HIDDEN, **arguments),
      L.Dense(CLASSES, **FLOAT64),
    ]
  )


def _nested(weights):
  inputs = keras.Input((HIDDEN,), **FLOAT64)
  x = L.Dense(HIDDEN, **FLOAT64)(L.ReLU(**FLOAT64)(inputs))
  inner = keras.Model(inputs, keras.ops.relu(x))
  images = keras.Input(SHAPE, **FLOAT64)
  x = L.Dense(HIDDEN, **FLOAT64)(L.Flatten(**FLOAT64)(images))
  return keras.Model(images, L.Dense(CLASSES, **FLOAT64)(inner(x)))


class Subclass(keras.Model):
  def __init__(self):
    super().__init__(**FLOAT64)
    self.hidden = [L.Dense(HIDDEN, **FLOAT64) for _ in range(2)]
    self.logits = L.Dense(CLASSES, **FLOAT64)

  def call(self, inputs):
    x = tf.reshape(inputs, [-1, SIZE])
    for layer in self.hidden:
      x = tf.nn.relu(layer(x))
    return self.logits(x)


def _subclass(weights):
  model = Subclass()
  model(np.zeros((1, *SHAPE)))
  return model


@pytest.mark.parametrize(
  'build',
  [
    lambda w: _network(w, lambda: L.Lambda(tf.nn.relu, **FLOAT64)),
    _as_argument,
    _subclass,
    _nested,
  ],
  ids=['tf', 'argument', 'subclass', 'nested'],
)
def test_all_ways_to_write_a_relu_are_one(build, weights, images):
  model = build(weights)
  model.set_weights(weights)
  np.testing.assert_allclose(
    _explain(model, images)['gb'],
    _by_hand(weights, images),
    rtol=1e-12,
    atol=1e-14,
  )


# --- how it is computed -------------------------------------------------------


@pytest.fixture(scope='module')
def network():
  """A float32 network of convolutions, as the pipeline's are."""
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input((8, 8, 3)),
      L.Conv2D(4, 3),
      L.BatchNormalization(),
      L.ReLU(),
      L.Conv2D(5, 3, activation='relu'),
      L.Flatten(),
      L.Dense(CLASSES),
    ]
  )


@pytest.fixture(scope='module')
def batch():
  values = np.random.default_rng(2).normal(size=(6, 8, 8, 3))
  return values.astype(np.float32)


NAMES = ('grad', 'gb', 'sg_grad', 'sg_sq_gb', 'var_gb', 'sg_ig')


@pytest.mark.parametrize('name', ['gb', 'sg_grad', 'sg_ig'])
def test_one_forward_pass_for_both_rules_changes_no_bit(name, network, batch):
  together = _explain(network, batch, NAMES)
  alone = _explain(network, batch, name)
  np.testing.assert_array_equal(alone[name], together[name])


def test_eagerly_equals_numpy(weights, images):
  model = _network(weights, lambda: L.ReLU(**FLOAT64))
  found = estimators.gb(model, tf.constant(images), tf.constant(TARGETS), None)
  np.testing.assert_allclose(
    found, _by_hand(weights, images), rtol=1e-12, atol=1e-14
  )


def test_later_gradients_of_the_model_are_its_own(network, batch):
  def gradient():
    images = tf.constant(batch)
    with tf.GradientTape() as tape:
      tape.watch(images)
      logits = network(images, training=False)
      selected = tf.gather(logits, TARGETS, batch_dims=1)
    return tape.gradient(selected, images).numpy()

  before = gradient()
  guided = _explain(network, batch)['gb']
  np.testing.assert_array_equal(gradient(), before)
  assert not np.allclose(guided, before)


# --- refusals -----------------------------------------------------------------


def _refused(model, images, match):
  with pytest.raises(ValueError, match=match) as refusal:
    _explain(model, images, ['gb'], targets=None)
  message = str(refusal.value)
  # One sentence, of ours.
  assert message.startswith('estimator "gb"') and message.endswith('.')
  assert '\n' not in message and message.count('. ') == 0


HIDDEN_RELUS = {
  'function': tf.function(tf.nn.relu),
  'loop': lambda x: tf.while_loop(
    lambda i, _: i < 1, lambda i, x: (i + 1, tf.nn.relu(x)), (0, x)
  )[1],
  'branch': lambda x: tf.cond(
    tf.reduce_sum(tf.abs(x)) > 0, lambda: tf.nn.relu(x), lambda: x
  ),
}


@pytest.mark.parametrize('place', HIDDEN_RELUS)
def test_a_relu_out_of_reach_is_refused(place, weights, images):
  # The first ReLU may be seen.
  layers = iter([L.ReLU(**FLOAT64), L.Lambda(HIDDEN_RELUS[place], **FLOAT64)])
  model = _network(weights, lambda: next(layers))
  _refused(model, images, 'must see every ReLU.*leave gb out')
  # The other estimators do not mind.
  assert np.isfinite(_explain(model, images, 'grad')['grad']).all()


def test_a_model_without_a_relu_is_refused_and_left_as_it_was(weights, images):
  model = _network(weights, lambda: L.Activation('tanh', **FLOAT64))
  for _ in range(2):
    _refused(model, images, 'has none')
  assert np.isfinite(_explain(model, images, 'grad')['grad']).all()


# --- other rectifiers ---------------------------------------------------------

OTHERS = {
  'maximum': (lambda x: tf.maximum(x, 0.0), r'maximum\(x, 0\)'),
  'keras_maximum': (lambda x: keras.ops.maximum(0, x), r'maximum\(x, 0\)'),
  'clip': (lambda x: tf.clip_by_value(x, 0.0, 6.0), r'maximum\(x, 0\)'),
  'product': (lambda x: x * tf.cast(x > 0, x.dtype), r'x \* \(x > 0\)'),
  'where': (lambda x: tf.where(x > 0, x, 0.0), r'where\(x > 0, x, 0\)'),
  'where_not': (lambda x: tf.where(x <= 0, 0.0, x), 'where'),
  'magnitude': (lambda x: (x + tf.abs(x)) / 2, r'x \+ abs\(x\)'),
  'minimum': (lambda x: -tf.minimum(-x, 0.0), r'-minimum\(-x, 0\)'),
  'hidden': (tf.function(lambda x: tf.maximum(x, 0.0)), 'see every ReLU'),
  'threshold': (keras.layers.ReLU(threshold=0.3), 'where'),
  'p_relu': (lambda x: tf.nn.relu(x) - 0.25 * tf.nn.relu(-x), 'PReLU'),
  'negative_slope': (
    keras.layers.ReLU(negative_slope=0.1, max_value=3),
    'negative_slope',
  ),
  'hard_sigmoid': (keras.ops.hard_sigmoid, 'hard_sigmoid'),
  'hard_silu': (keras.ops.hard_silu, 'hard_sigmoid, as in hard_silu'),
  'recompute': (
    lambda x: tf.recompute_grad(lambda y: 2 * tf.nn.relu(y))(x),
    'custom gradient .*recompute_grad',
  ),
}


def _beside(function, relu='relu'):
  return keras.Sequential(
    [
      keras.Input((6, 6, 3)),
      L.Conv2D(4, 3, activation=relu),
      L.Conv2D(4, 2),
      L.Lambda(function),
      L.Flatten(),
      L.Dense(CLASSES),
    ]
  )


@pytest.fixture(scope='module')
def small():
  values = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
  return values.astype(np.float32)


@pytest.mark.parametrize('other', OTHERS)
def test_a_rectifier_that_would_be_unguided_is_named(other, small):
  function, named = OTHERS[other]
  _refused(_beside(function), small, named)


def test_a_rectifier_without_a_relu_is_named(small):
  model = _beside(OTHERS['maximum'][0], relu='tanh')
  _refused(model, small, r'rectifies otherwise .*lambda.*/Maximum')


def _mean(x):
  return tf.reduce_mean(x, [1, 2, 3], keepdims=True)


NO_RECTIFIERS = {
  'two_tensors': lambda x: tf.maximum(x, 2 * x),
  'largest': lambda x: tf.nn.max_pool2d(x, 2, 1, 'SAME'),
  'normalised': lambda x: tf.nn.l2_normalize(x, -1) + tf.nn.softmax(x),
  'deviation': lambda x: (
    x / tf.sqrt(tf.maximum(_mean(x * x) - _mean(x) ** 2, 0.0) + 1e-3)
  ),
  'bounded': lambda x: tf.clip_by_value(tf.nn.relu(x), 0.0, 3.0),
  'celu': keras.ops.celu,
  'softplus': lambda x: keras.ops.logaddexp(x, 0.0),
  'both_signs': tf.nn.crelu,
  'leaky': tf.nn.leaky_relu,
  'random_mask': lambda x: (
    x * tf.cast(tf.random.stateless_uniform(x.shape[1:], [0, 1]) > 0.5, x.dtype)
  ),
  'not_used': lambda x: x + tf.stop_gradient(tf.nn.relu(x)),
}


@pytest.mark.parametrize('operation', NO_RECTIFIERS)
def test_what_is_no_rectifier_is_left_alone(operation, small):
  found = _explain(
    _beside(NO_RECTIFIERS[operation]), small, 'gb', targets=[0, 1]
  )['gb']
  assert found.numpy().any()


def test_a_function_without_a_relu_hides_none():
  # Keras compiles convolutions in groups, for they have no CPU kernel.
  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [
      keras.Input((6, 6, 4)),
      L.Conv2D(4, 3, groups=2, activation='relu'),
      L.Flatten(),
      L.Dense(CLASSES),
    ]
  )
  images = np.random.default_rng(0).normal(size=(6, 6, 6, 4))
  found = _explain(model, images.astype(np.float32))['gb']
  assert np.isfinite(found).all() and found.numpy().any()
