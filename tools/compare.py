"""Shows two studies side by side: verdicts, leads, and settings that differ.

roar_tf compare quickstart mine
roar_tf compare workspace/reports/quickstart /data/roar/reports/quickstart

Each is a study that has a report in the workspace, or the folder of a report. A
verdict that differs is marked. Intervals are those of each study's own family.
"""

from roar_tf import cli, cli_flags, errors

cli_flags.define_workspace_flag()


def main(*names: str) -> None:
  """Prints the table of verdicts, and the settings that differ."""
  from roar_tf.analysis import comparison, tables
  from roar_tf.engine import files
  from roar_tf.study.stored_results import load_results

  if len(names) != 2:
    raise errors.UsageError(
      'give two studies, as in `roar_tf compare quickstart mine`, found '
      f'{len(names)}.'
    )
  both = []
  for name in names:
    is_folder = files.exists(f'{name.rstrip("/")}/results.csv')
    place = (name,) if is_folder else (cli.path('workspace'), name)
    found = load_results(*place)
    if found.statistics.empty:
      raise errors.UsageError(
        f'{found.folder} has no statistics.csv: `roar_tf report` writes it.'
      )
    both.append(found)
  titles = tuple(found.study for found in both)
  if titles[0] == titles[1]:
    titles = names
  print(comparison.table(*(found.statistics for found in both), titles))
  configs = []
  for found in both:
    path = f'{found.folder}/config.gin'
    if not files.exists(path):
      print(f'{path} is not there: settings cannot be compared.')
      return
    configs.append(comparison.settings(files.read(path).decode()))
  if changes := comparison.differences(*configs):
    print(tables.aligned([('parameter', *titles), *changes]), end='')
  else:
    print('All settings are the same.')


VERBS = {
  'compare': cli.Verb(main, __doc__, ('workspace',), 'FIRST SECOND'),
}

if __name__ == '__main__':
  VERBS['compare'].run()
