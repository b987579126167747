"""What several benchmarks measure with, and against."""

import time


def seconds(action) -> float:
  """Returns how long a call takes."""
  start = time.perf_counter()
  action()
  return time.perf_counter() - start


def bare_gradient(model):
  """Returns the compiled input gradient that anyone would write.

  Its arguments are images float [R, H, W, C] and targets int32 [R].
  """
  # Here, since captum's process is measured without TensorFlow.
  import tensorflow as tf

  @tf.function
  def evaluate(images, targets):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(images)
      logits = model(images, training=False)
      selected = tf.gather(logits, targets, batch_dims=1)
    return tape.gradient(selected, images)

  return evaluate
