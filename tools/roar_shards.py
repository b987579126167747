"""Writes the masked TFRecord shards of one cell of a source.

roar_shards --dataset=planted_patch --estimator=grad --threshold=90
"""

from absl import flags

from roar_tf import cli, errors

FLAGS = flags.FLAGS

flags.DEFINE_string('estimator', None, 'Name of an estimator.')
flags.DEFINE_string('granularity', 'pixel', 'pixel or element.')
flags.DEFINE_string('mode', 'remove', 'remove (ROAR) or keep (KAR).')
flags.DEFINE_string('threshold', None, 'Whole percentage of pixels.')
flags.DEFINE_string('fill', 'mean', 'What replaces removed values.')
cli.define_shared_flags()
cli.define_worker_flags()


def main() -> None:
  """Makes the cell and whatever it needs."""
  dataset = cli.require_flag('dataset')
  estimator = cli.require_flag('estimator')
  text = cli.require_flag('threshold')
  execution = cli.execution()
  try:
    threshold = int(text)
  except ValueError as e:
    raise errors.UsageError(
      f'--threshold={text}: a threshold is a whole percentage from 1 to 100.'
    ) from e
  (context,) = cli.contexts(dataset=dataset)
  from roar_tf import cells
  from roar_tf.study import pipeline

  cell = cells.Cell(
    estimator, FLAGS.granularity, FLAGS.mode, threshold, FLAGS.fill
  )
  stages = ('source', 'model', 'rank', 'shards')
  work = pipeline.Work(context, [cell])
  pipeline.run([work], stages, **execution)


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
