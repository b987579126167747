"""Retrains one model from scratch on one cell of a source.

roar_train --dataset=planted_patch --cell=sg_sq_grad_pixel_remove_90 --seed=3
"""

import contextlib

from absl import flags

from roar_tf import cli, errors
from roar_tf.study import RUN_INPUTS

FLAGS = flags.FLAGS

flags.DEFINE_string('cell', None, 'Name of a cell, e.g. grad_pixel_remove_90.')
flags.DEFINE_string(
  'study', None, 'Study whose configuration and folder it is.'
)
flags.DEFINE_integer(
  'ranking_seed',
  0,
  'Seed of the rankings and the explained model: the --seed of roar_study.',
  lower_bound=0,
)
flags.DEFINE_enum(
  'input',
  'image',
  RUN_INPUTS,
  'Retrain on masked images or on the masks alone; or test the explained model '
  'on the masked images, without retraining.',
)
cli.define_shared_flags()
cli.define_device_flags()


def main() -> None:
  """Makes one run and prints its accuracy."""
  dataset = cli.require_flag('dataset')
  name = cli.require_flag('cell')
  (context,) = cli.contexts(FLAGS.study, dataset, seed=FLAGS.ranking_seed)
  from roar_tf import cells, workspace
  from roar_tf.study import grid, heartbeat, pipeline, train_stage

  study = context.experiment.study
  cell = cells.parse_cell(name)
  if FLAGS.input == 'maskonly' and cell is None:
    raise errors.UsageError('--input=maskonly: "original" has no mask.')
  run_ = grid.Run(
    study.name if study else 'single',
    context.experiment.source.name,
    cell,
    FLAGS.seed,
    FLAGS.input,
  )
  work = pipeline.Work(
    context,
    [cell] if cell else [],
    [run_],
    study.input if study else 'shards',
  )
  # Of a study: its --status shows this process too.
  beat = heartbeat.Heartbeat(context.workspace, run_.study) if study else None
  with beat or contextlib.nullcontext():
    pipeline.run([work], pipeline.STAGES[:5], heartbeat=beat, **cli.execution())
  result = workspace.read_json(
    f'{train_stage.directory(context, run_)}/result.json'
  )
  print(f'{run_}: accuracy {result["accuracy"]:.4f}')


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main)


if __name__ == '__main__':
  run()
