"""Tests of the evaluation of trained models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_training import (
  MEAN,
  STD,
  linear,
  make_split,
  make_trainer,
  network,
)

from roar_tf.training import evaluation, preprocessing


@pytest.fixture(scope='module')
def trainer():
  return make_trainer(network)


@pytest.fixture(scope='module')
def trained(trainer):
  state, _ = trainer.train(make_split(50), 'cell', 1)
  return state


@pytest.mark.parametrize('count, batch', [(1, 8), (16, 8), (17, 8), (50, 3)])
def test_evaluation_covers_every_example_and_equals_numpy(
  trainer, trained, monkeypatch, count, batch
):
  monkeypatch.setattr(evaluation, 'MOST_IMAGES', batch)
  test = make_split(count, seed=3)
  outcome = trainer.evaluate(trained, test)
  model = keras.models.clone_model(trainer.model)
  model.set_weights([v.numpy() for v in trainer.load(trained).variables])
  images = (test.images.numpy() - np.array(MEAN)) / np.array(STD)
  logits = model(images.astype(np.float32), training=False).numpy()
  labels = test.labels.numpy()
  assert outcome.predictions.dtype == np.int32
  assert outcome.predictions.shape == (count,)
  _assert_most_likely(outcome.predictions, logits)
  np.testing.assert_array_equal(outcome.correct, outcome.predictions == labels)
  # Where no two classes are as likely but for rounding: 5 of 7 are in.
  own = np.take_along_axis(logits, labels[:, None], 1)
  before, tied = (logits > own + 1e-4).sum(1), np.abs(logits - own) < 1e-4
  clear = tied.sum(1) == 1
  assert clear.mean() > 0.9
  np.testing.assert_array_equal(outcome.in_top5[clear], before[clear] < 5)
  if count == 50:
    assert 0 < outcome.correct.sum() < outcome.in_top5.sum() < count


def _assert_most_likely(predictions, logits):
  """Predictions have the highest logit, up to rounding."""
  logits = np.asarray(logits)
  chosen = np.take_along_axis(logits, predictions[:, None], 1)[:, 0]
  np.testing.assert_allclose(chosen, logits.max(axis=1), rtol=0, atol=1e-4)


def test_with_few_classes_everything_is_among_the_first_five():
  trainer = make_trainer(linear, classes=3)
  test = make_split(20, classes=3)
  outcome = trainer.evaluate(trainer.initial_state(0), test)
  assert outcome.in_top5.all() and not outcome.correct.all()


def test_preprocessing_concerns_evaluation_alone():
  plain = make_trainer(linear)
  cropping = make_trainer(linear, eval_preprocess='center_crop')
  state, other = (t.train(make_split(50), 1)[0] for t in (plain, cropping))
  tf.nest.map_structure(np.testing.assert_array_equal, state, other)
  test = make_split(50, seed=3)
  found = cropping.evaluate(state, test).predictions
  cropped = preprocessing.center_crop(test.images)
  logits = cropping.load(state)(cropping.normalise(cropped), training=False)
  _assert_most_likely(found, logits)
  assert (found != plain.evaluate(state, test).predictions).any()
