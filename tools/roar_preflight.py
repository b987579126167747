"""Compiles an experiment with the real TPU compiler, on a machine without one.

roar_preflight --dataset=fashion_mnist --topology=v5e:2x2
roar_preflight --study=quickstart --precision=bfloat16 --json=preflight.json
roar_preflight --export=programs

It says whether every function that runs on a device compiles and fits into the
memory of a chip, and what its operations and bytes take at the chip's published
peaks. It runs nothing on a TPU. `make preflight` makes the environment.

--export needs no compiler: it writes the programs for any device that JAX has,
where `python -m roar_tf.preflight.execute programs` runs and times them.
"""

# Before TensorFlow is imported: libtpu reads the environment then.
from roar_tf.preflight import GROUPS, chips, environment

environment.prepare()

from roar_tf import cli, cli_flags, errors  # noqa: E402
from roar_tf.models.precision import PRECISIONS  # noqa: E402

FLAGS = cli_flags.FLAGS

cli_flags.define_string('study', None, 'Name or .gin file of a study.')
cli_flags.define_multi_string(
  'topology',
  ['v5e:2x2'],
  'Chips such as v5e:2x2, v4:2x2x1, v5p:2x2x1, v6e:2x4; may be repeated.',
)
cli_flags.define_enum(
  'precision',
  None,
  list(PRECISIONS),
  'What trained models compute in; by default as the configuration says. '
  'Variables are float32.',
)
cli_flags.define_list('functions', list(GROUPS), f'Of {", ".join(GROUPS)}.')
cli_flags.define_bool(
  'largest', True, 'Search for the largest batches that fit.'
)
cli_flags.define_float(
  'input_images_per_second_per_core',
  None,
  'What one core of the host prepares, to tell how many cores feed a chip.',
  lower_bound=1e-9,
)
cli_flags.define_string('json', None, 'File for the same as JSON.')
cli_flags.define_string(
  'rates',
  None,
  'File for the times of one topology, as roar_study --dry_run --rates=FILE '
  'reads it.',
)
cli_flags.define_string(
  'export',
  None,
  'Directory for programs that run wherever there is JAX: training steps, '
  'evaluations and attribution of --study or --dataset, else of both ResNets '
  'at the size of ImageNet and of Fashion-MNIST; nothing is compiled then.',
)
cli_flags.define_integer(
  'chips',
  1,
  'With --export: devices that share a batch; one runs its part of it.',
  lower_bound=1,
)
cli_flags.define_bool(
  'comparisons',
  True,
  'With --export: also small programs with the results of TensorFlow.',
)
cli_flags.define_shared_flags()


def main() -> None:
  """Compiles, prints a report per source and topology, and fails if one did."""
  if FLAGS.export is not None:
    _export()
    return
  topologies, contexts = _topologies(), _contexts()
  json, rates = cli.path('json'), cli.path('rates')
  environment.check()
  from roar_tf.engine import files
  from roar_tf.preflight import preflight, report
  from roar_tf.preflight.subject import Subject

  versions = environment.versions()
  results = []
  for context in contexts:
    subject = Subject(context.experiment, FLAGS.precision)
    for topology in topologies:
      result = preflight.run(
        subject,
        topology,
        FLAGS.functions,
        largest=FLAGS.largest,
        images_per_core=FLAGS.input_images_per_second_per_core,
        say=_say,
      )
      print(f'\n{report.text(result, versions)}', flush=True)
      results.append(result)
  if json:
    files.publish_json(json, report.as_json(results, versions))
  if rates:
    files.publish_json(rates, report.as_rates(results))
  if failures := report.failures(results):
    raise errors.UnitsFailedError(failures)


def _export() -> None:
  """Writes programs, and says how to run them."""
  folder = cli.path('export')
  compiling = ('topology', 'largest', 'json', 'rates')
  for name in (*compiling, 'input_images_per_second_per_core'):
    if FLAGS[name].present:
      raise errors.UsageError(
        f'--{name} is of a compilation: leave it out with --export; `python -m '
        'roar_tf.preflight.execute` has --json and --rates.'
      )
  _check_functions()
  named = FLAGS.study is not None or FLAGS.dataset is not None
  if FLAGS.chips > 1 and not named:
    raise errors.UsageError('--chips is of an experiment: give --dataset too.')
  contexts = _contexts() if named else None
  from roar_tf.preflight import export, exportable
  from roar_tf.preflight.subject import Subject

  if named:
    shared = [(context, FLAGS.chips) for context in contexts]
  else:
    shared = [
      (context, chips)
      for dataset, chips in exportable.STANDARD
      for context in cli.recipe(dataset=dataset).contexts()
    ]
  groups = [n for n in FLAGS.functions if n in exportable.GROUPS]
  subjects = [
    (Subject(context.experiment, FLAGS.precision), chips)
    for context, chips in shared
  ]

  def exportables():
    if FLAGS.comparisons:
      yield from exportable.comparisons()
    for subject, count in subjects:
      yield from exportable.of_experiment(subject, groups, count)

  explains = {
    subject.experiment.source.name: subject.plan is not None
    for subject, _ in subjects
  }
  export.write(folder, exportables(), explains if named else {}, _say)
  print(
    f'\nRun them where JAX is: python -m roar_tf.preflight.execute {folder}'
  )


def _topologies() -> list[chips.Topology]:
  """Returns the topologies asked for; raises UsageError for wrong flags."""
  topologies = [chips.topology(name) for name in FLAGS.topology]
  _check_functions()
  if FLAGS.study is None:
    cli.require_flag('dataset')
  if FLAGS.rates and (len(topologies) > 1 or FLAGS.study is None):
    raise errors.UsageError(
      '--rates is of a study on one topology: give --study and one --topology.'
    )
  return topologies


def _check_functions() -> None:
  """Raises UsageError for a group of functions that there is not."""
  for name in FLAGS.functions:
    if name not in GROUPS:
      raise errors.UsageError(
        f'--functions={",".join(FLAGS.functions)}: there is no {name}; known '
        f'are {", ".join(GROUPS)}.'
      )


def _contexts() -> list:
  """Returns a Context per source; raises UsageError for unknown names."""
  if FLAGS.study is None:
    return cli.recipe(dataset=FLAGS.dataset).contexts()
  # A pipeline knows which rankings of the workspace are estimators, too.
  pipeline = cli.pipeline(FLAGS.study, FLAGS.dataset, 'anywhere')
  return [stages.context for stages in pipeline.stages]


def _say(text: str) -> None:
  """Tells what is compiled next, unless a signal asked to stop."""
  if cli.stopping():
    raise errors.PreemptedError(
      f'stopped before {text}; nothing is kept, run the same command again.'
    )
  print(text, flush=True)


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
