"""Ranks the pixels of every image of a source with some estimators.

roar_rank --dataset=planted_patch --estimators=grad,sg_sq_grad
roar_rank --dataset=planted_patch --scores=DIR --estimators=captum_ig
"""

from absl import flags

from roar_tf import cli, errors

FLAGS = flags.FLAGS

flags.DEFINE_list('estimators', None, 'Names of estimators, comma separated.')
flags.DEFINE_string('granularity', 'pixel', 'pixel or element.')
flags.DEFINE_string(
  'scores',
  None,
  'Directory of npz files with scores made elsewhere; --estimators is the new '
  'name for them. See docs/external_attributions.md.',
)
cli.define_shared_flags()
cli.define_device_flags()
cli.define_worker_flags()


def main() -> None:
  """Makes the source, the explained model if it is needed, and the rankings."""
  dataset = cli.require_flag('dataset')
  estimators = cli.require_flag('estimators')
  execution = cli.execution()
  if FLAGS.scores is not None and len(estimators) != 1:
    raise errors.UsageError(
      f'--scores={FLAGS.scores} holds one estimator; --estimators must be one '
      f'new name for it, found {",".join(estimators)}.'
    )
  (context,) = cli.contexts(dataset=dataset)
  from roar_tf import cells
  from roar_tf.study import external, pipeline

  if FLAGS.scores is not None:
    (name,) = estimators
    files = external.check(context, name, FLAGS.scores)
    # Which ids there must be is known once the source is made.
    pipeline.run([pipeline.Work(context, [])], ['source'], **execution)
    external.adopt(context, name, files)
  # A ranking serves all modes and thresholds; a cell of any names it.
  threshold = context.experiment.ranking.some_threshold
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
