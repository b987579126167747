"""Tests of attribution in bfloat16, and compiled by XLA, when asked for."""

import re
import threading

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import roar_tf
from roar_tf.models import precision

L = keras.layers
NAMES = ('grad', 'gb', 'ig', 'sg_grad', 'var_gb', 'sg_sq_ig')
FEW = {'ids': ['a', 'b'], 'samples': 2, 'steps': 3}


@pytest.fixture(scope='module')
def network():
  keras.utils.set_random_seed(0)
  return _sequential(
    L.Conv2D(8, 3),
    L.BatchNormalization(),
    L.ReLU(),
    L.Conv2D(8, 3, activation='relu'),
  )


@pytest.fixture(scope='module')
def images():
  generator = np.random.default_rng(0)
  return generator.normal(size=(2, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def plain(network, images):
  return roar_tf.explain(network, images, NAMES, **FEW)


def _sequential(*layers):
  return keras.Sequential(
    [keras.Input((16, 16, 3)), *layers, L.Flatten(), L.Dense(3)]
  )


class _Calling(L.Layer):
  """A layer of one function."""

  def __init__(self, function):
    super().__init__()
    self._function = function

  def call(self, inputs):
    return self._function(inputs)


def test_bfloat16_changes_paths_and_noisy_images_a_little(
  network, images, plain
):
  found = roar_tf.explain(network, images, NAMES, precision='bfloat16', **FEW)
  for name, scores in found.items():
    assert scores.dtype == tf.float32
    if name in ('grad', 'gb'):
      np.testing.assert_array_equal(scores, plain[name])
      continue
    agreement = scipy.stats.spearmanr(
      np.ravel(scores), np.ravel(plain[name])
    ).statistic
    assert 0.95 < agreement < 1, name


def test_only_paths_and_noisy_images_are_convolved_in_bfloat16(network, images):
  plan = roar_tf.estimators.Plan(
    NAMES,
    roar_tf.estimators.Settings(samples=2, steps=3, precision='bfloat16'),
  )
  graph = (
    roar_tf.estimators.compile_plan(plan, network)
    .get_concrete_function(
      tf.constant(images), None, tf.zeros([2, 2], tf.int32), None, 0
    )
    .graph
  )
  inside_loops = {
    node.attr['T'].type
    for function in graph.as_graph_def().library.function
    for node in function.node_def
    if node.op == 'Conv2D'
  }
  assert inside_loops == {tf.bfloat16.as_datatype_enum}
  operations = [o for o in graph.get_operations() if o.type == 'Conv2D']
  assert {o.get_attr('T') for o in operations} == {tf.float32}


def test_the_model_is_left_as_it_was_and_is_itself_in_other_threads(network):
  policies = [layer.dtype_policy for layer in network._flatten_layers()]
  inputs, elsewhere = tf.zeros([1, 16, 16, 3]), []
  with precision.called_in(network, 'bfloat16'):
    thread = threading.Thread(
      target=lambda: elsewhere.append(network(inputs).dtype)
    )
    thread.start()
    thread.join()
    assert network(inputs).dtype == tf.bfloat16
  assert elsewhere == [tf.float32] and network(inputs).dtype == tf.float32
  assert all(
    layer.dtype_policy is policy
    for layer, policy in zip(network._flatten_layers(), policies, strict=True)
  )


def test_float64_models_are_evaluated_in_bfloat16_too(images):
  keras.utils.set_random_seed(1)
  with precision.computing_in('float64'):
    model = _sequential(L.Conv2D(4, 3, activation='relu'))
  images = images.astype(np.float64)
  exact, found = (
    roar_tf.explain(model, images, 'sg_gb', precision=p, **FEW)['sg_gb']
    for p in ('model', 'bfloat16')
  )
  assert found.dtype == tf.float64
  difference = np.linalg.norm(found - exact) / np.linalg.norm(exact)
  assert 1e-4 < difference < 0.1


def test_xla_inside_of_a_graph(network, images, plain):
  @tf.function
  def inside(images):
    return roar_tf.explain(
      network, images, 'grad', jit_compile=True, ids=['a', 'b']
    )

  images = tf.constant(images)
  found = inside(images)['grad']
  np.testing.assert_allclose(found, plain['grad'], rtol=0.01, atol=1e-4)
  operations = inside.get_concrete_function(images).graph.get_operations()
  (call,) = (o for o in operations if 'PartitionedCall' in o.type)
  assert call.get_attr('_XlaMustCompile')


@pytest.mark.parametrize(
  ('layer', 'arguments', 'message'),
  [
    (
      lambda x: x * tf.constant(2.0),
      {'precision': 'bfloat16'},
      r'cannot compute in bfloat16 \(.*float32.*\): leave precision out',
    ),
    (
      lambda x: x + 0 * tf.strings.to_number(tf.strings.as_string(x)),
      {'jit_compile': True},
      'XLA cannot compile .*, which the model .*: leave jit_compile out',
    ),
  ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
  layer, arguments, message, images
):
  model = _sequential(L.Conv2D(4, 3), _Calling(layer))
  assert roar_tf.explain(model, images, 'sg_grad', samples=2)
  with pytest.raises(ValueError, match=message) as refusal:
    roar_tf.explain(model, images, 'sg_grad', samples=2, **arguments)
  assert re.fullmatch(r'[^\n]{40,300}\.', str(refusal.value))
