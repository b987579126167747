"""Makes a study's report from the runs that are there.

roar_report --study=quickstart

Exit status 1 if runs are missing, damaged or of other settings: each is named.
"""

from absl import flags

from roar_tf import cli, cli_flags, errors

FLAGS = flags.FLAGS

flags.DEFINE_string('study', None, 'Name or .gin file of a study.')
cli_flags.define_shared_flags()
cli_flags.define_price_flag()


def main() -> None:
  """Makes the report and prints its tables."""
  pipeline = cli.pipeline(cli.require_flag('study'), FLAGS.dataset)
  report, failure = pipeline.report, None
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
  cli.run(main)


if __name__ == '__main__':
  run()
