"""Tests of folding: any model means the same, and is left as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf.models import batch_norm, folding, resnet

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


def _types(model, images):
  """Returns the operations of the folded model: those of arithmetic."""
  graph = _compiled(model).get_concrete_function(images).graph
  return [o.type for o in graph.get_operations()]


def _multiplies_images(model, images) -> bool:
  """Whether some batch norm is still a map of its own over the images."""
  graph = _compiled(model).get_concrete_function(images).graph
  return any(
    o.type.startswith('FusedBatchNorm')
    or o.type in ('Mul', 'AddV2')
    and o.outputs[0].shape.rank == 4
    and o.outputs[0].shape[0] == images.shape[0]
    for o in graph.get_operations()
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


@pytest.mark.parametrize('blocks', [1, 2])
def test_small_resnet(blocks):
  model = resnet.small_resnet((9, 8, 3), 5, width=4, blocks=blocks)
  _check(model)
  images = _images((9, 8, 3))
  types = _types(model, images)
  convolutions = [
    layer for layer in model.layers if isinstance(layer, L.Conv2D)
  ]
  assert types.count('BiasAdd') == len(convolutions) + 1
  assert types.count('Conv2D') == len(convolutions)
  assert 'FusedBatchNormV3' not in types


@pytest.mark.parametrize('depth', [18, 50])
def test_resnet(depth):
  model = resnet.resnet((65, 40, 3), 5, depth=depth)
  _check(model, _images((65, 40, 3), count=2))
  types = _types(model, _images((65, 40, 3), count=2))
  convolutions = [
    layer for layer in model.layers if isinstance(layer, L.Conv2D)
  ]
  assert types.count('BiasAdd') == len(convolutions) + 1
  assert types.count('Conv2D') == len(convolutions)


CONVOLUTIONS = {
  'plain': lambda: L.Conv2D(4, 3),
  'no_bias': lambda: L.Conv2D(4, 3, use_bias=False),
  'same': lambda: L.Conv2D(4, 3, padding='same'),
  'strided': lambda: L.Conv2D(4, 3, strides=2),
  'strided_same': lambda: L.Conv2D(4, (3, 2), strides=(2, 2), padding='same'),
  'one_way_stride': lambda: L.Conv2D(4, 3, strides=(2, 1), padding='same'),
  'dilated': lambda: L.Conv2D(4, 2, dilation_rate=2),
  'dilated_same': lambda: L.Conv2D(4, 3, dilation_rate=(2, 3), padding='same'),
  'grouped': lambda: L.Conv2D(6, 3, groups=3),
  'linear': lambda: L.Conv2D(4, 3, activation='linear'),
  'depthwise': lambda: L.DepthwiseConv2D(3),
  'depthwise_two': lambda: L.DepthwiseConv2D(3, depth_multiplier=2),
  'depthwise_two_same': lambda: L.DepthwiseConv2D(
    3, depth_multiplier=2, strides=2, padding='same', use_bias=False
  ),
  'depthwise_dilated': lambda: L.DepthwiseConv2D(
    2, depth_multiplier=2, dilation_rate=2
  ),
}


@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_convolutions(name):
  model = _model(lambda x: L.BatchNormalization()(CONVOLUTIONS[name]()(x)))
  _check(model)
  assert not _multiplies_images(model, _images())


@pytest.mark.parametrize('scale', [False, True])
@pytest.mark.parametrize('center', [False, True])
@pytest.mark.parametrize(
  'kind', [L.BatchNormalization, batch_norm.BatchNormalization]
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


def test_a_nested_model_called_twice():
  inner = keras.Sequential(
    [keras.Input(SHAPE), L.Conv2D(3, 3, padding='same'), L.BatchNormalization()]
  )
  _check(_model(lambda x: inner(inner(x))))


# --- what must not be folded --------------------------------------------------


def test_an_activation_in_between():
  model = _model(
    lambda x: L.BatchNormalization()(L.Conv2D(4, 3, activation='relu')(x))
  )
  _check(model)
  assert _multiplies_images(model, _images())


def test_pre_activation_pads_after_the_batch_norm():
  # Folded into the next convolution it would be wrong at the padded edge.
  _check(
    _model(
      lambda x: L.Conv2D(4, 3, padding='same')(
        L.ReLU()(L.BatchNormalization()(x))
      )
    )
  )
  _check(
    _model(lambda x: L.Conv2D(4, 3, padding='same')(L.BatchNormalization()(x)))
  )


def test_a_convolution_that_is_used_elsewhere():
  def add(x):
    x = L.Conv2D(4, 3)(x)
    return L.Add()([x, L.BatchNormalization()(x)])

  def twice(x):
    x = L.Conv2D(4, 3)(x)
    return L.Add()([L.BatchNormalization()(x), L.BatchNormalization()(x)])

  def output(x):
    x = L.Conv2D(4, 3)(x)
    return [L.BatchNormalization()(x), x]

  def operation(x):
    x = L.Conv2D(4, 3)(x)
    return L.BatchNormalization()(x) + keras.ops.tanh(x)

  for function in (add, twice, output, operation):
    _check(_model(function))


def test_layers_that_are_shared():
  def convolution(x):
    shared = L.Conv2D(4, 3)
    return L.Add()([L.BatchNormalization()(shared(x)), shared(x * 2.0)])

  def both(x):
    shared, norm = L.Conv2D(3, 3, padding='same'), L.BatchNormalization()
    return norm(shared(norm(shared(x))))

  def norm(x):
    shared = L.BatchNormalization()
    return L.Add()([shared(L.Conv2D(4, 3)(x)), shared(L.Conv2D(4, 3)(x))])

  def norm_of_no_convolution(x):
    shared = L.BatchNormalization()
    return shared(L.ReLU()(shared(L.Conv2D(4, 3)(x))))

  for function in (convolution, both, norm, norm_of_no_convolution):
    _check(_model(function))


def test_a_layer_that_another_model_uses_too():
  convolution, norm = L.Conv2D(4, 3), L.BatchNormalization()
  other = _model(lambda x: norm(convolution(L.ReLU()(x))))
  model = _model(lambda x: norm(convolution(x)))
  for each in (model, other):
    _check(each)
    assert not _multiplies_images(each, _images())


def test_a_subclass_of_a_layer_is_called_as_it_is():
  class Doubled(L.Conv2D):
    def call(self, inputs):
      return 2 * super().call(inputs)

  class Halved(L.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
      return super().call(inputs, training=training, mask=mask) / 2

  _check(_model(lambda x: L.BatchNormalization()(Doubled(4, 3)(x))))
  _check(_model(lambda x: Halved()(L.Conv2D(4, 3)(x))))


@pytest.mark.parametrize(
  'layer',
  [
    lambda: L.Conv2DTranspose(4, 3),
    lambda: L.SeparableConv2D(4, 3),
    lambda: L.Dense(4),
  ],
)
def test_other_layers_before_a_batch_norm(layer):
  _check(_model(lambda x: L.BatchNormalization()(layer()(x))))


@pytest.mark.parametrize('axis', [1, 2])
def test_batch_norm_over_another_axis(axis):
  _check(_model(lambda x: L.BatchNormalization(axis=axis)(L.Conv2D(4, 3)(x))))


@pytest.mark.parametrize('axis', [1, 3])
def test_channels_first(axis):
  def layers(x):
    x = L.Conv2D(4, 3, padding='same', data_format='channels_first')(x)
    return L.BatchNormalization(axis=axis)(x)

  # The eight-byte convolution of this layout is not to be had on a CPU.
  model = _randomised(_model(layers, (3, 7, 6)))
  images = _images((3, 7, 6))
  try:
    model(images, training=False)
  except tf.errors.OpError:
    keras.config.set_dtype_policy('float32')
    model, images = _model(layers, (3, 7, 6)), tf.cast(images, tf.float32)
  _check(model, images, rtol=1e-5 if images.dtype == tf.float32 else 1e-10)


def test_features_of_other_ranks():
  def vectors(x):
    return L.BatchNormalization()(L.Dense(4)(L.Flatten()(x)))

  def sequences(x):
    x = L.BatchNormalization()(L.Conv1D(4, 2)(L.Reshape((42, 3))(x)))
    return L.BatchNormalization()(L.GlobalMaxPooling1D()(x))

  for function in (vectors, sequences):
    _check(_model(function))


# --- kinds of models ----------------------------------------------------------


def test_sequential_with_and_without_an_input():
  layers = [L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten(), L.Dense(2)]
  _check(keras.Sequential([keras.Input(SHAPE), *layers]))
  late = keras.Sequential(
    [L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten(), L.Dense(2)]
  )
  late.build((None, *SHAPE))
  _check(late)
  assert not _multiplies_images(late, _images())


def test_a_sequential_that_the_first_call_builds():
  model = keras.Sequential([L.Conv2D(4, 3), L.BatchNormalization()])
  images = _images()
  first = _compiled(model)(images)
  np.testing.assert_allclose(first, model(images, training=False), rtol=1e-10)
  _check(model, images)


def test_a_subclass_of_model():
  class Subclass(keras.Model):
    def __init__(self):
      super().__init__()
      self.convolution = L.Conv2D(4, 3)
      self.norm = L.BatchNormalization()

    def call(self, inputs, training=None):
      return self.norm(self.convolution(inputs), training=training)

  model = Subclass()
  model(_images())
  _check(model, _images())
  nested = Subclass()
  _check(_model(lambda x: L.Flatten()(nested(x))))


def test_a_functional_model_with_a_call_of_its_own():
  class Negative(keras.Model):
    def call(self, inputs, training=None, mask=None):
      return -super().call(inputs, training=training, mask=mask)

  inputs = keras.Input(SHAPE)
  outputs = L.BatchNormalization()(L.Conv2D(4, 3)(inputs))
  model = Negative(inputs, outputs)
  _check(model, _images())
  _check(_model(lambda x: L.Flatten()(model(x))))


def test_a_functional_subclass_with_a_train_step_of_its_own_is_folded():
  class Trained(keras.Model):
    def train_step(self, data):
      raise NotImplementedError

  inputs = keras.Input(SHAPE)
  outputs = L.BatchNormalization()(L.Conv2D(4, 3)(inputs))
  model = Trained(inputs, outputs)
  _check(model)
  assert not _multiplies_images(model, _images())


def test_operations_that_are_no_layers():
  def layers(x):
    x = keras.ops.pad(x * 2.0, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = L.BatchNormalization()(L.Conv2D(4, 3)(x)) + 1.0
    x = keras.ops.relu(x) / (
      1.0 + keras.ops.max(x, axis=-1, keepdims=True) ** 2
    )
    return keras.ops.reshape(x, (-1, 7 * 6 * 4))[:, ::3]

  _check(_model(layers))


def test_several_outputs_in_their_structure():
  inputs = keras.Input(SHAPE)
  x = L.BatchNormalization()(L.Conv2D(4, 3)(inputs))
  _check(keras.Model(inputs, {'b': x, 'a': [L.Flatten()(x)]}))


def test_several_inputs_are_left_to_keras():
  first, second = keras.Input(SHAPE), keras.Input(SHAPE)
  x = L.Conv2D(4, 3)(L.Add()([first, second]))
  model = _randomised(keras.Model([first, second], L.BatchNormalization()(x)))
  images = [_images(), 2 * _images()]
  found = tf.function(lambda *x: folding.folded(model)(list(x)))(*images)
  np.testing.assert_allclose(found, model(images, training=False), rtol=1e-10)


def test_an_input_in_a_dict():
  inputs = keras.Input(SHAPE, name='image')
  x = L.BatchNormalization()(L.Conv2D(4, 3)(inputs))
  model = keras.Model({'image': inputs}, x)
  with pytest.warns(UserWarning, match='structure'):
    _check(model, _images())


def test_images_of_another_type_are_cast():
  model = _randomised(_block())
  for dtype in (tf.float32, tf.uint8):
    images = tf.cast(10 * _images(), dtype)
    np.testing.assert_allclose(
      _compiled(model)(images), model(images, training=False), rtol=1e-10
    )


def test_a_channel_that_is_missing_or_too_many():
  # Keras squeezes and expands [28, 28, 1] and [28, 28].
  _check(_model(lambda x: L.SimpleRNN(3)(x), (7, 6)), _images((7, 6, 1)))
  _check(_block((7, 6, 1)), _images((7, 6)))


# --- how nested models and layers are called ----------------------------------


@pytest.mark.parametrize('training', [False, True, None])
def test_a_nested_model_called_with_training(training):
  # As in transfer learning: `base(x, training=False)`.
  inner = _block()
  _check(_model(lambda x: L.Flatten()(inner(x, training=training))))
  sequential = keras.Sequential([L.Conv2D(4, 3), L.BatchNormalization()])
  _check(_model(lambda x: L.Flatten()(sequential(x, training=training))))


def test_a_nested_model_called_with_a_list():
  inputs = keras.Input(SHAPE)
  x = L.BatchNormalization()(L.Conv2D(4, 3)(inputs))
  inner = keras.Model([inputs], x)
  _check(_model(lambda x: L.Flatten()(inner([x]))))


def test_a_nested_model_called_with_a_dict():
  inputs = keras.Input(SHAPE, name='image')
  x = L.BatchNormalization()(L.Conv2D(4, 3)(inputs))
  inner = keras.Model({'image': inputs}, x)
  _check(_model(lambda x: L.Flatten()(inner({'image': x}))))


@pytest.mark.parametrize('arguments', [{}, {'training': False}])
def test_a_nested_model_of_two_inputs(arguments):
  first, second = keras.Input(SHAPE), keras.Input(SHAPE)
  x = L.BatchNormalization()(L.Conv2D(4, 3)(L.Add()([first, second])))
  inner = keras.Model([first, second], x)
  _check(_model(lambda x: L.Flatten()(inner([x, 2.0 * x], **arguments))))


def test_layers_called_by_keyword():
  inner = _block()
  for function in (
    lambda x: L.BatchNormalization()(L.Conv2D(4, 3)(inputs=x)),
    lambda x: L.BatchNormalization()(inputs=L.Conv2D(4, 3)(x)),
    lambda x: L.Flatten()(inner(inputs=x)),
  ):
    _check(_model(function))


def test_names_that_only_a_model_may_contain():
  # No scope at the root of a graph may begin with an underscore.
  _check(_model(lambda x: L.Conv2D(4, 3, name='_first')(x)))


# --- evaluation mode ----------------------------------------------------------


@pytest.mark.parametrize('arguments', [{}, {'training': True}])
@pytest.mark.parametrize(
  'layer',
  [
    lambda: L.Dropout(0.5),
    lambda: L.SpatialDropout2D(0.5),
    lambda: L.GaussianNoise(1.0),
    lambda: L.RandomTranslation(0.3, 0.3),  # By default `training=True`.
    lambda: L.BatchNormalization(),
  ],
)
def test_evaluation_mode_is_kept(layer, arguments):
  # Keras: what the model is called with wins over the graph's own argument.
  _check(
    _model(
      lambda x: L.BatchNormalization()(L.Conv2D(4, 3)(layer()(x, **arguments)))
    )
  )
  _check(_model(lambda x: layer()(L.Conv2D(4, 3)(x), **arguments)))


def test_evaluation_mode_reaches_layers_inside_layers():
  _check(_model(lambda x: L.TimeDistributed(L.Dropout(0.5))(x)))
  _check(_model(lambda x: Applied(L.Dropout(0.5))(x)))
  _check(_model(lambda x: Applied(Applied(L.BatchNormalization()))(x)))


def test_evaluation_mode_reaches_augmentation_inside_layers():
  _check(_model(lambda x: Applied(L.RandomTranslation(0.3, 0.3))(x)))


def test_a_frozen_batch_norm():
  model = _block()
  model.trainable = False
  _check(model)


# --- types of numbers ---------------------------------------------------------


def _mixed(first, second, shape=SHAPE):
  return _model(
    lambda x: L.BatchNormalization(dtype=second)(
      L.Conv2D(4, 3, dtype=first)(x)
    ),
    shape,
    dtype='float32',
  )


def test_mixed_bfloat16():
  model = _mixed('mixed_bfloat16', 'mixed_bfloat16')
  # Eight bits of mantissa.
  _check(model, _images(dtype='float32'), rtol=2**-6)
  keras.config.set_dtype_policy('mixed_bfloat16')
  model = resnet.small_resnet((9, 8, 3), 5, width=4)
  _check(model, _images((9, 8, 3), 'float32'), rtol=2**-4)


@pytest.mark.parametrize(
  ('first', 'second'),
  [
    ('mixed_bfloat16', 'float32'),
    ('bfloat16', 'float32'),
    ('float32', 'float64'),
  ],
)
def test_a_batch_norm_of_another_type_than_its_convolution(first, second):
  rtol = 1e-5 if first == 'float32' else 2**-6
  _check(_mixed(first, second), _images(dtype='float32'), rtol=rtol)


def test_pure_types():
  for dtype, rtol in (('float32', 1e-5), ('bfloat16', 2**-5)):
    _check(_mixed(dtype, dtype), _images(dtype='float32'), rtol=rtol)


# --- the user's model ---------------------------------------------------------


def test_nothing_of_the_model_is_changed():
  inner = _block()
  model = _randomised(
    _model(lambda x: L.Dense(2)(L.Flatten()(L.Dropout(0.5)(inner(x)))))
  )
  layers = [*model.layers, *inner.layers]

  def state():
    return [
      (
        layer,
        dict(layer.__dict__),
        len(layer._inbound_nodes),
        len(layer._outbound_nodes),
      )
      for layer in (model, inner, *layers)
    ]

  before, weights = state(), model.get_weights()
  values = _compiled(model)(_images())
  for (layer, attributes, *nodes), (_, now, *still) in zip(
    before, state(), strict=True
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


def test_statistics_alone_are_seen():
  model = _randomised(_block())
  images, compiled = _images(), _compiled(model)
  compiled(images)
  norm = model.layers[-1]
  norm.moving_mean.assign(norm.moving_mean + 3.0)
  norm.moving_variance.assign(norm.moving_variance * 5.0)
  np.testing.assert_allclose(
    compiled(images), model(images, training=False), rtol=1e-9, atol=1e-10
  )


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


@pytest.mark.parametrize('name', ['ResNet50V2', 'MobileNetV2'])
def test_published_architectures(name):
  keras.utils.set_random_seed(0)
  build = getattr(keras.applications, name)
  model = build(weights=None, input_shape=(32, 32, 3), classes=5)
  generator = np.random.default_rng(0)
  for variable in model.variables:
    if variable.path.endswith(('moving_variance', 'gamma', 'moving_mean')):
      variable.assign(generator.uniform(0.5, 1.5, tuple(variable.shape)))
  images = _images((32, 32, 3), count=1)
  expected = model(images, training=False)
  np.testing.assert_allclose(
    _compiled(model)(images), expected, rtol=0, atol=1e-9
  )
