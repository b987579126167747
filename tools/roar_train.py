"""Retrains one model from scratch on one cell of a source.

roar_train --dataset=planted_patch --cell=sg_sq_grad_pixel_remove_90 --seed=3
roar_train --study=quickstart --dataset=planted_patch --cell=original
"""

import contextlib

from roar_tf import cli, cli_flags, errors
from roar_tf.study import RUN_INPUTS

FLAGS = cli_flags.FLAGS

cli_flags.define_string(
  'cell', None, 'Name of a cell, e.g. grad_pixel_remove_90.'
)
cli_flags.define_string(
  'study', None, 'Study whose configuration and folder it is.'
)
cli_flags.define_integer(
  'ranking_seed',
  0,
  'Seed of the rankings and the explained model: the --seed of roar_study.',
  lower_bound=0,
)
cli_flags.define_enum(
  'input',
  'image',
  RUN_INPUTS,
  'Retrain on masked images or on the masks alone; or test the explained model '
  'on the masked images, without retraining.',
)
cli_flags.define_shared_flags()
cli_flags.define_device_flags()


def main() -> None:
  """Makes one run and prints its accuracy."""
  dataset = cli.require_flag('dataset')
  name = cli.require_flag('cell')
  from roar_tf import cells
  from roar_tf.engine import heartbeat, markers
  from roar_tf.study import grid

  cell = cells.parse_cell(name)
  if FLAGS.input == 'maskonly' and cell is None:
    raise errors.UsageError('--input=maskonly: "original" has no mask.')
  stages = cli.stages(dataset, FLAGS.study, FLAGS.ranking_seed)
  context, study = stages.context, stages.context.experiment.study
  stages.check([cell] if cell else [])
  run_ = grid.Run(
    study.name if study else 'single',
    context.source.name,
    cell,
    FLAGS.seed,
    FLAGS.input,
    FLAGS.ranking_seed,
  )
  context.workspace.check_study(run_.study)
  # Of a study: its --status shows this process too.
  beat = None
  if study:
    folder = context.workspace.heartbeats(run_.study)
    beat = heartbeat.Heartbeat(folder, cli.share())
  with beat or contextlib.nullcontext(), cli.workforce(beat) as workforce:
    workforce.make(context, [stages.train.artefact(run_)])
  path = f'{stages.train.directory(run_)}/result.json'
  result = markers.content_json(path)
  print(f'{run_}: accuracy {result["accuracy"]:.4f}')


def run() -> None:
  """Entry point of the installed command."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
