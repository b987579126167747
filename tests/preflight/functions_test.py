"""Tests of roar_tf.preflight.functions: what compiles is what runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf.estimators import Settings
from roar_tf.models import resnet
from roar_tf.preflight import functions
from roar_tf.study import experiment
from roar_tf.training import settings

SHAPE, CLASSES, BATCH = (8, 8, 3), 3, 4


def model():
  return resnet.small_resnet(SHAPE, CLASSES, width=4, stages=2)


@pytest.fixture(scope='module')
def images():
  rng = np.random.default_rng(0)
  return tf.constant(rng.integers(0, 256, (BATCH, *SHAPE), np.uint8))


@pytest.fixture(scope='module')
def two_models():
  """An architecture, and a model of it with other weights, all of them."""
  keras.utils.set_random_seed(1)
  first, second = model(), model()
  rng = np.random.default_rng(2)
  for variable in second.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  return first, second


def values_of(model):
  return (
    [tf.convert_to_tensor(v) for v in model.trainable_variables],
    [tf.convert_to_tensor(v) for v in model.non_trainable_variables],
  )


def check_specs(specs, arguments):
  """Fails if arguments are not what a function was made for."""
  tf.nest.map_structure(
    lambda spec, value: (
      spec.is_compatible_with(value) or pytest.fail(str(spec))
    ),
    specs,
    arguments,
  )


def test_attribution_takes_its_variables_as_arguments(two_models, images):
  architecture, other = two_models
  inputs = tf.cast(images, tf.float32) / 255
  names = ('grad', 'sg_sq_gb', 'ig')
  chosen = Settings(samples=3, steps=4)
  function, specs = functions.attribution(
    architecture, names, chosen, SHAPE, BATCH
  )
  arguments = (
    *values_of(other),
    {
      'images': inputs,
      'keys': roar_tf.randomness.keys_of_ids(list(range(BATCH))),
      'seed': tf.constant(7),
      'baseline': tf.zeros(SHAPE),
    },
  )
  check_specs(specs, arguments)
  found = tf.function(function)(*arguments)
  expected = roar_tf.explain(
    other, inputs, names, ids=list(range(BATCH)), seed=7, samples=3, steps=4
  )
  for name in names:
    np.testing.assert_allclose(
      found[name], expected[name], rtol=1e-4, atol=1e-6
    )


def test_gradient_evaluations_are_grad(two_models, images):
  architecture, other = two_models
  inputs = tf.cast(images, tf.float32) / 255
  targets = tf.constant([0, 1, 2, 0])
  function, specs = functions.gradient_evaluations(architecture, SHAPE, BATCH)
  arguments = (*values_of(other), inputs, targets)
  check_specs(specs, arguments)
  expected = roar_tf.explain(other, inputs, 'grad', targets=targets)['grad']
  np.testing.assert_allclose(
    tf.function(function)(*arguments), expected, rtol=1e-4, atol=1e-6
  )


def test_a_training_step_is_the_one_that_trains(two_models, images):
  architecture, _ = two_models
  training = settings.Training(
    model=resnet.small_resnet, epochs=1, batch_size=256, base_learning_rate=0.1
  )
  trainable, moving = values_of(architecture)
  state = {
    'trainable': trainable,
    'moving': moving,
    'velocity': [tf.zeros_like(v) for v in trainable],
    'step': tf.constant(5, tf.int64),
    'seed': tf.constant(0),
  }
  batch = {
    'image': images,
    'label': tf.constant([0, 1, 2, 0]),
    'key': tf.zeros([BATCH, 2], tf.int32),
    'epoch': tf.zeros([BATCH], tf.int32),
  }
  function, specs = functions.training_step(
    architecture, training, SHAPE, 1000, BATCH
  )
  check_specs(specs, (state, batch))
  after, metrics = tf.function(function)(state, batch)
  assert int(after['step']) == 6
  # The batch that is compiled, not the training's.
  assert function.batch_size == BATCH
  assert np.isfinite(metrics['loss'])
  # One of two replicas has half of a batch, and the loss is its share.
  function, _ = functions.training_step(
    architecture, training, SHAPE, 1000, BATCH, 2
  )
  assert function.batch_size == BATCH
  assert function.training.batch_size == 2 * BATCH


def test_evaluation_is_the_one_that_evaluates(two_models, images):
  architecture, _ = two_models
  training = settings.Training(
    model=resnet.small_resnet, epochs=1, batch_size=256, base_learning_rate=0.1
  )
  trainable, moving = values_of(architecture)
  state = {'trainable': trainable, 'moving': moving}
  function, specs = functions.evaluation(architecture, training, SHAPE, BATCH)
  check_specs(specs, (state, images))
  logits = tf.function(function)(state, images)
  assert logits.shape == (BATCH, 3) and np.isfinite(logits).all()


@pytest.fixture
def made(tiny):
  (loaded,) = experiment.load(study=tiny.study)
  return functions.Functions(loaded, 'float32')


def test_a_replica_gets_its_share_of_a_batch(made):
  # 16 images over 8 chips.
  [step] = made.of(['training'], 8)
  assert step.batch == 2
  # And the number of its step, and its seed.
  assert step.fixed == 12 + 4 * (
    2 * step.parameters
    + sum(v.shape.num_elements() for v in model().non_trainable_variables)
  )


def test_the_explained_model_counts_if_it_is_another(tiny):
  (loaded,) = experiment.load(
    study=tiny.study, gin_bindings=['explained/small_resnet.width = 8']
  )
  made = functions.Functions(loaded, 'float32')
  [retrained, explained] = made.of(['training'], 1)
  assert explained.parameters > 3 * retrained.parameters


def test_every_function_without_a_model_can_be_traced(made):
  names = set()
  for function in made.of(['others'], 1):
    call, specs = function.make(2)
    traced = tf.function(call).get_concrete_function(*specs)
    for spec in tf.nest.flatten(traced.structured_outputs):
      assert spec.shape.is_fully_defined(), function.name
    names.add(function.name)
  assert {'random', 'oracle', 'sobel (released)', 'Gaussian noise'} <= names
  assert sum(name.startswith('ranking') for name in names) == 8
  assert sum(name.startswith('masking') for name in names) >= 2


def test_estimators_of_the_paper_are_the_default(tiny):
  (loaded,) = experiment.load(dataset=tiny.dataset)
  plan = functions.Functions(loaded, 'float32').plan
  assert len(plan.names) == 15
  assert plan.gradient_evaluations == 416
