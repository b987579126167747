"""Rates of everything that reads, makes or writes images; memory of streams.

    python benchmarks/data.py [--case=small,photographs] [--cores=0]
    python benchmarks/data.py --memory

The cases are 28x28x3 images of a TFDS dataset (PNG), and a folder of JPEGs of
500x375, quality 90, which stage source crops to 224x224x3; both are 1/f noise,
see `synthetic.py`. Prints images per second by wall clock and per second of
CPU, which is the rate of one core and hardly depends on what neighbours do:

* stage source: reading, decoding, cropping, PNG encoding, writing;
* stage shards: masked PNG shards of five thresholds from one read;
* reading masked shards, originals, and originals masked on the fly, as a
  training reads them: batches alone, nothing trains on them;
* training steps on originals and on originals masked on the fly, from disk, in
  turn, and on masked images in memory.

Each is the median of `--repeats`, with the smallest and largest in brackets.

`--memory` measures instead the peak memory of processes that do one of these
with 1,000 and with 50,000 images in shards of equal size.
"""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import measuring
import synthetic
import tensorflow as tf
from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_list('case', ['small', 'photographs'], 'small, photographs.')
flags.DEFINE_integer('repeats', 3, 'Measurements of each.', lower_bound=1)
flags.DEFINE_integer('cores', 0, 'Cores to use; 0 for all.', lower_bound=0)
flags.DEFINE_bool('memory', False, 'Measure peak memory instead.')
flags.DEFINE_string('peak', None, 'Only: do that in --workspace, print peak.')
flags.DEFINE_integer('images', None, 'Train images, with --peak.')
flags.DEFINE_string('workspace', None, 'Directory, with --peak.')

MEMORY_COUNTS = (1000, 50_000)
MEMORY_SHARD = 63
"""Images of a shard; 1,000 images fill one window of 16 shards."""

KINDS = ('masked shards', 'originals', 'masked on the fly')


def _print_rates(name, work, action, unit='images') -> None:
  """Measures an action that returns the seconds of so much work."""
  seconds = measuring.repeated(action, FLAGS.repeats)
  print(f'  {measuring.rates(name, work, seconds, unit)}', flush=True)


def _stages(source_stages) -> None:
  """Measures the stages, and leaves the workspace with all they make."""
  count = source_stages.context.source.train_images
  units = synthetic.source_units(source_stages)
  act = synthetic.again(synthetic.train_units(units))
  _print_rates('stage source', count, lambda: measuring.both_seconds(act))
  synthetic.run(units)
  synthetic.run(synthetic.rank_units(source_stages))
  units = synthetic.shard_units(source_stages)
  write = synthetic.again(synthetic.train_units(units))
  cells = len(synthetic.CELLS)
  _print_rates(
    f'stage shards, {cells} cells from one read',
    count * cells,
    lambda: measuring.both_seconds(write),
    'masked images',
  )
  synthetic.run(units)


def _streams(source_stages, batch: int, batches: int) -> None:
  """Measures what a training reads, without a training."""
  for kind in KINDS:
    split = synthetic.train_split(source_stages, kind)
    action = synthetic.stream(split, batch, batches)
    _print_rates(f'reading, {kind}', batch, action)


def _trainings(source_stages, batch: int, steps: int, width: int, stages: int):
  """Measures trainings on masked images beside one on originals."""
  trainer = synthetic.trainer(
    source_stages, batch, steps, 'pad_crop_flip', width, stages
  )
  reference, *others = (
    synthetic.steps_of(trainer, synthetic.train_split(source_stages, kind))
    for kind in ('originals', 'masked on the fly', 'memory')
  )
  found = measuring.in_pairs(
    reference,
    dict(zip(('masked on the fly', 'masked in memory'), others, strict=True)),
    FLAGS.repeats,
  )
  print(
    f'  training, ResNet of {stages} stages, width {width}, batch {batch}, '
    f'{steps} steps:'
  )
  for kind, (originals, masked) in found.items():
    print(
      f'    {measuring.rates("originals", batch, originals)}\n'
      f'    {measuring.rates(kind, batch, masked)}\n'
      f'      beside originals: {measuring.ratios(originals, masked)}',
      flush=True,
    )


def _small(folder: str) -> None:
  source = synthetic.small_source(8192, 512)
  print('small: 8192 images of 28x28x3, PNG in TFRecords')
  source_stages = synthetic.stages_of(f'{folder}/small', source)
  _stages(source_stages)
  _streams(source_stages, 128, 128)
  _trainings(source_stages, 128, 48, 16, 3)


def _photographs(folder: str) -> None:
  source, size = synthetic.photograph_source(f'{folder}/jpeg', 128, 16)
  height, width = synthetic.JPEG_SIZE
  print(
    f'photographs: 128 JPEGs of {width}x{height}, {size / 1e3:.0f} KB each, '
    'to 224x224x3'
  )
  source_stages = synthetic.stages_of(f'{folder}/photographs', source)
  _stages(source_stages)
  _streams(source_stages, 16, 24)
  # With 8 channels TensorFlow 2.21's gradients of a convolution crash on a CPU.
  _trainings(source_stages, 16, 7, 16, 3)


def _work_for_peak(source_stages) -> None:
  """Does one thing, in a process of its own."""
  units = {
    'source': synthetic.source_units,
    'rank': synthetic.rank_units,
    'shards': synthetic.shard_units,
  }
  name, count = FLAGS.peak, source_stages.context.source.train_images
  if name in units:
    synthetic.run(units[name](source_stages))
  elif name in KINDS:
    split = synthetic.train_split(source_stages, name)
    synthetic.stream(split, 50, count // 50)()
  else:  # `start` makes the dataset, `nothing` starts TensorFlow.
    if name == 'start':
      synthetic.prepare(source_stages)
    tf.constant(0)


def _print_peak() -> None:
  """Prints the peak memory of this process in bytes."""
  source = synthetic.small_source(FLAGS.images, MEMORY_SHARD)
  _work_for_peak(synthetic.stages_of(FLAGS.workspace, source))
  # Kilobytes on Linux.
  print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _peak_of(name: str, count: int, folder: str) -> int:
  arguments = [f'--peak={name}', f'--images={count}', f'--workspace={folder}']
  done = subprocess.run(
    [sys.executable, __file__, *arguments, f'--cores={FLAGS.cores}'],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  return int(done.stdout.split()[-1])


def _memory(folder: str) -> None:
  """Prints the peaks of both sizes."""
  few, many = MEMORY_COUNTS
  print(
    f'peak memory, {few:,} and {many:,} images of 28x28x3 in shards of '
    f'{MEMORY_SHARD}'
  )
  names = (
    'start',
    'nothing',
    'source',
    'originals',
    'rank',
    'masked on the fly',
    'shards',
    'masked shards',
  )
  for name in names:
    peaks = [
      _peak_of(name, count, str(pathlib.Path(folder, str(count))))
      for count in MEMORY_COUNTS
    ]
    if name == 'start':
      continue
    low, high = (peak / 1e6 for peak in peaks)
    print(
      f'  {name}: {low:,.0f} MB and {high:,.0f} MB, {high - low:+,.0f} MB '
      f'({high / low - 1:+.1%})',
      flush=True,
    )


def main(argv) -> None:
  """Runs all measurements."""
  del argv
  logging.set_verbosity(logging.ERROR)  # TFDS tells every file it opens.
  cores = measuring.use_cores(FLAGS.cores)
  if FLAGS.peak:
    _print_peak()
    return
  print(f'TensorFlow {tf.__version__}, {cores} core(s)')
  with tempfile.TemporaryDirectory() as folder:
    if FLAGS.memory:
      _memory(folder)
      return
    for case in FLAGS.case:
      {'small': _small, 'photographs': _photographs}[case](folder)


if __name__ == '__main__':
  app.run(main)
