"""Rectifiers that are no ReLU operation, and ReLU operations that are no unit.

Guided backprop changes the gradients of ReLU operations. Written otherwise,
`tf.maximum(x, 0)` say, a rectifier would stay unguided in silence; and a ReLU
that is a part of another activation would be guided halfway.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from roar_tf import errors
from roar_tf.lazy import tf

_PASSING = ('Identity', 'Cast', 'EnsureShape', 'Reshape', 'StopGradient')
"""Operations that hand on what they are given."""

_ABOVE = ('Greater', 'GreaterEqual')
_BELOW = ('Less', 'LessEqual')

_NEVER_NEGATIVE = frozenset(
  ('Abs', 'Exp', 'Relu', 'Relu6', 'Sigmoid', 'Softmax', 'Softplus', 'Square')
)
_KEEPING_SIGNS = (*_PASSING, 'AvgPool', 'MaxPool', 'Mean', 'Minimum', 'Sum')


@dataclasses.dataclass(frozen=True)
class Finding:
  """An operation that guided backprop cannot treat as it should.

  Attributes:
    operation: its name in the graph.
    what: what it computes, such as `maximum(x, 0)`.
  """

  operation: str
  what: str


def described(findings) -> str:
  """Returns findings in the words of a message, some of each kind."""
  names = {}
  for finding in findings:
    names.setdefault(finding.what, []).append(finding.operation)
  return ', '.join(
    f'{what} ({errors.few(those)})' for what, those in names.items()
  )


def find(operations, images) -> list[Finding]:
  """Returns the rectifiers among operations that depend on the images.

  Args:
    operations: of a graph, in the order in which they were made.
    images: a tensor of the graph.
  """
  users = Users(operations)
  findings = []
  for operation in operations:
    recognise = _RECOGNISERS.get(operation.type)
    what = recognise and recognise(operation, users)
    if what:
      findings.append(Finding(operation.name, what))
  if not findings:
    return []
  depending = _depending(operations, images)
  return [f for f in findings if f.operation in depending]


class Users:
  """Which operations use a tensor; looked up when it is first asked."""

  def __init__(self, operations):
    self._operations = operations

  @functools.cached_property
  def _by_tensor(self) -> dict:
    users = {}
    for operation in self._operations:
      for used in operation.inputs:
        users.setdefault(used.name, []).append(operation)
    return users

  def direct(self, tensor) -> list:
    """Returns the operations that use a tensor."""
    return self._by_tensor.get(tensor.name, [])

  def of(self, tensor) -> list:
    """Returns the operations that use a tensor, perhaps handed on."""
    found = []
    for user in self.direct(tensor):
      handed_on = user.type in _PASSING
      found += self.of(user.outputs[0]) if handed_on else [user]
    return found


def _depending(operations, images) -> set[str]:
  """Returns the names of operations that images have an influence on."""
  tensors, names = {images.name}, set()
  for operation in operations:
    if any(tensor.name in tensors for tensor in operation.inputs):
      names.add(operation.name)
      tensors.update(tensor.name for tensor in operation.outputs)
  return names


def _source(tensor):
  """Returns the tensor that was handed on as this one."""
  while tensor.op.type in _PASSING:
    tensor = tensor.op.inputs[0]
  return tensor


def _same(one, other) -> bool:
  return _source(one).name == _source(other).name


def _constant(tensor):
  """Returns the value of a constant tensor, None of others."""
  value = tf.get_static_value(tensor)
  return None if value is None else np.asarray(value)


def _is_zero(tensor) -> bool:
  if tensor.op.type == 'ZerosLike':
    return True
  if tensor.op.type in (*_PASSING, 'BroadcastTo', 'Fill'):
    position = 1 if tensor.op.type == 'Fill' else 0
    return _is_zero(tensor.op.inputs[position])
  if tensor.op.type == 'Mul':
    return any(map(_is_zero, tensor.op.inputs))
  value = _constant(tensor)
  return value is not None and not value.any()


def _besides_zero(operation):
  """Returns the operand of max(x, 0) or min(x, 0); None if it is neither."""
  first, second = operation.inputs[:2]
  if _is_zero(second):
    return first
  return second if _is_zero(first) else None


def _never_negative(tensor) -> bool:
  while tensor.op.type in _KEEPING_SIGNS:
    tensor = tensor.op.inputs[0]
  return tensor.op.type in _NEVER_NEGATIVE


def _maximum(operation, users):
  value = _besides_zero(operation)
  if value is None or _never_negative(value):
    return None
  # Before a root or in a quotient it guards against rounding.
  consumers = users.of(operation.outputs[0])
  if consumers and all(_takes_root(user, users) for user in consumers):
    return None
  # A function with two branches, such as CELU, or a softplus.
  if any(
    other.type == 'Minimum' and _besides_zero(other) is not None
    for other in users.of(_source(value))
  ):
    return None
  if any(
    tensor.op.type == 'Log1p'
    for user in consumers
    if user.type in ('AddV2', 'Sub')
    for tensor in user.inputs
  ):
    return None
  return 'maximum(x, 0)'


def _takes_root(operation, users) -> bool:
  if operation.type in ('Sqrt', 'Rsqrt', 'Pow'):
    return True
  if operation.type not in ('Add', 'AddV2'):
    return False
  shifted = any(_constant(tensor) is not None for tensor in operation.inputs)
  after = users.of(operation.outputs[0])
  return shifted and all(u.type in ('Sqrt', 'Rsqrt', 'Pow') for u in after)


def _minimum(operation, users):
  """Recognises -min(-x, 0) and x - min(x, 0)."""
  value = _besides_zero(operation)
  if value is None:
    return None
  for user in users.of(operation.outputs[0]):
    if user.type == 'Neg' and _is_negated(value):
      return '-minimum(-x, 0)'
    if user.type == 'Sub' and _same(user.inputs[0], value):
      return 'x - minimum(x, 0)'
  return None


def _clip(operation, users):
  del users
  value, low, _ = operation.inputs
  if _is_zero(low) and not _never_negative(value):
    return 'clip_by_value(x, 0, ...)'
  return None


def _compared(condition, operators, others):
  """Returns x of a condition that compares x with a constant, else None.

  Args:
    condition: a tensor of truth values, perhaps cast.
    operators: types of operations of x and the constant.
    others: likewise, of the constant and x.
  """
  operation = _source(condition).op
  if operation.type == 'LogicalNot':
    return _compared(operation.inputs[0], others, operators)
  if operation.type not in (*operators, *others):
    return None
  value, bound = operation.inputs
  if operation.type in others:
    value, bound = bound, value
  return value if _constant(bound) is not None else None


def _both_ways(inputs):
  first, second = inputs
  return (first, second), (second, first)


def _product(operation, users):
  """Recognises x * (x > 0)."""
  del users
  for value, factor in _both_ways(operation.inputs):
    compared = _compared(factor, _ABOVE, _BELOW)
    if compared is not None and _same(compared, value):
      return 'x * (x > 0)'
  return None


def _selection(operation, users):
  """Recognises where(x > 0, x, 0)."""
  del users
  condition, then, otherwise = operation.inputs
  above = _compared(condition, _ABOVE, _BELOW)
  below = _compared(condition, _BELOW, _ABOVE)
  if above is not None and _same(above, then) and _is_zero(otherwise):
    return 'where(x > 0, x, 0)'
  if below is not None and _same(below, otherwise) and _is_zero(then):
    return 'where(x > 0, x, 0)'
  return None


def _sum(operation, users):
  """Recognises x + abs(x)."""
  del users
  for value, other in _both_ways(operation.inputs):
    if other.op.type == 'Abs' and _same(other.op.inputs[0], value):
      return 'x + abs(x)'
  return None


def _is_negated(tensor) -> bool:
  """Whether a tensor is -x, perhaps beside a constant."""
  operation = _source(tensor).op
  if operation.type == 'Neg':
    return True
  if operation.type in ('Add', 'AddV2', 'Sub', 'Mul', 'BiasAdd'):
    first, second = operation.inputs
    values = _constant(first), _constant(second)
    if operation.type == 'Mul':
      return any(v is not None and (v < 0).all() for v in values)
    if operation.type == 'Sub' and values[0] is not None:
      return True
    if values[1] is not None:
      return _is_negated(first)
    return values[0] is not None and _is_negated(second)
  return False


def _relu(operation, users):
  """Recognises ReLUs that are parts of other activations."""
  value = operation.inputs[0]
  if _is_negated(value):
    return 'relu(-x), as in PReLU and ReLU(negative_slope=...)'
  if _is_hard_sigmoid(operation, users):
    return 'hard_sigmoid, as in hard_silu'
  return None


def _is_hard_sigmoid(operation, users) -> bool:
  """Whether a ReLU is part of relu6(x + 3) / 6, whatever its bounds."""
  before = _source(operation.inputs[0]).op
  if before.type not in ('Add', 'AddV2'):
    return False
  bounds = {6.0} if operation.type == 'Relu6' else set()
  for user in users.of(operation.outputs[0]):
    if user.type == 'Minimum':
      bounds.update(_numbers(user.inputs))
  return any(2 * shift in bounds for shift in _numbers(before.inputs))


def _numbers(tensors) -> list[float]:
  """Returns the values of those tensors that are one constant number."""
  values = map(_constant, tensors)
  return [float(v.item()) for v in values if v is not None and v.size == 1]


def in_function(nodes) -> bool:
  """Whether a function's nodes compute max(x, 0), `NodeDef`s."""
  constants = {node.name: node for node in nodes if node.op == 'Const'}
  zeros = {n for n, node in constants.items() if _holds_zeros(node)}
  return any(
    node.op in ('ClipByValue', 'Maximum')
    and any(name.partition(':')[0] in zeros for name in node.input[:2])
    for node in nodes
  )


def _holds_zeros(node) -> bool:
  if not tf.as_dtype(node.attr['dtype'].type).is_floating:
    return False
  return not tf.make_ndarray(node.attr['value'].tensor).any()


_RECOGNISERS = {
  'Add': _sum,
  'AddV2': _sum,
  'ClipByValue': _clip,
  'Maximum': _maximum,
  'Minimum': _minimum,
  'Mul': _product,
  'Relu': _relu,
  'Relu6': _relu,
  'Select': _selection,
  'SelectV2': _selection,
}
