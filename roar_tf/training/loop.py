"""One loop around the pure step, on any devices.

A `Trainer` compiles a model's training and evaluation once per shape and
trains any number of runs with them: a run of a tiny model pays neither a
TensorFlow start-up nor a trace.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from roar_tf import errors, randomness
from roar_tf.lazy import keras, tf
from roar_tf.models import factories, initial, precision, stateless
from roar_tf.training import checkpoint, distribution, evaluation, feed
from roar_tf.training import step as pure
from roar_tf.training.clock import Clock
from roar_tf.training.examples import Examples
from roar_tf.training.order import Order, Share
from roar_tf.training.settings import Training
from roar_tf.training.streams import Stream

STEPS_PER_CALL = 256
"""Most training steps of one host call; does not change results."""

FIRST_CALL = 1
"""Steps of the first call, which tells how long a step takes."""

CALL_SECONDS = 1.0
"""How long a call should last: progress and signals are seen between calls."""


_log = logging.getLogger('roar_tf')


class Trainer:
  """Trains a model family on images of one shape.

  Attributes:
    build: returns a new model of the architecture.
    model: the architecture; its variables belong to `load`.
    training: hyperparameters.
    devices: the replicas that share every batch.
  """

  def __init__(
    self,
    factory: Callable[..., keras.Model],
    image_shape: tuple[int, int, int],
    num_classes: int,
    training: Training,
    mean,
    std,
    devices: distribution.Devices | None = None,
  ):
    """Builds the model once.

    Args:
      factory: `(input_shape, num_classes) -> keras.Model` of logits.
      image_shape: (H, W, C).
      num_classes: K.
      training: hyperparameters.
      mean: [C] per-channel mean of the unmasked train split, 0..255.
      std: [C] per-channel standard deviation, likewise.
      devices: where to train; one device if None.

    Raises:
      UsageError: the replicas or microbatches do not divide the batch; or the
        factory's model cannot be trained here, see `factories`.
    """
    self.build = lambda: factories.build(
      factory, image_shape, num_classes, training.precision
    )
    self.training = training
    self.devices = devices or distribution.one_device()
    self._mean, self._std = (tuple(map(float, v)) for v in (mean, std))
    self._check_batch()
    self.model = self.build()
    with self._keras():
      factories.check(factory, self.model)
    self._lock = threading.Lock()
    self._initial = initial.InitialWeights(self.build)
    self._compiled = {}
    self._evaluation = tf.function(
      evaluation.classifying(self.step(1), self.devices), autograph=False
    )

  def step(self, train_images: int) -> pure.Step:
    """Returns the pure step that this trainer runs on every replica."""
    return pure.Step(
      self.model,
      self.training,
      train_images,
      self._mean,
      self._std,
      self.devices.replicas,
      self.devices.reduce,
    )

  def normalise(self, images) -> tf.Tensor:
    """Returns (images - mean) / std, in the type that the model takes."""
    return self.step(1).normalised(images)

  def initial_state(self, *seed_words) -> pure.State:
    """Returns a freshly initialised state; the words decide every weight.

    That holds for the initialisers and layers of Keras, not for a factory that
    calls `keras.random` or NumPy without a seed.
    """
    generator = randomness.generator(randomness.Purpose.WEIGHTS, *seed_words)
    with self._keras():
      weights, moving = self._initial(int(generator.integers(2**31)))
    seed = randomness.generator(
      randomness.Purpose.AUGMENTATION, *seed_words
    ).integers(2**31)
    return {
      'trainable': weights,
      'moving': moving,
      'velocity': [tf.zeros_like(w) for w in weights],
      'step': tf.constant(0, tf.int64),
      'seed': tf.constant(int(seed), tf.int32),
    }

  def load(self, state: pure.State) -> keras.Model:
    """Puts a state's weights into the trainer's model and returns it."""
    return stateless.assign(self.model, state)

  def train(
    self,
    examples: Examples | Stream,
    *seed_words,
    resumption: checkpoint.Resumption | None = None,
    clock: Clock | None = None,
    progress: Callable[[int], None] = lambda steps: None,
    log: Callable[[int, Mapping], None] = lambda step, metrics: None,
  ) -> tuple[pure.State, int]:
    """Trains from random initialisation, or from where it was interrupted.

    Args:
      examples: the train split.
      *seed_words: integers and strings that identify the run; they decide the
        initial weights, the order and the augmentation.
      resumption: where to save and resume; None trains in one piece.
      clock: told the time spent in steps, and by earlier processes.
      progress: told the number of steps just finished.
      log: told the number of finished steps and the metrics of the last one.

    Returns:
      The last state, never the best, and its number of steps.

    Raises:
      PreemptedError: stopped and saved.
      DataError: a shard is damaged; it is named.
      UsageError: the checkpoint belongs to another run.
      RoarError: the loss is not finite; the step is named.
    """
    training, clock = self.training, clock or Clock()
    total = training.steps(len(examples))
    state = self.initial_state(*seed_words)
    if resumption:
      restored = self._restored(resumption, state)
      state, clock.before = restored.state, restored.timing
    done = int(state['step'])
    progress(done)
    if done == total:
      return state, total
    order = Order(examples.counts, training.shuffle_shards, *seed_words)
    batch = training.batch_size
    batches = feed.Feed(
      self.devices,
      lambda: examples.training_batches(
        order, done * batch, total * batch, self._share(batch)
      ),
      STEPS_PER_CALL,
    )
    variables = self.devices.variables(state)
    run = self._run_of(len(examples))
    due, count = time.monotonic(), FIRST_CALL
    if resumption:
      due += resumption.every_seconds
    while done < total:
      count = min(count, total - done)
      arguments = (variables, batches.source(count), tf.constant(count))
      with self._keras():  # Traced outside of the clock, the first time.
        run.get_concrete_function(*arguments)
      start = time.monotonic()
      metrics = _read(examples, run, *arguments)
      seconds = time.monotonic() - start
      clock.step_seconds += seconds
      if metrics['failed'] >= 0:
        raise errors.RoarError(
          f'the loss became {metrics["loss"]} in step {metrics["failed"] + 1} '
          f'of {total}; lower Training.base_learning_rate. The last '
          'checkpoint, if there is one, is kept.'
        )
      done += count
      progress(count)
      log(done, {**metrics, 'images_per_second': count * batch / seconds})
      if resumption and done < total:
        stop, due = self._save_if_due(resumption, variables, clock, due)
        if stop:
          raise errors.PreemptedError(
            f'stopped after step {done} of {total}, which is saved; run '
            'the same command again to go on.'
          )
      count = self._next_count(count, seconds)
    return self.devices.values(variables), total

  def evaluate(
    self, state: pure.State, examples: Examples | Stream
  ) -> evaluation.Evaluation:
    """Classifies every example, after `Training.eval_preprocess`."""
    replicas = self.devices.replicas
    batch = replicas * evaluation.batch(self.training, replicas)
    share = self._share(batch)
    batches = feed.Feed(
      self.devices, lambda: examples.test_batches(share), STEPS_PER_CALL
    )
    weights = {name: state[name] for name in ('trainable', 'moving')}
    variables = self.devices.variables(weights)
    found, left = [], -(-len(examples) // batch)
    while left:
      count = min(left, STEPS_PER_CALL)
      arguments = (variables, batches.source(count), tf.constant(count))
      with self._keras():
        self._evaluation.get_concrete_function(*arguments)
      found.append(_read(examples, self._evaluation, *arguments))
      left -= count
    predictions, in_top5 = (
      np.concatenate([f[name] for f in found])[: len(examples)]
      for name in ('predictions', 'in_top5')
    )
    return evaluation.Evaluation(
      predictions=predictions,
      correct=predictions == np.asarray(examples.labels),
      in_top5=in_top5,
    )

  def _keras(self):
    """Returns the context in which models are built and traced."""
    return precision.computing_in(self.training.precision)

  def _check_batch(self) -> None:
    training, name = self.training, 'gin parameter Training.batch_size'
    self.devices.check_divides(training.batch_size, name)
    part = training.batch_size // self.devices.replicas
    if part % training.microbatches:
      raise errors.UsageError(
        f'{name}: {part} examples of a replica cannot be split evenly into '
        f'Training.microbatches = {training.microbatches}.'
      )

  def _share(self, batch_size: int) -> Share:
    devices = self.devices
    return Share(batch_size, devices.replicas, devices.local_replicas)

  def _run_of(self, train_images: int):
    """Returns the compiled loop for a split of that size."""
    with self._lock:
      if train_images not in self._compiled:
        self._compiled[train_images] = tf.function(
          self._looped(self.step(train_images)), autograph=False
        )
      return self._compiled[train_images]

  def _looped(self, step: pure.Step):
    """Returns a function that runs several steps on all replicas."""

    def one(variables, batch):
      state = tf.nest.map_structure(tf.convert_to_tensor, variables)
      state, metrics = step(state, feed.gathered(batch))
      tf.nest.map_structure(lambda v, new: v.assign(new), variables, state)
      return metrics

    def run(variables, source, count):
      first = tf.identity(self.devices.local(variables['step'])[0])
      seen = {
        'loss': tf.zeros([], self.model.outputs[0].dtype),
        'accuracy': tf.zeros([]),
        'rate': tf.zeros([]),
        'failed': tf.constant(-1, tf.int64),
      }

      def body(i, seen):
        batch = feed.batch(source, i)
        every = self.devices.strategy.run(one, (variables, batch))
        new = {
          name: self.devices.local(value)[0] for name, value in every.items()
        }
        # The first loss that is not finite stays.
        fine = seen['failed'] < 0
        new['loss'] = tf.where(fine, new['loss'], seen['loss'])
        bad = fine & ~tf.math.is_finite(new['loss'])
        step = first + tf.cast(i, tf.int64)
        return i + 1, {**new, 'failed': tf.where(bad, step, seen['failed'])}

      return feed.repeated(count, body, seen)

    return run

  def _restored(
    self, resumption: checkpoint.Resumption, state: pure.State
  ) -> checkpoint.Checkpoint:
    """Returns what to go on from: the newest that all hosts see.

    Where files are shared over a network, one host may see later than another
    what the first one has written.
    """
    most = None
    while True:
      restored = checkpoint.restore(
        resumption.directory, resumption.fingerprint, state, most
      ) or checkpoint.Checkpoint(state)
      steps = self.devices.everywhere(restored.step)
      if min(steps) == max(steps):
        return restored
      most = min(steps)
      _log.warning(
        'the hosts see checkpoints of other steps in %s (%s); all go on from '
        'one that each of them sees',
        resumption.directory,
        ', '.join(map(str, steps)),
      )

  def _save_if_due(
    self, resumption: checkpoint.Resumption, variables, clock: Clock, due: float
  ) -> tuple[bool, float]:
    """Saves now and then, and where a signal asks to stop.

    Returns:
      Whether to stop, and when the next checkpoint is due.
    """
    stop = self.devices.any(resumption.stop())
    start = time.monotonic()
    if not stop and start < due:
      return False, due
    if self.devices.is_chief:
      checkpoint.save(
        resumption.directory,
        self.devices.values(variables),
        resumption.fingerprint,
        clock.timing,
      )
    end = time.monotonic()
    pause = max(resumption.every_seconds, checkpoint.SAVING * (end - start))
    return stop, end + pause

  def _next_count(self, count: int, seconds: float) -> int:
    """Returns how many steps the next call should take."""
    if self.devices.hosts > 1:  # All hosts must agree without asking.
      return min(STEPS_PER_CALL, 32)
    wanted = int(count * CALL_SECONDS / max(seconds, 1e-6))
    return int(np.clip(wanted, 1, min(8 * count, STEPS_PER_CALL)))


def _read(examples: Examples | Stream, function: Callable, *arguments) -> dict:
  """Returns what a compiled function that reads examples returns, as NumPy.

  Raises:
    DataError: it failed and a file of the examples is damaged.
  """
  try:
    return tf.nest.map_structure(
      lambda value: value.numpy(), function(*arguments)
    )
  except tf.errors.OpError as e:
    fault = examples.fault()
    if not fault:
      raise
    raise errors.DataError(
      f'{fault}; `roar_shards --verify` finds all damage, `--repair` mends it.'
    ) from e
