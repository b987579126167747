"""Tests of the learning rate against references, at every step."""

import fractions

import numpy as np
import pytest
import tensorflow as tf

from roar_tf.models import resnet
from roar_tf.study import experiment
from roar_tf.training import schedule, settings

ROUNDING = 2**-23
"""Relative: a slope and a product are rounded to float32."""

WARMED = {'warmup_epochs': 5, 'drops': ((30, 0.1), (60, 0.01), (80, 0.001))}
CASES = {
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
  # 0.7 and 0.1 in binary are not: they would be a step early or late.
  'decimal': (
    1000,
    120,
    {'batch_size': 100, 'warmup_epochs': 0.7, 'drops': ((1.1, 0.1), (2.3, 0))},
  ),
  'constant': (100, 50, {'batch_size': 10}),
  'batch beyond the split': (30, 20, {'batch_size': 64, **WARMED}),
  'a drop beyond all integers': (
    10,
    20,
    {'batch_size': 1, 'drops': ((1e9, 0),)},
  ),
}


def _training(**arguments):
  if 'train_steps' not in arguments:
    arguments = {'epochs': 1, **arguments}
  return settings.Training(
    model=resnet.resnet50, base_learning_rate=0.7, **arguments
  )


def _reference(training, images, step):
  peak = training.base_learning_rate * training.batch_size / 256
  epoch = fractions.Fraction(step * training.batch_size, images)
  warmup = fractions.Fraction(str(training.warmup_epochs))
  if epoch < warmup:
    return peak * float(epoch / warmup)
  factor = 1.0
  for start, value in training.drops:
    if epoch >= fractions.Fraction(str(start)):
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
  np.testing.assert_allclose(found, expected, rtol=ROUNDING)


def _papers_rates(images, batch, base, steps):
  """The released code's schedule in float64, from train_resnet.py.

  `lr_schedule` is [(1.0, 5), (0.1, 30), (0.01, 60), (0.001, 80)]: multipliers
  from those epochs on, a linear rise before the first.
  """
  epoch = np.arange(steps) * batch / images
  peak = base * batch / 256
  rate = peak * epoch / 5
  rate[epoch >= 5] = peak
  rate[epoch >= 30] = peak * 0.1
  rate[epoch >= 60] = peak * 0.01
  rate[epoch >= 80] = peak * 0.001
  return rate


@pytest.mark.parametrize(
  ('source', 'images', 'batch', 'base', 'steps', 'drops'),
  [
    # Steps of the drops: epoch x images / batch, rounded up, by hand.
    ('imagenet2012', 1281167, 4096, 0.1, 32000, [9384, 18768, 25023]),
    ('food101', 75750, 256, 0.7, 20000, [8877, 17754]),
    ('birdsnap', 47386, 256, 1.0, 20000, [5554, 11107, 14809]),
  ],
)
def test_the_papers_trainings_at_every_step(
  source, images, batch, base, steps, drops
):
  (loaded,) = experiment.load(dataset=source)
  training = loaded.retrained
  assert loaded.source.count('train') == images
  assert training.steps(images) == steps
  found = schedule.learning_rate(training, images, np.arange(steps)).numpy()
  expected = _papers_rates(images, batch, base, steps)
  np.testing.assert_allclose(found, expected, rtol=ROUNDING)
  fallen = 1 + np.flatnonzero(np.diff(found) < -1e-6 * found[:-1])
  assert (
    list(fallen) == drops == list(1 + np.flatnonzero(np.diff(expected) < 0))
  )
  # As the loop asks for them: one by one, in a graph.
  single = tf.function(
    lambda step: schedule.learning_rate(training, images, step)
  )
  for step in (0, 1, *drops, steps - 1):
    np.testing.assert_allclose(
      single(tf.constant(step)), found[step], rtol=ROUNDING
    )


def test_fractions_keep_the_shape_of_a_shortened_training():
  shape = {
    'batch_size': 10,
    'warmup_epochs': 0.1,
    'drops': ((0.5, 0.1), (0.75, 0.01)),
    'schedule_epochs': 1,
  }
  for steps in (7, 40, 400):
    training = _training(train_steps=steps, **shape)
    # The number of images does not matter then.
    for images in (33, 1000):
      found = schedule.learning_rate(training, images, np.arange(steps))
      step, peak = np.arange(steps), 0.7 * 10 / 256
      expected = np.where(10 * step < steps, 10 * peak * step / steps, peak)
      expected = np.where(2 * step >= steps, peak * 0.1, expected)
      expected = np.where(4 * step >= 3 * steps, peak * 0.01, expected)
      np.testing.assert_allclose(found, expected, rtol=ROUNDING)


def test_the_length_that_a_schedule_is_written_for_changes_nothing():
  arguments = {'batch_size': 10, 'warmup_epochs': 2, 'drops': ((6, 0.1),)}
  steps = np.arange(80)
  plain = schedule.learning_rate(
    _training(epochs=8, **arguments), 100, steps
  ).numpy()
  same = _training(epochs=8, schedule_epochs=8, **arguments)
  np.testing.assert_array_equal(schedule.learning_rate(same, 100, steps), plain)
  half = _training(epochs=4, schedule_epochs=8, **arguments)
  np.testing.assert_allclose(
    schedule.learning_rate(half, 100, steps[:40]), plain[::2], rtol=ROUNDING
  )
