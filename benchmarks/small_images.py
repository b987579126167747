"""Rates of the small-image pipeline beside the bare work inside it.

    python benchmarks/small_images.py [--repeats=7]

Prints, each measured in turn with its counterpart in one process: images per
second of the training loop and of the bare compiled step on the same batches;
gradients per second of a plan of ensembles and of a bare compiled gradient; and
images per second for writing and reading masked PNG shards. Ratios are medians
of pairs, with the smallest and largest.
"""

import functools
import os
import tempfile

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import measuring
import numpy as np
import tensorflow as tf
from absl import app, flags

from roar_tf import masking, randomness, ranking, shards
from roar_tf.estimators import Plan, Settings, compile_plan
from roar_tf.models import resnet
from roar_tf.training import examples, loop
from roar_tf.training import settings as training_settings

FLAGS = flags.FLAGS
flags.DEFINE_integer('repeats', 7, 'Pairs of measurements.', lower_bound=3)
flags.DEFINE_integer('threads', 1, 'CPU threads inside one operation.')
flags.DEFINE_integer('width', 8, 'Width of the small ResNet.')
flags.DEFINE_integer('size', 16, 'Height and width of the images.')

COUNT = 2048
BATCH = 64
CLASSES = 10


def _pair(name: str, unit: str, work, action, other) -> None:
  """Times `action` and `other` in turn and prints rates and their ratio."""
  action(), other()
  times = np.array(
    [
      (measuring.seconds(action), measuring.seconds(other))
      for _ in range(FLAGS.repeats)
    ]
  )
  ratios = times[:, 1] / times[:, 0]
  ours, bare = work / np.median(times, axis=0)
  print(
    f'{name}: {ours:,.0f} {unit}/s, bare {bare:,.0f}, ratio '
    f'{np.median(ratios):.2f} ({ratios.min():.2f}..{ratios.max():.2f})',
    flush=True,
  )


def _training(data: examples.Examples, trainer: loop.Trainer) -> None:
  state = trainer.initial_state(0)
  steps = COUNT // BATCH
  bare = tf.function(trainer.step(COUNT))
  parts = [slice(i * BATCH, (i + 1) * BATCH) for i in range(steps)]
  batches = [
    {
      'image': data.images[part],
      'label': data.labels[part],
      'key': data.keys[part],
      'epoch': tf.zeros([BATCH], tf.int32),
    }
    for part in parts
  ]

  def bare_epoch():
    now = state
    for batch in batches:
      now, metrics = bare(now, batch)
    metrics['loss'].numpy()

  _pair(
    'training loop, one epoch with initialisation',
    'images',
    COUNT,
    lambda: trainer.train(data, 0),
    bare_epoch,
  )


def _attribution(data: examples.Examples, trainer: loop.Trainer) -> None:
  plan = Plan(['grad', 'sg_grad', 'sg_sq_grad', 'var_grad'], Settings())
  model = trainer.load(trainer.initial_state(0))
  explain = compile_plan(plan, model)
  bare = measuring.bare_gradient(model)
  count = 128
  images = trainer.normalise(data.images[:count])
  keys = data.keys[:count]
  targets = data.labels[:count]
  evaluations = plan.gradient_evaluations

  def bare_loop():
    for _ in range(evaluations):
      scores = bare(images, targets)
    scores.numpy()

  _pair(
    'attribution, 15 noisy copies',
    'gradients',
    count * evaluations,
    lambda: explain(images, targets, keys, None, 0)['grad'].numpy(),
    bare_loop,
  )


def _shards(data: examples.Examples) -> None:
  layout = shards.Layout(image=tuple(data.images.shape[1:]), classes=CLASSES)
  scores = randomness.uniform(data.keys, data.images.shape[1:])
  levels = ranking.levels(scores, data.keys, 'pixel')
  masked = masking.mask(data.images, levels, threshold=50, fill=[128.0] * 3)
  batch = {'image': masked, 'label': data.labels, 'id': data.ids}
  with tempfile.TemporaryDirectory() as folder:
    path = f'{folder}/shard'

    def write():
      with shards.writing(path) as writer:
        writer.write(layout.serialize(batch))

    def read():
      list(shards.read_batches(path, COUNT, layout, 512))

    write(), read()
    for name, action in (('written', write), ('read', read)):
      times = [measuring.seconds(action) for _ in range(FLAGS.repeats)]
      rates = COUNT / np.array(times)
      print(
        f'masked PNG shards {name}: {np.median(rates):,.0f} images/s '
        f'({rates.min():,.0f}..{rates.max():,.0f})',
        flush=True,
      )


def main(argv) -> None:
  """Runs all measurements."""
  del argv
  tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
  generator = np.random.default_rng(0)
  shape = (FLAGS.size, FLAGS.size, 3)
  ids = np.arange(COUNT).astype('S').astype(object)
  data = examples.Examples(
    images=tf.constant(generator.integers(0, 256, (COUNT, *shape), np.uint8)),
    labels=tf.constant(generator.integers(0, CLASSES, COUNT), tf.int32),
    keys=randomness.keys_of_ids(tf.constant(ids)),
    ids=ids,
  )
  training = training_settings.Training(
    model=resnet.small_resnet,
    epochs=1,
    batch_size=BATCH,
    base_learning_rate=0.1,
  )
  trainer = loop.Trainer(
    functools.partial(resnet.small_resnet, width=FLAGS.width),
    shape,
    CLASSES,
    training,
    [128.0] * 3,
    [74.0] * 3,
  )
  print(
    f'small ResNet, width {FLAGS.width}, {FLAGS.size}x{FLAGS.size}, batch '
    f'{BATCH}, {FLAGS.threads} thread(s), TensorFlow {tf.__version__}'
  )
  _training(data, trainer)
  _attribution(data, trainer)
  _shards(data)


if __name__ == '__main__':
  app.run(main)
