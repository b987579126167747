"""Programs as anyone would write them, to be compared with those of roar_tf."""

from unittest import mock

import tensorflow as tf

from roar_tf.models import expansion, stateless
from roar_tf.preflight import attribution
from roar_tf.preflight.device_function import WithSpecs


def expanded_in(described: WithSpecs, *precisions: str) -> WithSpecs:
  """Returns a training step whose widening layers are expanded in these.

  Args:
    described: see `preflight.training.training_step`.
    *precisions: what layers that take part compute in. Without any, every layer
      is called as it is written.
  """
  step, specs = described

  def function(state, batch):
    with mock.patch.object(expansion, 'COMPUTED_IN', precisions):
      return step(state, batch)

  return function, specs


def plain_gradients(model, shape, batch: int) -> WithSpecs:
  """Returns the input gradient that anyone would write: nothing folded."""

  def function(state, inputs):
    images = inputs['images']
    with (
      stateless.with_variables(model, state['trainable'], state['moving']),
      tf.GradientTape(watch_accessed_variables=False) as tape,
    ):
      tape.watch(images)
      logits = model(images, training=False)
      selected = tf.gather(logits, inputs['targets'], batch_dims=1)
    return tape.gradient(selected, images)

  _, specs = attribution.gradient_evaluations(model, shape, batch)
  return function, specs
