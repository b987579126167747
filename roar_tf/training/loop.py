"""One loop around the pure step.

A `Trainer` compiles a model's training and evaluation once per shape and
trains any number of runs with them: a run of a tiny model pays neither a
TensorFlow start-up nor a trace.
"""

import dataclasses
import random
import threading
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from roar_tf import errors, randomness
from roar_tf.training import augmentation, checkpoint, preprocessing, schedule
from roar_tf.training import step as pure
from roar_tf.training.examples import Examples, Order
from roar_tf.training.settings import Training

STEPS_PER_CALL = 32
"""Training steps per host call; does not change results."""

EVALUATION_BATCH = 256
"""Test images per call; the last batch is padded."""


_KERAS = threading.Lock()
"""Building and tracing models touches Keras' global state."""


@dataclasses.dataclass(frozen=True)
class Resumption:
  """Where and when an unfinished training is saved.

  Attributes:
    path: file of the checkpoint.
    digest: digest of the run's fingerprint.
    every_seconds: time between checkpoints.
    stop: asked after every call; true saves and raises PreemptedError.
  """

  path: str
  digest: str
  every_seconds: float = 60.0
  stop: Callable[[], bool] = lambda: False


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Outcome on every test image.

  Attributes:
    predictions: int32 [N], the predicted classes.
    correct: bool [N].
    in_top5: bool [N], whether the label is among the five largest logits.
  """

  predictions: np.ndarray
  correct: np.ndarray
  in_top5: np.ndarray


class Trainer:
  """Trains a model family on images of one shape.

  Attributes:
    model: the architecture; its variables belong to `load`.
    training: hyperparameters.
    step_seconds: time spent in training steps so far, over all runs.
  """

  def __init__(
    self,
    factory: Callable[..., keras.Model],
    image_shape: tuple[int, int, int],
    num_classes: int,
    training: Training,
    mean,
    std,
  ):
    """Builds the model once.

    Args:
      factory: `(input_shape, num_classes) -> keras.Model` of logits.
      image_shape: (H, W, C).
      num_classes: K.
      training: hyperparameters.
      mean: [C] per-channel mean of the unmasked train split, 0..255.
      std: [C] per-channel standard deviation, likewise.
    """
    self._factory = lambda: factory(image_shape, num_classes)
    self.training = training
    self._mean = tf.constant(mean, tf.float32)
    self._std = tf.constant(std, tf.float32)
    with _KERAS:
      self.model = self._factory()
    self.step_seconds = 0.0
    self._lock = threading.Lock()
    self._steps = tf.function(self._run_steps)
    self._logits = tf.function(self._predict)

  def normalise(self, images) -> tf.Tensor:
    """Returns float32 (images - mean) / std."""
    return (tf.cast(images, tf.float32) - self._mean) / self._std

  def initial_state(self, *seed_words) -> pure.State:
    """Returns a freshly initialised state; the words decide every weight.

    That holds for the initialisers and layers of Keras, not for a factory that
    calls `keras.random` or NumPy without a seed.
    """
    generator = randomness.generator(randomness.Purpose.WEIGHTS, *seed_words)
    with _KERAS:
      # Keras' initialisers, whatever the factory, take their seeds from here.
      # (`keras.utils.set_random_seed` would also make TensorFlow drop every
      # compiled function: 0.25 s a run.)
      state = random.getstate()
      random.seed(int(generator.integers(2**31)))
      try:
        model = self._factory()
      finally:
        random.setstate(state)
    weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    return {
      'trainable': weights,
      'moving': [
        tf.convert_to_tensor(v) for v in model.non_trainable_variables
      ],
      'velocity': [tf.zeros_like(w) for w in weights],
    }

  def load(self, state: pure.State) -> keras.Model:
    """Puts a state's weights into the trainer's model and returns it."""
    for variables, values in (
      (self.model.trainable_variables, state['trainable']),
      (self.model.non_trainable_variables, state['moving']),
    ):
      for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return self.model

  def train(
    self,
    examples: Examples,
    *seed_words,
    resumption: Resumption | None = None,
    progress: Callable[[int], None] = lambda steps: None,
  ) -> tuple[pure.State, int]:
    """Trains from random initialisation, or from where it was interrupted.

    Args:
      examples: the train split.
      *seed_words: integers and strings that identify the run; they decide the
        initial weights, the order and the augmentation.
      resumption: where to save and resume; None trains in one piece.
      progress: told the number of steps just finished.

    Returns:
      The last state, never the best, and its number of steps.

    Raises:
      PreemptedError: stopped and saved.
      RoarError: the loss is not finite; the step is named.
    """
    training = self.training
    total = training.steps(len(examples))
    order = Order(len(examples), *seed_words)
    seed = int(
      randomness.generator(
        randomness.Purpose.AUGMENTATION, *seed_words
      ).integers(2**31)
    )
    state, done = self._resume(resumption) or (None, 0)
    if state is None:
      state = self.initial_state(*seed_words)
    data = (examples.images, examples.labels, examples.keys)
    progress(done)
    saved = time.monotonic()
    while done < total:
      count = min(STEPS_PER_CALL, total - done)
      batch = training.batch_size
      indices, epochs = order.positions(
        done * batch, (done + STEPS_PER_CALL) * batch
      )
      arguments = (
        state,
        tf.constant(done),
        tf.constant(count),
        tf.constant(indices.reshape(-1, batch)),
        tf.constant(epochs.reshape(-1, batch)),
        tf.constant(seed),
        *data,
      )
      with _KERAS:  # Traced outside of the clock, the first time.
        self._steps.get_concrete_function(*arguments)
      start = time.monotonic()
      state, loss = self._steps(*arguments)
      finite = bool(np.isfinite(loss.numpy()))
      with self._lock:
        self.step_seconds += time.monotonic() - start
      if not finite:
        raise errors.RoarError(
          f'the loss became {loss.numpy()} between steps {done} and '
          f'{done + count}; lower Training.base_learning_rate.'
        )
      done += count
      progress(count)
      if resumption and done < total:
        stop = resumption.stop()
        if stop or time.monotonic() - saved > resumption.every_seconds:
          checkpoint.save(resumption.path, state, done, resumption.digest)
          saved = time.monotonic()
        if stop:
          raise errors.PreemptedError(
            f'stopped after step {done} of {total}, which is saved; run '
            'the same command again to go on.'
          )
    return state, total

  def evaluate(self, state: pure.State, examples: Examples) -> Evaluation:
    """Classifies every example, after `Training.eval_preprocess`."""
    count = len(examples)
    padded = -count % EVALUATION_BATCH
    # Repeating the last image keeps every batch at one shape.
    indices = np.minimum(np.arange(count + padded), count - 1)
    logits = tf.concat(
      [
        self._logits(state, tf.gather(examples.images, part))
        for part in indices.reshape(-1, EVALUATION_BATCH)
      ],
      0,
    )[:count]
    labels = examples.labels
    predictions = tf.argmax(logits, -1, tf.int32)
    top = min(5, logits.shape[-1])
    return Evaluation(
      predictions=predictions.numpy(),
      correct=(predictions == labels).numpy(),
      in_top5=tf.math.in_top_k(labels, logits, top).numpy(),
    )

  def _resume(self, resumption):
    if resumption is None:
      return None
    return checkpoint.restore(resumption.path, resumption.digest)

  def _predict(self, state, images):
    preprocess = preprocessing.EVAL_PREPROCESS[self.training.eval_preprocess]
    images = self.normalise(preprocess(images))
    return pure.predict(self.model, state, images)

  def _run_steps(
    self, state, first, count, indices, epochs, seed, images, labels, keys
  ):
    """Runs `count` steps from step `first`; row i of indices is one batch."""
    training = self.training
    augment = augmentation.AUGMENTATIONS[training.augmentation]

    def body(i, state, _):
      batch = tf.gather(images, indices[i])
      # One seed per (run, example, epoch): epochs of a batch may differ.
      seeds = randomness.fold(
        tf.gather(keys, indices[i]), randomness.Purpose.AUGMENTATION, seed
      )
      seeds += epochs[i][:, None]
      batch = augment(
        batch, randomness.hashed_uniform(seeds, augmentation.DRAWS)
      )
      rate = schedule.learning_rate(training, images.shape[0], first + i)
      state, loss = pure.step(
        self.model,
        training,
        state,
        self.normalise(batch),
        tf.gather(labels, indices[i]),
        rate,
      )
      return i + 1, state, loss

    _, state, loss = tf.while_loop(
      lambda i, state, loss: i < count,
      body,
      (0, state, tf.constant(0.0)),
      parallel_iterations=1,
    )
    return state, loss
