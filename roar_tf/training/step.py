"""One pure training step, and the forward pass of evaluation.

A state is a dict of lists of tensors in the order of the model's variables:
`trainable`, `moving` (batch-norm statistics) and `velocity` (momentum). Nothing
is assigned: the same functions train, resume and compile for a TPU.
"""

import keras
import tensorflow as tf

from roar_tf.training import settings

State = dict[str, list[tf.Tensor]]


def decayed(model: keras.Model) -> list[bool]:
  """Returns per trainable variable whether L2 applies: all but batch norm."""
  exempt = {
    id(variable)
    for layer in model._flatten_layers()
    if isinstance(layer, keras.layers.BatchNormalization)
    for variable in layer.trainable_variables
  }
  return [id(variable) not in exempt for variable in model.trainable_variables]


def loss(logits, labels, weights, training: settings.Training) -> tf.Tensor:
  """Returns smoothed cross entropy, averaged, plus L2.

  Args:
    logits: float [B, K].
    labels: integer [B].
    weights: the variables that L2 applies to.
    training: hyperparameters.

  Returns:
    Scalar. L2 is `l2 * tf.nn.l2_loss`, half the sum of squares, as in the
    released code (`keras.regularizers.L2` would double it).
  """
  classes = logits.shape[-1]
  smoothing = training.label_smoothing
  goal = tf.one_hot(labels, classes, dtype=logits.dtype)
  goal = goal * (1.0 - smoothing) + smoothing / classes
  entropy = tf.nn.softmax_cross_entropy_with_logits(goal, logits)
  penalty = tf.add_n([tf.nn.l2_loss(weight) for weight in weights])
  return tf.reduce_mean(entropy) + training.l2 * penalty


def step(
  model: keras.Model,
  training: settings.Training,
  state: State,
  images,
  labels,
  rate,
) -> tuple[State, tf.Tensor]:
  """Returns the state after one step, and the loss before it.

  Nesterov momentum in TF1's form: v = 0.9 v + g; w -= rate (g + 0.9 v). The
  rate stays outside the velocity; Keras' SGD folds it in and differs whenever
  the rate changes.

  Args:
    model: gives the architecture; its variables are neither read nor written.
    training: hyperparameters.
    state: see above.
    images: normalised float [B, H, W, C].
    labels: integer [B].
    rate: learning rate, scalar.
  """
  weights = state['trainable']
  penalised = decayed(model)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(weights)
    logits, moving = model.stateless_call(
      weights, state['moving'], images, training=True
    )
    value = loss(
      logits,
      labels,
      [w for w, yes in zip(weights, penalised, strict=True) if yes],
      training,
    )
  gradients = tape.gradient(value, weights)
  momentum = training.momentum
  velocity = [
    momentum * v + g for v, g in zip(state['velocity'], gradients, strict=True)
  ]
  weights = [
    w - tf.cast(rate, w.dtype) * (g + momentum * v)
    for w, g, v in zip(weights, gradients, velocity, strict=True)
  ]
  return {'trainable': weights, 'moving': moving, 'velocity': velocity}, value


def predict(model: keras.Model, state: State, images) -> tf.Tensor:
  """Returns logits [B, K] of normalised images, in evaluation mode."""
  logits, _ = model.stateless_call(
    state['trainable'], state['moving'], images, training=False
  )
  return logits
