"""Training steps and evaluations, as each of several replicas runs them."""

import dataclasses
import functools

import keras
import tensorflow as tf

from roar_tf.preflight.device_function import (
  DeviceFunction,
  WithSpecs,
  variables,
)
from roar_tf.preflight.subject import Subject
from roar_tf.training import evaluation as evaluation_
from roar_tf.training import step
from roar_tf.training.settings import Training


def steps(subject: Subject, replicas: int) -> list[DeviceFunction]:
  """Returns the training steps of all models that are trained."""
  size = subject.experiment.source.count('train')
  return [
    DeviceFunction(
      f'training step ({role})',
      'training',
      -(-training.batch_size // replicas),
      functools.partial(
        training_step, model, training, subject.shape, size, replicas=replicas
      ),
      scales=True,
    )
    for role, (model, training) in subject.trained.items()
  ]


def evaluations(subject: Subject, replicas: int) -> list[DeviceFunction]:
  """Returns the evaluations of all models that are trained."""
  return [
    DeviceFunction(
      f'evaluation ({role})',
      'evaluation',
      evaluation_.batch(training, replicas),
      functools.partial(evaluation, model, training, subject.shape),
    )
    for role, (model, training) in subject.trained.items()
  ]


def training_step(
  model: keras.Model,
  training: Training,
  shape,
  train_images: int,
  batch: int,
  replicas: int = 1,
) -> WithSpecs:
  """Returns one training step of one replica: all that a device does in it.

  Augmentation, normalisation, learning rate, and the pure step. What replicas
  tell each other about gradients is not in it. The batch is of one replica.
  """
  training = dataclasses.replace(training, batch_size=batch * replicas)
  of_model = variables(model)
  state = {
    **of_model,
    'velocity': of_model['trainable'],
    'step': tf.TensorSpec([], tf.int64),
    'seed': tf.TensorSpec([], tf.int32),
  }
  inputs = {
    'image': tf.TensorSpec([batch, *shape], tf.uint8),
    'label': tf.TensorSpec([batch], tf.int32),
    'key': tf.TensorSpec([batch, 2], tf.int32),
    'epoch': tf.TensorSpec([batch], tf.int32),
  }
  function = _step(model, training, shape, train_images, replicas)
  return function, (state, inputs)


def evaluation(
  model: keras.Model, training: Training, shape, batch: int
) -> WithSpecs:
  """Returns the classification of a batch of test images."""
  predict = _step(model, training, shape).predict
  images = tf.TensorSpec([batch, *shape], tf.uint8)
  return predict, (variables(model), images)


def _step(
  model, training: Training, shape, train_images: int = 1, replicas: int = 1
) -> step.Step:
  # Mean and deviation of a source are constants of the program; these stand
  # for any.
  mean, std = (127.0,) * shape[-1], (64.0,) * shape[-1]
  return step.Step(model, training, train_images, mean, std, replicas)
