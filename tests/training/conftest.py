"""Fixtures of several tests of trainings."""

import pytest
from small_training import STEPS, calls_of, make_split, make_trainer, network

from roar_tf.training import checkpoint


@pytest.fixture
def short_calls(monkeypatch):
  """Several calls even in a short training."""
  calls_of(monkeypatch, 4)
  monkeypatch.setattr(checkpoint, 'SAVING', 0.0)


@pytest.fixture(scope='module')
def trainer():
  return make_trainer(network, augmentation='pad_crop_flip')


@pytest.fixture(scope='module')
def split():
  return make_split(50)


@pytest.fixture(scope='module')
def trained(trainer, split):
  """The state of an uninterrupted run, of another number of steps a call."""
  state, steps = trainer.train(split, 'cell', 1)
  assert steps == STEPS
  return state
