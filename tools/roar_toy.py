"""Shows on toy data, in seconds, why ROAR retrains: the paper's Fig. 2.

roar_toy
roar_toy --draws=200 --seed=1 --workspace=/data/roar

It writes toy.png and toy.csv into reports/toy of the workspace, and stump.png
and stump.csv: a model for which one must explain anew after each retraining
(section 6.5).
"""

import os

# Before NumPy is imported: for matrices as small as these, threads that wait
# for each other cost more than they save.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

from roar_tf import cli, cli_flags  # noqa: E402

FLAGS = cli_flags.FLAGS

cli_flags.define_integer('draws', 50, 'How many data sets.', lower_bound=1)
cli_flags.define_workspace_flag()
cli_flags.define_seed_flag()


def main() -> None:
  """Computes all curves, writes them as csv and figure, prints a table."""
  from roar_tf.analysis import figures, stump, toy
  from roar_tf.engine import files, markers
  from roar_tf.study.paths import Workspace

  workspace = Workspace(FLAGS.workspace)
  workspace.create()
  cli.say_workspace(workspace)
  folder = workspace.report('toy')
  marker = f'{folder}/{markers.DONE}'
  files.remove(marker)
  frame = toy.accuracies(FLAGS.draws, FLAGS.seed)
  summary = toy.summarise(frame)
  redundant = stump.accuracies(FLAGS.draws, FLAGS.seed)
  protocols = stump.summarise(redundant)
  for name, rows, figure in (
    ('toy', frame, figures.toy(summary)),
    ('stump', redundant, figures.stump(protocols)),
  ):
    csv = rows.to_csv(index=False, lineterminator='\n')
    files.publish(f'{folder}/{name}.csv', csv.encode())
    files.publish(f'{folder}/{name}.png', figures.png(figure))
  settings = {'draws': FLAGS.draws, 'seed': FLAGS.seed}
  markers.write(marker, markers.fingerprint('toy', 2, settings, {}))
  print(f'{toy.text(summary)}\n\n{stump.text(protocols)}\n')
  print(f'Figures: {folder}/toy.png, {folder}/stump.png')


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
