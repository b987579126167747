"""The training loop beside its bare step, and the inputs of ResNet-50.

    python benchmarks/training.py [--part=loop,inputs] [--cores=0]

`loop`: images per second of `Trainer.train` on a small ResNet at 28x28, from
memory, from masked shards and masked on the fly, in turn with the bare step:
`tf.function` of the same pure step, augmentation included, called again and
again on one batch that is in memory. All are compiled before; initialisation,
the making of the input graph and the first step, which waits for the first
shards, are told apart. Ratios are medians of rounds, with the smallest and
largest in brackets; those by CPU time say what the loop costs a machine that is
never idle, and hardly depend on neighbours.

`inputs`: what feeds ResNet-50, 224x224x3 in batches of 64, nothing trained:
batches read from masked shards, and from originals with their ranking; then
augmentation and normalisation, which are part of the compiled step and run on
the device that trains, here the CPU. Images are 1/f noise, see `synthetic.py`.
"""

import os
import tempfile

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import measuring
import numpy as np
import synthetic
import tensorflow as tf
from absl import app, flags, logging

from roar_tf.training import augmentation, loop
from roar_tf.training.clock import Clock
from roar_tf.training.order import Order, Share

FLAGS = flags.FLAGS
flags.DEFINE_list('part', ['loop', 'inputs'], 'loop, inputs.')
flags.DEFINE_integer('repeats', 7, 'Rounds of measurements.', lower_bound=1)
flags.DEFINE_integer('cores', 0, 'Cores to use; 0 for all.', lower_bound=0)
flags.DEFINE_integer('steps', 40, 'Steps of a training.', lower_bound=20)
flags.DEFINE_integer('width', 16, 'Width of the small ResNet.')
flags.DEFINE_integer('batch', 128, 'Batch of the small ResNet.')

KINDS = ('memory', 'masked shards', 'masked on the fly')
INPUT_KINDS = ('masked shards', 'originals', 'masked on the fly')
INPUT_BATCH = 64
INPUT_BATCHES = 8


def _workspace(folder: str, source):
  """Returns a workspace with originals, a ranking and a masked dataset."""
  source_stages = synthetic.stages_of(folder, source)
  for units in (
    synthetic.source_units,
    synthetic.rank_units,
    synthetic.shard_units,
  ):
    synthetic.run(units(source_stages))
  return source_stages


def _first_batch(split, batch: int) -> dict[str, tf.Tensor]:
  """Returns a batch in memory."""
  order = Order(split.counts, 16, 'benchmark')
  return next(iter(split.training_batches(order, 0, batch, Share(batch))))


def _bare(trainer: loop.Trainer, split, steps: int):
  """Returns a function that tells how long one bare step takes."""
  step = trainer.step(len(split))
  batch = _first_batch(split, trainer.training.batch_size)
  first = trainer.initial_state(0)
  compiled = tf.function(lambda state: step(state, batch))

  def act():
    state, metrics = compiled(first)
    metrics['loss'].numpy()
    start = measuring.now()
    for _ in range(steps - 1):
      state, metrics = compiled(state)
    metrics['loss'].numpy()
    return (measuring.now() - start) / (steps - 1)

  return act


def _beginning(trainer: loop.Trainer, split) -> float:
  """Returns the seconds of a training outside of its steps."""
  clock = Clock()
  seconds = measuring.seconds(lambda: trainer.train(split, 0, clock=clock))
  return seconds - clock.step_seconds


def _loop(folder: str) -> None:
  source_stages = _workspace(
    f'{folder}/small', synthetic.small_source(8192, 512)
  )
  steps, batch = FLAGS.steps, FLAGS.batch
  trainer = synthetic.trainer(
    source_stages, batch, steps, 'pad_crop_flip', FLAGS.width
  )
  splits = {kind: synthetic.train_split(source_stages, kind) for kind in KINDS}
  found = measuring.in_pairs(
    _bare(trainer, splits['memory'], steps),
    {
      kind: synthetic.steps_of(trainer, split) for kind, split in splits.items()
    },
    FLAGS.repeats,
  )
  print(
    f'small ResNet, width {FLAGS.width}, 28x28x3, batch {batch}, '
    f'{trainer.training.augmentation}, {steps} steps a training'
  )
  for kind, (bare, loop_) in found.items():
    print(
      f'  {measuring.rates("bare step", batch, bare)}\n'
      f'  {measuring.rates(kind, batch, loop_)}\n'
      f'    beside the bare step: {measuring.ratios(bare, loop_)}\n'
      f'    outside of steps: {_beginning(trainer, splits[kind]):.1f} s a '
      'training',
      flush=True,
    )


def _inputs(folder: str) -> None:
  source, size = synthetic.photograph_source(f'{folder}/jpeg', 256, 32)
  source_stages = _workspace(f'{folder}/photographs', source)
  print(
    f'input of ResNet-50, 224x224x3, batch {INPUT_BATCH}, from JPEGs of '
    f'{size / 1e3:.0f} KB'
  )
  repeats = min(FLAGS.repeats, 5)

  def report(name, action):
    seconds = measuring.repeated(action, repeats)
    print(f'  {measuring.rates(name, INPUT_BATCH, seconds)}', flush=True)

  for kind in INPUT_KINDS:
    split = synthetic.train_split(source_stages, kind)
    report(kind, synthetic.stream(split, INPUT_BATCH, INPUT_BATCHES))
  batch = _first_batch(split, INPUT_BATCH)
  print('  in the step, on the device (here the CPU), in float32:')
  for name in augmentation.AUGMENTATIONS:
    report(f'augmentation {name}', _preparing(source_stages, name, batch))


def _preparing(source_stages, augment: str, batch):
  """Returns a function that tells how long a batch takes to be prepared."""
  step = synthetic.trainer(
    source_stages, INPUT_BATCH, 1, augment, width=1
  ).step(1)
  prepared = tf.function(lambda seed: step.prepared(batch, seed))
  calls = 4

  def act():
    # Otherwise it would be constant, and computed once.
    seeds = [tf.constant(seed) for seed in range(calls)]
    start = measuring.now()
    for seed in seeds:
      images = prepared(seed)
    np.asarray(images[:1, :1])
    return (measuring.now() - start) / calls

  return act


def main(argv) -> None:
  """Runs all measurements."""
  del argv
  logging.set_verbosity(logging.ERROR)  # TFDS tells every file it opens.
  cores = measuring.use_cores(FLAGS.cores)
  print(f'TensorFlow {tf.__version__}, {cores} core(s)')
  with tempfile.TemporaryDirectory() as folder:
    for part in FLAGS.part:
      {'loop': _loop, 'inputs': _inputs}[part](folder)


if __name__ == '__main__':
  app.run(main)
