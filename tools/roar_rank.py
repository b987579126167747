"""Ranks the pixels of every image of a source with some estimators.

roar_rank --dataset=planted_patch --estimators=grad,sg_sq_grad
roar_rank --dataset=planted_patch --scores=DIR --estimators=captum_ig
"""

from roar_tf import cli, cli_flags, errors

FLAGS = cli_flags.FLAGS

cli_flags.define_list(
  'estimators', None, 'Names of estimators, comma separated.'
)
cli_flags.define_string('granularity', 'pixel', 'pixel or element.')
cli_flags.define_string(
  'scores',
  None,
  'Directory of npz files with scores made elsewhere; --estimators is the new '
  'name for them. See docs/external_attributions.md.',
)
cli_flags.define_model_flag()
cli_flags.define_shared_flags()
cli_flags.define_device_flags()
cli_flags.define_worker_flags()


def main() -> None:
  """Makes the source, the explained model if it is needed, and the rankings."""
  dataset = cli.require_flag('dataset')
  estimators = cli.require_flag('estimators')
  if FLAGS.model and FLAGS.scores is not None:
    raise errors.UsageError(
      f'--model={FLAGS.model}: scores made elsewhere ask no model; leave it '
      'out.'
    )
  cli.share()  # Refuses a worker that cannot be.
  stages = cli.stages(dataset)
  with cli.workforce() as workforce:
    if FLAGS.scores is not None:
      from roar_tf.study import scores

      scores.rank(
        stages, workforce, estimators, FLAGS.scores, FLAGS.granularity
      )
      return
    rankings = [
      stages.rank.ranking(name, FLAGS.granularity, FLAGS.model)
      for name in dict.fromkeys(estimators)
    ]
    workforce.make(stages.context, rankings)


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
