"""From a TensorFlow function to a program for XLA.

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

STABLEHLO = '1.0.0'
"""Version of portable artifacts, which later versions read
(openxla.org/stablehlo/compatibility). No operation of ours needs a newer one:
JAX 0.6.2, 0.10.2 and 0.12 read the same files."""


class LoweringError(Exception):
  """A function that XLA cannot run; the message names the operation."""


def lower(function: Callable, specs: tuple) -> bytes:
  """Returns a function's serialized HLO for TPUs, by the kernels they have.

  Args:
    function: takes what `specs` describe; shapes inside must be static.
    specs: structures of TensorSpecs, one per argument.

  Raises:
    LoweringError: it uses an operation without a TPU kernel, a dynamic shape,
      or a captured variable.
  """
  return _lowered(function, specs, 'hlo_serialized', 'TPU')


def portable(function: Callable, specs: tuple) -> bytes:
  """Returns a function as a portable StableHLO artifact for any device.

  Any TensorFlow makes it: the operations are those of the CPU's registry, which
  leaves nothing in them that belongs to a CPU.

  Args:
    function: see `lower`.
    specs: see `lower`.

  Raises:
    LoweringError: see `lower`; or it has an operation that is none of
      StableHLO's: erf, and what a device's library computes.
  """
  # Not in TensorFlow's documentation; only functions of bytes, no MLIR.
  from tensorflow.compiler.mlir.stablehlo import stablehlo

  module = _lowered(function, specs, 'stablehlo_serialized', 'CPU')
  try:
    artifact = stablehlo.serialize_portable_artifact_str(module, STABLEHLO)
  except ValueError:  # It does not say which operation.
    artifact = None
  if artifact is None or b'custom_call' in artifact:
    text = _lowered(function, specs, 'stablehlo', 'CPU')
    foreign = re.findall(r'= mhlo\.(\w+)|custom_call @([\w.$]+)', text)
    names = sorted({op or target for op, target in foreign})
    raise LoweringError(
      f'operation {", ".join(names) or "unknown"}: there is none in StableHLO '
      f'{STABLEHLO}'
    )
  return artifact


def _lowered(function: Callable, specs: tuple, stage: str, platform: str):
  flat = tf.nest.flatten(specs)

  @tf.function(jit_compile=True, autograph=False)
  def compiled(*arguments):
    return function(*tf.nest.pack_sequence_as(specs, arguments))

  try:
    return compiled.experimental_get_compiler_ir(*flat)(
      stage=stage, platform_name=platform
    )
  except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as e:
    raise LoweringError(reason(str(e))) from e


def reason(message: str) -> str:
  """Returns one sentence of what XLA says, the operation at fault first."""
  lacking = re.search(r"No registered '(\w+)' OpKernel", message)
  if lacking:
    lacks = 'XLA has' if 'XLA_CPU_JIT' in message else 'TPUs have'
    return f'operation {lacking[1]}: {lacks} no such operation'
  node = re.search(r'\{\{node ([\w/.]+)\}\}', message)
  sentence = message.strip().splitlines()[0] if message.strip() else 'no reason'
  sentence = sentence.removeprefix("Failed getting HLO text: '")[:300]
  return f'operation {node[1]}: {sentence}' if node else sentence
