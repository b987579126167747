"""Runs a study: all stages, resuming whatever is unfinished.

roar_study --study=quickstart
roar_study --study=quickstart --dry_run
roar_study --study=paper --stage=rank --worker=3 --num_workers=16

It may be stopped at any time: the same command, run again, goes on.
"""

import shlex

from roar_tf import cli, cli_flags, errors

FLAGS = cli_flags.FLAGS
CLEANED = ('shards', 'temporary')

cli_flags.define_string('study', None, 'Name or .gin file of a study.')
cli_flags.define_string(
  'stage',
  None,
  'Run this stage only: source, model, rank, shards, train or report; look or '
  'rerank, too, in a study that has it.',
)
cli_flags.define_bool(
  'list', False, 'Print every run and its command, then exit.'
)
cli_flags.define_bool(
  'dry_run',
  False,
  'Print what is left to do, and what it would take, then exit.',
)
cli_flags.define_bool(
  'status', False, 'Print what is done and who works on the rest, then exit.'
)
cli_flags.define_bool(
  'first',
  False,
  'Make the first unfinished unit of every stage, and what it needs: --dry_run '
  'then tells how long the rest takes.',
)
cli_flags.define_string(
  'rates',
  None,
  'For --dry_run: a file that roar_preflight --rates=FILE wrote, or "none" '
  'for counts only; by default units that were made tell how long others take.',
)
cli_flags.define_enum(
  'clean',
  None,
  CLEANED,
  "Delete the study's masked datasets, or what killed processes left half "
  'written in the workspace, then exit.',
)
cli_flags.define_list(
  'remake',
  [],
  'Delete the rankings of these estimators, or what these stages have made, '
  'and everything that was made from it, then go on. Whoever else works on the '
  'study must be stopped before.',
)
cli_flags.define_multi_string(
  'only',
  [],
  'Only the runs of which all this holds, and what they need: key:value,... '
  'with keys source, estimator (also "original"), granularity, mode, '
  'threshold, fill, input, seed; values of one key are alternatives.',
)
cli_flags.define_integer(
  'run',
  None,
  'Only the run that --list prints under this number, and what it needs, '
  'without the report.',
  lower_bound=0,
)
cli_flags.define_shared_flags()
cli_flags.define_device_flags()
cli_flags.define_worker_flags()
cli_flags.define_price_flag()
cli_flags.define_cluster_flags()


OWN = (
  *('stage', 'list', 'dry_run', 'status', 'first', 'rates', 'clean', 'remake'),
  *('only', 'run', 'price_per_hour'),
)
"""Flags that an older form of a verb, such as --list, may have no use for. It
takes all others: people add it to a command that is there."""
FLAG_VERBS = {
  'list': 'list',
  'dry_run': 'plan',
  'status': 'status',
  'clean': 'clean',
}
"""Verbs by the flags that ask for them, too."""


def main() -> None:
  """Runs the study, or does what one of `FLAG_VERBS` asks for."""
  given = [flag for flag in FLAG_VERBS if FLAGS[flag].value]
  if len(given) > 1:
    listed = ' and '.join(f'--{flag}' for flag in given)
    raise errors.UsageError(f'{listed}: give one of them.')
  if given:
    (flag,) = given
    verb = VERBS[FLAG_VERBS[flag]]
    known = {flag, *verb.takes}
    cli.refuse(f'--{flag}', [name for name in OWN if name not in known])
    verb.main(*[FLAGS.clean] if FLAGS.clean else ())
    return
  if FLAGS.remake and FLAGS.num_workers > 1:
    raise errors.UsageError(
      '--remake is for one process that runs the study; leave out '
      '--num_workers.'
    )
  if FLAGS.rates is not None:
    raise errors.UsageError('--rates is for --dry_run; add it.')
  _run(_pipeline('created'))


def _pipeline(root: str = 'anywhere'):
  """Returns the study with the runs that the flags choose; see `cli.pipeline`.

  Raises:
    UsageError: something is unknown, or flags mean nothing together.
  """
  study = cli.require_flag('study')
  cli.share()  # Refuses a worker that cannot be.
  pipeline = cli.pipeline(study, FLAGS.dataset, root)
  if FLAGS.run is not None and FLAGS.only:
    raise errors.UsageError(
      f'--run={FLAGS.run} is one run already; leave out --only.'
    )
  if FLAGS.run is not None:
    pipeline.choose_number(FLAGS.run)
  elif FLAGS.only:
    pipeline.choose(FLAGS.only)
  return pipeline


def _goals(pipeline) -> tuple[list, tuple[str, ...] | None]:
  """Returns what is asked for, and the stages that may work on it."""
  # Hundreds of jobs of one run each need not all report.
  goals = pipeline.goals(FLAGS.stage, report=FLAGS.run is None)
  return goals, (FLAGS.stage,) if FLAGS.stage else None


def _list() -> None:
  """Prints every chosen run with its number and its command."""
  from roar_tf.study import report

  pipeline = _pipeline()
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


def _plan() -> None:
  """Prints what is left to do, and what it would take."""
  if FLAGS.price_per_hour is not None and FLAGS.rates == 'none':
    raise errors.UsageError(
      '--price_per_hour needs rates; leave out --rates=none.'
    )
  pipeline = _pipeline()
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


def _status() -> None:
  """Prints what is done and who works on the rest."""
  from roar_tf.engine import status

  pipeline = _pipeline('there')
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


def _clean(what: str = '', *more: str) -> None:
  """Deletes what may be deleted without losing any result."""
  if what not in CLEANED or more:
    found = ' '.join([what, *more]) or 'nothing'
    raise errors.UsageError(
      f'say what is to be cleaned, {" or ".join(CLEANED)}; found {found}.'
    )
  from roar_tf.study import cleaning, paths

  if what == 'shards':
    print(cleaning.clean_shards(_pipeline('created')))
    return
  cli.refuse('clean temporary', ('only', 'run'))
  print(cleaning.clean_temporary(paths.Workspace(FLAGS.workspace)))


def _run(pipeline) -> None:
  """Makes what is asked for and prints the outcome."""
  if FLAGS.remake:
    from roar_tf.study import cleaning

    print(cleaning.remake(pipeline, FLAGS.remake), flush=True)
  failure = None
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


_CONFIGURATION = (
  'study',
  *('workspace', 'data_dir', 'gin_file', 'gin_bindings', 'dataset', 'seed'),
)
VERBS = {
  'list': cli.Verb(
    _list,
    """Prints every run of a study: its number and its command.

roar_tf list --study=quickstart
roar_tf list --study=paper --only=estimator:grad,threshold:90
""",
    (*_CONFIGURATION, 'only', 'run'),
  ),
  'plan': cli.Verb(
    _plan,
    """Prints what is left of a study, and what it would take; writes nothing.

roar_tf plan --study=quickstart
roar_tf plan --study=paper --num_workers=16 --price_per_hour=1.20
""",
    (
      *_CONFIGURATION,
      *('only', 'run', 'stage', 'rates', 'price_per_hour'),
      *('threads', 'parallel', 'strategy', 'tpu', 'num_workers', 'executor'),
    ),
  ),
  'status': cli.Verb(
    _status,
    """Prints what of a study is done, and who works on the rest.

roar_tf status --study=quickstart
""",
    (*_CONFIGURATION, 'price_per_hour'),
  ),
  'clean': cli.Verb(
    _clean,
    """Deletes what can be made again, or what nobody finished.

roar_tf clean shards --study=quickstart
roar_tf clean temporary --workspace=/data/roar

`shards` are the masked datasets of a study. `temporary` is what killed
processes left half written in a workspace.
""",
    (*_CONFIGURATION, 'only', 'run'),
    words='|'.join(CLEANED),
  ),
}


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
