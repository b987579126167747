"""Writes the masked TFRecord shards of one cell; verifies and repairs data.

roar_shards --dataset=planted_patch --estimator=grad --threshold=90
roar_shards --verify
roar_shards --repair --study=quickstart
"""

from absl import flags

from roar_tf import cli, errors

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
cli.define_shared_flags()
cli.define_worker_flags()

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
  execution = cli.execution()
  (context,) = cli.contexts(dataset=dataset)
  from roar_tf.study import pipeline

  stages = ('source', 'model', 'rank', 'shards')
  work = pipeline.Work(context, [_cell(context)])
  pipeline.run([work], stages, **execution)


def _cell(context):
  """Returns the cell of the flags; any of its ranking without --threshold."""
  try:
    threshold = (
      context.experiment.ranking.some_threshold
      if FLAGS.threshold is None
      else int(FLAGS.threshold)
    )
  except ValueError as e:
    raise errors.UsageError(
      f'--threshold={FLAGS.threshold}: a threshold is a whole percentage from '
      '1 to 100.'
    ) from e
  from roar_tf import cells

  return cells.Cell(
    FLAGS.estimator, FLAGS.granularity, FLAGS.mode, threshold, FLAGS.fill
  )


def _check_flags() -> None:
  """Refuses flags that --verify or --repair would ignore."""
  what, ignored = '--repair', ('worker', 'num_workers')
  if FLAGS.verify:
    what, ignored = '--verify', (*ignored, 'repair', 'study', *CELL)
  elif FLAGS.study or not FLAGS.dataset:
    ignored = (*ignored, *CELL)
  elif not FLAGS.estimator:
    ignored = (*ignored, *CELL[1:])
  given = [name for name in ignored if FLAGS[name].present]
  if given:
    raise errors.UsageError(
      f'{what} has no use for --{given[0]} here; leave it out, or see --help.'
    )


def _works():
  """Returns what the flags configure, and the stages they suffice for."""
  if not (FLAGS.study or FLAGS.dataset):
    return [], ()
  contexts = cli.contexts(FLAGS.study, FLAGS.dataset)
  from roar_tf.study import STAGES, pipeline

  if FLAGS.study:
    return pipeline.study_work(contexts), STAGES
  (context,) = contexts
  cells = [_cell(context)] if FLAGS.estimator else []
  last = 'shards' if FLAGS.threshold else 'rank' if cells else 'model'
  stages = STAGES[: STAGES.index(last) + 1]
  return [pipeline.Work(context, cells)], stages


def _mend() -> None:
  """Verifies, and with --repair makes again what is damaged."""
  from roar_tf import config, workspace
  from roar_tf.study import integrity

  place = workspace.Workspace(FLAGS.workspace)
  source = config.stem(FLAGS.dataset) if FLAGS.dataset else None
  folders = integrity.folders(place, source)
  works, stages = _works() if FLAGS.repair else ([], ())
  execution = {n: cli.execution()[n] for n in ('parallel', 'stop')}
  findings = integrity.verify(folders, **execution)
  if not findings.damages:
    print(findings)
    return
  left = integrity.repair(works, stages, findings.damages, **execution)
  if left:
    advice = 'this repairs, with the gin flags and --seed that made it: '
    advice += integrity.command(place, left)
    raise errors.DataError(integrity.describe(place, left, advice))
  count = len(findings.damages)
  print(f'repaired: {count} of {findings.files} files; all checksums agree')


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
