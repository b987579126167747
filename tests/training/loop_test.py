"""Tests of whole trainings: repetition, interruption."""

import functools
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf
from scipy import special
from small_training import (
  CLASSES,
  MEAN,
  STD,
  assert_equal,
  calls_of,
  differ,
  linear,
  make_split,
  make_trainer,
  network,
)

from roar_tf.training import (
  augmentation,
  distribution,
  examples,
  order,
  schedule,
)

pytestmark = pytest.mark.usefixtures('short_calls')


# --- repetition ---------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(trainer, split, trained):
  trainer.train(split, 'cell', 2)  # Whatever ran in between.
  again, _ = trainer.train(split, 'cell', 1)
  assert_equal(again, trained)


def test_another_trainer_gives_the_same_bits(split, trained):
  tf.random.set_seed(99)
  other = make_trainer(network, augmentation='pad_crop_flip')
  assert_equal(other.train(split, 'cell', 1)[0], trained)


def test_steps_per_call_do_not_change_the_bits(
  trainer, split, trained, monkeypatch
):
  calls_of(monkeypatch, 7)
  assert_equal(trainer.train(split, 'cell', 1)[0], trained)


def test_a_split_as_gpus_gather_it_gives_the_same_bits(
  trainer, split, trained, monkeypatch
):
  monkeypatch.setattr(distribution.Devices, 'are_gpus', True)
  assert_equal(trainer.train(split, 'cell', 1)[0], trained)


def test_seed_words_decide_every_random_weight(trainer):
  first, again, other = (
    trainer.initial_state('cell', seed) for seed in (1, 1, 2)
  )
  assert_equal(again, first)
  kernels = [i for i, w in enumerate(first['trainable']) if w.shape.rank > 1]
  assert len(kernels) == 7
  for i in kernels:
    assert not np.array_equal(first['trainable'][i], other['trainable'][i])
  assert all(not np.any(v) for v in first['velocity'])


def test_runs_side_by_side_end_in_the_bits_of_runs_alone(split, trained):
  # Not yet traced.
  trainer = make_trainer(network, augmentation='pad_crop_flip')

  def run(seed):
    state, _ = trainer.train(split, 'cell', seed)
    return state, trainer.evaluate(state, split)

  with futures.ThreadPoolExecutor(3) as pool:
    outcomes = list(pool.map(run, (1, 2, 1)))
  (state, evaluation), (other, _), (again, _) = outcomes
  assert_equal(state, trained)
  assert_equal(again, trained)
  assert differ(other, trained)
  alone = trainer.evaluate(trained, split)
  np.testing.assert_array_equal(evaluation.predictions, alone.predictions)


def test_one_trainer_takes_splits_of_several_sizes(split):
  trainer = make_trainer(linear)
  for count in (50, 40, 60):
    state, steps = trainer.train(make_split(count), 1)
    assert steps == -(-count * 3 // 8)
  fresh, _ = make_trainer(linear).train(make_split(60), 1)
  assert_equal(state, fresh)


# --- what is computed ---------------------------------------------------------


def test_a_whole_training_equals_numpy(split):
  trainer = make_trainer(linear, epochs=2.5, l2=0.01)
  kernel, bias = (
    np.float64(w) for w in trainer.initial_state('run', 3)['trainable']
  )
  velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
  images = (split.images.numpy() - np.array(MEAN)) / np.array(STD)
  images, labels = images.reshape(50, -1), split.labels.numpy()
  positions = order.Order([50], 16, 'run', 3)
  losses = 16  # 125 examples in batches of 8.
  for i in range(losses):
    pieces = positions.pieces(8 * i, 8 * i + 8)
    indices = np.concatenate([piece.rows for piece in pieces])
    rate = float(schedule.learning_rate(trainer.training, 50, i))
    flat = images[indices]
    goal = 0.9 * np.eye(CLASSES)[labels[indices]] + 0.1 / CLASSES
    error = (special.softmax(flat @ kernel + bias, axis=1) - goal) / 8
    gradients = [
      flat.T @ error + 0.01 * kernel,
      error.sum(axis=0) + 0.01 * bias,
    ]
    velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
    kernel, bias = (
      w - rate * (g + 0.9 * v)
      for w, g, v in zip((kernel, bias), gradients, velocity, strict=True)
    )
  state, steps = trainer.train(split, 'run', 3)
  assert steps == losses
  np.testing.assert_allclose(state['trainable'][0], kernel, atol=1e-4)
  np.testing.assert_allclose(state['trainable'][1], bias, atol=1e-4)


def _recorded_draws(split, monkeypatch, batch_size, *seed_words):
  """Uniforms of the augmentation by example, in the order of the epochs."""
  seen = {}

  def record(images, uniforms):
    for image, draws in zip(images, uniforms, strict=True):
      seen.setdefault(image.tobytes(), []).append(tuple(draws))
    return images

  def recording(images, uniforms):
    shape = images.shape
    images = tf.numpy_function(record, [images, uniforms], images.dtype)
    return tf.ensure_shape(images, shape)

  recording.draws = 3
  monkeypatch.setitem(augmentation.AUGMENTATIONS, 'recording', recording)
  trainer = make_trainer(
    linear,
    epochs=4,
    batch_size=batch_size,
    augmentation='recording',
  )
  trainer.train(split, *seed_words)
  return seen


def test_augmentation_is_a_function_of_run_example_and_epoch(
  split, monkeypatch
):
  record = functools.partial(_recorded_draws, split, monkeypatch)
  draws = record(10, 'cell', 1)
  # Each example once in each epoch, with other numbers in each.
  assert len(draws) == 50
  assert {len(values) for values in draws.values()} == {4}
  everything = [draw for values in draws.values() for draw in values]
  assert len(set(everything)) == 200
  # The neighbours in a batch do not matter, the run does.
  assert record(25, 'cell', 1) == draws
  other = record(10, 'cell', 2)
  assert not {d for v in other.values() for d in v} & set(everything)
  # Fair: 200 uniforms in each column.
  assert np.abs(np.mean(everything, axis=0) - 0.5).max() < 5 / np.sqrt(12 * 200)


def test_learns_what_can_be_learnt_and_nothing_else():
  def make(count, seed):
    made = make_split(count, seed)
    images = made.images.numpy() // 8
    images += (30 * made.labels.numpy()[:, None, None, None]).astype(np.uint8)
    return made, examples.Examples(
      tf.constant(images), made.labels, made.keys, made.ids
    )

  trainer = make_trainer(network, epochs=40, drops=(), base_learning_rate=2.0)
  (noise, train), (_, test) = make(200, 1), make(100, 2)
  state, _ = trainer.train(train, 0)
  assert trainer.evaluate(state, test).correct.mean() > 0.9
  # Labels that have nothing to do with the images: chance is 1/7.
  state, _ = trainer.train(noise, 0)
  accuracy = trainer.evaluate(state, make_split(100, 2)).correct.mean()
  assert accuracy < 1 / 7 + 5 * np.sqrt(1 / 7 * 6 / 7 / 100)
