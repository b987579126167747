"""Ranks the pixels of every image of a source with some estimators.

roar_rank --dataset=planted_patch --estimators=grad,sg_sq_grad
"""

from absl import flags

from roar_tf import cli

FLAGS = flags.FLAGS

flags.DEFINE_list('estimators', None, 'Names of estimators, comma separated.')
flags.DEFINE_string('granularity', 'pixel', 'pixel or element.')
cli.define_shared_flags()
cli.define_worker_flags()


def main() -> None:
  """Makes the source, the explained model and the rankings."""
  dataset = cli.require_flag('dataset')
  estimators = cli.require_flag('estimators')
  execution = cli.execution()
  (context,) = cli.contexts(dataset=dataset)
  from roar_tf import cells
  from roar_tf.study import pipeline

  # A ranking serves all modes and thresholds; a cell of any names it.
  threshold = (context.experiment.ranking.cuts or [50])[0]
  wanted = [
    cells.Cell(e, FLAGS.granularity, 'remove', threshold) for e in estimators
  ]
  work = pipeline.Work(context, wanted)
  stages = ('source', 'model', 'rank')
  pipeline.run([work], stages, **execution)


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
