"""Tests of compiled plans: when they are kept, padded to, and made anew."""

import gc
import types
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import estimators
from roar_tf.estimators import compiled
from roar_tf.estimators.structure import Structure

L = keras.layers
SHAPE = (4, 5, 3)

pytestmark = pytest.mark.usefixtures('own_registry')


@pytest.fixture
def images():
  generator = np.random.default_rng(0)
  return generator.normal(size=(5, *SHAPE)).astype(np.float32)


@pytest.fixture
def traces(monkeypatch):
  """List that grows with every plan that is compiled."""
  made = []
  compile_plan = compiled.compile_plan
  monkeypatch.setattr(
    compiled,
    'compile_plan',
    lambda plan, model: made.append(plan.names) or compile_plan(plan, model),
  )
  return made


def _network():
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input(SHAPE),
      L.Dense(4, activation='tanh', name='hidden'),
      L.Flatten(),
      L.Dense(6, name='logits'),
    ]
  )


def _grad(model, images, **arguments):
  arguments = {'targets': 0, **arguments}
  return roar_tf.explain(model, images, 'grad', **arguments)['grad'].numpy()


def _expected(model, images):
  images = tf.constant(images)
  with tf.GradientTape() as tape:
    tape.watch(images)
    logit = model(images, training=False)[:, 0]
  return tape.gradient(logit, images)


# --- a model that was changed -------------------------------------------------


class Subclass(keras.Model):
  def __init__(self):
    super().__init__()
    self.dense, self.head, self.other = L.Dense(4), L.Dense(6), L.Dense(2)
    self.dense.build((None, *SHAPE))
    for head in (self.head, self.other):
      head.build((None, 80))
    self.factor, self.blocks = 1.0, [L.Activation('tanh')]
    self.config = types.SimpleNamespace(factor=1.0)
    self.table = np.ones(3, np.float32)

  def call(self, inputs):
    x = self.dense(inputs * self.table) * self.factor * self.config.factor
    for block in self.blocks:
      x = block(x)
    return self.head(tf.reshape(x, [-1, 80]))


def _pop_and_add(model):
  model.pop()
  model.add(L.Dense(6))


def _replace_head(model):
  model.head = model.other


def _replace_call(model):
  model.dense.call = lambda x, **_: tf.sin(L.Dense.call(model.dense, x))


CHANGES = {
  'activation': (
    _network,
    lambda m: setattr(m.get_layer('hidden'), 'activation', tf.sin),
  ),
  'pop_and_add': (_network, _pop_and_add),
  'lora': (_network, lambda m: m.get_layer('hidden').enable_lora(1)),
  'head': (Subclass, _replace_head),
  'number': (Subclass, lambda m: setattr(m, 'factor', 2.0)),
  'settings': (Subclass, lambda m: setattr(m.config, 'factor', 2.0)),
  'array': (Subclass, lambda m: m.table.__setitem__(0, 7.0)),
  'list': (Subclass, lambda m: setattr(m, 'blocks', [])),
  'method': (Subclass, _replace_call),
}


@pytest.mark.parametrize('change', CHANGES)
def test_explaining_again_after_the_model_was_changed(change, images):
  build, apply = CHANGES[change]
  model = build()
  before = _grad(model, images)
  apply(model)
  for variable in model.variables:  # LoRA begins as nothing.
    if 'lora' in variable.path:
      variable.assign(tf.ones_like(variable))
  expected = _expected(model, images)
  assert not np.allclose(expected, before)
  np.testing.assert_allclose(
    _grad(model, images), expected, rtol=1e-4, atol=1e-6
  )


def test_another_head_has_other_classes(images):
  model = Subclass()
  _grad(model, images)
  _replace_head(model)
  with pytest.raises(ValueError, match=r'classes 0\.\.1, found 5'):
    _grad(model, images, targets=5)


@pytest.mark.parametrize('build', [_network, Subclass])
def test_training_and_predicting_change_no_structure(build, images, traces):
  model = build()
  model.compile('sgd', 'mse')
  _grad(model, images)
  model.fit(images, np.zeros((5, 6)), verbose=0)
  model.predict(images, verbose=0)
  model.trainable = False
  found = _grad(model, images)
  assert len(traces) == 1
  np.testing.assert_allclose(found, _expected(model, images), rtol=1e-4)


def test_a_structure_is_equal_to_itself_alone():
  model = _network()
  assert Structure(model) == Structure(model)
  assert Structure(model) != Structure(_network())


# --- batches of other sizes ---------------------------------------------------

NAMES = ('grad', 'sg_sq_grad', 'ig', 'random', 'oracle')


def _explain(model, images, rows, **arguments):
  baseline = np.linspace(0, 1, images.size).reshape(images.shape)
  return roar_tf.explain(
    model,
    images[rows],
    NAMES,
    targets=np.arange(5)[rows],
    ids=np.arange(5)[rows],
    baseline=baseline[rows].astype(np.float32),
    truth=np.ones((5, *SHAPE[:2], 1))[rows],
    samples=3,
    steps=4,
    **arguments,
  )


def test_a_last_smaller_batch_is_not_compiled_again(images, traces):
  model = _network()
  together = _explain(model, images, slice(5))
  for rows in (slice(3, 5), slice(0, 2), slice(0, 1)):
    found = _explain(model, images, rows)
    for name in NAMES:
      assert len(found[name]) == len(images[rows])
      np.testing.assert_array_equal(found[name], together[name][rows])
  assert len(traces) == 1


def test_padding_that_costs_more_than_compiling(images, traces, monkeypatch):
  monkeypatch.setattr(compiled, 'WORTH_PADDING', 1)
  model = _network()
  for count in (5, 2, 5, 2):
    _grad(model, images[:count])
  assert len(traces) == 2


def test_controls_are_compiled_once_for_all_calls(images, traces):
  for count in (5, 3, 5):
    roar_tf.explain(None, images[:count], 'sobel', max_size=7)
  assert len(traces) == 1


def test_registering_again_frees_the_plans_of_the_old_function(images):
  model, other = _network(), {}
  for number in range(2):

    @estimators.register('mine')
    def mine(model, images, targets, keys, number=number):
      return images + number

    other[number] = weakref.ref(mine)
    for names in ('mine', ['grad', 'mine']):
      found = roar_tf.explain(model, images, names)['mine']
      np.testing.assert_array_equal(found, images + number)
    del mine
  gc.collect()
  assert other[0]() is None and other[1]() is not None
