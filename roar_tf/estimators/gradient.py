"""GRAD: the gradient of a class logit with respect to the input.

`gradients` evaluates the backward rules asked for on one forward pass; all
gradient estimators are made from it.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
from collections.abc import Sequence

from roar_tf.estimators import registry
from roar_tf.lazy import tf
from roar_tf.models import folding, heads
from roar_tf.models import precision as computing

RULES = ('gradient', 'guided')
"""How a ReLU passes gradients back: by its derivative, or as GB does."""

_prepared = contextvars.ContextVar('prepared model', default=None)


@contextlib.contextmanager
def prepared(model, takes=None, precision: str = 'model'):
  """Folds a model once for all `gradients` of it inside the context.

  Folding belongs outside of loops: the folded kernels are then computed once.

  Args:
    model: a Keras model, or None.
    takes: dtype in which the model is given its images; their own if None.
    precision: what the model computes in where `gradients` are `reduced`: of
      `settings.PRECISIONS`.

  Raises:
    ValueError: the model has no layers that could compute in another precision.
  """
  if model is None:
    yield
    return

  def taking(call):
    return lambda images: call(
      images if takes is None else tf.cast(images, takes)
    )

  call = reduced = taking(folding.folded(model))
  if precision != 'model':
    reduced = taking(_folded_in(precision, model))
  token = _prepared.set((model, call, reduced))
  try:
    yield
  finally:
    _prepared.reset(token)


def _folded_in(precision: str, model):
  """Returns the folded model, whose layers compute in a precision."""
  with computing.called_in(model, precision):
    folded = folding.folded(model)

  def call(images):
    try:
      with computing.called_in(model, precision):
        return folded(images)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as e:
      raise ValueError(
        f'the model cannot compute in {precision} ({_reason(e)}): leave '
        'precision out (Attribution.precision in gin files).'
      ) from e

  return call


def _reason(error: Exception) -> str:
  """Returns the line of an error that tells why, without Keras' frame."""
  plain = re.sub(r'\x1b\[\d*m', '', str(error))
  lines = [line.strip() for line in plain.splitlines() if line.strip()]
  if len(lines) > 1 and lines[0].startswith('Exception encountered'):
    lines = lines[1:]
  return lines[0].rstrip('.') if lines else type(error).__name__


def logits_of(model, images, *, reduced: bool = False) -> tf.Tensor:
  """Returns a model's logits [R, K] of images, in the graph being traced.

  See `models.heads` for a model that ends in an activation, and `prepared` for
  the precision if it is `reduced`.

  Raises:
    ValueError: the model's output is not [R, K].
  """
  known, call, in_less = _prepared.get() or (None, None, None)
  if known is model:
    outputs = (in_less if reduced else call)(images)
  else:
    outputs = model(images, training=False)
  return heads.logits(heads.checked_outputs(outputs, images))


def predicted(model, images) -> tf.Tensor:
  """Returns int32 [R], the predicted classes."""
  return tf.argmax(logits_of(model, images), -1, output_type=tf.int32)


def gradients(
  model,
  images,
  targets,
  rules: Sequence[str] = ('gradient',),
  *,
  reduced: bool = False,
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
  """Evaluates d logit_target / d image by one forward pass.

  To be called while a graph is traced.

  Args:
    model: Keras model, called in evaluation mode.
    images: float [R, H, W, C].
    targets: int32 [R], or None for the predicted classes.
    rules: of `RULES`; one backward pass each.
    reduced: whether in the precision that `prepared` was given.

  Returns:
    Dict from rule to gradients of the images' shape and dtype, and the targets.

  Raises:
    ValueError: the model is not differentiable; or the rule is `guided` and it
      has no ReLU, or has some where their gradient cannot be replaced.
  """
  from roar_tf.estimators import relus  # It registers gradients.

  graph = tf.compat.v1.get_default_graph()
  before = len(graph.get_operations())
  with relus.overridden(graph):
    logits = logits_of(model, images, reduced=reduced)
  operations = graph.get_operations()[before:]
  if 'guided' in rules:
    relus.check(operations, images)
  if targets is None:
    targets = tf.argmax(logits, -1, output_type=tf.int32)
  # Examples do not interact in evaluation mode, so the gradient of the sum is
  # every example's own gradient.
  selected = tf.gather(logits, targets, batch_dims=1)
  values = {}
  for rule in rules:
    with relus.passing_back(rule) as passed:
      values[rule] = _gradients(selected, images)
    if rule == 'guided':
      relus.check_guided(operations, passed)
    if values[rule] is None:
      raise ValueError(
        'the logits have no gradient with respect to the images: the model '
        'does not use them, or turns them into integers.'
      )
  return values, targets


def _gradients(logits, images) -> tf.Tensor | None:
  try:
    return tf.gradients(logits, images)[0]
  except LookupError as e:
    # TensorFlow says: ... gradient defined for operation 'NAME' (op type: TYPE)
    found = re.search(r"'([^']*)' \(op type: (\w+)\)", str(e))
    where = f'{found[2]} at {found[1]}' if found else str(e)
    raise ValueError(
      f'the model has an operation without a gradient, {where}: replace it '
      '(Resizing by another interpolation, for example), or give a model that '
      'begins behind it.'
    ) from e


def in_graph(function):
  """Returns a function that runs the same in a graph when called eagerly."""
  if tf.executing_eagerly():
    return tf.function(function, autograph=False)
  return function


def estimate(model, images, targets, rule: str) -> tf.Tensor:
  """Returns one rule's gradients [R, H, W, C], eagerly or in a graph."""

  def evaluate(images, targets):
    return gradients(model, images, targets, [rule])[0][rule]

  return in_graph(evaluate)(images, targets)


@registry.register('grad', rule='gradient')
def grad(model, images, targets, keys) -> tf.Tensor:
  """Returns d logit_target / d input, signed (paper, section 4.1)."""
  del keys
  return estimate(model, images, targets, 'gradient')
