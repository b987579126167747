"""Estimators that are called outside of graphs, with NumPy arrays.

`register(name, eager=True)` is for functions that are not made of TensorFlow
operations: NumPy code, explainers of Xplique and captum, a model with other
outputs. A plan of such estimators runs operation by operation, in the thread
that asks for it, and calls them as any Python code calls a function.

It does not call them by `tf.numpy_function` inside of a compiled plan. That
would hold one of TensorFlow's threads, of which there are as many as cores,
while a `tf.function` that the estimator calls, as Keras and Xplique do, waits
for another one: on one core, or with a unit of work per core, for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from roar_tf import errors, randomness
from roar_tf.estimators import blocks, gradient, registry
from roar_tf.estimators.habits import as_array
from roar_tf.lazy import tf, unwarned

XLA = ('XLA', 'leave out jit_compile (Attribution.jit_compile in gin files)')
TPU = ('a TPU', 'rank it by a command without --tpu')
"""What cannot run eager estimators, and the remedy, as `refuse` takes them."""


def refuse(names: Sequence[str], by: str, remedy: str) -> None:
  """Raises UsageError if there are eager estimators where none can be.

  Args:
    names: of the eager estimators.
    by: what cannot run them.
    remedy: what to do, as the end of a sentence.
  """
  if names:
    raise errors.UsageError(
      f'Estimator "{names[0]}" is registered with eager=True: it runs in '
      f'Python, on CPUs and GPUs, and {by} cannot run it; {remedy}, or write '
      'it with TensorFlow operations and register it without eager.'
    )


def running(plan, model):
  """Returns a function with the arguments of `compile_plan`'s.

  Args:
    plan: `plan.Plan` of eager estimators alone.
    model: the Keras model that they are given, or None.
  """

  @unwarned
  @tf.function(autograph=False)
  def predicted(images):
    count, height, width, _ = images.shape
    bound = plan.settings.batch_size or blocks.default_bound(height, width)
    return blocks.by_blocks(
      lambda some: gradient.predicted(model, some.images),
      blocks.Inputs(images, None, None),
      min(count, bound),
      tf.TensorSpec([], tf.int32),
    )

  def explain(images, targets, keys, truth, seed, baseline=None):
    if plan.needs_model and targets is None:
      targets = predicted(images)
    keys = randomness.fold(keys, randomness.Purpose.SEED, seed)
    return plan.scores(model, images, targets, keys, truth, baseline)

  return explain


def call(
  estimator: registry.Registered, model, inputs: blocks.Inputs, extra: Mapping
) -> tf.Tensor:
  """Returns what an eager estimator returns of some images, as a tensor.

  Args:
    estimator: it is given NumPy arrays.
    model: the Keras model, as it is.
    inputs: of the images; other fields than it takes may be None.
    extra: more arguments by name.

  Raises:
    UsageError: a graph is being traced.
    ValueError: it returns no numbers.
  """
  if not tf.executing_eagerly():
    refuse([estimator.name], 'a compiled program', 'leave it out')
  arrays = inputs.map(np.array)
  extra = {k: np.array(v) if tf.is_tensor(v) else v for k, v in extra.items()}
  scores = estimator.function(
    model, arrays.images, arrays.targets, arrays.keys, **extra
  )
  try:
    values = tf.convert_to_tensor(as_array(scores))
    dtype = values.dtype
    numbers = dtype.is_floating or dtype.is_integer or dtype.is_bool
  except (TypeError, ValueError):
    numbers = False
  if not numbers:
    raise ValueError(
      f'Estimator "{estimator.name}" must return an array of real numbers, '
      f'found {getattr(scores, "dtype", type(scores).__name__)}.'
    )
  return values
