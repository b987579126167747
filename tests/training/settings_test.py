"""Tests of the hyperparameters: number of steps, refusals."""

import pytest

from roar_tf import errors
from roar_tf.training import settings


def _training(**changes):
  return settings.Training(
    **{
      'model': lambda shape, classes: None,
      'epochs': 10,
      'batch_size': 128,
      'base_learning_rate': 0.1,
      **changes,
    }
  )


@pytest.mark.parametrize(
  ('epochs', 'batch_size', 'images', 'expected'),
  [
    (10, 128, 1280, 100),
    (10, 128, 1281, 101),  # Rounded up.
    (1, 128, 5, 1),
    (0.5, 8, 40, 3),
    (0.001, 8, 40, 1),  # Never none.
    (1, 7, 49, 7),
  ],
)
def test_steps_are_rounded_up(epochs, batch_size, images, expected):
  training = _training(epochs=epochs, batch_size=batch_size)
  assert training.steps(images) == expected


def test_a_length_in_steps_is_that_many():
  training = _training(epochs=None, train_steps=32000)
  assert training.steps(1281167) == training.steps(5) == 32000


@pytest.mark.parametrize('lengths', [(None, None), (10, 100)])
def test_a_length_is_given_once(lengths):
  epochs, steps = lengths
  with pytest.raises(errors.UsageError, match='Training.train_steps'):
    _training(epochs=epochs, train_steps=steps)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('epochs', 0),
    ('epochs', float('inf')),
    ('train_steps', 1.5),
    ('train_steps', True),
    ('schedule_epochs', float('nan')),
    ('batch_size', 0),
    ('base_learning_rate', 0),
    ('warmup_epochs', -1),
    ('momentum', 1.0),
    ('l2', -1e-4),
    ('label_smoothing', 1.0),
    ('augmentation', 'cutout'),
    ('eval_preprocess', 'crop'),
    ('drops', ((60, 0.01), (30, 0.1))),
    ('drops', ((1, -0.1),)),
    ('drops', ((float('inf'), 0.1),)),
  ],
)
def test_values_that_mean_nothing_are_refused_by_name(name, value):
  with pytest.raises(errors.UsageError, match=rf'Training\.{name} cannot be'):
    _training(**{name: value})


def test_defaults_are_the_released_codes():
  training = _training()
  assert training.momentum == 0.9
  assert training.l2 == 1e-4
  assert training.label_smoothing == 0.1
