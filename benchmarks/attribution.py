"""What attribution costs, beside the bare work inside it and beside peers.

    python benchmarks/attribution.py [--case=resnet50,small] [--repeats=3]

For each case, measured in turn in one process: seconds per image for all 15
gradient estimators; gradient evaluations per second, beside a bare compiled
gradient loop (`tf.function`, `GradientTape`, the Keras model as it is) with as
many rows per call; the share of the machine's GEMM rate, from the floating
point operations of convolutions and matrix products really executed. Ratios
are medians of pairs, with the smallest and largest. Then, in processes of their
own, peak memory at 15 and at 150 samples; and captum and xplique, where
`make peers` has installed them.

`--variants` compares ways to evaluate the gradients themselves: rows per call,
folded batch norm, XLA, bfloat16 with the rank agreement that it costs.
"""

import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import keras
import measuring
import numpy as np
import scipy.stats
import tensorflow as tf
from absl import app, flags

from roar_tf import randomness
from roar_tf.estimators import Plan, Settings, blocks, compile_plan, gradient
from roar_tf.models import resnet

FLAGS = flags.FLAGS
flags.DEFINE_list('case', ['resnet50', 'small'], 'resnet50 (224), small (32).')
flags.DEFINE_integer('repeats', 3, 'Pairs of measurements.', lower_bound=1)
flags.DEFINE_integer('images', None, 'Images per call; 1 and 64 by default.')
flags.DEFINE_bool('memory', True, 'Measure peak memory.')
flags.DEFINE_bool('peers', True, 'Run captum and xplique where installed.')
flags.DEFINE_bool('variants', False, 'Compare ways to evaluate gradients.')
flags.DEFINE_string(
  'peers_python', '.venv-peers/bin/python', 'Python with captum and xplique.'
)
flags.DEFINE_integer('peak', None, 'Only: print peak memory at J samples.')

PREFIXES = ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
ALL = tuple(p + base for base in ('grad', 'gb', 'ig') for p in PREFIXES)


def _model(case: str) -> tuple[keras.Model, int, int]:
  """Returns a randomly initialised model, its image size, images per call."""
  keras.utils.set_random_seed(0)
  if case == 'resnet50':
    model = keras.applications.ResNet50(
      weights=None, classifier_activation=None
    )
    return model, 224, FLAGS.images or 1
  return resnet.small_resnet((32, 32, 3), 10), 32, FLAGS.images or 64


def _gemm_rate() -> float:
  """Returns the best of ten: floating point operations per second."""
  size = 4096
  matrix = tf.random.normal([size, size])
  product = tf.function(lambda a: tf.matmul(a, a))
  product(matrix)
  return (
    2
    * size**3
    / min(measuring.seconds(lambda: product(matrix).numpy()) for _ in range(10))
  )


def _operations(function, *arguments) -> int:
  """Returns the multiplications and additions of a compiled function.

  Those of convolutions and matrix products, which are nearly all.
  """
  graph = function.get_concrete_function(*arguments).graph
  total = 0
  for operation in graph.get_operations():
    kind = operation.type
    if kind in ('Conv2D', 'Conv2DBackpropInput'):
      inputs = operation.inputs
      # The kernel's size times the positions of the smaller image.
      small = operation.outputs[0] if kind == 'Conv2D' else inputs[2]
      *_, height, width, depth, filters = [*inputs[1].shape]
      rows, high, wide, _ = small.shape
      total += 2 * rows * high * wide * height * width * depth * filters
    elif kind == 'MatMul':
      left, right = operation.inputs
      total += (
        2
        * int(np.prod(left.shape))
        * int(np.prod(right.shape))
        // (
          left.shape[0] if operation.get_attr('transpose_a') else left.shape[1]
        )
      )
  return total


def _folded(model):
  """Returns the gradient as roar_tf evaluates it."""

  @tf.function(autograph=False)
  def evaluate(images, targets):
    with gradient.prepared(model):
      return gradient.gradients(model, images, targets)[0]['gradient']

  return evaluate


def _inputs(size: int, count: int):
  generator = np.random.default_rng(0)
  images = generator.normal(size=(count, size, size, 3)).astype(np.float32)
  return tf.constant(images), tf.constant(np.arange(count) % 10, tf.int32)


def _ratio(name: str, ratios) -> str:
  return (
    f'{name} {np.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})'
  )


def _measure(case: str, gemm: float) -> float:
  """Prints one case and returns seconds per image."""
  model, size, count = _model(case)
  settings = Settings()
  plan = Plan(ALL, settings)
  bound = blocks.default_bound(size, size)
  block = blocks.choose(count, settings.samples, settings.steps - 1, bound)
  rows = block.images * block.copies * block.steps
  images, targets = _inputs(size, count)
  keys = randomness.keys_of_ids([str(i) for i in range(count)])
  explain = compile_plan(plan, model)
  more = _inputs(size, rows)
  functions = {
    'bare loop': measuring.bare_gradient(model),
    'folded loop': _folded(model),
  }
  per_row = _operations(functions['bare loop'], *more) / rows
  evaluations = plan.gradient_evaluations * count
  calls = max(1, evaluations // rows)

  def ours():
    explain(images, targets, keys, None, tf.constant(0))['var_ig'].numpy()

  def loop(function):
    def run():
      for _ in range(calls):
        values = function(*more)
      values.numpy()

    return run

  actions = {'roar_tf': ours} | {n: loop(f) for n, f in functions.items()}
  for function in functions.values():
    function(*more)
  ours()
  times = {name: [] for name in actions}
  for _ in range(FLAGS.repeats):
    for name, action in actions.items():
      times[name].append(measuring.seconds(action))
  # Neighbours on a shared machine slow one moment more than another.
  gemm = max(gemm, _gemm_rate())
  work = dict.fromkeys(functions, calls * rows) | {'roar_tf': evaluations}
  rates = {name: work[name] / np.array(times[name]) for name in actions}
  seconds = np.array(times['roar_tf']) / count
  print(
    f'\n{case}: {size} x {size}, {count} image(s) per call, at most {bound} '
    f'rows ({rows} along paths)\n'
    f'  plan: {plan.gradient_evaluations} gradient evaluations and '
    f'{plan.forward_evaluations} forward passes per image, '
    f'{per_row / 1e9:.3g} GFLOP each\n'
    f'  all 15 estimators: {np.median(seconds):.3g} s per image '
    f'({seconds.min():.3g}..{seconds.max():.3g})'
  )
  for name, rate in rates.items():
    line = f'  {name}: {np.median(rate):,.4g} gradients/s'
    line += f', {np.median(rate) * per_row / gemm:.0%} of GEMM'
    if name != 'roar_tf':
      line += ', ' + _ratio('roar_tf beside it', rates['roar_tf'] / rate)
    print(line, flush=True)
  return float(np.median(seconds))


def _variants(case: str) -> None:
  """Prints seconds per row of ways to evaluate the gradients themselves."""
  model, size, _ = _model(case)
  bound = blocks.default_bound(size, size)
  for rows in (bound // 4, bound // 2, bound):
    inputs = _inputs(size, rows)
    for name, function in _ways(case, model).items():
      action = functools.partial(function, *inputs)
      values = action().numpy()
      times = [
        measuring.seconds(lambda run=action: run().numpy())
        for _ in range(max(3, FLAGS.repeats))
      ]
      if name == 'bare':
        reference = values
      agreement = [
        scipy.stats.spearmanr(a.sum(-1).ravel(), b.sum(-1).ravel()).statistic
        for a, b in zip(values[:8], reference[:8], strict=False)
      ]
      print(
        f'  {case}, {rows} rows, {name}: {rows / np.median(times):,.4g} '
        f'({rows / max(times):,.4g}..{rows / min(times):,.4g}) gradients/s, '
        f'rank correlation with bare {np.mean(agreement):.3f}',
        flush=True,
      )


def _ways(case: str, model) -> dict:
  with_policy = keras.mixed_precision.dtype_policy()
  keras.mixed_precision.set_dtype_policy('mixed_bfloat16')
  half, *_ = _model(case)
  keras.mixed_precision.set_dtype_policy(with_policy)
  half.set_weights(model.get_weights())
  folded = _folded(model)
  return {
    'bare': measuring.bare_gradient(model),
    'folded': folded,
    'folded, XLA': tf.function(folded.python_function, jit_compile=True),
    'folded, bfloat16': _folded(half),
  }


def _print_peak(samples: int) -> None:
  """Explains once and prints the process's peak memory in bytes."""
  model, size, count = _model(FLAGS.case[0])
  plan = Plan(ALL, Settings(samples=samples))
  images, targets = _inputs(size, count)
  keys = randomness.keys_of_ids([str(i) for i in range(count)])
  compile_plan(plan, model)(images, targets, keys, None, tf.constant(0))
  # Kilobytes on Linux.
  print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _memory(case: str) -> None:
  peaks = [
    int(
      subprocess.run(
        [sys.executable, __file__, f'--case={case}', f'--peak={samples}'],
        check=True,
        capture_output=True,
        text=True,
      ).stdout.split()[-1]
    )
    for samples in (15, 150)
  ]
  print(
    f'  peak memory: {peaks[0] / 1e9:.2f} GB at J = 15, {peaks[1] / 1e9:.2f} '
    f'GB at J = 150 ({peaks[1] / peaks[0] - 1:+.0%})',
    flush=True,
  )


def _peers(seconds: float) -> None:
  """Runs `peers.py` in its environment and prints our lead."""
  python = pathlib.Path(FLAGS.peers_python)
  if not python.exists():
    print(f'\ncaptum, xplique: {python} is not there; `make peers` makes it')
    return
  script = pathlib.Path(__file__).with_name('peers.py')
  with tempfile.TemporaryDirectory() as folder:
    report = pathlib.Path(folder) / 'peers.json'
    subprocess.run(
      [python, script, '--image_size=224', f'--json={report}'], check=True
    )
    outcome = json.loads(report.read_text(encoding='utf-8'))
  captum = sum(outcome['captum']['seconds_per_image'].values())
  print(
    f'captum, twelve estimators one by one: {captum:.1f} s per image, '
    f'{captum / seconds:.1f} times as long as all 15 here',
    flush=True,
  )


def main(argv) -> None:
  """Runs all measurements."""
  del argv
  if FLAGS.peak is not None:
    _print_peak(FLAGS.peak)
    return
  gemm = _gemm_rate()
  print(
    f'TensorFlow {tf.__version__}, {os.cpu_count()} cores, GEMM '
    f'{gemm / 1e9:.0f} GFLOP/s'
  )
  for case in FLAGS.case:
    if FLAGS.variants:
      _variants(case)
      continue
    seconds = _measure(case, gemm)
    if FLAGS.memory:
      _memory(case)
    if FLAGS.peers and case == 'resnet50':
      _peers(seconds)


if __name__ == '__main__':
  app.run(main)
