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
flags.DEFINE_string(
  'rates',
  None,
  'With --dry_run: a file that roar_preflight --rates=FILE wrote, or "none" '
  'for counts only; by default rates are measured on this machine.',
)
flags.DEFINE_float(
  'price_per_hour',
  None,
  'With --dry_run: of one device, in any currency.',
  lower_bound=0,
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


def main() -> None:
  """Runs the stages that the flags ask for and prints the outcome."""
  if FLAGS.clean:
    _clean()
    return
  study = cli.require_flag('study')
  execution = cli.execution()
  _check_flags()
  contexts = cli.contexts(study, FLAGS.dataset, make=not FLAGS.dry_run)
  from roar_tf.study import pipeline, report_stage, selection

  works = _chosen(pipeline.study_work(contexts))
  if FLAGS.list:
    places = shlex.join(
      f'--{name}={FLAGS[name].value}'
      for name in ('workspace', 'data_dir')
      if FLAGS[name].value != FLAGS[name].default
    )
    places = f' {places}' if places else ''
    for number, context, run in selection.numbered(works):
      print(f'{number:5d}  {report_stage.command(context, run)}{places}')
    return
  stages = (FLAGS.stage,) if FLAGS.stage else STAGES
  if FLAGS.run is not None and not FLAGS.stage:
    stages = STAGES[:-1]  # Hundreds of jobs need not all report.
  if FLAGS.dry_run:
    from roar_tf.planning import dry_run

    print(
      dry_run.report(
        works,
        stages,
        rates_file=FLAGS.rates,
        price=FLAGS.price_per_hour,
        **execution,
      )
    )
    return
  failure = None
  try:
    pipeline.run(works, stages, **execution)
  except errors.UnitsFailedError as e:
    failure = e
  if 'report' in stages and (outcome := report_stage.outcome(works)):
    print(outcome, flush=True)
  if failure:
    raise failure


def _check_flags() -> None:
  """Raises UsageError for flags that mean nothing together."""
  if FLAGS.dry_run and FLAGS.list:
    raise errors.UsageError('--dry_run and --list: give one of them.')
  for name in ('rates', 'price_per_hour'):
    if FLAGS[name].value is not None and not FLAGS.dry_run:
      raise errors.UsageError(f'--{name} is for --dry_run; add it.')
  if FLAGS.price_per_hour is not None and FLAGS.rates == 'none':
    raise errors.UsageError(
      '--price_per_hour needs rates; leave out --rates=none.'
    )


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


def _clean() -> None:
  """Deletes what --clean names and prints what was freed."""
  if FLAGS.list or FLAGS.stage or FLAGS.dry_run:
    raise errors.UsageError(
      f'--clean={FLAGS.clean} runs and lists nothing; leave out --stage, '
      '--list and --dry_run.'
    )
  if FLAGS.clean == 'temporary':
    if FLAGS.only or FLAGS.run is not None:
      raise errors.UsageError(
        '--clean=temporary is about a whole workspace; leave out --only and '
        '--run.'
      )
    from roar_tf import workspace
    from roar_tf.study import cleaning

    print(cleaning.clean_temporary(workspace.Workspace(FLAGS.workspace)))
    return
  contexts = cli.contexts(cli.require_flag('study'), FLAGS.dataset)
  from roar_tf.study import cleaning, pipeline

  print(cleaning.clean_shards(_chosen(pipeline.study_work(contexts))))


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
