"""The stages of a study in their order, and what each has to do."""

import dataclasses
from collections.abc import Callable, Container, Sequence

import tensorflow as tf

from roar_tf import errors
from roar_tf.cells import Cell
from roar_tf.estimators import registry
from roar_tf.study import (
  STAGES,
  executor,
  model_stage,
  progress,
  rank_stage,
  report_stage,
  shards_stage,
  source_stage,
  train_stage,
  trainings,
)
from roar_tf.study.context import Context
from roar_tf.study.grid import Run
from roar_tf.study.heartbeat import Heartbeat
from roar_tf.study.units import Unit
from roar_tf.training.loop import Trainer

TOGETHER = ('model', 'train')
"""Stages whose units all hosts of one program share; the first does the rest,
while the others wait. (Several programs share units by --worker.)"""


@dataclasses.dataclass(frozen=True)
class Work:
  """What is to be made of one source.

  Attributes:
    context: the experiment.
    cells: modified datasets.
    runs: retrainings.
    input: what a run reads: `shards`, or `ranking` to mask on the fly.
    chosen: those of the runs that all stages but `report` make, with what they
      need; None for all, and for all cells.
  """

  context: Context
  cells: Sequence[Cell]
  runs: Sequence[Run] = ()
  input: str = 'shards'
  chosen: frozenset[Run] | None = None

  def __post_init__(self):
    """Raises UsageError for cells that source and rankings cannot give."""
    trainings.check_fills(self.context.experiment.source, self.cells)
    for cell in self.cells:
      self.context.experiment.ranking.check_threshold(cell.threshold)

  def is_chosen(self, run: Run) -> bool:
    """Whether a run is to be made."""
    return self.chosen is None or run in self.chosen

  @property
  def chosen_runs(self) -> list[Run]:
    """The runs to be made."""
    return [run for run in self.runs if self.is_chosen(run)]

  @property
  def chosen_cells(self) -> list[Cell]:
    """The cells to be made: those of the chosen runs."""
    if self.chosen is None:
      return list(self.cells)
    needed = {run.cell for run in self.chosen_runs}
    return [cell for cell in self.cells if cell in needed]

  def units(self, stage: str) -> list[Unit]:
    """Returns the units of any stage but `report`."""
    context, cells = self.context, self.chosen_cells
    if self.chosen is not None and not self.chosen_runs:
      return []
    if stage == 'source':
      return source_stage.units(context)
    if stage == 'model':
      bases = [registry.parse(c.estimator).base for c in cells]
      # Scores from files explain a model that is elsewhere.
      if bases and all(base.external for base in bases):
        return []
      needed = any(base.needs_model for base in bases) or not all(
        run.trains for run in self.chosen_runs
      )
      if self.chosen is not None and not needed:
        return []
      return model_stage.units(context)
    if stage == 'rank':
      pairs = dict.fromkeys((c.estimator, c.granularity) for c in cells)
      return rank_stage.units(context, list(pairs)) if pairs else []
    if stage == 'shards':
      if self.chosen is not None:
        read = {run.cell for run in self.chosen_runs if run.reads_cell}
        cells = [cell for cell in cells if cell in read]
      return shards_stage.units(
        context, cells if self.input == 'shards' else []
      )
    return train_stage.units(context, self.chosen_runs, self.input)

  def without_spare_cells(
    self, exists: Callable[[str], bool] = tf.io.gfile.exists
  ) -> 'Work':
    """Returns this work without masked datasets that no run will read.

    They were deleted, or never made, and all runs on them are done.

    Args:
      exists: whether a marker is there.
    """
    finished = {run.cell: True for run in self.chosen_runs}
    for run in self.chosen_runs:
      if run.reads_cell and finished[run.cell]:
        marker = train_stage.done(self.context, run)
        finished[run.cell] = exists(marker)
    cells = [
      cell
      for cell in self.cells
      if not finished.get(cell) or exists(self.context.dataset_done(cell.name))
    ]
    return dataclasses.replace(self, cells=cells)


def study_work(contexts: Sequence[Context]) -> list[Work]:
  """Returns the work of a whole study, source by source."""
  works = []
  for context in contexts:
    experiment = context.experiment
    study = experiment.study
    runs = study.runs(experiment.source.name, experiment.seed)
    works.append(Work(context, list(study.cells()), runs, study.input))
  return works


def units(works: Sequence[Work], stage: str) -> list[Unit]:
  """Returns the units of a stage over all sources."""
  if stage == 'report':
    return report_stage.units(works)
  return [unit for work in works for unit in work.units(stage)]


def run(
  works: Sequence[Work],
  stages: Sequence[str],
  *,
  only: Container[str] | None = None,
  worker: int = 0,
  num_workers: int = 1,
  parallel: int = 1,
  stop: Callable[[], bool] = lambda: False,
  heartbeat: Heartbeat | None = None,
) -> None:
  """Runs stages one after the other; what is finished is kept.

  Args:
    works: what to make, source by source.
    stages: some of STAGES, in their order.
    only: DONE markers of the artefacts to make; None for all.
    worker: this worker.
    num_workers: how many workers share every stage.
    parallel: units that this worker runs side by side.
    stop: whether a signal asked to stop.
    heartbeat: says in the workspace what this process does.

  Raises:
    UnitsFailedError: some unit failed; all others of these stages were done as
      far as their inputs allowed.
    UsageError: an artefact was made with other settings.
    PreemptedError: stopped by a signal after saving.
  """
  # First of all: collectives must be set up before TensorFlow does anything.
  devices = works[0].context.devices
  if heartbeat:
    heartbeat.uses(len(devices.local_replicas), helper=not devices.is_chief)
  _check_before(works, stages)
  failures = []
  if devices.replicas > 1:
    parallel = 1  # One program uses all of them.
  for stage in stages:
    if not devices.is_chief and stage not in TOGETHER:
      devices.barrier()
      continue
    before = step_seconds(works)
    tally = executor.execute(
      stage,
      _selected(works, stages, stage, only),
      worker=worker,
      num_workers=num_workers,
      parallel=parallel,
      stop=stop,
      heartbeat=heartbeat,
    )
    failures += tally.failures
    tally.step_seconds = step_seconds(works) - before
    tally.unit_seconds = tally.seconds * min(parallel, tally.made)
    print(tally.summary(stage), flush=True)
    devices.barrier()
  _raise(failures)


def run_on(
  execute: Callable[..., None],
  works: Sequence[Work],
  stages: Sequence[str],
  *,
  stop: Callable[[], bool] = lambda: False,
  heartbeat=None,
) -> None:
  """Runs stages elsewhere, without a barrier: a unit waits for its inputs.

  This process computes nothing.

  Args:
    execute: `cluster.driver.execute` of some cluster.
    works: see `run`, like the next two and what is raised.
    stages: some of STAGES, in their order.
    stop: whether a signal asked to stop.
    heartbeat: see `cluster.driver.execute`.
  """
  _check_before(works, stages)
  failures = []

  def finished(stage: str, tally: executor.Tally) -> None:
    failures.extend(tally.failures)
    progress.say(tally.summary(stage))

  # A report is made from the runs that are there when all else has ended.
  for some in (
    [stage for stage in stages if stage != 'report'],
    [stage for stage in stages if stage == 'report'],
  ):
    execute(
      {stage: _selected(works, stages, stage, None) for stage in some},
      finished,
      stop,
      heartbeat,
    )
  _raise(failures)


def _raise(failures: Sequence[str]) -> None:
  """Raises UnitsFailedError if there are failures."""
  if failures:
    lines = '\n  '.join(failures)
    raise errors.UnitsFailedError(
      f'{len(failures)} of the units failed, the rest is done:\n  {lines}'
    )


def _selected(works, stages, stage, only) -> list[Unit]:
  """Returns the units of a stage, as far as somebody needs what they make."""
  if only is None:
    if stage == 'shards' and 'train' in stages:
      works = [work.without_spare_cells() for work in works]
    return units(works, stage)
  chosen = [unit.only(only) for unit in units(works, stage)]
  return [unit for unit in chosen if unit.targets]


def _check_before(works: Sequence[Work], stages: Sequence[str]) -> None:
  """Refuses to work beside, or from, artefacts made with other settings.

  A report alone names runs of other settings and leaves them out.

  Raises:
    UsageError: the artefact and the setting are named.
  """
  before = STAGES[: STAGES.index(stages[0])]
  checked = [
    stage for stage in before if stages[0] != 'report' or stage != 'train'
  ]
  for stage in (*checked, *stages):
    for unit in units(works, stage):
      for target in unit.targets:
        target.check_settings()


def step_seconds(works: Sequence[Work]) -> float:
  """Returns the seconds spent in training steps so far, over all threads."""
  return sum(
    value.step_seconds
    for work in works
    for value in work.context.cache.values()
    if isinstance(value, Trainer)
  )
