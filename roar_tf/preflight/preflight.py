"""Compiles everything that a study runs on the chips of a topology."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from roar_tf.preflight import GROUPS, functions, largest_batch, lowering, work
from roar_tf.preflight.chips import Topology
from roar_tf.preflight.compiling import (
  CompilationError,
  Compiler,
  DoesNotFitError,
)
from roar_tf.preflight.device_function import DeviceFunction
from roar_tf.preflight.results import Outcome, Result
from roar_tf.preflight.subject import Subject


def run(
  subject: Subject,
  topology: Topology,
  groups: Sequence[str] = GROUPS,
  *,
  largest: bool = True,
  images_per_core: float | None = None,
  say: Callable[[str], None] = lambda text: None,
) -> Result:
  """Lowers and compiles every function.

  Args:
    subject: the experiment.
    topology: the chips.
    groups: of functions.
    largest: whether to search for the largest batches; a few compilations each.
    images_per_core: images per second that one host core prepares.
    say: told what is being compiled.

  Raises:
    UsageError: libtpu knows no such topology, or the explained model that is
      given cannot be loaded.
  """
  compiler = Compiler(topology)
  outcomes = []
  for function in functions.of(subject, groups, topology.chips):
    outcome = compiled(compiler, function, say)
    outcomes.append(outcome)
    if largest and function.scales and not outcome.error:
      outcomes.append(_largest(compiler, function, outcome, say))
  experiment = subject.experiment
  return Result(
    experiment.source.name,
    topology,
    experiment.retrained.precision,
    outcomes,
    work.whole(subject) if experiment.study else None,
    images_per_core,
  )


def compiled(compiler: Compiler, function: DeviceFunction, say) -> Outcome:
  """Returns what becomes of one function at its batch."""
  say(f'{compiler.topology.name}: {function.name}, batch {function.batch}')
  outcome = Outcome(function.name, function.group, function.batch)
  try:
    program = compiler.compile(lowering.lower(*function.build(function.batch)))
  except (lowering.LoweringError, CompilationError) as e:
    return dataclasses.replace(outcome, error=str(e))
  except DoesNotFitError as e:
    return dataclasses.replace(outcome, fits=False, needed=e.needed)
  chip = compiler.topology.chip
  return dataclasses.replace(
    outcome,
    program=program,
    roofline=None
    if function.loops
    else chip.roofline(program.flops, program.bytes_accessed),
    # The compiler itself does not count outputs: 1,024 images of a ResNet-50
    # pass it with 0.2 GiB too much.
    fits=program.memory <= chip.usable,
    needed=program.memory,
  )


def _largest(
  compiler, function: DeviceFunction, outcome: Outcome, say
) -> Outcome:
  """Returns the outcome of the largest batch that fits, or else of 1."""
  by_batch = {outcome.batch: outcome}

  def needed(batch: int) -> int | None:
    if batch not in by_batch:
      larger = dataclasses.replace(function, batch=batch)
      by_batch[batch] = compiled(compiler, larger, say)
    return by_batch[batch].needed

  _, (state, _) = function.build(function.batch)
  fixed = sum(
    spec.shape.num_elements() * spec.dtype.size
    for spec in tf.nest.flatten(state)
  )
  batch = largest_batch.largest_batch(
    needed, function.batch, fixed, compiler.topology.chip.usable
  )
  return dataclasses.replace(
    by_batch[max(1, batch)], name=f'largest {function.name}'
  )
