"""Tests of the learning rate against a reference in exact arithmetic."""

import fractions

import numpy as np
import pytest
import tensorflow as tf

from roar_tf.training import schedule, settings

PAPER = {'warmup_epochs': 5, 'drops': ((30, 0.1), (60, 0.01), (80, 0.001))}
CASES = {
  # The paper's Table 1 with the released code's batch sizes and schedule.
  'food101': (75750, 20000, {'batch_size': 256, **PAPER}),
  'birdsnap': (47386, 20000, {'batch_size': 256, **PAPER}),
  'imagenet': (1281167, 32000, {'batch_size': 4096, **PAPER}),
  # Epochs that begin exactly at a step.
  'whole': (
    1000,
    120,
    {'batch_size': 100, 'warmup_epochs': 1, 'drops': ((6, 0.1), (9, 0.01))},
  ),
  'fractional': (
    70,
    120,
    {'batch_size': 16, 'warmup_epochs': 0.5, 'drops': ((2.5, 0.3),)},
  ),
  'constant': (100, 50, {'batch_size': 10}),
  'no drop': (100, 50, {'batch_size': 10, 'warmup_epochs': 2}),
  'no warm-up': (100, 50, {'batch_size': 10, 'drops': ((2, 0.5), (4, 0))}),
  'batch beyond the split': (30, 20, {'batch_size': 64, **PAPER}),
}


def _training(**arguments):
  return settings.Training(
    model=None, epochs=1, base_learning_rate=0.7, **arguments
  )


def _reference(training, images, step):
  peak = training.base_learning_rate * training.batch_size / 256
  epoch = fractions.Fraction(step * training.batch_size, images)
  warmup = fractions.Fraction(training.warmup_epochs)
  if epoch < warmup:
    return peak * float(epoch / warmup)
  factor = 1.0
  for start, value in training.drops:
    if epoch >= fractions.Fraction(start):
      factor = value
  return peak * factor


@pytest.mark.parametrize('case', CASES)
def test_every_step_equals_the_reference(case):
  images, steps, arguments = CASES[case]
  training = _training(**arguments)
  found = tf.function(
    lambda: tf.map_fn(
      lambda step: schedule.learning_rate(training, images, step),
      tf.range(steps),
      fn_output_signature=tf.TensorSpec([], tf.float32),
    )
  )()
  expected = [_reference(training, images, step) for step in range(steps)]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_warm_up_begins_at_zero_and_meets_the_peak():
  training = _training(batch_size=64, warmup_epochs=2)
  rates = [
    float(schedule.learning_rate(training, 640, step)) for step in range(25)
  ]
  assert rates[0] == 0
  np.testing.assert_allclose(np.diff(rates[:21]), 0.7 / 4 / 20, rtol=1e-4)
  np.testing.assert_allclose(rates[20:], 0.7 / 4, rtol=1e-6)


def test_step_may_be_an_integer_or_a_tensor():
  training = _training(batch_size=10, warmup_epochs=2)
  for step in (3, tf.constant(3), tf.constant(3, tf.int64)):
    rate = schedule.learning_rate(training, 100, step)
    assert rate.dtype == tf.float32 and rate.shape == ()
    assert float(rate) == pytest.approx(_reference(training, 100, 3))
