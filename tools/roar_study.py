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
flags.DEFINE_enum(
  'clean',
  None,
  ('shards', 'temporary'),
  "Delete the study's masked datasets, or what killed processes left half "
  'written in the workspace, then exit.',
)
cli.define_shared_flags()
cli.define_device_flags()
cli.define_worker_flags()
cli.define_cluster_flags()


def main() -> None:
  """Runs the stages that the flags ask for and prints the outcome."""
  if FLAGS.clean:
    _clean()
    return
  study = cli.require_flag('study')
  execution = cli.execution()
  contexts = cli.contexts(study, FLAGS.dataset)
  from roar_tf.study import pipeline, report_stage

  works = pipeline.study_work(contexts)
  if FLAGS.list:
    runs = [(work.context, run) for work in works for run in work.runs]
    places = shlex.join(
      f'--{name}={FLAGS[name].value}'
      for name in ('workspace', 'data_dir')
      if FLAGS[name].value != FLAGS[name].default
    )
    places = f' {places}' if places else ''
    for number, (context, run) in enumerate(runs):
      print(f'{number:5d}  {report_stage.command(context, run)}{places}')
    return
  stages = (FLAGS.stage,) if FLAGS.stage else STAGES
  failure = None
  try:
    if FLAGS.executor == 'ray':
      with cli.cluster(study, FLAGS.dataset) as execute:
        pipeline.run_on(execute, works, stages, stop=execution['stop'])
    else:
      pipeline.run(works, stages, **execution)
  except errors.UnitsFailedError as e:
    failure = e
  if 'report' in stages and (outcome := report_stage.outcome(works)):
    print(outcome, flush=True)
  if failure:
    raise failure


def _clean() -> None:
  """Deletes what --clean names and prints what was freed."""
  if FLAGS.list or FLAGS.stage:
    raise errors.UsageError(
      f'--clean={FLAGS.clean} runs and lists nothing; leave out --stage and '
      '--list.'
    )
  if FLAGS.clean == 'temporary':
    from roar_tf import workspace
    from roar_tf.study import cleaning

    print(cleaning.clean_temporary(workspace.Workspace(FLAGS.workspace)))
    return
  contexts = cli.contexts(cli.require_flag('study'), FLAGS.dataset)
  from roar_tf.study import cleaning, pipeline

  print(cleaning.clean_shards(pipeline.study_work(contexts)))


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
