"""The learning rate: linear warm-up, then steps (Goyal et al. 2017)."""

import tensorflow as tf

from roar_tf.training import settings


def learning_rate(
  training: settings.Training, train_images: int, step
) -> tf.Tensor:
  """Returns the learning rate of a step, a float32 scalar.

  The epoch is step x batch / images, unrounded, as in the released code.

  Args:
    training: hyperparameters.
    train_images: size of the train split.
    step: integer scalar, 0 for the first step.
  """
  epoch = tf.cast(step, tf.float32) * (training.batch_size / train_images)
  peak = training.base_learning_rate * training.batch_size / 256
  rate = tf.constant(peak, tf.float32)
  for start, factor in training.drops:
    rate = tf.where(epoch >= start, tf.constant(peak * factor), rate)
  if training.warmup_epochs:
    warmup = peak * epoch / training.warmup_epochs
    rate = tf.where(epoch < training.warmup_epochs, warmup, rate)
  return rate
