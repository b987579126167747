"""ReLUs that pass gradients back by their derivative, or as GB does.

Importing this module registers their gradients with TensorFlow, so `gradient`
imports it when it evaluates some.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from roar_tf.lazy import tf

_rule = contextvars.ContextVar('rule of ReLUs', default='gradient')

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


def overridden(graph):
  """Returns the context in which a graph's new ReLUs have these gradients.

  By operation, not by layer: `activation='relu'`, `tf.nn.relu` in a subclass
  and a nested model's ReLU are all the same here.
  """
  return graph.gradient_override_map({name: f'Roar{name}' for name in _RELUS})


@contextlib.contextmanager
def passing_back(rule: str) -> Iterator[None]:
  """Makes ReLUs follow a rule of `gradient.RULES` where gradients are taken."""
  token = _rule.set(rule)
  try:
    yield
  finally:
    _rule.reset(token)


def check(operations) -> None:
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
