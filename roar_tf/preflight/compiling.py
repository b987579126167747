"""From HLO to a TPU program, without a TPU, and what its compiler says."""

import dataclasses
import re

import numpy as np

from roar_tf import errors
from roar_tf.preflight import chips


class CompilationError(Exception):
  """The compiler refuses a program for another reason than its size."""


class DoesNotFitError(Exception):
  """The program needs more memory than a chip has.

  Attributes:
    needed: bytes, as the compiler says; None if it does not.
  """

  def __init__(self, message: str):
    super().__init__(message)
    # E.g. "Ran out of memory. Used 29.67G of 15.75G hbm."
    used = re.search(r'Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm', message)
    self.needed = None
    if used:
      power = ' KMGT'.index(used[2] or ' ')
      self.needed = int(float(used[1]) * 1024**power)


@dataclasses.dataclass(frozen=True)
class Program:
  """What the compiler says of one program on one chip.

  There is an `optimal_seconds` too, which is negative and means nothing.

  Attributes:
    flops: floating point operations. The body of a loop is counted once, as
      often as it may run.
    bytes_accessed: of all operations; likewise.
    arguments: bytes of memory that inputs take, padded as the chip stores them.
    outputs: likewise, without those that reuse the memory of inputs.
    temporaries: bytes of memory in between.
    code: bytes of the program itself.
  """

  flops: float
  bytes_accessed: float
  arguments: int
  outputs: int
  temporaries: int
  code: int

  @property
  def memory(self) -> int:
    """Bytes of high-bandwidth memory while it runs."""
    return self.arguments + self.outputs + self.temporaries + self.code


class Compiler:
  """The compiler of one topology; programs run on one of its chips each.

  Attributes:
    topology: the chips.
  """

  def __init__(self, topology: chips.Topology):
    """Asks libtpu for the topology.

    Raises:
      UsageError: libtpu knows no such shape.
    """
    # Here, since the rest of the package does without them.
    from jax.experimental import topologies
    from jaxlib import _jax

    self._jax, self.topology = _jax, topology
    try:
      described = topologies.get_topology_desc(
        topology.name, 'tpu', **topology.options
      )
    except _jax.XlaRuntimeError as e:
      raise errors.UsageError(
        f'--topology={topology.name}: libtpu says {str(e).splitlines()[0]}'
      ) from e
    self._device = described.devices[0]

  def compile(self, hlo: bytes) -> Program:
    """Compiles serialized HLO.

    Raises:
      DoesNotFitError: the program does not fit into the memory of a chip.
      CompilationError: the compiler refuses it.
    """
    jax = self._jax
    options = jax.CompileOptions()
    build = options.executable_build_options
    build.num_replicas = build.num_partitions = 1
    build.device_assignment = jax.DeviceAssignment.create(
      np.array([[self._device.id]], np.int32)
    )
    try:
      module = jax.mlir.hlo_to_stablehlo(hlo)
      program = self._device.client.compile(
        module, jax.DeviceList((self._device,)), options
      )
    except jax.XlaRuntimeError as e:
      message = str(e)
      if message.startswith('RESOURCE_EXHAUSTED'):
        raise DoesNotFitError(message) from e
      reason = message.strip().splitlines()[0][:300]
      raise CompilationError(f'the compiler refuses it: {reason}') from e
    cost, memory = program.cost_analysis(), program.get_compiled_memory_stats()
    cost = cost if isinstance(cost, dict) else cost[0]
    return Program(
      # XLA leaves out what is 0.
      flops=cost.get('flops', 0.0),
      bytes_accessed=cost.get('bytes accessed', 0.0),
      arguments=memory.argument_size_in_bytes,
      outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
      temporaries=memory.temp_size_in_bytes,
      code=memory.generated_code_size_in_bytes,
    )
