"""GRAD: the gradient of a class logit with respect to the input.

`gradients` evaluates the backward rules asked for on one forward pass; all
gradient estimators are made from it.
"""

import contextlib
import contextvars
from collections.abc import Sequence

import tensorflow as tf

from roar_tf.estimators import registry
from roar_tf.models import folding

RULES = ('gradient', 'guided')
"""How a ReLU passes gradients back: by its derivative, or as GB does."""

_prepared = contextvars.ContextVar('prepared model', default=None)
_rule = contextvars.ContextVar('rule of ReLUs', default='gradient')


@contextlib.contextmanager
def prepared(model):
  """Folds a model once for all `gradients` of it inside the context.

  Folding belongs outside of loops: the folded kernels are then computed once.
  """
  if model is None:
    yield
    return
  token = _prepared.set((model, folding.folded(model)))
  try:
    yield
  finally:
    _prepared.reset(token)


def logits_of(model, images) -> tf.Tensor:
  """Returns a model's logits [R, K] of images, in the graph being traced.

  Of a model that ends in softmax, log-softmax or sigmoid these are the inputs
  of that last operation (paper and released code: pre-softmax).

  Raises:
    ValueError: the model's output is not [R, K].
  """
  return _before_activation(_outputs_of(model, images))


def _outputs_of(model, images) -> tf.Tensor:
  known, call = _prepared.get() or (None, None)
  outputs = call(images) if known is model else model(images, training=False)
  shape = getattr(outputs, 'shape', None)
  if shape is None or len(shape) != 2 or shape[0] != images.shape[0]:
    found = type(outputs).__name__ if shape is None else tuple(shape)
    raise ValueError(
      'the model must return logits [batch, classes], it returns '
      f'{found} for {images.shape[0]} images.'
    )
  return outputs


def _before_activation(outputs) -> tf.Tensor:
  last = outputs
  # Keras may cast or rename what an activation returns.
  while last.op.type in ('Identity', 'Cast'):
    last = last.op.inputs[0]
  if last.op.type in ('Softmax', 'LogSoftmax', 'Sigmoid'):
    return last.op.inputs[0]
  return outputs


def check_model(model, images) -> int:
  """Returns a model's number of classes; images [R, H, W, C], one will do.

  Raises:
    ValueError: the model does not return logits [R, K], and the logits behind
      what it returns are out of reach.
  """
  found = {}

  @tf.function(autograph=False)
  def evaluate(images):
    outputs = _outputs_of(model, images)
    found['logits'] = _before_activation(outputs) is outputs
    return outputs

  outputs = evaluate(images)
  # Rounding probabilities moves their sum by up to half a unit in the last
  # place of each.
  tolerance = 4e-3 if outputs.dtype == tf.bfloat16 else 1e-3
  total = tf.reduce_sum(tf.cast(outputs, tf.float32), -1)
  probabilities = tf.reduce_all(outputs >= 0) & tf.reduce_all(
    tf.abs(total - 1) < tolerance
  )
  # One class: a logit may well be 1.
  if found['logits'] and outputs.shape[1] > 1 and probabilities:
    raise ValueError(
      'the model returns probabilities, from a softmax that cannot be taken '
      'off; give a model that returns logits.'
    )
  return outputs.shape[1]


def predicted(model, images) -> tf.Tensor:
  """Returns int32 [R], the predicted classes."""
  return tf.argmax(logits_of(model, images), -1, output_type=tf.int32)


def gradients(
  model, images, targets, rules: Sequence[str] = ('gradient',)
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
  """Evaluates d logit_target / d image by one forward pass.

  To be called while a graph is traced.

  Args:
    model: Keras model, called in evaluation mode.
    images: float [R, H, W, C].
    targets: int32 [R], or None for the predicted classes.
    rules: of `RULES`; one backward pass each.

  Returns:
    Dict from rule to gradients of the images' shape and dtype, and the targets.

  Raises:
    ValueError: the model is not differentiable; or the rule is `guided` and it
      has no ReLU, or has some where their gradient cannot be replaced.
  """
  graph = tf.compat.v1.get_default_graph()
  before = len(graph.get_operations())
  # By operation, not by layer: `activation='relu'`, `tf.nn.relu` in a subclass
  # and a nested model's ReLU are all the same here.
  with graph.gradient_override_map({name: f'Roar{name}' for name in _RELUS}):
    logits = logits_of(model, images)
  if 'guided' in rules:
    _check_relus(graph.get_operations()[before:])
  if targets is None:
    targets = tf.argmax(logits, -1, output_type=tf.int32)
  # Examples do not interact in evaluation mode, so the gradient of the sum is
  # every example's own gradient.
  selected = tf.gather(logits, targets, batch_dims=1)
  values = {}
  for rule in rules:
    token = _rule.set(rule)
    try:
      (values[rule],) = tf.gradients(selected, images)
    finally:
      _rule.reset(token)
    if values[rule] is None:
      raise ValueError(
        'the logits have no gradient with respect to the images: the model '
        'does not use them, or turns them into integers.'
      )
  return values, targets


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


_RELUS = {
  'Relu': lambda gradient, output: tf.raw_ops.ReluGrad(
    gradients=gradient, features=output
  ),
  'Relu6': lambda gradient, output: tf.raw_ops.Relu6Grad(
    gradients=gradient, features=output
  ),
}


def _register_rule(name: str) -> None:
  derivative = _RELUS[name]

  @tf.RegisterGradient(f'Roar{name}')
  def _(operation, gradient):
    if _rule.get() == 'guided':
      gradient = tf.nn.relu(gradient)
    return derivative(gradient, operation.outputs[0])


for _name in _RELUS:
  _register_rule(_name)


def _check_relus(operations) -> None:
  """Raises ValueError if GB means nothing, or cannot be had, for a graph."""
  hiding = {o.type for o in operations if _called_types(o) & set(_RELUS)}
  if hiding:
    raise ValueError(
      'estimator "gb" must see every ReLU of the model, which has some behind '
      f'{", ".join(sorted(hiding))} (a tf.function or a loop inside a layer); '
      'remove that, or leave gb out.'
    )
  if not {operation.type for operation in operations} & set(_RELUS):
    raise ValueError(
      'estimator "gb" changes the gradient of ReLUs, of which this model has '
      'none; leave gb out.'
    )


def _called_types(operation) -> set[str]:
  """Returns the types of operations inside the functions that one calls."""
  waiting = _functions_of(operation.node_def.attr)
  if not waiting:
    return set()
  library = {
    function.signature.name: function
    for function in operation.graph.as_graph_def().library.function
  }
  types, seen = set(), set()
  while waiting:
    name = waiting.pop()
    if name in seen:
      continue
    seen.add(name)
    for node in library[name].node_def:
      types.add(node.op)
      waiting += _functions_of(node.attr)
  return types


def _functions_of(attributes) -> list[str]:
  """Returns the names of functions among an operation's attributes."""
  return [
    function.name
    for value in attributes.values()
    for function in (value.func, *value.list.func)
    if function.name
  ]
