"""ReLUs that pass gradients back by their derivative, or as GB does.

Importing this module registers their gradients with TensorFlow, so `gradient`
imports it when it evaluates some.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from roar_tf import errors
from roar_tf.estimators import rectifiers
from roar_tf.lazy import tf

_rule = contextvars.ContextVar('rule of ReLUs', default='gradient')
_passed = contextvars.ContextVar('names of ReLUs that were passed')

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
      _passed.get().add(operation.name)
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
def passing_back(rule: str) -> Iterator[set[str]]:
  """Makes ReLUs follow a rule of `gradient.RULES` where gradients are taken.

  Yields the set to which the names of ReLUs are added that were guided.
  """
  passed: set[str] = set()
  tokens = _rule.set(rule), _passed.set(passed)
  try:
    yield passed
  finally:
    _rule.reset(tokens[0])
    _passed.reset(tokens[1])


def check(operations, images) -> None:
  """Raises ValueError if GB means nothing, or cannot be had, for a graph.

  Args:
    operations: of the graph of a model, in the order of their making.
    images: what the model was called with.
  """
  hiding = {o.type for o in operations if _hides_relus(o)}
  if hiding:
    raise ValueError(
      'estimator "gb" must see every ReLU of the model, which has some behind '
      f'{", ".join(sorted(hiding))} (a tf.function or a loop inside a layer); '
      'remove that, or leave gb out.'
    )
  if others := rectifiers.find(operations, images):
    raise ValueError(
      'estimator "gb" changes the gradient of ReLU operations that are units '
      'of their own, and the model rectifies otherwise too: '
      f'{rectifiers.described(others)}; write plain ReLUs as tf.nn.relu or '
      'keras.layers.ReLU(), or leave gb out.'
    )
  if not {operation.type for operation in operations} & set(_RELUS):
    raise ValueError(
      'estimator "gb" changes the gradient of ReLUs, of which this model has '
      'none; leave gb out.'
    )


def check_guided(operations, passed: set[str]) -> None:
  """Raises ValueError if a custom gradient led past ReLUs of a graph.

  ReLUs that no gradient reaches, for their outcome is not used, do not matter.

  Args:
    operations: see `check`.
    passed: names of the ReLUs whose gradients were guided.
  """
  missed = [o for o in operations if o.type in _RELUS and o.name not in passed]
  if not missed:
    return
  behind = {o.name for o in operations if _has_custom_gradient(o)}
  users = rectifiers.Users(operations)
  lost = [o.name for o in missed if _leads_to(o, behind, users)]
  if lost:
    raise ValueError(
      'estimator "gb" must see every ReLU of the model, and a custom gradient '
      '(tf.recompute_grad or another tf.custom_gradient) hides '
      f'{errors.few(lost)}; remove that, or leave gb out.'
    )


def _has_custom_gradient(operation) -> bool:
  """Whether a gradient is replaced, by somebody else than this module."""
  name = operation.node_def.attr['_gradient_op_type'].s.decode()
  return bool(name) and name.removeprefix('Roar') not in _RELUS


def _leads_to(operation, names: set[str], users) -> bool:
  """Whether an outcome arrives at one of some operations, with gradients."""
  waiting, seen = [operation], set()
  while waiting:
    current = waiting.pop()
    if current.name in names:
      return True
    for output in current.outputs:
      for user in users.direct(output):
        if user.name not in seen and user.type != 'StopGradient':
          seen.add(user.name)
          waiting.append(user)
  return False


def _hides_relus(operation) -> bool:
  """Whether functions that an operation calls have ReLUs, of any kind."""
  waiting = _functions_of(operation.node_def.attr)
  if not waiting:
    return False
  library = {
    function.signature.name: function
    for function in operation.graph.as_graph_def().library.function
  }
  seen = set()
  while waiting:
    name = waiting.pop()
    if name in seen:
      continue
    seen.add(name)
    nodes = library[name].node_def
    if {node.op for node in nodes} & set(_RELUS) or rectifiers.in_function(
      nodes
    ):
      return True
    for node in nodes:
      waiting += _functions_of(node.attr)
  return False


def _functions_of(attributes) -> list[str]:
  """Returns the names of functions among an operation's attributes."""
  return [
    function.name
    for value in attributes.values()
    for function in (value.func, *value.list.func)
    if function.name
  ]
