"""Small splits and trainers, for tests and the programs that they start."""

import keras
import numpy as np
import tensorflow as tf

from roar_tf import randomness
from roar_tf.models import resnet
from roar_tf.training import examples, loop, settings

SHAPE = (8, 8, 3)
CLASSES = 7
MEAN, STD = (120.0, 130.0, 110.0), (70.0, 60.0, 80.0)


def make_split(
  count, seed=0, shape=SHAPE, classes=CLASSES
) -> examples.Examples:
  """Returns random images with random labels."""
  generator = np.random.default_rng(seed)
  ids = np.array([b'%d/%d' % (seed, i) for i in range(count)], object)
  return examples.Examples(
    images=tf.constant(generator.integers(0, 256, (count, *shape)), tf.uint8),
    labels=tf.constant(generator.integers(0, classes, count), tf.int32),
    keys=randomness.keys_of_ids(ids),
    ids=ids,
  )


def network(shape, classes) -> keras.Model:
  """Returns a small network with batch norm."""
  return resnet.small_resnet(shape, classes, width=2, stages=2)


def linear(shape, classes) -> keras.Model:
  """Returns a linear model."""
  return keras.Sequential(
    [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
  )


def make_trainer(
  factory,
  shape=SHAPE,
  classes=CLASSES,
  devices=None,
  **changes,
) -> loop.Trainer:
  """Returns a trainer: 19 steps of 50 images unless settings are changed."""
  training = settings.Training(
    **{
      'model': factory,
      'epochs': 3,
      'batch_size': 8,
      'base_learning_rate': 0.8,
      'warmup_epochs': 0.5,
      'drops': ((2, 0.1),),
      **changes,
    }
  )
  return loop.Trainer(factory, shape, classes, training, MEAN, STD, devices)


STEPS = 19  # Of 50 images, 3 epochs, batches of 8.


def calls_of(monkeypatch, steps):
  for name in ('FIRST_CALL', 'STEPS_PER_CALL'):
    monkeypatch.setattr(loop, name, steps)
  monkeypatch.setattr(loop, 'CALL_SECONDS', 1e9)


def assert_equal(found, expected):
  tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def differ(found, expected, part='trainable'):
  return any(
    not np.array_equal(one, other)
    for one, other in zip(found[part], expected[part], strict=True)
  )
