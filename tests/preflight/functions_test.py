"""Tests of the device functions: what compiles is what runs."""

import dataclasses
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf import errors
from roar_tf.estimators import Settings, registry
from roar_tf.models import resnet
from roar_tf.preflight import attribution, functions, training
from roar_tf.preflight.subject import Subject
from roar_tf.study import experiment
from roar_tf.training.settings import Training

SHAPE, CLASSES, BATCH = (8, 8, 3), 3, 4
TRAINING = Training(
  model=resnet.small_resnet, epochs=1, batch_size=256, base_learning_rate=0.1
)


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
  return {
    'trainable': [tf.convert_to_tensor(v) for v in model.trainable_variables],
    'moving': [tf.convert_to_tensor(v) for v in model.non_trainable_variables],
  }


def called(described, *arguments):
  """Calls a function; fails if arguments are not what it was made for."""
  function, specs = described
  tf.nest.map_structure(
    lambda spec, value: (
      spec.is_compatible_with(value) or pytest.fail(str(spec))
    ),
    specs,
    arguments,
  )
  return tf.function(function)(*arguments)


def test_attribution_takes_its_variables_as_arguments(two_models, images):
  architecture, other = two_models
  inputs = tf.cast(images, tf.float32) / 255
  names, ids = ('grad', 'sg_sq_gb', 'ig'), list(range(BATCH))
  scores = called(
    attribution.attribution(
      architecture, names, Settings(samples=3, steps=4), SHAPE, BATCH
    ),
    values_of(other),
    {
      'images': inputs,
      'keys': roar_tf.randomness.keys_of_ids(ids),
      'seed': tf.constant(7),
      'baseline': tf.zeros(SHAPE),
    },
  )
  expected = roar_tf.explain(
    other, inputs, names, ids=ids, seed=7, samples=3, steps=4
  )
  for name in names:
    np.testing.assert_allclose(
      scores[name], expected[name], rtol=1e-4, atol=1e-6
    )


def test_gradient_evaluations_are_grad(two_models, images):
  architecture, other = two_models
  inputs = tf.cast(images, tf.float32) / 255
  targets = tf.constant([0, 1, 2, 0])
  gradients = called(
    attribution.gradient_evaluations(architecture, SHAPE, BATCH),
    values_of(other),
    {'images': inputs, 'targets': targets},
  )
  expected = roar_tf.explain(other, inputs, 'grad', targets=targets)['grad']
  np.testing.assert_allclose(gradients, expected, rtol=1e-4, atol=1e-6)


def test_a_training_step_is_the_one_that_trains(two_models, images):
  architecture, _ = two_models
  state = values_of(architecture)
  state['velocity'] = [tf.zeros_like(v) for v in state['trainable']]
  state |= {'step': tf.constant(5, tf.int64), 'seed': tf.constant(0)}
  batch = {
    'image': images,
    'label': tf.constant([0, 1, 2, 0]),
    'key': tf.zeros([BATCH, 2], tf.int32),
    'epoch': tf.zeros([BATCH], tf.int32),
  }
  step = training.training_step(architecture, TRAINING, SHAPE, 1000, BATCH)
  after, metrics = called(step, state, batch)
  assert int(after['step']) == 6
  assert np.isfinite(metrics['loss'])


def test_a_step_has_the_batch_that_is_asked_for(two_models):
  # One of two replicas has half of a batch, and the loss is its share.
  step, _ = training.training_step(
    two_models[0], TRAINING, SHAPE, 1000, BATCH, 2
  )
  assert (step.batch_size, step.training.batch_size) == (BATCH, 2 * BATCH)


def test_evaluation_is_the_one_that_evaluates(two_models, images):
  architecture, _ = two_models
  logits = called(
    training.evaluation(architecture, TRAINING, SHAPE, BATCH),
    values_of(architecture),
    images,
  )
  assert logits.shape == (BATCH, 3) and np.isfinite(logits).all()


@pytest.fixture
def subject(tiny):
  """Function from gin bindings to the tiny study."""

  def load(*bindings, precision=None):
    (loaded,) = experiment.load(study=tiny.study, gin_bindings=bindings)
    return Subject(loaded, precision)

  return load


def test_a_replica_gets_its_share_of_a_batch(subject):
  # 16 images over 8 chips.
  [step] = functions.of(subject(), ['training'], 8)
  assert step.batch == 2


def test_the_explained_model_counts_if_it_is_another(subject):
  assert list(subject().trained) == ['retrained']
  other = subject('explained/small_resnet.width = 8')
  assert list(other.trained) == ['retrained', 'explained']
  (retrained, _), (explained, _) = other.trained.values()
  assert explained.count_params() > 3 * retrained.count_params()
  assert other.explained is explained


@pytest.mark.parametrize('given', ['file', 'application'])
def test_an_explained_model_that_is_given_is_what_compiles(
  given, subject, tmp_path
):
  if given == 'file':
    layers = [
      keras.Input(SHAPE),
      keras.layers.Conv2D(5, 3),
      keras.layers.ReLU(),
    ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    expected = keras.Sequential(layers)
    expected.save(tmp_path / 'mine.keras')
    shape, bindings = (
      SHAPE,
      [
        f"ExplainedModel.file = '{tmp_path}/mine.keras'",
        "ExplainedModel.input = '0..1'",
      ],
    )
  else:  # 32 pixels are the least that it takes. Nothing is downloaded.
    shape, bindings = (
      (32, 32, 3),
      [
        'Source.image_shape = (32, 32, 3)',
        "ExplainedModel.application = 'MobileNet'",
        "ExplainedModel.weights = 'imagenet'",
      ],
    )
    expected = keras.applications.MobileNet(
      weights=None, input_shape=shape, classes=CLASSES
    )
  study = subject(*bindings)
  # What is trained is trained as ever, and the given model is not.
  assert list(study.trained) == ['retrained']
  assert 'small_resnet' in study.trained['retrained'][0].name
  for function in functions.of(study, ['attribution'], 1):
    call, (state, inputs) = function.build(2)
    assert [tuple(spec.shape) for spec in state['trainable']] == [
      tuple(v.shape) for v in expected.trainable_variables
    ]
    traced = tf.function(call).get_concrete_function(state, inputs)
    for spec in tf.nest.flatten(traced.structured_outputs):
      assert spec.shape == (2, *shape), function.name


def test_models_compute_in_what_their_trainings_do(subject):
  def computing(study):
    return {
      role: model.layers[1].compute_dtype
      for role, (model, _) in study.trained.items()
    }

  mixed = subject("explained/Training.precision = 'bfloat16'")
  assert computing(mixed) == {'retrained': 'float32', 'explained': 'bfloat16'}
  assert computing(subject(precision='bfloat16')) == {'retrained': 'bfloat16'}


def test_every_function_without_a_model_can_be_traced(subject):
  names = set()
  for function in functions.of(subject(), ['others'], 1):
    call, specs = function.build(2)
    traced = tf.function(call).get_concrete_function(*specs)
    for spec in tf.nest.flatten(traced.structured_outputs):
      assert spec.shape.is_fully_defined(), function.name
    names.add(function.name)
  assert {'random', 'oracle', 'sobel', 'Gaussian noise'} <= names
  assert sum(name.startswith('ranking') for name in names) == 8
  assert sum(name.startswith('masking') for name in names) >= 2


def test_estimators_of_the_paper_are_the_default(tiny):
  (loaded,) = experiment.load(dataset=tiny.dataset)
  plan = Subject(loaded).plan
  assert len(plan.names) == 15
  assert plan.gradient_evaluations == 416


def test_what_is_made_elsewhere_or_from_rankings_runs_on_no_device(tiny):
  (loaded,) = experiment.load(dataset=tiny.dataset)
  for names, planned in (
    (('grad', 'theirs'), ('grad',)),
    (('theirs',), None),
    (('shuffle_ig', 'untrained_sg_gb', 'oracle_30'), ('ig', 'sg_gb')),
    (('grad', 'shuffle_grad', 'shuffle_untrained_grad'), ('grad',)),
    (('centre', 'shuffle_centre', 'shuffle_theirs'), None),
  ):
    study = types.SimpleNamespace(estimators=names)
    plan = Subject(dataclasses.replace(loaded, study=study)).plan
    assert (plan and plan.names) == planned


def test_what_python_calls_is_refused_and_its_controls_left_out(
  tiny, monkeypatch
):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  for name in ('called', 'dark'):
    roar_tf.register(name, eager=True, needs_model=name == 'called')(
      lambda model, images, targets, keys: images
    )
  (loaded,) = experiment.load(dataset=tiny.dataset)
  study = types.SimpleNamespace(estimators=('grad', 'sg_called', 'dark'))
  with pytest.raises(errors.UsageError, match='"sg_called".*a TPU cannot'):
    Subject(dataclasses.replace(loaded, study=study))
  names = [each.name for each in attribution.controls(Subject(loaded))]
  assert 'random' in names and 'dark' not in names
