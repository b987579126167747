"""Makes a study's report from the runs that are there.

roar_report --study=quickstart
roar_report --study=quickstart --price_per_hour=1.20
roar_report --study=quickstart --results=piece_1,piece_2 --output=merged

With --results, runs that were made elsewhere join those of the workspace, or
stand alone where it has none.

The exit status is 1 if runs are missing, damaged or of other settings; each of
them is named.
"""

from roar_tf import cli, cli_flags, errors
from roar_tf.engine import locations

FLAGS = cli_flags.FLAGS

cli_flags.define_string('study', None, 'Name or .gin file of a study.')
cli_flags.define_list(
  'results',
  [],
  'Folders of reports, or tables like their results.csv, whose runs belong to '
  'the report, too.',
)
cli_flags.define_string(
  'output', None, 'With --results, the folder of the report.'
)
cli_flags.define_shared_flags()
cli_flags.define_price_flag()


def main() -> None:
  """Makes the report and prints its tables."""
  if bool(FLAGS.results) != bool(FLAGS.output):
    raise errors.UsageError(
      '--results and --output belong together: which runs join the report, and '
      'where it goes.'
    )
  root = 'anywhere' if FLAGS.results else 'created'
  pipeline = cli.pipeline(cli.require_flag('study'), FLAGS.dataset, root)
  report, failure = pipeline.report, None
  if FLAGS.results:
    output = locations.located(FLAGS.output, '--output')
    try:
      report.merge(
        [locations.located(path, '--results') for path in FLAGS.results], output
      )
    finally:
      if summary := report.summary(output):
        print(summary, flush=True)
    return
  try:
    with cli.workforce() as workforce:
      workforce.make(pipeline.context, [report.artefact], (report.name,))
  except errors.UnitsFailedError as e:
    failure = e
  if summary := report.summary():
    print(summary, flush=True)
  if failure:
    raise failure
  report.require_all()


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
