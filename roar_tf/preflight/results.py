"""What a preflight finds of each function, and of a whole study."""

import dataclasses
from collections.abc import Sequence

from roar_tf.preflight import times
from roar_tf.preflight.chips import Roofline, Topology
from roar_tf.preflight.compiling import Program
from roar_tf.preflight.work import Work
from roar_tf.study.rates import Rates


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of one function at the compiler.

  Attributes:
    name: of the function.
    group: of `preflight.GROUPS`.
    batch: images, or gradient evaluations, per call.
    program: what the compiler says; None if there is none.
    roofline: None also where loops make costs meaningless.
    fits: whether a chip's memory suffices; None if it did not compile.
    needed: bytes of memory, as far as known.
    error: why it does not lower or compile, with the operation.
  """

  name: str
  group: str
  batch: int
  program: Program | None = None
  roofline: Roofline | None = None
  fits: bool | None = None
  needed: int | None = None
  error: str | None = None

  @property
  def per_second(self) -> float | None:
    """Images or gradient evaluations per second, at most."""
    return self.batch / self.roofline.seconds if self.roofline else None


@dataclasses.dataclass(frozen=True)
class Result:
  """All functions of one experiment on one topology.

  Attributes:
    source: name of the dataset.
    topology: the chips.
    precision: what retrained models compute in.
    outcomes: one per function, and one per search for a largest batch.
    work: what a study has to compute; None without a study.
    images_per_core: images per second that one host core prepares, if known.
  """

  source: str
  topology: Topology
  precision: str
  outcomes: Sequence[Outcome]
  work: Work | None = None
  images_per_core: float | None = None

  @property
  def errors(self) -> list[Outcome]:
    """What does not lower or compile."""
    return [o for o in self.outcomes if o.error]

  @property
  def rates(self) -> Rates | None:
    """Seconds that all chips take together, at the roofline.

    None without a study, and where a function that it needs has no roofline.
    """
    if self.work is None:
      return None
    seconds = {
      o.name: o.roofline and (o.roofline.seconds, o.batch)
      for o in self.outcomes
    }
    explains = bool(self.work.gradient_evaluations)
    return times.rates(seconds, self.topology.chips, explains)

  @property
  def hours(self) -> dict[str, float] | None:
    """Hours of one chip by what they are for, and `all`, at the roofline."""
    work, rates = self.work, self.rates
    if rates is None:
      return None
    seconds = {
      'retraining': work.steps * rates.step,
      'training the explained model': (
        work.explained_steps * rates.explained_step
      ),
      'evaluation': work.tested_images * rates.test_image,
      'attribution': work.gradient_evaluations * rates.gradient,
    }
    hours = {n: s * self.topology.chips / 3600 for n, s in seconds.items()}
    return {**hours, 'all': sum(hours.values())}

  @property
  def cores(self) -> float | None:
    """Host cores per chip that training at the roofline needs, if known."""
    for step in self.outcomes:
      if step.name == times.STEP and step.per_second:
        return self.images_per_core and step.per_second / self.images_per_core
    return None
