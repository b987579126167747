"""Estimators: those that need the explained model, and those that do not."""

import contextlib
import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from roar_tf import randomness
from roar_tf.estimators import Plan, blocks, gradient, registry
from roar_tf.estimators.settings import Settings
from roar_tf.models import stateless
from roar_tf.preflight import times
from roar_tf.preflight.device_function import (
  DeviceFunction,
  WithSpecs,
  variables,
)
from roar_tf.preflight.subject import Subject


def of_model(subject: Subject) -> list[DeviceFunction]:
  """Returns the attribution of a study, and the gradients it consists of."""
  if subject.plan is None:
    return []
  settings, names = subject.experiment.attribution, subject.plan.names
  model, shape = subject.explained, subject.shape
  return [
    DeviceFunction(
      times.GRADIENTS,
      'attribution',
      settings.batch_size or blocks.default_bound(*shape[:2]),
      functools.partial(gradient_evaluations, model, shape),
      scales=True,
    ),
    DeviceFunction(
      f'attribution (estimators: {len(names)})',
      'attribution',
      subject.images_per_call,
      functools.partial(attribution, model, names, settings, shape),
      loops=True,
    ),
  ]


def controls(subject: Subject) -> list[DeviceFunction]:
  """Returns every registered estimator that needs no model.

  But those that Python calls, which no device compiles.
  """
  settings = subject.experiment.attribution
  return [
    DeviceFunction(
      name,
      'others',
      subject.images_per_call,
      functools.partial(attribution, None, [name], settings, subject.shape),
      loops=True,
    )
    for name in registry.registered()
    for base in [registry.parse(name).base]
    if not (base.needs_model or base.eager)
  ]


def gradient_evaluations(model: keras.Model, shape, batch: int) -> WithSpecs:
  """Returns one batch of gradient evaluations, as the plan makes them.

  The work inside the plan's loops, by which its cost is told.
  """

  def function(state, inputs):
    with (
      stateless.with_variables(model, state['trainable'], state['moving']),
      gradient.prepared(model),
    ):
      values, _ = gradient.gradients(model, inputs['images'], inputs['targets'])
    return values['gradient']

  inputs = {
    'images': tf.TensorSpec([batch, *shape], _image_type(model)),
    'targets': tf.TensorSpec([batch], tf.int32),
  }
  return function, (variables(model), inputs)


def attribution(
  model: keras.Model | None,
  names: Sequence[str],
  settings: Settings,
  shape,
  batch: int,
) -> WithSpecs:
  """Returns the plan of some estimators on a batch of images.

  The model is None if no estimator needs one.
  """
  plan = Plan(names, settings)
  inputs = {
    'images': tf.TensorSpec([batch, *shape], _image_type(model)),
    'keys': tf.TensorSpec([batch, 2], tf.int32),
    'seed': tf.TensorSpec([], tf.int32),
  }
  if plan.needs_baseline:
    inputs['baseline'] = tf.TensorSpec(shape, _image_type(model))
  if plan.needs_truth:
    inputs['truth'] = tf.TensorSpec([batch, *shape[:2], 1], tf.uint8)
  if plan.needs_model and settings.target == 'label':
    inputs['targets'] = tf.TensorSpec([batch], tf.int32)

  def function(state, inputs):
    with contextlib.ExitStack() as stack:
      if model is not None:
        stack.enter_context(
          stateless.with_variables(model, state['trainable'], state['moving'])
        )
      keys = randomness.fold(
        inputs['keys'], randomness.Purpose.SEED, inputs['seed']
      )
      optional = map(inputs.get, ('truth', 'baseline'))
      targets = inputs.get('targets')
      return plan.scores(model, inputs['images'], targets, keys, *optional)

  return function, (variables(model) if model is not None else {}, inputs)


def _image_type(model: keras.Model | None) -> str:
  """Returns the type of a model's images: float32, or float64 if it is that."""
  types = [images.dtype for images in getattr(model, 'inputs', None) or []]
  return 'float64' if types == ['float64'] else 'float32'
