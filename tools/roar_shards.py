"""Writes the masked TFRecord shards of one cell; verifies and repairs data.

roar_shards --dataset=planted_patch --estimator=grad --threshold=90
roar_shards --verify
roar_shards --repair --study=quickstart
"""

from absl import flags

from roar_tf import cli, cli_flags, errors

FLAGS = flags.FLAGS

flags.DEFINE_string('estimator', None, 'Name of an estimator.')
flags.DEFINE_string('granularity', 'pixel', 'pixel or element.')
flags.DEFINE_string('mode', 'remove', 'remove (ROAR) or keep (KAR).')
flags.DEFINE_string('threshold', None, 'Whole percentage of pixels.')
flags.DEFINE_string('fill', 'mean', 'What replaces removed values.')
flags.DEFINE_bool(
  'verify', False, 'Check the whole workspace, or --dataset, then exit.'
)
flags.DEFINE_bool(
  'repair',
  False,
  'Check it, and make what is damaged again as far as --study, or --dataset '
  'and the flags of a cell, say how.',
)
flags.DEFINE_string('study', None, 'With --repair: name or .gin of a study.')
cli_flags.define_model_flag()
cli_flags.define_shared_flags()
cli_flags.define_worker_flags()

CELL = ('estimator', 'granularity', 'mode', 'threshold', 'fill')


def main() -> None:
  """Makes the cell and whatever it needs, or mends what is there."""
  if FLAGS.verify or FLAGS.repair:
    _check_flags()
    _mend()
    return
  if FLAGS.study:
    raise errors.UsageError('--study is for --repair; see --help.')
  dataset = cli.require_flag('dataset')
  cli.require_flag('estimator')
  cli.require_flag('threshold')
  cli.share()  # Refuses a worker that cannot be.
  stages = cli.stages(dataset)
  cell = _cell(stages)
  with cli.workforce() as workforce:
    workforce.make(stages.context, [stages.shards.masked(cell)])


def _cell(stages):
  """Returns the cell of the flags, which the source can give."""
  from roar_tf import cells

  try:
    threshold = int(FLAGS.threshold)
  except ValueError as e:
    raise errors.UsageError(
      f'--threshold={FLAGS.threshold}: a threshold is a whole percentage from '
      '1 to 100.'
    ) from e
  cell = cells.Cell(
    FLAGS.estimator,
    FLAGS.granularity,
    FLAGS.mode,
    threshold,
    FLAGS.fill,
    FLAGS.model,
  )
  stages.check([cell])
  return cell


def _check_flags() -> None:
  """Refuses flags that --verify or --repair would ignore."""
  title, ignored = '--repair', ('worker', 'num_workers')
  if FLAGS.verify:
    title, ignored = '--verify', (*ignored, 'repair', 'study', *CELL, 'model')
  elif FLAGS.study or not FLAGS.dataset:
    ignored = (*ignored, *CELL, 'model')
  elif not FLAGS.estimator:
    ignored = (*ignored, *CELL[1:])
  given = [name for name in ignored if FLAGS[name].present]
  if given:
    raise errors.UsageError(
      f'{title} has no use for --{given[0]} here; leave it out, or see --help.'
    )


def _goals():
  """Returns the context of what the flags configure, and what it can make."""
  if FLAGS.study:
    pipeline = cli.pipeline(FLAGS.study, FLAGS.dataset)
    return pipeline.context, pipeline.goals()
  stages = cli.stages(FLAGS.dataset)
  if not FLAGS.estimator:
    goals = [stages.source.original, stages.model.explained(FLAGS.model)]
  elif FLAGS.threshold is None:
    ranked = FLAGS.estimator, FLAGS.granularity, FLAGS.model
    goals = [stages.rank.ranking(*ranked)]
  else:
    goals = [stages.shards.masked(_cell(stages))]
  return stages.context, goals


def _mend() -> None:
  """Verifies, and with --repair makes again what is damaged."""
  import functools

  from roar_tf import config, engine
  from roar_tf.engine import verify
  from roar_tf.study import paths, repairs
  from roar_tf.study.stages import local_pool

  workspace = paths.Workspace(FLAGS.workspace)
  source = config.stem(FLAGS.dataset) if FLAGS.dataset else None
  folders = repairs.folders(workspace, source)
  context, goals = None, []
  if FLAGS.repair and (FLAGS.study or FLAGS.dataset):
    context, goals = _goals()
  execution = dict(
    layout=repairs.LAYOUT,
    parallel=FLAGS.parallel or engine.cores(),
    stop=cli.stopping,
  )
  findings = verify.verify(folders, **execution)
  if not findings.damages:
    print(findings)
    return
  left = verify.repair(
    goals,
    findings.damages,
    workspace.root,
    functools.partial(local_pool, context, FLAGS.parallel),
    **execution,
  )
  if left:
    advice = 'this repairs, with the gin flags and --seed that made it: '
    advice += repairs.command(workspace, left)
    raise errors.DataError(verify.describe(workspace.root, left, advice))
  count = len(findings.damages)
  print(f'repaired: {count} of {findings.files} files; all checksums agree')


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
