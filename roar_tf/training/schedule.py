"""The learning rate: linear warm-up, then steps (Goyal et al. 2017).

Where warm-up and drops lie is computed in exact arithmetic on the host: float32
would lose a step of a long training.
"""

from __future__ import annotations

import fractions
import math

from roar_tf.lazy import tf
from roar_tf.training import settings


def learning_rate(
  training: settings.Training, train_images: int, step
) -> tf.Tensor:
  """Returns the learning rate of a step, a float32 scalar.

  The epoch is step x batch / images, unrounded, as in the released code. A drop
  takes place at the first step whose epoch is not before the drop's.

  Args:
    training: hyperparameters.
    train_images: size of the train split.
    step: integer scalar, 0 for the first step; or an array of them, which gives
      an array of rates.
  """
  step = tf.convert_to_tensor(step)
  peak = training.base_learning_rate * training.batch_size / 256
  length = _epoch(training, train_images)
  rate = tf.fill(tf.shape(step), tf.constant(peak, tf.float32))
  for start, factor in training.drops:
    boundary = math.ceil(_exact(start) * length)
    rate = tf.where(_reached(step, boundary), tf.constant(peak * factor), rate)
  warmup = _exact(training.warmup_epochs) * length
  if warmup:
    # The slope is rounded once; steps below 2^24 are exact in float32.
    slope = tf.constant(float(fractions.Fraction(peak) / warmup), tf.float32)
    rising = tf.cast(step, tf.float32) * slope
    rate = tf.where(_reached(step, math.ceil(warmup)), rate, rising)
  return rate


def _epoch(training, train_images) -> fractions.Fraction:
  """Returns the steps in one epoch of the schedule."""
  if training.schedule_epochs is None:
    return fractions.Fraction(train_images, training.batch_size)
  return training.steps(train_images) / _exact(training.schedule_epochs)


def _exact(number) -> fractions.Fraction:
  """Returns the number as it is written: 0.1 is one tenth."""
  return fractions.Fraction(str(number))


def _reached(step, boundary: int):
  if boundary > step.dtype.max:
    return tf.zeros_like(step, tf.bool)
  return step >= tf.constant(boundary, step.dtype)
