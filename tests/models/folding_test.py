"""Tests of folding: any model means the same, and is left as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf.models import batch_norm, folding, graphs, resnet

L = keras.layers
SHAPE = (7, 6, 3)  # No two sizes are equal, nor equal to a number of filters.


@pytest.fixture(autouse=True)
def float64():
  """Layers made in a test compute in float64."""
  before = keras.config.floatx(), keras.config.dtype_policy()
  keras.config.set_floatx('float64')
  keras.config.set_dtype_policy('float64')
  yield
  keras.config.set_floatx(before[0])
  keras.config.set_dtype_policy(before[1])


def _randomised(model, seed=0):
  """Gives all weights and statistics values that a trained model may have."""
  generator = np.random.default_rng(seed)
  for variable in model.variables:
    name, shape = variable.path.rsplit('/', 1)[-1], tuple(variable.shape)
    if name in ('moving_variance', 'gamma'):
      variable.assign(generator.uniform(0.5, 2, shape))
    elif 'seed' not in name:
      variable.assign(generator.normal(size=shape) / 2)
  return model


def _images(shape=SHAPE, dtype='float64', count=5):
  values = np.random.default_rng(1).normal(size=(count, *shape))
  return tf.constant(values, dtype)


def _compiled(model):
  """Returns a function of images, folded where it is traced."""
  return tf.function(
    lambda images: folding.folded(model)(images), autograph=False
  )


def _operations(model, images):
  """Returns the operations of the folded model."""
  graph = _compiled(model).get_concrete_function(images).graph
  return graph.get_operations()


def _multiplies_images(model, images) -> bool:
  """Whether some batch norm is still a map of its own over the images."""
  return any(
    o.type.startswith('FusedBatchNorm')
    or o.type in ('Mul', 'AddV2')
    and o.outputs[0].shape.rank == 4
    and o.outputs[0].shape[0] == images.shape[0]
    for o in _operations(model, images)
  )


def _check(model, images=None, rtol=1e-10):
  """The folded model equals the model in evaluation mode."""
  _randomised(model)
  images = _images(model.input_shape[1:]) if images is None else images
  # Not eagerly: Keras may add a bias along another axis there if sizes agree.
  expected = tf.function(lambda x: model(x, training=False))(images)
  found = _compiled(model)(images)
  tf.nest.assert_same_structure(expected, found)
  for a, b in zip(
    tf.nest.flatten(expected), tf.nest.flatten(found), strict=True
  ):
    assert a.dtype == b.dtype and a.shape == b.shape
    a, b = (tf.cast(x, tf.float64).numpy() for x in (a, b))
    assert np.abs(a).max() > 0
    np.testing.assert_allclose(b, a, rtol=0, atol=rtol * np.abs(a).max())


def _model(function, shape=SHAPE, **arguments):
  inputs = keras.Input(shape, **arguments)
  return keras.Model(inputs, function(inputs))


def _block(shape=SHAPE, filters=4):
  return _model(
    lambda x: L.BatchNormalization()(L.Conv2D(filters, 3)(x)), shape
  )


class Applied(L.Layer):
  """Calls another layer, and has no argument `training`."""

  def __init__(self, layer):
    super().__init__()
    self.layer = layer

  def call(self, inputs):
    return self.layer(inputs)


# --- what is folded -----------------------------------------------------------


def test_small_resnet():
  model = resnet.small_resnet((9, 8, 3), 5, width=4, blocks=2)
  _check(model)
  types = [o.type for o in _operations(model, _images((9, 8, 3)))]
  convolutions = [
    layer for layer in model.layers if isinstance(layer, L.Conv2D)
  ]
  assert types.count('BiasAdd') == len(convolutions) + 1
  assert types.count('Conv2D') == len(convolutions)
  assert 'FusedBatchNormV3' not in types


CONVOLUTIONS = {
  'plain': lambda: L.Conv2D(4, 3),
  'strided': lambda: L.Conv2D(
    4, (3, 2), strides=(2, 2), padding='same', use_bias=False
  ),
  'grouped': lambda: L.Conv2D(6, 3, groups=3),
  'depthwise': lambda: L.DepthwiseConv2D(
    3, depth_multiplier=2, strides=2, padding='same', use_bias=False
  ),
}


@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_convolutions(name):
  model = _model(lambda x: L.BatchNormalization()(CONVOLUTIONS[name]()(x)))
  _check(model)
  assert not _multiplies_images(model, _images())


@pytest.mark.parametrize(
  ('kind', 'scale', 'center'),
  [
    (L.BatchNormalization, False, True),
    (batch_norm.BatchNormalization, True, False),
  ],
)
def test_batch_norms(kind, scale, center):
  model = _model(
    lambda x: kind(scale=scale, center=center, epsilon=0.1)(L.Conv2D(4, 3)(x))
  )
  _check(model)
  assert not _multiplies_images(model, _images())


def test_chains_fold_into_the_first_only():
  def layers(x):
    x = L.BatchNormalization()(L.Conv2D(4, 3)(x))
    x = L.BatchNormalization()(x)  # After a batch norm, not a convolution.
    return L.BatchNormalization()(L.Conv2D(5, 1)(L.ReLU()(x)))

  _check(_model(layers))


def test_folding_is_done_where_models_are_nested():
  inner = _block()
  sequential = keras.Sequential(
    [keras.Input((5, 4, 4)), L.Conv2D(2, 3), L.BatchNormalization(), L.ReLU()]
  )
  deeper = _model(lambda x: L.Flatten()(sequential(inner(x))))
  model = keras.Sequential([keras.Input(SHAPE), deeper, L.Dense(2)])
  _check(model)
  assert not _multiplies_images(model, _images())


# --- what must not be folded --------------------------------------------------


def test_an_activation_in_between():
  model = _model(
    lambda x: L.BatchNormalization()(L.Conv2D(4, 3, activation='relu')(x))
  )
  _check(model)
  assert _multiplies_images(model, _images())


def test_a_convolution_that_is_used_elsewhere():
  def add(x):
    x = L.Conv2D(4, 3)(x)
    return L.Add()([x, L.BatchNormalization()(x)])

  def output(x):
    x = L.Conv2D(4, 3)(x)
    return [L.BatchNormalization()(x), x]

  for function in (add, output):
    _check(_model(function))


def test_layers_that_are_shared():
  def convolution(x):
    shared = L.Conv2D(4, 3)
    return L.Add()([L.BatchNormalization()(shared(x)), shared(x * 2.0)])

  def norm(x):
    shared = L.BatchNormalization()
    return L.Add()([shared(L.Conv2D(4, 3)(x)), shared(L.Conv2D(4, 3)(x))])

  for function in (convolution, norm):
    _check(_model(function))


def test_a_subclass_of_a_layer_is_called_as_it_is():
  class Doubled(L.Conv2D):
    def call(self, inputs):
      return 2 * super().call(inputs)

  class Halved(L.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
      return super().call(inputs, training=training, mask=mask) / 2

  _check(_model(lambda x: L.BatchNormalization()(Doubled(4, 3)(x))))
  _check(_model(lambda x: Halved()(L.Conv2D(4, 3)(x))))


def test_batch_norm_over_another_axis():
  _check(_model(lambda x: L.BatchNormalization(axis=1)(L.Conv2D(4, 3)(x))))


def test_a_convolution_with_channels_first_is_none():
  # Most CPUs cannot compute it, so that nothing is run.
  def layers(x):
    x = L.Conv2D(4, 3, padding='same', data_format='channels_first')(x)
    return L.BatchNormalization(axis=3)(x)

  model = _model(layers, (3, 7, 6))
  assert graphs.normalised_convolutions(graphs.graph_of(model)) == []
  assert len(graphs.normalised_convolutions(graphs.graph_of(_block()))) == 1


# --- kinds of models ----------------------------------------------------------


def test_a_sequential_that_the_first_call_builds():
  model = keras.Sequential([L.Conv2D(4, 3), L.BatchNormalization()])
  images = _images()
  first = _compiled(model)(images)
  np.testing.assert_allclose(first, model(images, training=False), rtol=1e-10)
  _check(model, images)
  assert not _multiplies_images(model, images)


def test_a_functional_model_with_a_call_of_its_own():
  class Negative(keras.Model):
    def call(self, inputs, training=None, mask=None):
      return -super().call(inputs, training=training, mask=mask)

  inputs = keras.Input(SHAPE)
  outputs = L.BatchNormalization()(L.Conv2D(4, 3)(inputs))
  _check(Negative(inputs, outputs), _images())


# --- evaluation mode ----------------------------------------------------------


@pytest.mark.parametrize(
  'layer',
  [
    lambda: L.Dropout(0.5),
    lambda: L.RandomTranslation(0.3, 0.3),  # By default `training=True`.
    lambda: L.BatchNormalization(),
  ],
)
def test_evaluation_mode_is_kept(layer):
  # Keras: what the model is called with wins over the graph's own argument.
  _check(
    _model(
      lambda x: L.BatchNormalization()(
        L.Conv2D(4, 3)(layer()(x, training=True))
      )
    )
  )


def test_evaluation_mode_reaches_layers_inside_layers():
  _check(_model(lambda x: Applied(L.Dropout(0.5))(x)))
  _check(_model(lambda x: Applied(Applied(L.BatchNormalization()))(x)))


# --- types of numbers ---------------------------------------------------------


@pytest.mark.parametrize(
  ('convolution', 'norm', 'rtol'),
  [
    ('float32', 'float32', 1e-5),
    # Eight bits of mantissa.
    ('mixed_bfloat16', 'mixed_bfloat16', 2**-5),
  ],
)
def test_types_of_a_convolution_and_its_batch_norm(convolution, norm, rtol):
  model = _model(
    lambda x: L.BatchNormalization(dtype=norm)(
      L.Conv2D(4, 3, dtype=convolution)(x)
    ),
    dtype='float32',
  )
  _check(model, _images(dtype='float32'), rtol=rtol)


# --- the user's model ---------------------------------------------------------


def test_nothing_of_the_model_is_changed():
  inner = _block()
  model = _randomised(
    _model(lambda x: L.Dense(2)(L.Flatten()(L.Dropout(0.5)(inner(x)))))
  )
  layers = [model, inner, *model.layers, *inner.layers]

  def state():
    return [
      (
        dict(layer.__dict__),
        len(layer._inbound_nodes),
        len(layer._outbound_nodes),
      )
      for layer in layers
    ]

  before, weights = state(), model.get_weights()
  values = _compiled(model)(_images())
  for layer, (attributes, *nodes), (now, *still) in zip(
    layers, before, state(), strict=True
  ):
    assert nodes == still, layer.name
    # The fresh count of a call is bookkeeping of Keras'.
    assert attributes.keys() == now.keys(), layer.name
    changed = {k for k in now if now[k] is not attributes[k]} - {'_called'}
    assert not changed, layer.name
  for a, b in zip(weights, model.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)
  # And it can go on: saved, cloned, trained, folded again.
  clone = keras.models.clone_model(model)
  clone.set_weights(weights)
  np.testing.assert_array_equal(_compiled(clone)(_images()), values)
  model.compile('sgd', 'mse')
  model.fit(_images(), np.ones((5, 2)), verbose=0)


def test_new_weights_are_seen_without_tracing_again():
  model = _block()
  images, compiled = _images(), _compiled(model)
  outcomes = []
  for seed in (1, 2):
    _randomised(model, seed)
    outcomes.append(compiled(images).numpy())
    expected = model(images, training=False)
    np.testing.assert_allclose(outcomes[-1], expected, rtol=1e-9, atol=1e-10)
  assert compiled.experimental_get_tracing_count() == 1
  assert not np.allclose(*outcomes)


def test_kernels_are_folded_outside_of_a_loop():
  model = _randomised(_block())

  @tf.function(autograph=False)
  def repeated(images):
    call = folding.folded(model)
    return tf.while_loop(
      lambda i, _: i < 3,
      lambda i, total: (i + 1, total + call(images)),
      (0, tf.zeros_like(call(images))),
    )[1]

  expected = 3 * model(_images(), training=False)
  np.testing.assert_allclose(
    repeated(_images()), expected, rtol=1e-9, atol=1e-10
  )
  functions = (
    repeated.get_concrete_function(_images()).graph.as_graph_def().library
  )
  inside = {n.op for f in functions.function for n in f.node_def}
  assert 'Conv2D' in inside and 'Rsqrt' not in inside and 'Mul' not in inside


def test_gradients_of_the_images_are_the_models():
  model = resnet.small_resnet((9, 8, 3), 5, width=4)
  _randomised(model)

  def gradient(call):
    @tf.function(autograph=False)
    def evaluate(images):
      return tf.gradients(call()(images)[:, 1], images)[0]

    return evaluate(_images((9, 8, 3))).numpy()

  found = gradient(lambda: folding.folded(model))
  expected = gradient(lambda: lambda x: model(x, training=False))
  scale = np.abs(expected).max()
  assert scale > 0
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)
