"""Makes a study's report from the runs that are there.

roar_report --study=quickstart

Exit status 1 if runs are missing, damaged or of other settings: each is named.
"""

from absl import flags

from roar_tf import cli, errors

FLAGS = flags.FLAGS

flags.DEFINE_string('study', None, 'Name or .gin file of a study.')
cli.define_shared_flags()
cli.define_price_flag()


def main() -> None:
  """Makes the report and prints its tables."""
  contexts = cli.contexts(cli.require_flag('study'), FLAGS.dataset)
  from roar_tf.study import pipeline, report_stage

  works = pipeline.study_work(contexts)
  failure = None
  try:
    pipeline.run(works, ('report',), **cli.execution())
  except errors.UnitsFailedError as e:
    failure = e
  if outcome := report_stage.outcome(works):
    print(outcome, flush=True)
  if failure:
    raise failure
  report_stage.require_all(works)


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
