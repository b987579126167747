"""Runs a study: all stages, resuming whatever is unfinished.

roar_study --study=quickstart
"""

import shlex

from absl import flags

from roar_tf import cli, errors
from roar_tf.study import STAGES

FLAGS = flags.FLAGS

flags.DEFINE_string('study', None, 'Name or .gin file of a study.')
flags.DEFINE_enum('stage', None, STAGES, 'Run this stage only.')
flags.DEFINE_bool('list', False, 'Print every run and its command, then exit.')
flags.DEFINE_bool(
  'dry_run',
  False,
  'Print what is left to do, and what it would take, then exit.',
)
flags.DEFINE_bool(
  'status', False, 'Print what is done and who works on the rest, then exit.'
)
flags.DEFINE_string(
  'rates',
  None,
  'With --dry_run: a file that roar_preflight --rates=FILE wrote, or "none" '
  'for counts only; by default rates are measured on this machine.',
)
flags.DEFINE_enum(
  'clean',
  None,
  ('shards', 'temporary'),
  "Delete the study's masked datasets, or what killed processes left half "
  'written in the workspace, then exit.',
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
cli.define_shared_flags()
cli.define_device_flags()
cli.define_worker_flags()
cli.define_price_flag()
cli.define_cluster_flags()


def main() -> None:
  """Does what the flags ask for: run the study, or look at it."""
  action = _action()
  if action == 'clean' and FLAGS.clean == 'temporary':
    _clean_temporary()
    return
  study, execution = cli.require_flag('study'), cli.execution()
  root = {'status': 'there', 'list': 'anywhere', 'dry_run': 'anywhere'}
  contexts = cli.contexts(study, FLAGS.dataset, root=root.get(action, 'made'))
  from roar_tf.study import pipeline

  works = _chosen(pipeline.study_work(contexts))
  if action == 'list':
    _list(works)
  elif action == 'dry_run':
    from roar_tf.planning import dry_run

    prices = dict(rates_file=FLAGS.rates, price=FLAGS.price_per_hour)
    print(dry_run.report(works, _stages(), **prices, **execution))
  elif action == 'status':
    from roar_tf.study import status_text

    print(status_text.of_study(works, FLAGS.price_per_hour))
  elif action == 'clean':
    from roar_tf.study import cleaning

    print(cleaning.clean_shards(works))
  else:
    _run(works, execution)


def _action() -> str | None:
  """Returns the flag that asks for another thing than to run the study.

  Raises:
    UsageError: flags that mean nothing together.
  """
  actions = ('list', 'dry_run', 'status', 'clean')
  given = [name for name in actions if FLAGS[name].value]
  if len(given) > 1:
    listed = ' and '.join(f'--{name}' for name in given)
    raise errors.UsageError(f'{listed}: give one of them.')
  action = given[0] if given else None
  chosen = ('only', 'run')
  unfit = {
    'list': ('stage', 'price_per_hour'),
    'status': ('stage', *chosen),
    'clean': (
      'stage',
      'price_per_hour',
      *(chosen if FLAGS.clean == 'temporary' else ()),
    ),
  }
  for name in unfit.get(action, ()):
    if FLAGS[name].value not in (None, []):
      what = f'--clean={FLAGS.clean}' if action == 'clean' else f'--{action}'
      raise errors.UsageError(f'{what} takes no --{name}; leave it out.')
  if FLAGS.rates is not None and action != 'dry_run':
    raise errors.UsageError('--rates is for --dry_run; add it.')
  if FLAGS.price_per_hour is not None and FLAGS.rates == 'none':
    raise errors.UsageError(
      '--price_per_hour needs rates; leave out --rates=none.'
    )
  return action


def _chosen(works):
  """Returns works of which --only or --run has chosen runs."""
  from roar_tf.study import selection

  if FLAGS.run is not None and FLAGS.only:
    raise errors.UsageError(
      f'--run={FLAGS.run} is one run already; leave out --only.'
    )
  if FLAGS.run is not None:
    return selection.number(works, FLAGS.run)
  return selection.only(works, FLAGS.only) if FLAGS.only else works


def _stages() -> tuple[str, ...]:
  if FLAGS.stage:
    return (FLAGS.stage,)
  # Hundreds of jobs of one run each need not all report.
  return STAGES if FLAGS.run is None else STAGES[:-1]


def _list(works) -> None:
  """Prints every chosen run with its number and its command."""
  from roar_tf.study import report_stage, selection

  places = shlex.join(
    f'--{name}={FLAGS[name].value}'
    for name in ('workspace', 'data_dir')
    if FLAGS[name].value != FLAGS[name].default
  )
  places = f' {places}' if places else ''
  for number, context, run in selection.numbered(works):
    print(f'{number:5d}  {report_stage.command(context, run)}{places}')


def _run(works, execution) -> None:
  """Runs the stages and prints the outcome."""
  from roar_tf.study import heartbeat, pipeline, report_stage

  context, stages = works[0].context, _stages()
  failure = None
  beat = heartbeat.Heartbeat(
    context.workspace,
    context.experiment.study.name,
    worker=FLAGS.worker,
    num_workers=FLAGS.num_workers,
  )
  try:
    with beat:
      if FLAGS.executor == 'ray':
        with cli.cluster(FLAGS.study, FLAGS.dataset) as execute:
          pipeline.run_on(
            execute, works, stages, stop=execution['stop'], heartbeat=beat
          )
      else:
        pipeline.run(works, stages, heartbeat=beat, **execution)
  except errors.UnitsFailedError as e:
    failure = e
  if 'report' in stages and (outcome := report_stage.outcome(works)):
    print(outcome, flush=True)
  if failure:
    raise failure


def _clean_temporary() -> None:
  from roar_tf import workspace
  from roar_tf.study import cleaning

  print(cleaning.clean_temporary(workspace.Workspace(FLAGS.workspace)))


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
