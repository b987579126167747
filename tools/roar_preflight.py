"""Compiles an experiment with the real TPU compiler, on a machine without one.

roar_preflight --dataset=fashion_mnist --topology=v5e:2x2
roar_preflight --study=quickstart --precision=bfloat16 --json=preflight.json

It says whether every function that runs on a device compiles and fits into the
memory of a chip, and what its operations and bytes take at the chip's published
peaks. It runs nothing on a TPU. `make preflight` makes the environment.
"""

import functools
import json

from absl import flags

# Before TensorFlow is imported: libtpu reads the environment then.
from roar_tf.preflight import KINDS, environment

environment.prepare()

from roar_tf import cli, errors  # noqa: E402
from roar_tf.models.precision import PRECISIONS  # noqa: E402

FLAGS = flags.FLAGS

flags.DEFINE_string('study', None, 'Name or .gin file of a study.')
flags.DEFINE_multi_string(
  'topology',
  ['v5e:2x2'],
  'Chips such as v5e:2x2, v4:2x2x1, v5p:2x2x1, v6e:2x4; may be repeated.',
)
flags.DEFINE_enum(
  'precision',
  None,
  list(PRECISIONS),
  'What models compute in; by default as the configuration says. Variables are '
  'float32.',
)
flags.DEFINE_list('functions', list(KINDS), f'Of {", ".join(KINDS)}.')
flags.DEFINE_bool('largest', True, 'Search for the largest batches that fit.')
flags.DEFINE_float(
  'input_images_per_second_per_core',
  None,
  'What one core of the host prepares, to tell how many cores feed a chip.',
  lower_bound=1e-9,
)
flags.DEFINE_string('json', None, 'File for the same as JSON.')
flags.DEFINE_string(
  'rates',
  None,
  'File for the times of one topology, as roar_study --dry_run --rates=FILE '
  'reads it.',
)
cli.define_shared_flags()


def main() -> None:
  """Compiles, prints a report per source and topology, and fails if one did."""
  from roar_tf.preflight import chips

  topologies = [chips.topology(name) for name in FLAGS.topology]
  unknown = [name for name in FLAGS.functions if name not in KINDS]
  if unknown:
    raise errors.UsageError(
      f'--functions={",".join(FLAGS.functions)}: there is no {unknown[0]}; '
      f'known are {", ".join(KINDS)}.'
    )
  if FLAGS.study is None:
    cli.require_flag('dataset')
  if FLAGS.rates and (len(topologies) > 1 or FLAGS.study is None):
    raise errors.UsageError(
      '--rates is of a study on one topology: give --study and one --topology.'
    )
  environment.check()
  from roar_tf import workspace
  from roar_tf.preflight import functions, preflight, report
  from roar_tf.study import experiment, external

  # A study may name estimators that only its workspace knows.
  external.announce(workspace.Workspace(FLAGS.workspace))
  experiments = experiment.load(
    dataset=FLAGS.dataset,
    study=FLAGS.study,
    gin_files=FLAGS.gin_file,
    gin_bindings=FLAGS.gin_bindings,
    seed=FLAGS.seed,
  )
  rate = FLAGS.input_images_per_second_per_core
  results = []
  for each in experiments:
    precision = FLAGS.precision or functions.precision_of(each)
    made = functions.Functions(each, precision)
    for topology in topologies:
      results.append(
        preflight.run(
          made,
          topology,
          FLAGS.functions,
          largest=FLAGS.largest,
          images_per_core=rate,
          say=functools.partial(_say, topology.name),
        )
      )
      print()
      print(report.text(results[-1], environment.versions(), rate), flush=True)
  if FLAGS.json:
    _write(FLAGS.json, report.as_json(results, environment.versions()))
  if FLAGS.rates:
    _write(FLAGS.rates, report.rates(results))
  if failures := report.failures(results):
    raise errors.UnitsFailedError(failures)


def _write(path: str, value) -> None:
  """Writes JSON."""
  from roar_tf import workspace

  workspace.write_atomic(path, json.dumps(value, indent=2).encode() + b'\n')


def _say(topology: str, text: str) -> None:
  """Tells what is compiled next, unless a signal asked to stop."""
  if cli.execution()['stop']():
    raise errors.PreemptedError(
      f'stopped before {text}; nothing is kept, run the same command again.'
    )
  from roar_tf.study import progress

  progress.say(f'{topology}: {text}')


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
