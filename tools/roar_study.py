"""Runs a study: all stages, resuming whatever is unfinished.

roar_study --study=quickstart
"""

import dataclasses
import shlex
from collections.abc import Callable

from absl import flags

from roar_tf import cli, cli_flags, errors

FLAGS = flags.FLAGS

flags.DEFINE_string('study', None, 'Name or .gin file of a study.')
flags.DEFINE_string(
  'stage',
  None,
  'Run this stage only: source, model, rank, shards, train or report.',
)
flags.DEFINE_bool('list', False, 'Print every run and its command, then exit.')
flags.DEFINE_bool(
  'dry_run',
  False,
  'Print what is left to do, and what it would take, then exit.',
)
flags.DEFINE_bool(
  'status', False, 'Print what is done and who works on the rest, then exit.'
)
flags.DEFINE_bool(
  'first',
  False,
  'Make the first unfinished unit of every stage, and what it needs: --dry_run '
  'then tells how long the rest takes.',
)
flags.DEFINE_string(
  'rates',
  None,
  'With --dry_run: a file that roar_preflight --rates=FILE wrote, or "none" '
  'for counts only; by default units that were made tell how long others take.',
)
flags.DEFINE_enum(
  'clean',
  None,
  ('shards', 'temporary'),
  "Delete the study's masked datasets, or what killed processes left half "
  'written in the workspace, then exit.',
)
flags.DEFINE_list(
  'remake',
  [],
  'Delete the rankings of these estimators, or what these stages have made, '
  'and everything that was made from it, then go on. Whoever else works on the '
  'study must be stopped before.',
)
flags.DEFINE_multi_string(
  'only',
  [],
  'Make the runs of which all this holds, and what they need: key:value,... '
  'with keys source, estimator (also "original"), granularity, mode, '
  'threshold, fill, input, seed; values of one key are alternatives.',
)
flags.DEFINE_integer(
  'run',
  None,
  'Make the run that --list prints under this number, and what it needs, '
  'without the report.',
  lower_bound=0,
)
cli_flags.define_shared_flags()
cli_flags.define_device_flags()
cli_flags.define_worker_flags()
cli_flags.define_price_flag()
cli_flags.define_cluster_flags()


@dataclasses.dataclass(frozen=True)
class Action:
  """Something else than to run the study, which a flag asks for.

  Attributes:
    work: does it, given the pipeline of the study.
    refuses: flags that mean nothing beside it.
    root: see `cli.pipeline`.
  """

  work: Callable
  refuses: tuple[str, ...]
  root: str = 'anywhere'


def main() -> None:
  """Does what the flags ask for: run the study, or look at it."""
  action = _action()
  if action is _CLEAN_TEMPORARY:
    _clean_temporary()
    return
  study = cli.require_flag('study')
  cli.share()  # Refuses a worker that cannot be.
  pipeline = cli.pipeline(study, FLAGS.dataset, action.root)
  if FLAGS.run is not None and FLAGS.only:
    raise errors.UsageError(
      f'--run={FLAGS.run} is one run already; leave out --only.'
    )
  if FLAGS.run is not None:
    pipeline.choose_number(FLAGS.run)
  elif FLAGS.only:
    pipeline.choose(FLAGS.only)
  action.work(pipeline)


def _action() -> Action:
  """Returns what the flags ask for.

  Raises:
    UsageError: flags that mean nothing together.
  """
  given = [name for name in _ACTIONS if FLAGS[name].value]
  if len(given) > 1:
    listed = ' and '.join(f'--{name}' for name in given)
    raise errors.UsageError(f'{listed}: give one of them.')
  action, title = _RUN, ''
  if given:
    action, title = _ACTIONS[given[0]], f'--{given[0]}'
  if FLAGS.clean:
    title += f'={FLAGS.clean}'
    if FLAGS.clean == 'temporary':
      action = _CLEAN_TEMPORARY
  for name in action.refuses:
    if FLAGS[name].value not in (None, [], False):
      raise errors.UsageError(f'{title} takes no --{name}; leave it out.')
  if FLAGS.remake and (given or FLAGS.num_workers > 1):
    raise errors.UsageError(
      '--remake is for one process that runs the study; leave out '
      f'{title or "--num_workers"}.'
    )
  if FLAGS.rates is not None and not FLAGS.dry_run:
    raise errors.UsageError('--rates is for --dry_run; add it.')
  if FLAGS.price_per_hour is not None and FLAGS.rates == 'none':
    raise errors.UsageError(
      '--price_per_hour needs rates; leave out --rates=none.'
    )
  return action


def _goals(pipeline) -> tuple[list, tuple[str, ...] | None]:
  """Returns what is asked for, and the stages that may work on it."""
  # Hundreds of jobs of one run each need not all report.
  goals = pipeline.goals(FLAGS.stage, report=FLAGS.run is None)
  return goals, (FLAGS.stage,) if FLAGS.stage else None


def _list(pipeline) -> None:
  """Prints every chosen run with its number and its command."""
  from roar_tf.study import report

  paths = shlex.join(
    f'--{name}={FLAGS[name].value}'
    for name in ('workspace', 'data_dir')
    if FLAGS[name].value != FLAGS[name].default
  )
  paths = f' {paths}' if paths else ''
  due = set(pipeline.looks.due()) if pipeline.looks else None
  for number, run in pipeline.numbered():
    command = report.run_command(pipeline.of(run).context, run)
    # A shell takes it for a comment.
    note = '' if due is None or run not in due else '  # due'
    print(f'{number:5d}  {command}{paths}{note}')


def _dry_run(pipeline) -> None:
  from roar_tf import engine
  from roar_tf.study import forecast, stages

  def parallel() -> int:
    if FLAGS.executor == 'ray':
      return FLAGS.parallel or engine.cores()
    # Whatever the TPU is, this machine does not see it yet.
    return 1 if FLAGS.tpu else stages.side_by_side(FLAGS.parallel)

  pipeline.context.workspace.check_reachable()
  print(
    forecast.report(
      pipeline,
      *_goals(pipeline),
      rates_file=FLAGS.rates,
      price=FLAGS.price_per_hour,
      parallel=parallel,
      workers=FLAGS.num_workers,
    )
  )


def _status(pipeline) -> None:
  from roar_tf.engine import status

  workspace, study = pipeline.context.workspace, pipeline.study.name
  if pipeline.looks:
    print(f'{pipeline.looks}\n')
  print(
    status.show(
      f'Study {study}',
      workspace.root,
      workspace.heartbeats(study),
      pipeline.goals(),
      FLAGS.price_per_hour,
    )
  )


def _clean_shards(pipeline) -> None:
  from roar_tf.study import cleaning

  print(cleaning.clean_shards(pipeline))


def _clean_temporary() -> None:
  from roar_tf.study import cleaning, paths

  print(cleaning.clean_temporary(paths.Workspace(FLAGS.workspace)))


def _run(pipeline) -> None:
  """Makes what is asked for and prints the outcome."""
  if FLAGS.remake:
    from roar_tf.study import cleaning

    print(cleaning.remake(pipeline, FLAGS.remake), flush=True)
  failure = None
  if pipeline.looks:
    pipeline.looks.renew()
  if pipeline.looks and pipeline.is_whole and not (FLAGS.stage or FLAGS.first):
    failure = _make_looks(pipeline)
  goals, within = _goals(pipeline)
  if failure:  # All else has been tried.
    goals = pipeline.goals(pipeline.report.name)
  if FLAGS.first:
    goals, within = pipeline.first(goals, within), None
  try:
    _make(pipeline, goals, within)
  except errors.UnitsFailedError as e:
    failure = failure or e
  if pipeline.report.artefact in goals:
    if summary := pipeline.report.summary():
      print(summary, flush=True)
  if pipeline.looks:
    print(pipeline.looks, flush=True)
  if failure:
    raise failure


def _make_looks(pipeline) -> errors.UnitsFailedError | None:
  """Makes what is due, and what that makes due, as far as this worker can.

  Returns:
    What failed, if something did.
  """
  looks = pipeline.looks
  while not looks.is_over():
    number = looks.current()
    try:
      _make(pipeline, pipeline.goals(report=False), None)
    except errors.UnitsFailedError as e:
      return e
    if not looks.is_decided(number):
      print(f'Look {number} is left to the worker that finishes last.')
      return None
  return None


def _make(pipeline, goals, within) -> None:
  """Makes goals here or on a cluster, while a heartbeat tells of it."""
  from roar_tf.engine import heartbeat

  context = pipeline.context
  beat = heartbeat.Heartbeat(
    context.workspace.heartbeats(pipeline.study.name), cli.share()
  )
  if FLAGS.executor == 'local':
    with beat, cli.workforce(beat) as workforce:
      workforce.make(context, goals, within)
    return
  asked = cli.recipe(FLAGS.study, FLAGS.dataset)
  with (
    beat,
    cli.cluster_pool(pipeline, asked) as pool,
    cli.workforce(beat, pool) as workforce,
  ):
    workforce.make(context, goals, within)


_RUN = Action(_run, (), 'created')
_ACTIONS = {
  'list': Action(_list, ('stage', 'first', 'price_per_hour')),
  'dry_run': Action(_dry_run, ('first',)),
  'status': Action(_status, ('stage', 'first', 'only', 'run'), 'there'),
  'clean': Action(
    _clean_shards, ('stage', 'first', 'price_per_hour'), 'created'
  ),
}
_CLEAN_TEMPORARY = Action(
  _clean_temporary, ('stage', 'first', 'price_per_hour', 'only', 'run')
)


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
