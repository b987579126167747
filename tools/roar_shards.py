"""Writes the masked TFRecord shards of one cell; verifies and repairs data.

roar_shards --dataset=planted_patch --estimator=grad --threshold=90
roar_shards --verify
roar_shards --repair --study=quickstart
"""

from collections.abc import Callable

from roar_tf import cli, cli_flags, errors

FLAGS = cli_flags.FLAGS

cli_flags.define_string('estimator', None, 'Name of an estimator.')
cli_flags.define_string('granularity', 'pixel', 'pixel or element.')
cli_flags.define_string('mode', 'remove', 'remove (ROAR) or keep (KAR).')
cli_flags.define_string('threshold', None, 'Whole percentage of pixels.')
cli_flags.define_string('fill', 'mean', 'What replaces removed values.')
cli_flags.define_bool(
  'verify', False, 'Check the whole workspace, or --dataset, then exit.'
)
cli_flags.define_bool(
  'repair',
  False,
  'Check it, and make what is damaged again as far as --study, or --dataset '
  'and the flags of a cell, say how.',
)
cli_flags.define_string(
  'study', None, 'With --repair: name or .gin of a study.'
)
cli_flags.define_model_flag()
cli_flags.define_shared_flags()
cli_flags.define_worker_flags()

CELL = ('estimator', 'granularity', 'mode', 'threshold', 'fill')
OWN = (*CELL, 'model', 'verify', 'repair', 'study')


def main() -> None:
  """Makes the cell and whatever it needs, or mends what is there."""
  for name in ('verify', 'repair'):
    if FLAGS[name].value:
      verb = VERBS[name]
      others = {*OWN, 'worker', 'num_workers'} - {name} - set(verb.takes)
      cli.refuse(f'--{name}', sorted(others))
      verb.main()
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


def _repair() -> None:
  """Makes again what is damaged, as far as the flags say how."""
  if FLAGS.study or not FLAGS.dataset:
    cli.refuse('repair', (*CELL, 'model'))
  elif not FLAGS.estimator:
    cli.refuse('repair', CELL[1:])
  if FLAGS.study or FLAGS.dataset:
    _mend(_goals)
  else:
    _mend()


def _mend(find_goals: Callable[[], tuple] = lambda: (None, [])) -> None:
  """Verifies, and makes again what is damaged and behind some goals.

  Args:
    find_goals: returns a context, and what it can make; by default nothing.
  """
  import functools

  from roar_tf import config, engine
  from roar_tf.engine import verify
  from roar_tf.study import paths, repairs
  from roar_tf.study.stages import local_pool

  workspace = paths.Workspace(FLAGS.workspace)
  source = config.stem(FLAGS.dataset) if FLAGS.dataset else None
  folders = repairs.folders(workspace, source)
  context, goals = find_goals()
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


VERBS = {
  'verify': cli.Verb(
    _mend,
    """Checks every checksum of a workspace, or of what is of one dataset in it.

roar_tf verify
roar_tf verify --workspace=/data/roar --dataset=planted_patch
""",
    ('workspace', 'dataset', 'parallel'),
  ),
  'repair': cli.Verb(
    _repair,
    """Checks a workspace, and makes again what is damaged.

roar_tf repair --study=quickstart
roar_tf repair --dataset=planted_patch --estimator=grad

Give --study, or --dataset and the flags of a ranking or cell, which say how it
was made; without them it says which command repairs what is damaged.
""",
    (
      *CELL,
      'model',
      'study',
      *('workspace', 'data_dir', 'gin_file', 'gin_bindings', 'dataset', 'seed'),
      *('threads', 'parallel'),
    ),
  ),
}


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
