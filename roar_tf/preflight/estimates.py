"""Arithmetic from a program's operations and bytes to seconds and hours.

A roofline is a lower bound: a program that keeps either the multipliers or the
memory busy all the time. Real programs take longer.
"""

import dataclasses
import math
from collections.abc import Callable

from roar_tf.planning.amounts import Amount
from roar_tf.planning.rates import Rates
from roar_tf.preflight import chips, compiling

MOST_ROWS = 1 << 16
"""Where the search for the largest batch ends."""


@dataclasses.dataclass(frozen=True)
class Roofline:
  """The least time that a program can take on a chip.

  Attributes:
    intensity: floating point operations per byte accessed.
    seconds: per call, at the chip's peaks.
    bound: what it waits for, `compute` or `memory`.
  """

  intensity: float
  seconds: float
  bound: str


def roofline(program: compiling.Program, chip: chips.Chip) -> Roofline:
  """Returns the roofline of a program on a chip."""
  compute = program.flops / chip.flops
  memory = program.bytes_accessed / chip.bandwidth
  return Roofline(
    program.flops / max(1.0, program.bytes_accessed),
    max(compute, memory),
    'compute' if compute > memory else 'memory',
  )


def largest_batch(
  needed: Callable[[int], int | None], batch: int, fixed: int, memory: int
) -> int:
  """Returns the largest power of two that fits, 0 if 1 does not.

  Asks for few batches, since each is compiled: the next one is where a straight
  line through the last answer reaches the memory. Bytes are no straight line:
  a small batch stays in the chip's caches, and close to its memory the compiler
  computes some values twice.

  Args:
    needed: from a batch to bytes of memory, None for too many to tell.
    batch: the first that is asked for is the power of two below.
    fixed: bytes that do not grow with the batch.
    memory: bytes that there are; the search ends at `MOST_ROWS`.
  """
  fitting, failing = 0, 2 * MOST_ROWS
  batch = _power_of_two(batch)
  while True:
    bytes_ = needed(batch)
    if bytes_ is not None and bytes_ <= memory:
      fitting = batch
    else:
      failing = batch
    if failing <= max(1, 2 * fitting):
      return fitting
    if bytes_ is None:  # Half way, by the logarithm.
      batch = math.sqrt(max(1, fitting) * failing)
    else:
      batch *= max(1, memory - fixed) / max(1, bytes_ - fixed)
    lowest, highest = max(1, 2 * fitting), failing // 2
    batch = min(max(_power_of_two(batch), lowest), highest)


def _power_of_two(value: float) -> int:
  """Returns the largest power of two that is not above a value, at least 1."""
  return 1 << int(math.log2(max(1, value)))


def host_cores(images_per_second: float, per_core: float) -> float:
  """Returns how many cores of a host keep one chip fed."""
  return images_per_second / per_core


@dataclasses.dataclass(frozen=True)
class Seconds:
  """Roofline seconds of one chip.

  Attributes:
    step: of a training step at the batch of one replica.
    explained_step: likewise, of the explained model.
    test_image: of the evaluation of one image.
    gradient: of one gradient evaluation; None if none was compiled.
  """

  step: float
  explained_step: float
  test_image: float
  gradient: float | None


def device_hours(amount: Amount, seconds: Seconds, chips: int) -> dict:
  """Returns hours of one chip by what they are for.

  Args:
    amount: what is to be computed.
    seconds: what it takes.
    chips: how many share every training step.
  """
  hours = {
    'retraining': amount.steps * seconds.step * chips,
    'training the explained model': amount.explained_steps
    * seconds.explained_step
    * chips,
    'evaluation': amount.evaluations * amount.test_images * seconds.test_image,
    'attribution': amount.gradient_evaluations * (seconds.gradient or 0.0),
  }
  hours = {name: value / 3600 for name, value in hours.items()}
  return {**hours, 'all': sum(hours.values())}


def rates(seconds: Seconds, chips: int) -> Rates:
  """Returns the rates of chips that share every training and ranking.

  Args:
    seconds: of one chip; a step at the batch of one replica.
    chips: how many there are.
  """
  return Rates(
    step=seconds.step,
    explained_step=seconds.explained_step,
    test_image=seconds.test_image / chips,
    gradient=(seconds.gradient or 0.0) / chips,
  )
