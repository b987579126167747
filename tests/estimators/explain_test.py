"""Tests of `explain`: defaults, custom estimators, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import errors, estimators

SHAPE = (4, 5, 3)
CLASSES = 4

pytestmark = pytest.mark.usefixtures('own_registry')


def test_is_the_public_explain():
  assert roar_tf.explain is estimators.explain


@pytest.mark.parametrize(
  ('dtype', 'expected'), [('float16', 'float32'), ('float64', 'float64')]
)
def test_scores_have_shape_and_type_of_the_images(
  model, images, dtype, expected
):
  outcome = estimators.explain(
    model,
    images.astype(dtype),
    ['grad', 'var_grad', 'random', 'sobel', 'oracle'],
    truth=np.ones((3, *SHAPE[:2], 1), np.uint8),
    samples=2,
  )
  for scores in outcome.values():
    assert scores.dtype == expected and scores.shape == images.shape


def test_without_ids_the_content_of_an_image_is_its_id(model, images):
  names = ['sg_grad', 'random']
  found = estimators.explain(model, images, names, samples=2)
  turned = estimators.explain(model, images[::-1], names, samples=2)
  np.testing.assert_array_equal(turned['random'], found['random'][::-1])
  np.testing.assert_allclose(
    turned['sg_grad'], found['sg_grad'][::-1], rtol=0, atol=1e-6
  )
  for scores in found.values():
    assert not np.allclose(scores[0], scores[1])


def test_ids_decide_the_noise(model, images):
  def explain(ids, **arguments):
    return estimators.explain(
      model, images, 'sg_grad', ids=ids, samples=2, **arguments
    )['sg_grad'].numpy()

  found = explain(['7', '8', '9'])
  np.testing.assert_array_equal(explain(np.array([7, 8, 9])), found)
  np.testing.assert_array_equal(explain(tf.constant(['7', '8', '9'])), found)
  np.testing.assert_array_equal(explain(['7', '8', '9'], seed=0), found)
  changed = (explain(['7', '8', '0']) != found).any(axis=(1, 2, 3))
  assert changed.tolist() == [False, False, True]
  assert not np.array_equal(explain(['7', '8', '9'], seed=1), found)


def test_samples_and_noise_are_heard(model, images):
  def explain(**arguments):
    return estimators.explain(
      model, images, 'var_grad', ids=[1, 2, 3], **arguments
    )['var_grad'].numpy()

  # The paper's 15 samples and the released code's 0.15.
  np.testing.assert_array_equal(explain(), explain(samples=15, noise=0.15))
  assert not np.array_equal(explain(samples=14), explain())
  assert explain(noise=0.3).mean() > 2 * explain().mean()


def test_filters_are_heard(model, images):
  names = ['grad', 'blur_grad', 'max_grad', 'max_random']
  usual, other = (
    roar_tf.explain(model, images, names, **settings)
    for settings in ({}, {'blur_sigma': 2.0, 'max_size': 5})
  )
  np.testing.assert_array_equal(usual['grad'], other['grad'])
  for name in names[1:]:
    assert (usual[name] != other[name]).numpy().any()
  assert (other['max_grad'] >= usual['max_grad']).numpy().all()
  alone = roar_tf.explain(model, images, ['blur_grad'])
  assert list(alone) == ['blur_grad']
  np.testing.assert_array_equal(alone['blur_grad'], usual['blur_grad'])


def test_new_weights_are_heard_after_the_first_call(images):
  model = keras.Sequential(
    [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(1)]
  )
  for factor in (1.0, 2.0):
    weights = factor * np.arange(60.0).reshape(60, 1)
    model.layers[-1].set_weights([weights, np.zeros(1)])
    scores = estimators.explain(model, images, 'grad')['grad']
    np.testing.assert_allclose(scores[0], weights.reshape(SHAPE), rtol=1e-6)


def test_any_keras_model_is_explained(images):
  class Subclassed(keras.Model):
    def __init__(self):
      super().__init__()
      self.flatten = keras.layers.Flatten()
      self.dense = keras.layers.Dense(2, kernel_initializer='ones')

    def call(self, inputs):
      return self.dense(self.flatten(inputs))

  unbuilt = keras.Sequential(
    [
      keras.layers.Flatten(),
      keras.layers.Dense(2, kernel_initializer='ones'),
    ]
  )
  for model in (unbuilt, Subclassed()):
    scores = estimators.explain(model, images, 'grad')['grad']
    np.testing.assert_allclose(scores, np.ones_like(images), rtol=1e-6)


# --- custom estimators --------------------------------------------------------


def test_a_custom_estimator_has_all_prefixes(model, images):
  @estimators.register('input_times_grad')
  def input_times_grad(model, images, targets, keys):
    return images * estimators.parse('grad').base.function(
      model, images, targets, keys
    )

  prefixes = ('', 'sq_', 'sg_', 'sg_sq_', 'var_', 'sq_sg_')
  names = [f'{prefix}input_times_grad' for prefix in prefixes]
  found = estimators.explain(model, images, ['grad', *names], samples=3)
  scores = {prefix: found[f'{prefix}input_times_grad'] for prefix in prefixes}
  np.testing.assert_allclose(
    scores[''], images * found['grad'], rtol=1e-5, atol=1e-7
  )
  np.testing.assert_array_equal(scores['sq_'], np.square(scores['']))
  np.testing.assert_array_equal(scores['sq_sg_'], np.square(scores['sg_']))
  np.testing.assert_allclose(
    scores['var_'],
    scores['sg_sq_'] - np.square(scores['sg_']),
    atol=1e-5 * np.abs(scores['sg_sq_']).max(),
  )


def test_a_custom_estimator_gets_targets_keys_and_the_model(model, images):
  seen = {}

  @estimators.register('watching')
  def watching(model, images, targets, keys):
    seen.update(model=model, targets=targets, keys=keys)
    target = tf.cast(targets, images.dtype)[:, None, None, None]
    return tf.zeros_like(images) + target

  scores = estimators.explain(model, images, 'watching', targets=[3, 0, 2])
  np.testing.assert_array_equal(scores['watching'][:, 0, 0, 0], [3, 0, 2])
  assert seen['model'] is model
  assert seen['targets'].dtype == tf.int32 and seen['keys'].shape == (3, 2)


def test_a_control_of_ones_own_needs_no_model(images):
  @estimators.register('brightness', needs_model=False, gradients=0)
  def brightness(model, images, targets, keys):
    assert model is None and targets is None
    return images

  found = estimators.explain(None, images, 'brightness')['brightness']
  np.testing.assert_array_equal(found, images)
  with pytest.raises(errors.UsageError, match='cannot apply to "brightness"'):
    estimators.explain(None, images, 'sg_brightness')


def test_registering_again_is_heard_by_a_model_explained_before(model, images):
  # As in a notebook whose cell was corrected and run again.
  for factor in (1, 2):

    @estimators.register('mine')
    def mine(model, images, targets, keys, factor=factor):
      return factor * images

    found = estimators.explain(model, images, ['mine'])['mine']
    np.testing.assert_array_equal(found, factor * images)


def test_a_wrong_shape_is_refused_by_name(model, images):
  @estimators.register('flat')
  def flat(model, images, targets, keys):
    return tf.reduce_sum(images, axis=[1, 2])

  message = r'"flat" must return scores of shape \(3, 4, 5, 3\).*found \(3, 3\)'
  with pytest.raises(ValueError, match=message):
    estimators.explain(model, images, 'flat')


@pytest.mark.parametrize(
  'function',
  [
    lambda model, images, targets, keys: tf.constant(images.numpy()),
    lambda model, images, targets, keys: np.abs(images),
    lambda model, images, targets, keys: (
      images if tf.reduce_sum(images) > 0 else -images
    ),
    lambda model, images, targets, keys: images * float(targets[0]),
  ],
  ids=['numpy_method', 'numpy_function', 'condition', 'number'],
)
def test_an_estimator_that_asks_for_values(function, model, images):
  estimators.register('mine')(function)
  message = r'"mine" asks for the values .*explain_test.py:\d+\).*eager=True'
  with pytest.raises(ValueError, match=message) as refusal:
    estimators.explain(model, images, 'sg_mine')
  assert '\n' not in str(refusal.value)


def test_other_errors_of_an_estimator_are_its_own(model, images):
  estimators.register('mine')(lambda model, images, targets, keys: images + '')
  with pytest.raises((TypeError, ValueError), match='string'):
    estimators.explain(model, images, 'mine')


# --- numbers too small or too large -------------------------------------------

SQUARED = ('sq_grad', 'sg_sq_grad', 'sq_sg_grad', 'sg_sq_gb')


def _linear(weights, dtype='float32'):
  """A model with one ReLU, above 0, whose gradients are the weights."""
  model = keras.Sequential(
    [
      keras.Input(SHAPE),
      keras.layers.Rescaling(1.0, offset=100.0, dtype=dtype),
      keras.layers.ReLU(dtype=dtype),
      keras.layers.Flatten(dtype=dtype),
      keras.layers.Dense(1, dtype=dtype),
    ]
  )
  model.layers[-1].set_weights([weights.reshape(60, 1), np.zeros(1)])
  return model


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_images_of_half_precision_have_squares(images, dtype):
  weights = np.linspace(1e-5, 1e-4, 60)  # Squares are 0 in float16.
  found = estimators.explain(
    _linear(weights, dtype), tf.cast(images, dtype), SQUARED, samples=2
  )
  for name in SQUARED:
    assert found[name].dtype == tf.float32
    np.testing.assert_allclose(
      found[name][0].numpy().ravel(), weights**2, rtol=0.02
    )


@pytest.mark.parametrize('scale', [1e-36, 1e-16, 1e25])
def test_squares_keep_the_order_and_are_right_where_they_fit(images, scale):
  weights = np.random.default_rng(0).permutation(np.linspace(0.01, 1, 60))
  weights = (scale * weights).astype(np.float32)
  found = estimators.explain(
    _linear(weights), images, ('var_grad', *SQUARED), samples=3
  )
  assert not found.pop('var_grad').numpy().any()
  for scores in found.values():
    scores = scores[1].numpy().ravel()
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(weights))
    if 1e-16 <= scale <= 1e15:
      np.testing.assert_allclose(scores, weights.astype(float) ** 2, rtol=1e-5)


# --- habits of other libraries ------------------------------------------------


@pytest.mark.parametrize(
  'targets',
  [2, np.int64(2), tf.constant(2), [2, 2, 2], [[2], [2], [2]]]
  + [np.eye(4)[[2, 2, 2]], tf.one_hot([2, 2, 2], 4), np.eye(4)[[2] * 3] > 0],
  ids=str,
)
def test_targets_as_other_libraries_take_them(model, images, targets):
  expected = estimators.explain(model, images, 'grad', targets=[2, 2, 2])
  found = estimators.explain(model, images, 'grad', targets)
  np.testing.assert_array_equal(found['grad'], expected['grad'])


def test_uint8_images_are_floats(model, images):
  images = np.clip(images * 80 + 100, 0, 255).astype(np.uint8)
  found, expected = (
    estimators.explain(model, x, 'sg_grad', samples=2)['sg_grad']
    for x in (images, images.astype(np.float32))
  )
  np.testing.assert_array_equal(found, expected)
