"""A dry run: what a study would do, take and cost, without doing it."""

from collections.abc import Callable, Sequence

from roar_tf.planning import amounts, calibration, rates, screen, sizes
from roar_tf.study import pipeline

NONE = 'none'
"""Value of --rates for counts only."""


def report(
  works: Sequence[pipeline.Work],
  stages: Sequence[str],
  *,
  rates_file: str | None = None,
  price: float | None = None,
  parallel: int = 1,
  worker: int = 0,
  num_workers: int = 1,
  stop: Callable[[], bool] = lambda: False,
) -> str:
  """Returns the dry run of a study as text.

  Args:
    works: the study, source by source.
    stages: those that would be run.
    rates_file: file of rates, `none` for counts only; measured here if None.
    price: of an hour of a device.
    parallel: see `pipeline.run`.
    worker: of no consequence: the whole study is told.
    num_workers: how many machines like this share the study.
    stop: whether a signal asked to stop.

  Raises:
    UsageError: artefacts were made with other settings, or the file of rates
      cannot be used.
    PreemptedError: stopped.
  """
  del worker
  sources = [work.context.experiment.source.name for work in works]
  found = None
  if rates_file and rates_file != NONE:
    found = rates.read(rates_file, sources)
  # Devices are asked for only where something will run on them.
  measured = rates_file is None
  explaining = works[0].context.devices.explaining if measured else 1
  tallies, amount = amounts.left(works, stages, explaining)
  if measured and any(tally.left for tally in tallies):
    busy = [
      work
      for work in works
      if not amount[work.context.experiment.source.name].is_empty
    ]
    found = calibration.measure(busy or works[:1], parallel, stop)
  machine, of_sources = found or (None, None)
  first = works[0].context
  return screen.text(
    f'{first.experiment.study.name} in {first.workspace.root}',
    tallies,
    amount,
    sizes.estimate(works, tallies, amount),
    machine,
    of_sources,
    num_workers,
    price,
  )
