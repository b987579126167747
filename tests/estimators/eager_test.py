"""Tests of estimators that are called with NumPy arrays, outside of graphs."""

import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import errors, randomness
from roar_tf.estimators import plan

pytestmark = pytest.mark.usefixtures('own_registry')
PREFIXES = ('', 'sq_', 'sg_', 'sg_sq_', 'var_', 'sq_sg_', 'blur_', 'max_sg_sq_')


def _both():
  """Registers one estimator twice: of TensorFlow's operations, and NumPy's."""

  @roar_tf.register('plain')
  def plain(model, images, targets, keys):
    factor = 1 + tf.cast(targets, images.dtype)[:, None, None, None]
    return factor * images * tf.abs(images)

  @roar_tf.register('numpy', eager=True)
  def in_numpy(model, images, targets, keys):
    return (1 + targets[:, None, None, None]) * images * np.abs(images)


def test_all_prefixes_apply_as_to_operations_of_tensorflow(
  model, images, assert_close
):
  _both()
  plain, in_numpy = (
    roar_tf.explain(
      model, images, [p + name for p in PREFIXES], samples=5, batch_size=4
    )
    for name in ('plain', 'numpy')
  )
  expected = {k.replace('plain', 'numpy'): v for k, v in plain.items()}
  assert_close(in_numpy, expected, rtol=1e-6)


def test_bytes_follow_from_the_image_alone(model, images):
  _both()
  wanted = ['sg_sq_numpy', 'grad', 'var_numpy', 'numpy']
  found = roar_tf.explain(model, images, wanted, samples=5, ids=list('abc'))
  assert [*found] == wanted
  assert found['numpy'].dtype == tf.float32
  for rows in ([1], [2, 0]):
    ids = ['abc'[i] for i in rows]
    for each in ('sg_sq_numpy', 'var_numpy', 'numpy'):
      alone = roar_tf.explain(model, images[rows], each, samples=5, ids=ids)
      np.testing.assert_array_equal(alone[each], found[each].numpy()[rows])
  # Sums over copies round as their batches are: that of one image does not.
  parts = roar_tf.explain(model, images, 'numpy', batch_size=1)
  np.testing.assert_array_equal(parts['numpy'], found['numpy'])


def test_the_function_is_given_arrays_in_the_thread_that_asks(model, images):
  seen = []

  @roar_tf.register('seeing', eager=True, settings=('steps',), needs_truth=True)
  def seeing(model, images, targets, keys, steps, truth):
    seen.append((threading.get_ident(), targets, keys, steps, truth))
    assert model is network and tf.executing_eagerly()
    for array, dtype in ((images, 'float32'), (targets, 'int32')):
      assert type(array) is np.ndarray and array.dtype == dtype
    # As Keras and Xplique do; and what is given is the function's own.
    logits = tf.function(model)(images).numpy()
    images -= images
    return logits.max(-1)[:, None, None] + images[..., 0]

  network, truth = model, np.ones((3, 4, 5, 1), np.uint8)
  found = roar_tf.explain(
    model, images, ['seeing', 'grad'], truth=truth, targets=2, steps=7, seed=4
  )
  ((thread, targets, keys, steps, given),) = seen
  assert thread == threading.get_ident() and steps == 7
  np.testing.assert_array_equal(targets, [2, 2, 2])
  np.testing.assert_array_equal(given, truth)
  folded = randomness.fold(
    randomness.keys_of_content(tf.constant(images)), randomness.Purpose.SEED, 4
  )
  np.testing.assert_array_equal(keys, folded)
  logits = model(images).numpy().max(-1)
  np.testing.assert_allclose(found['seeing'][:, 0, 0, 0], logits, rtol=1e-5)


@pytest.mark.parametrize('eager', [False, True])
@pytest.mark.parametrize('squeezed', [False, True])
def test_one_score_per_pixel_is_that_of_all_its_channels(
  eager, squeezed, model, images
):
  @roar_tf.register('mine', eager=eager)
  def mine(model, images, targets, keys):
    return images[..., 0] if squeezed else images[..., :1]

  found = roar_tf.explain(model, images, ['mine', 'sq_mine'])
  expected = np.repeat(images[..., :1], 3, -1)
  np.testing.assert_array_equal(found['mine'], expected)
  np.testing.assert_array_equal(found['sq_mine'], expected**2)


@pytest.mark.parametrize(
  ('returned', 'words'),
  [
    (lambda x: x[:, ::2], r'shape \(3, 4, 5, 3\).*\(3, 2, 5, 3\)'),
    (lambda x: x.transpose(0, 3, 1, 2), r'\(3, 3, 4, 5\)'),
    (lambda x: x[:1], r'found \(1, 4, 5, 3\)'),
    (lambda x: float(x.sum()), r'found \(\)'),
    (lambda x: None, 'real numbers, found NoneType'),
    (lambda x: x.astype(complex), 'real numbers, found complex128'),
    (lambda x: x.astype(str), 'real numbers'),
    (lambda x: [[1, 2], [3]], 'real numbers, found list'),
  ],
)
def test_other_outcomes_are_refused_by_name(returned, words, model, images):
  roar_tf.register('mine', eager=True)(
    lambda model, images, targets, keys: returned(images)
  )
  with pytest.raises(ValueError, match=f'"mine" must return.*{words}') as e:
    roar_tf.explain(model, images, 'mine')
  assert '\n' not in str(e.value)


@pytest.mark.parametrize(
  'convert',
  [
    lambda x: x.astype(np.float64),
    lambda x: (100 * x).astype(np.int16),
    lambda x: x > 0,
    tf.constant,
    np.ndarray.tolist,
  ],
)
def test_numbers_of_any_type_are_scores(convert, model, images):
  roar_tf.register('mine', eager=True)(
    lambda model, images, targets, keys: convert(images)
  )
  found = roar_tf.explain(model, images, 'mine')['mine']
  expected = np.asarray(convert(images)).astype(np.float32)
  np.testing.assert_array_equal(found, expected)


def test_the_function_is_called_as_it_was_written(model, images):
  files = []

  @roar_tf.register('mine', eager=True)
  def mine(model, images, targets, keys):
    files.append(sys._getframe().f_code.co_filename)
    return images

  # Parts of a batch, in which AutoGraph has nothing to rewrite.
  roar_tf.explain(model, images, ['mine', 'sg_mine'], samples=3, batch_size=2)
  assert len(files) > 4 and set(files) == {__file__}


def test_its_own_errors_are_as_they_were(model, images):
  @roar_tf.register('mine', eager=True)
  def mine(model, images, targets, keys):
    raise KeyError('a symbolic key')

  with pytest.raises(KeyError, match='a symbolic key'):
    roar_tf.explain(model, images, 'sg_mine')


def test_where_python_cannot_be_called_is_refused_in_a_sentence(model, images):
  _both()
  with pytest.raises(errors.UsageError, match='"sg_numpy".*XLA.*jit_compile'):
    roar_tf.explain(model, images, ['grad', 'sg_numpy'], jit_compile=True)

  @tf.function(autograph=False)
  def inside(images):
    return roar_tf.explain(model, images, 'numpy')

  with pytest.raises(errors.UsageError, match='"numpy".*a tf.function'):
    inside(tf.constant(images))
  traced = tf.function(
    plan.Plan(['numpy'], plan.Settings()).scores, autograph=False
  )
  with pytest.raises(errors.UsageError, match='"numpy".*a compiled program'):
    traced(model, tf.constant(images), tf.zeros([3], tf.int32), None)
  # A control asks no model, and nothing of it is compiled.
  roar_tf.register('dark', eager=True, needs_model=False)(
    lambda model, images, targets, keys: -images
  )
  found = roar_tf.explain(model, images, ['dark', 'grad'], jit_compile=True)
  np.testing.assert_array_equal(found['dark'], -images)
  with pytest.raises(errors.UsageError, match='"ruled".*leave out rule'):
    roar_tf.register('ruled', eager=True, rule='gradient')
