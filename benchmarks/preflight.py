"""Bytes that a ResNet-50 moves on a TPU chip, as the real compiler counts them.

    .venv-preflight/bin/python benchmarks/preflight.py [--trials=NAME,...]

No TPU is needed (`make preflight` makes the environment), and none is used:
compiled for, never run on, TPU. Each trial is one program at `--batch` images
of 224 x 224: its bytes, operations, temporaries, and the roofline they imply.
Add one as a function that returns a function and the specs of its arguments,
and compare within one version of the compiler only: libtpu 0.0.52 counts 55.0
GB where 0.0.21 counts 50.3 GB. `preflight.md` has what was found, and what was
tried in vain.
"""

import json

from roar_tf.preflight import environment

environment.prepare()

import keras  # noqa: E402
import variants  # noqa: E402
from absl import app, flags  # noqa: E402

from roar_tf.models import precision, resnet  # noqa: E402
from roar_tf.preflight import (  # noqa: E402
  attribution,
  chips,
  compiling,
  lowering,
  training,
)
from roar_tf.training import settings  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_list('trials', None, 'Names of trials; all if left out.')
flags.DEFINE_integer('batch', 128, 'Images, or gradients, per call.')
flags.DEFINE_string('topology', 'v5e:2x2', 'Chips.')
flags.DEFINE_enum('precision', 'bfloat16', list(precision.PRECISIONS), '')
flags.DEFINE_string('json', None, 'File for the same as JSON.')

SHAPE, CLASSES, TRAIN_IMAGES = (224, 224, 3), 1000, 1281167


def _applications(input_shape, num_classes) -> keras.Model:
  """Returns the ResNet-50 of keras.applications (v1), with float32 logits."""
  body = keras.applications.ResNet50(
    include_top=False, weights=None, input_shape=input_shape, pooling='avg'
  )
  logits = keras.layers.Dense(num_classes, dtype='float32')(body.output)
  return keras.Model(body.input, logits)


def _model(factory) -> keras.Model:
  with precision.computing_in(FLAGS.precision):
    return factory(SHAPE, CLASSES)


def _training(factory, augmentation='none'):
  """The whole training step of `roar_preflight`."""
  how = settings.Training(
    model=factory,
    epochs=90,
    batch_size=FLAGS.batch,
    base_learning_rate=0.1,
    augmentation=augmentation,
  )
  return training.training_step(
    _model(factory), how, SHAPE, TRAIN_IMAGES, FLAGS.batch
  )


def _gradients(factory):
  """A batch of gradient evaluations as the estimators' plan makes them."""
  return attribution.gradient_evaluations(_model(factory), SHAPE, FLAGS.batch)


TRIALS = {
  'training_keras_plain': lambda: _training(_applications),
  'gradients_keras_plain': lambda: variants.plain_gradients(
    _model(_applications), SHAPE, FLAGS.batch
  ),
  'gradients_keras_folded': lambda: _gradients(_applications),
  'training_v15_plain': lambda: variants.expanded_in(
    _training(resnet.resnet50)
  ),
  'training_v15': lambda: _training(resnet.resnet50),
  'training_v15_augmented': lambda: _training(
    resnet.resnet50, 'resized_crop_flip'
  ),
  'gradients_v15_plain': lambda: variants.plain_gradients(
    _model(resnet.resnet50), SHAPE, FLAGS.batch
  ),
  'gradients_v15_folded': lambda: _gradients(resnet.resnet50),
}
"""By name: what makes the program."""


def main(_):
  """Prints a row per trial as soon as it is compiled."""
  environment.check()
  topology = chips.topology(FLAGS.topology)
  compiler = compiling.Compiler(topology)
  print(
    f'batch {FLAGS.batch}, {FLAGS.precision}, one chip of {topology.name}; '
    'compiled for, never run on, TPU; '
    + ', '.join(f'{k} {v}' for k, v in environment.versions().items())
  )
  print(
    f'{"trial":<32}{"GB":>8}{"TFLOP":>8}{"temps GB":>10}{"ms":>8}  '
    f'{"bound":<8}{"per s":>8}',
    flush=True,
  )
  trials = {}
  for name in FLAGS.trials or TRIALS:
    program = compiler.compile(lowering.lower(*TRIALS[name]()))
    roof = topology.chip.roofline(program.flops, program.bytes_accessed)
    trials[name] = {
      'bytes': program.bytes_accessed,
      'flops': program.flops,
      'temporaries': program.temporaries,
      'roofline_seconds': roof.seconds,
    }
    print(
      f'{name:<32}{program.bytes_accessed / 1e9:>8.2f}'
      f'{program.flops / 1e12:>8.3f}{program.temporaries / 1e9:>10.2f}'
      f'{roof.seconds * 1e3:>8.2f}  {roof.bound:<8}'
      f'{FLAGS.batch / roof.seconds:>8,.0f}',
      flush=True,
    )
  if FLAGS.json:
    with open(FLAGS.json, 'w', encoding='utf-8') as file:
      json.dump({**environment.versions(), 'trials': trials}, file, indent=2)


if __name__ == '__main__':
  app.run(main)
