"""Stage train: one unit per run, most of which retrain a model from scratch."""

from collections.abc import Sequence

from roar_tf import errors, workspace
from roar_tf.cells import ORIGINAL
from roar_tf.estimators import registry
from roar_tf.study import deletion, rank_stage, shards_stage, trainings
from roar_tf.study.context import Context
from roar_tf.study.grid import Run
from roar_tf.study.units import Target, Unit

VERSION = 2


def units(context: Context, runs: Sequence[Run], kind: str) -> list[Unit]:
  """Returns one unit per run; `kind` is what it reads, shards or ranking."""
  for run in runs:
    if run.cell and not run.trains:
      base = registry.parse(run.cell.estimator).base
      if base.external:
        raise errors.UsageError(
          f'{run}: the model that "{base.name}" explains is elsewhere, so that '
          'it cannot be tested here; leave out input "deletion".'
        )
  return [_unit(context, run, kind) for run in runs]


def directory(context: Context, run: Run) -> str:
  """Returns the directory of a run."""
  return context.workspace.run(run.study, run.source, run.folder, run.seed)


def done(context: Context, run: Run) -> str:
  """Returns the DONE marker of a run."""
  return f'{directory(context, run)}/{workspace.DONE}'


def _unit(context: Context, run: Run, kind: str) -> Unit:
  settings, inputs = {}, {'original': context.dataset_done(ORIGINAL)}
  if run.trains:
    experiment = context.experiment
    settings |= experiment.retrained.settings(experiment.retrained_model)
    settings['seed'] = run.seed
  else:
    inputs['explained model'] = context.model_done()
  if run.input != 'image':
    settings['input'] = run.input
  reads = ()
  if run.cell:
    settings |= shards_stage.settings(run.cell)
    ranking = rank_stage.config_name(run.cell.estimator, run.cell.granularity)
    inputs['ranking'] = context.dataset_done(ranking)
    # Shards are a deletable cache: a run that is done does not ask for them.
    if kind == 'shards' and run.reads_cell:
      reads = (context.dataset_done(run.cell_name),)
  place = directory(context, run)
  target = Target(
    done(context, run), 'train', VERSION, settings, inputs, reads=reads
  )

  def work(pending):
    for path in target.reads:
      workspace.require(path)
    ((_, fingerprint),) = pending
    if run.trains:
      trainings.train_one(
        context,
        'retrained',
        trainings.examples_of(context, run.cell, kind, run.input),
        # The cell is part of the seed, so that runs of different cells are
        # independent, as the statistics assume.
        ('run', run.source, run.folder, run.seed),
        place,
        fingerprint,
      )
    else:
      deletion.test(context, run.cell, kind, place)
    trainings.commit(context, target, fingerprint, place, trainings.CHECKED)

  return Unit(str(run), (target,), work)
