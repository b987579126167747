"""Compiles an experiment's device functions for a topology and sizes them."""

import dataclasses
from collections.abc import Callable, Sequence

from roar_tf.planning.amounts import Amount, whole
from roar_tf.preflight import (
  KINDS,
  chips,
  compiling,
  estimates,
  functions,
  lowering,
)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of one function.

  Attributes:
    name: of the function.
    kind: of `KINDS`.
    batch: images, or gradient evaluations, per call.
    unit: which of both.
    parameters: numbers in the model's trainable variables.
    program: what the compiler says; None if there is none.
    roofline: None also where loops make costs meaningless.
    fits: whether a chip's memory suffices; None if it did not compile.
    needed: bytes of memory, as far as known.
    error: why it does not lower or compile, with the operation.
    largest_batch: largest power of two that fits; None if not asked for, 0 if
      not even one does.
    largest_program: the program of that batch.
  """

  name: str
  kind: str
  batch: int
  unit: str
  parameters: int
  program: compiling.Program | None = None
  roofline: estimates.Roofline | None = None
  fits: bool | None = None
  needed: int | None = None
  error: str | None = None
  largest_batch: int | None = None
  largest_program: compiling.Program | None = None

  @property
  def per_second(self) -> float | None:
    """Images or gradient evaluations per second, at most."""
    return self.batch / self.roofline.seconds if self.roofline else None


@dataclasses.dataclass(frozen=True)
class Result:
  """All functions of one experiment on one topology.

  Attributes:
    source: name of the dataset.
    topology: where.
    precision: what models compute in.
    outcomes: one per function.
    amount: what a study has to compute; None without a study.
    seconds: at the roofline; None where costs are missing.
    hours: hours of one chip, by what for; None where costs are missing.
    cores: host cores per chip that training needs; None without a rate.
  """

  source: str
  topology: chips.Topology
  precision: str
  outcomes: Sequence[Outcome]
  amount: Amount | None = None
  seconds: estimates.Seconds | None = None
  hours: dict | None = None
  cores: float | None = None

  @property
  def errors(self) -> list[Outcome]:
    """What does not lower or compile."""
    return [o for o in self.outcomes if o.error]


def run(
  made: functions.Functions,
  topology: chips.Topology,
  kinds: Sequence[str] = KINDS,
  *,
  largest: bool = True,
  images_per_core: float | None = None,
  say: Callable[[str], None] = lambda text: None,
) -> Result:
  """Lowers and compiles every function.

  Args:
    made: the functions of an experiment.
    topology: the chips.
    kinds: of `KINDS`.
    largest: whether to search for the largest batches; a few compilations each.
    images_per_core: images per second that one host core prepares.
    say: told what is being compiled.

  Raises:
    UsageError: libtpu knows no such topology.
  """
  compiler = compiling.Compiler(topology)
  outcomes = []
  for function in made.of(kinds, topology.chips):
    say(f'{function.name}, batch {function.batch}')
    outcome = compiled(compiler, topology.chip, function)
    if largest and function.scales and not outcome.error:
      outcome = _with_largest(compiler, topology.chip, function, outcome, say)
    outcomes.append(outcome)
  experiment = made.experiment
  amount = whole(experiment) if experiment.study else None
  seconds = _seconds(outcomes)
  training = _first(outcomes, 'training step (retrained)')
  cores = None
  if images_per_core and training and training.per_second:
    cores = estimates.host_cores(training.per_second, images_per_core)
  return Result(
    experiment.source.name,
    topology,
    made.precision,
    outcomes,
    amount,
    seconds,
    _hours(amount, seconds, topology.chips),
    cores,
  )


def compiled(
  compiler, chip: chips.Chip, function: functions.DeviceFunction
) -> Outcome:
  """Returns what becomes of one function at its batch."""
  about = Outcome(
    function.name,
    function.kind,
    function.batch,
    function.unit,
    function.parameters,
  )
  try:
    program = compiler.compile(lowering.lower(*function.make(function.batch)))
  except lowering.LoweringError as e:
    where = f'operation {e.operation}: ' if e.operation else ''
    return dataclasses.replace(about, error=f'{where}{e}')
  except compiling.CompilationError as e:
    return dataclasses.replace(about, error=f'the compiler refuses it: {e}')
  except compiling.DoesNotFitError as e:
    return dataclasses.replace(about, fits=False, needed=e.needed)
  return dataclasses.replace(
    about,
    program=program,
    roofline=None if function.loops else estimates.roofline(program, chip),
    # The compiler itself does not count outputs: 1,024 images of a ResNet-50
    # pass it with 0.2 GiB too much.
    fits=program.memory <= chip.usable,
    needed=program.memory,
  )


def _with_largest(compiler, chip, function, outcome, say) -> Outcome:
  """Returns the outcome with the largest batch that fits."""
  known = {outcome.batch: outcome}

  def needed(batch: int) -> int | None:
    if batch not in known:
      say(f'{function.name}, batch {batch}')
      known[batch] = compiled(
        compiler, chip, dataclasses.replace(function, batch=batch)
      )
    return known[batch].needed

  batch = estimates.largest_batch(
    needed, function.batch, function.fixed, chip.usable
  )
  return dataclasses.replace(
    outcome,
    largest_batch=batch,
    largest_program=known[batch].program if batch else None,
  )


def _first(outcomes, name: str) -> Outcome | None:
  return next((o for o in outcomes if o.name == name), None)


def _seconds(outcomes) -> estimates.Seconds | None:
  """Returns the roofline of what was compiled, if nothing is missing."""
  training = _first(outcomes, 'training step (retrained)')
  explained = _first(outcomes, 'training step (explained)') or training
  evaluation = _first(outcomes, 'evaluation (retrained)')
  gradients = _first(outcomes, 'gradient evaluations')
  used = [training, explained, evaluation, *([gradients] if gradients else [])]
  if any(o is None or o.roofline is None for o in used):
    return None
  return estimates.Seconds(
    training.roofline.seconds,
    explained.roofline.seconds,
    1 / evaluation.per_second,
    1 / gradients.per_second if gradients else None,
  )


def _hours(amount, seconds, replicas: int) -> dict | None:
  """Returns hours of one chip, if all that they are made of was compiled."""
  if amount is None or seconds is None:
    return None
  if amount.gradient_evaluations and seconds.gradient is None:
    return None
  return estimates.device_hours(amount, seconds, replicas)
