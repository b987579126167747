"""A program that trains on some devices and prints what it saw.

    python replica_program.py two|workers

`two` is two logical CPUs, `workers` what TF_CONFIG says.
Prints JSON: for a model without and one with batch norm the loss of every step,
the predictions of the final model, and sums of its weights, in float64.
"""

import json
import os
import sys

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import keras
import numpy as np
import tensorflow as tf
from small_training import make_split, make_trainer

from roar_tf.models import resnet
from roar_tf.training import distribution, loop

SHAPE, CLASSES, STEPS = (6, 6, 3), 3, 50
TEST = 37
"""Test images, which neither 1 nor 2 replicas divide into whole batches."""


def plain(shape, classes):
  """A network without batch norm."""
  return keras.Sequential(
    [
      keras.Input(shape),
      keras.layers.Conv2D(4, 3, activation='relu'),
      keras.layers.Flatten(),
      keras.layers.Dense(classes),
    ]
  )


def network(shape, classes):
  """A network with batch norm, each layer of which is traced per replica."""
  return resnet.small_resnet(shape, classes, width=2, stages=1)


def outcome(factory, devices) -> dict:
  """Trains for 50 steps, one call each, and evaluates."""
  trainer = make_trainer(
    factory,
    SHAPE,
    CLASSES,
    devices,
    epochs=STEPS * 8 / 40,
    base_learning_rate=1.6,
    warmup_epochs=2,
    drops=(),
    augmentation='pad_crop_flip',
    precision='float64',
  )
  losses = []
  state, steps = trainer.train(
    make_split(40, 0, SHAPE, CLASSES),
    'run',
    1,
    log=lambda step, metrics: losses.append(float(metrics['loss'])),
  )
  assert steps == STEPS
  test = make_split(TEST, 1, SHAPE, CLASSES)
  predictions = trainer.evaluate(state, test).predictions
  return {
    'losses': losses,
    'predictions': predictions.tolist(),
    'weights': [float(np.sum(w)) for w in state['trainable']],
    'moving': [float(np.sum(w)) for w in state['moving']],
  }


def main(where: str) -> None:
  """Trains both models."""
  if where == 'two':
    (cpu,) = tf.config.list_physical_devices('CPU')
    tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
  devices = distribution.connect({'two': 'mirrored', 'workers': 'auto'}[where])
  assert devices.replicas == 2
  loop.STEPS_PER_CALL = 1
  print(json.dumps({'chief': devices.is_chief, **outcomes(devices)}))


def outcomes(devices) -> dict:
  """Returns what both models come to, by their names."""
  return {f.__name__: outcome(f, devices) for f in (plain, network)}


if __name__ == '__main__':
  main(*sys.argv[1:])
