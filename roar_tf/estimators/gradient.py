"""GRAD: the gradient of a class logit with respect to the input."""

import tensorflow as tf

from roar_tf.estimators import registry


@registry.register('grad')
def grad(model, images, targets, keys) -> tf.Tensor:
  """Returns d logit_target / d input, signed (paper, section 4.1)."""
  del keys
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(images)
    logits = model(images, training=False)
    # Examples do not interact in evaluation mode, so the gradient of the sum is
    # every example's own gradient.
    selected = tf.gather(logits, targets, batch_dims=1)
  return tape.gradient(selected, images)
