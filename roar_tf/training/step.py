"""One pure training step, and the forward pass of evaluation.

A state is a dict: lists of tensors in the order of the model's variables,
`trainable`, `moving` (batch-norm statistics and what else a model keeps) and
`velocity` (momentum); scalars `step` (int64, the number of finished steps) and
`seed` (int32, the run's seed of augmentation). A batch is a dict: `image` uint8
[B, H, W, C], `label` int32 [B], `key` int32 [B, 2] (who the example is) and
`epoch` int32 [B] (how often it was seen before).

Nothing is assigned: the same functions train, resume, run on every replica of a
`tf.distribute` strategy and compile for a TPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from roar_tf import randomness
from roar_tf.lazy import keras, tf
from roar_tf.models import expansion
from roar_tf.training import augmentation, preprocessing, schedule, settings

State = dict[str, 'list[tf.Tensor] | tf.Tensor']
Batch = dict[str, 'tf.Tensor']

PARTS = ('trainable', 'moving', 'velocity')
"""The lists of a state."""


def decayed(model: keras.Model) -> list[bool]:
  """Returns per trainable variable whether L2 applies: all but batch norm."""
  exempt = {
    id(variable)
    for layer in model._flatten_layers()
    if isinstance(layer, keras.layers.BatchNormalization)
    for variable in layer.trainable_variables
  }
  return [id(variable) not in exempt for variable in model.trainable_variables]


def cross_entropy(logits, labels, label_smoothing: float) -> tf.Tensor:
  """Returns smoothed cross entropies [B] of logits [B, K], labels [B]."""
  classes = logits.shape[-1]
  goal = tf.one_hot(labels, classes, dtype=logits.dtype)
  goal = goal * (1.0 - label_smoothing) + label_smoothing / classes
  return tf.nn.softmax_cross_entropy_with_logits(goal, logits)


def _alone(values, mean=False):
  """The reduction of a program of one replica."""
  del mean
  return values


@dataclasses.dataclass(frozen=True)
class Step:
  """The training step of one replica: `(state, batch) -> state, metrics`.

  Attributes:
    model: gives the architecture; its variables are neither read nor written.
    training: hyperparameters.
    train_images: size of the train split, which sets the length of an epoch.
    mean: [C] per-channel mean of the unmasked train split, 0..255.
    std: [C] per-channel standard deviation, likewise.
    replicas: how many of them share `Training.batch_size` evenly.
    reduce: `(list of tensors, mean) -> list`, their sum or mean over replicas.
  """

  model: keras.Model
  training: settings.Training
  train_images: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  replicas: int = 1
  reduce: Callable = _alone

  @property
  def batch_size(self) -> int:
    """Examples per step of this replica."""
    return self.training.batch_size // self.replicas

  def __call__(
    self, state: State, batch: Batch
  ) -> tuple[State, dict[str, tf.Tensor]]:
    """Returns the state after one step, and what it saw before it.

    The loss is smoothed cross entropy, averaged over the batch of all replicas,
    plus `l2 * tf.nn.l2_loss`, half the sum of squares, as in the released code
    (`keras.regularizers.L2` would double it). The update is Nesterov momentum
    in TF1's form: v = 0.9 v + g; w -= rate (g + 0.9 v). The rate stays outside
    the velocity; Keras' SGD folds it in and differs whenever the rate changes.

    Batch norm normalises over the examples of one microbatch of one replica;
    its moving statistics are averaged over replicas.

    Args:
      state: see above.
      batch: this replica's examples.

    Returns:
      The new state, and scalars `loss`, `accuracy` (fraction of the batch) and
      `rate`, alike on every replica.
    """
    weights, training = state['trainable'], self.training
    images = self.prepared(batch, state['seed'])
    gradients, moving, entropy, correct = self._gradients(
      weights, state['moving'], images, batch['label']
    )
    *gradients, entropy, correct = self.reduce([*gradients, entropy, correct])
    moving = self._averaged(moving)
    penalised = decayed(self.model)
    # The gradient of half a sum of squares, after the reduction: it is the same
    # on all replicas.
    gradients = [
      g + training.l2 * w if yes else g
      for g, w, yes in zip(gradients, weights, penalised, strict=True)
    ]
    penalty = tf.add_n(
      [
        tf.nn.l2_loss(w)
        for w, yes in zip(weights, penalised, strict=True)
        if yes
      ]
    )
    momentum = training.momentum
    rate = schedule.learning_rate(training, self.train_images, state['step'])
    velocity = [
      momentum * v + g
      for v, g in zip(state['velocity'], gradients, strict=True)
    ]
    updated = [
      w - tf.cast(rate, w.dtype) * (g + momentum * v)
      for w, g, v in zip(weights, gradients, velocity, strict=True)
    ]
    metrics = {
      'loss': entropy + tf.cast(training.l2 * penalty, entropy.dtype),
      'accuracy': correct / training.batch_size,
      'rate': rate,
    }
    state = {
      'trainable': updated,
      'moving': moving,
      'velocity': velocity,
      'step': state['step'] + 1,
      'seed': state['seed'],
    }
    return state, metrics

  def prepared(self, batch: Batch, seed) -> tf.Tensor:
    """Returns the batch's images, augmented and normalised."""
    augment = augmentation.AUGMENTATIONS[self.training.augmentation]
    # One seed per (run, example, epoch): epochs of a batch may differ.
    seeds = randomness.fold(batch['key'], randomness.Purpose.AUGMENTATION, seed)
    seeds += batch['epoch'][:, None]
    uniforms = randomness.hashed_uniform(seeds, augment.draws)
    return self.normalised(augment(batch['image'], uniforms))

  def normalised(self, images) -> tf.Tensor:
    """Returns (images - mean) / std, in the type that the model takes."""
    dtype = self.model.inputs[0].dtype
    mean, std = tf.constant(self.mean, dtype), tf.constant(self.std, dtype)
    return (tf.cast(images, dtype) - mean) / std

  def predict(self, state: State, images) -> tf.Tensor:
    """Returns logits [B, K] of uint8 images, in evaluation mode."""
    preprocess = preprocessing.EVAL_PREPROCESS[self.training.eval_preprocess]
    images = self.normalised(preprocess(images))
    return predict(self.model, state, images)

  def _gradients(self, weights, moving, images, labels):
    """Returns gradients and metrics of the batch, one microbatch at a time."""
    count = self.training.microbatches
    if count == 1:
      return self._microbatch(weights, moving, images, labels)
    size = self.batch_size // count
    parts = [
      tf.reshape(x, [count, size, *x.shape[1:]]) for x in (images, labels)
    ]

    def body(i, moving, sums):
      gradients, moving, *rest = self._microbatch(
        weights, moving, parts[0][i], parts[1][i]
      )
      found = [*gradients, *rest]
      return i + 1, moving, [a + b for a, b in zip(sums, found, strict=True)]

    dtype = self.model.outputs[0].dtype
    zeros = [
      *map(tf.zeros_like, weights),
      tf.zeros([], dtype),
      tf.zeros([], tf.float32),
    ]
    _, moving, sums = tf.while_loop(
      lambda i, *_: i < count,
      body,
      (0, list(moving), zeros),
      parallel_iterations=1,
    )
    *gradients, entropy, correct = sums
    return gradients, moving, entropy, correct

  def _microbatch(self, weights, moving, images, labels):
    """Returns (gradients, moving, summed loss / batch size, correct)."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(weights)
      with expansion.training(self.model):
        logits, moving = self.model.stateless_call(
          weights, moving, images, training=True
        )
      entropies = cross_entropy(logits, labels, self.training.label_smoothing)
      entropy = tf.reduce_sum(entropies) / self.training.batch_size
    gradients = tape.gradient(
      entropy, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    hits = tf.argmax(logits, -1, labels.dtype) == labels
    correct = tf.reduce_sum(tf.cast(hits, tf.float32))
    return gradients, moving, entropy, correct

  def _averaged(self, moving):
    """Averages floats over replicas; a seed is alike on all of them."""
    if self.replicas == 1:
      return moving
    places = [i for i, v in enumerate(moving) if v.dtype.is_floating]
    means = self.reduce([moving[i] for i in places], mean=True)
    moving = list(moving)
    for place, value in zip(places, means, strict=True):
      moving[place] = value
    return moving


def predict(model: keras.Model, state: State, images) -> tf.Tensor:
  """Returns logits [B, K] of normalised images, in evaluation mode."""
  logits, _ = model.stateless_call(
    state['trainable'], state['moving'], images, training=False
  )
  return logits
