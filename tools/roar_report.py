"""Makes a study's report from the runs that are there.

roar_report --study=quickstart
"""

from absl import flags

from roar_tf import cli

FLAGS = flags.FLAGS

flags.DEFINE_string('study', None, 'Name or .gin file of a study.')
cli.define_shared_flags()


def main() -> None:
  """Makes the report and prints its tables."""
  contexts = cli.contexts(cli.require_flag('study'), FLAGS.dataset)
  from roar_tf.study import pipeline, report_stage

  works = pipeline.study_work(contexts)
  pipeline.run(works, ('report',), **cli.execution())
  print(report_stage.outcome(works))


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
