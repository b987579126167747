"""From a TensorFlow function to HLO, by the kernels that TPUs have.

Traps of `experimental_get_compiler_ir`, all met: its inputs are either all
TensorSpecs or none, and no structures, so they are flattened here; a captured
variable is refused ("does not support resource arguments"), so models take
their variables as arguments (`stateless.with_variables`); a variable that is
assigned becomes an `mhlo.copy` that nothing converts; a captured tensor is
baked into the program as a constant.
"""

import re
from collections.abc import Callable

import tensorflow as tf


class LoweringError(Exception):
  """A function that TPUs cannot run; the message names the operation."""


def lower(function: Callable, specs: tuple) -> bytes:
  """Returns a function's serialized HLO for TPUs.

  Args:
    function: takes what `specs` describe; shapes inside must be static.
    specs: structures of TensorSpecs, one per argument.

  Raises:
    LoweringError: it uses an operation without a TPU kernel, a dynamic shape,
      or a captured variable.
  """
  flat = tf.nest.flatten(specs)

  @tf.function(jit_compile=True, autograph=False)
  def compiled(*arguments):
    return function(*tf.nest.pack_sequence_as(specs, arguments))

  try:
    return compiled.experimental_get_compiler_ir(*flat)(
      stage='hlo_serialized', platform_name='TPU'
    )
  except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as e:
    raise LoweringError(reason(str(e))) from e


def reason(message: str) -> str:
  """Returns one sentence of what XLA says, the operation at fault first."""
  lacking = re.search(r"No registered '(\w+)' OpKernel", message)
  if lacking:
    return f'operation {lacking[1]}: TPUs have no such operation'
  node = re.search(r'\{\{node ([\w/.]+)\}\}', message)
  sentence = message.strip().splitlines()[0] if message.strip() else 'no reason'
  sentence = sentence.removeprefix("Failed getting HLO text: '")[:300]
  return f'operation {node[1]}: {sentence}' if node else sentence
