"""A program that trains on some devices and prints what it saw.

    python replica_program.py one|two|workers

`one` is one device, `two` two logical CPUs, `workers` what TF_CONFIG says.
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

from roar_tf import randomness
from roar_tf.models import resnet
from roar_tf.training import distribution, examples, loop, settings

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


def normed(shape, classes):
  """A network with batch norm."""
  return resnet.small_resnet(shape, classes, width=2, stages=2)


def split(count, seed):
  """Returns random examples."""
  generator = np.random.default_rng(seed)
  ids = np.array([b'%d' % i for i in range(count)], object)
  return examples.Examples(
    tf.constant(generator.integers(0, 256, (count, *SHAPE)), tf.uint8),
    tf.constant(generator.integers(0, CLASSES, count), tf.int32),
    randomness.keys_of_ids(ids),
    ids,
  )


def main(where: str) -> None:
  """Trains both models."""
  if where == 'two':
    (cpu,) = tf.config.list_physical_devices('CPU')
    tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
  devices = distribution.connect(
    {'one': 'one_device', 'two': 'mirrored', 'workers': 'auto'}[where]
  )
  assert devices.replicas == (1 if where == 'one' else 2)
  keras.config.set_floatx('float64')
  loop.STEPS_PER_CALL = 1
  found = {f.__name__: outcome(f, devices) for f in (plain, normed)}
  print(json.dumps({'chief': devices.is_chief, **found}))


def outcome(factory, devices) -> dict:
  """Trains for 50 steps, one call each, and evaluates."""
  training = settings.Training(
    model=factory,
    epochs=50 * 8 / 40,
    batch_size=8,
    base_learning_rate=1.6,
    warmup_epochs=2,
    augmentation='pad_crop_flip',
  )
  trainer = loop.Trainer(
    factory, SHAPE, CLASSES, training, [120.0] * 3, [70.0] * 3, devices
  )
  losses = []
  state, steps = trainer.train(
    split(40, 0),
    'run',
    1,
    log=lambda step, metrics: losses.append(float(metrics['loss'])),
  )
  assert steps == STEPS
  predictions = trainer.evaluate(state, split(TEST, 1)).predictions
  return {
    'losses': losses,
    'predictions': predictions.tolist(),
    'weights': [float(np.sum(w)) for w in state['trainable']],
    'moving': [float(np.sum(w)) for w in state['moving']],
  }


if __name__ == '__main__':
  main(*sys.argv[1:])
