"""Compiles, times and compares one exported program under JAX.

Imports JAX when it is called, and neither TensorFlow nor Keras.
"""

import dataclasses
import math
import os
import time
import warnings

import numpy as np

from roar_tf import errors, silence
from roar_tf.preflight import manifest as manifests
from roar_tf.preflight.manifest import Program

TOO_LARGE = 'out of memory'
"""The error of a program that does not fit; no fault of it."""
_REPEATS = 20
"""Most measurements of a program."""
_LEAST_SECONDS = 0.05
"""Of a measurement: a fast program is called several times in it."""


@dataclasses.dataclass(frozen=True)
class Measured:
  """What became of a program on a device.

  Attributes:
    program: what ran.
    seconds: of one call, lower quartile, median and upper quartile; None if it
      did not run.
    flops: floating point operations of a call as the compiler counts them; None
      for programs with loops, whose bodies it counts once.
    bytes_accessed: as the compiler counts them, where it does; likewise.
    compiling: seconds to load and compile it.
    difference: the largest from TensorFlow's results, in units of the largest
      element of each; None if nothing was compared.
    worst: the result that differs so.
    error: why it did not run.
  """

  program: Program
  seconds: tuple[float, float, float] | None = None
  flops: float | None = None
  bytes_accessed: float | None = None
  compiling: float | None = None
  difference: float | None = None
  worst: str | None = None
  error: str | None = None

  @property
  def median(self) -> float | None:
    """Seconds of one call."""
    return self.seconds and self.seconds[1]

  @property
  def agrees(self) -> bool | None:
    """Whether results are TensorFlow's; None if nothing was compared."""
    if self.difference is None:
      return None
    return bool(self.difference <= self.program.example.tolerance)


def run(folder: str, program: Program, patience: float) -> Measured:
  """Compiles a program for JAX's first device, runs it, and compares it.

  Args:
    folder: of the export.
    program: one of its programs.
    patience: seconds in which it is timed.

  Raises:
    DataError: files of the export are damaged.
    UsageError: this JAX cannot read the artifact.
  """
  import jax

  artifact = manifests.artifact(folder, program)
  example = program.example and manifests.example(folder, program)
  arguments = manifests.draw(program.arguments)
  if example:
    arguments = [
      example.get(a.name, v)
      for a, v in zip(program.arguments, arguments, strict=True)
    ]
  try:
    start = time.perf_counter()
    lowered = _lowered(folder, program, artifact)
    compiled = lowered.compile()
    compiling = time.perf_counter() - start
    arguments = list(map(jax.device_put, arguments))
    with warnings.catch_warnings():
      # A device may not be able to reuse what is donated.
      warnings.filterwarnings('ignore', message='.*donated')
      start = time.perf_counter()
      results = jax.block_until_ready(compiled(*arguments))
      once = time.perf_counter() - start
      difference, worst = _compared(program, example, results)
      seconds = _timed(program, compiled, arguments, results, once, patience)
  except jax.errors.JaxRuntimeError as e:
    return Measured(program, error=_reason(e))
  flops, bytes_accessed = _costs(program, lowered, compiled)
  return Measured(
    program, seconds, flops, bytes_accessed, compiling, difference, worst
  )


def _lowered(folder: str, program: Program, artifact: bytes):
  """Returns a program as JAX lowers it, with its state donated.

  JAX exports a function of the same arguments and results, in which the
  artifact takes the place of that function's own: all of it is public.
  """
  import jax
  from jax import export  # No attribute of jax in older versions.

  takes, gives = (
    [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    for arrays in (program.arguments, program.results)
  )

  def alike(*arguments):
    del arguments
    return [jax.numpy.zeros(spec.shape, spec.dtype) for spec in gives]

  shell = export.export(jax.jit(alike, keep_unused=True))(*takes)
  exported = dataclasses.replace(shell, mlir_module_serialized=artifact)
  donated = tuple(place for place, _ in _carried(program))
  try:
    with silence.silent():
      return jax.jit(exported.call, donate_argnums=donated).lower(*takes)
  except Exception as e:  # MLIR's, whatever JAX makes of them.
    path = os.path.join(folder, program.file)
    raise errors.UsageError(
      f'{path}: JAX {jax.__version__} cannot read this artifact '
      f'({str(e).splitlines()[0][:200]}); take one that knows the version of '
      'StableHLO that manifest.json states, or export again.'
    ) from e


def _carried(program: Program) -> list[tuple[int, int]]:
  """Returns (argument, result) wherever a result replaces an argument."""
  places = {a.name: i for i, a in enumerate(program.arguments)}
  return [
    (places[result.name], i)
    for i, result in enumerate(program.results)
    if result.name in places
  ]


def _timed(
  program: Program, compiled, arguments: list, results, once: float, patience
) -> tuple[float, float, float]:
  """Returns quartiles of the seconds of a call.

  Args:
    program: what is compiled.
    compiled: it.
    arguments: of the first call; those that were donated are replaced.
    results: of the first call.
    once: seconds that it took.
    patience: seconds; a program that takes longer is not called again.
  """
  import jax

  carried = _carried(program)

  def call(times: int) -> float:
    nonlocal results
    start = time.perf_counter()
    for _ in range(times):
      for argument, result in carried:
        arguments[argument] = results[result]
      results = compiled(*arguments)
    jax.block_until_ready(results)
    return (time.perf_counter() - start) / times

  if once >= patience:
    return once, once, once
  end, seconds = time.perf_counter() + patience, []
  times = math.ceil(_LEAST_SECONDS / max(call(1), 1e-6))
  while not seconds or (len(seconds) < _REPEATS and time.perf_counter() < end):
    seconds.append(call(times))
  return tuple(map(float, np.percentile(seconds, (25, 50, 75))))


def _compared(program: Program, example, results):
  """Returns the largest difference from an example, and where it is."""
  if example is None:
    return None, None
  found = {}
  for array, result, norm in zip(
    program.results, map(np.asarray, results), example['norms'], strict=True
  ):
    expected = example[f'expected/{array.name}']
    values = manifests.sampled(result, program.example.stride)
    found[array.name] = _difference(values, expected, result, norm)
  worst = max(found, key=lambda name: found[name])
  return found[worst], worst


def _difference(values, expected, result, norm: float) -> float:
  """Returns how far a result is from TensorFlow's, over its largest element."""
  if values.shape != expected.shape:
    return math.inf
  if not np.issubdtype(expected.dtype, np.floating):
    return 0.0 if np.array_equal(values, expected) else math.inf
  scale = max(float(np.max(np.abs(expected), initial=0.0)), norm)
  apart = np.abs(values.astype(np.float64) - expected)
  apart = max(
    float(np.max(apart, initial=0.0)),
    abs(manifests.norm(result) - float(norm)),
  )
  if math.isnan(apart) or math.isnan(scale):
    return math.inf
  return apart / scale if scale else (math.inf if apart else 0.0)


def _costs(program: Program, lowered, compiled):
  """Returns operations and bytes of a call, None where they mean nothing.

  Operations are counted before a device's libraries take some of them over,
  whose insides its compiler does not see; bytes once operations are fused.
  """
  if program.loops:
    return None, None

  def cost(stage, name):
    try:
      costs = stage.cost_analysis()
    except Exception:  # Some devices have none, and say so in their own ways.
      return None
    costs = costs[0] if isinstance(costs, list | tuple) and costs else costs
    value = (costs or {}).get(name)
    return float(value) if value and value > 0 else None

  return cost(lowered, 'flops'), cost(compiled, 'bytes accessed')


def _reason(error: Exception) -> str:
  message = str(error)
  if 'RESOURCE_EXHAUSTED' in message:
    return TOO_LARGE
  return (
    message.strip().splitlines()[0][:200] if message.strip() else 'no reason'
  )
