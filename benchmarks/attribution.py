"""What attribution costs, beside the bare work inside it and beside peers.

    python benchmarks/attribution.py [--case=resnet50,small] [--repeats=3]

For each case, measured in turn in one process: seconds per image for all 15
gradient estimators; gradient evaluations per second, beside a bare compiled
gradient loop (`tf.function`, `GradientTape`, the Keras model as it is) with as
many rows per call; the share of the machine's GEMM rate, from the floating
point operations of convolutions and matrix products really executed. Ratios
are medians of pairs, with their quartiles. `--bfloat16` measures both in
bfloat16 too, and prints what each gains by it. Then, in processes of their own,
peak memory at 15 and at 150 samples; and captum and xplique, where `make peers`
has installed them.

`--agreement` trains a small ResNet on images with planted evidence and prints
the rank correlation of pixels, bfloat16 against float32, by estimator.

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
from roar_tf.estimators import (
  Plan,
  Settings,
  blocks,
  compile_plan,
  explain,
  gradient,
)
from roar_tf.models import precision, resnet

FLAGS = flags.FLAGS
flags.DEFINE_list('case', ['resnet50', 'small'], 'resnet50 (224), small (32).')
flags.DEFINE_integer('repeats', 3, 'Pairs of measurements.', lower_bound=1)
flags.DEFINE_integer('images', None, 'Images per call; 1 and 64 by default.')
flags.DEFINE_bool('memory', True, 'Measure peak memory.')
flags.DEFINE_bool('peers', True, 'Run captum and xplique where installed.')
flags.DEFINE_bool('bfloat16', False, 'Measure in bfloat16 too.')
flags.DEFINE_bool('agreement', False, 'Only: rank correlations of bfloat16.')
flags.DEFINE_bool('variants', False, 'Compare ways to evaluate gradients.')
flags.DEFINE_string(
  'peers_python', '.venv-peers/bin/python', 'Python with captum and xplique.'
)
flags.DEFINE_integer('epochs', 6, 'Of that training.', lower_bound=1)
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
  low, middle, high = np.percentile(ratios, [25, 50, 75])
  return f'{name} {middle:.3f} (quartiles {low:.3f}..{high:.3f})'


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
  more = _inputs(size, rows)
  functions = {
    'bare loop': measuring.bare_gradient(model),
    'folded loop': _folded(model),
  }
  per_row = _operations(functions['bare loop'], *more) / rows
  evaluations = plan.gradient_evaluations * count
  calls = max(1, evaluations // rows)

  def ours(computes_in):
    settings = Settings(precision=computes_in)
    compiled = compile_plan(Plan(ALL, settings), model)
    arguments = images, targets, keys, None, tf.constant(0)
    return lambda: compiled(*arguments)['var_ig'].numpy()

  def loop(function):
    def run():
      for _ in range(calls):
        values = function(*more)
      values.numpy()

    return run

  if FLAGS.bfloat16:
    functions['bare loop, bfloat16'] = measuring.bare_gradient(
      _in_bfloat16(case, model)
    )
  actions = {'roar_tf': ours('model')}
  if FLAGS.bfloat16:
    actions['roar_tf, bfloat16'] = ours('bfloat16')
  for function in functions.values():
    function(*more)
  for action in actions.values():
    action()
  work = dict.fromkeys(actions, evaluations)
  work |= dict.fromkeys(functions, calls * rows)
  actions |= {n: loop(f) for n, f in functions.items()}
  times = {name: [] for name in actions}
  for _ in range(FLAGS.repeats):
    for name, action in actions.items():
      times[name].append(measuring.seconds(action))
  # Neighbours on a shared machine slow one moment more than another.
  gemm = max(gemm, _gemm_rate())
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
    if name in functions and not name.endswith('bfloat16'):
      line += ', ' + _ratio('roar_tf beside it', rates['roar_tf'] / rate)
    print(line, flush=True)
  if FLAGS.bfloat16:
    gains = {
      name: rates[f'{name}, bfloat16'] / rates[name]
      for name in ('roar_tf', 'bare loop')
    }
    for name, gain in gains.items():
      print('  ' + _ratio(f'what {name} gains by bfloat16:', gain))
    share = gains['roar_tf'] / gains['bare loop']
    print('  ' + _ratio('the one beside the other:', share), flush=True)
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


def _in_bfloat16(case: str, model) -> keras.Model:
  """Returns the model of a case as Keras makes it compute in bfloat16."""
  with precision.computing_in('bfloat16'):
    half, *_ = _model(case)
  half.set_weights(model.get_weights())
  return half


def _agreement() -> None:
  """Prints how pixels are ranked in bfloat16, on a trained small model."""
  keras.utils.set_random_seed(0)
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 10, 4096)
  patches = rng.normal(size=(10, 8, 8, 3))
  images = 0.5 * rng.normal(size=(4096, 32, 32, 3))
  for image, label in zip(images, labels, strict=True):
    row, column = rng.integers(0, 25, 2)
    image[row : row + 8, column : column + 8] += patches[label]
  images = images.astype(np.float32)
  model = resnet.small_resnet((32, 32, 3), 10)
  model.compile(
    keras.optimizers.Adam(1e-3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=['accuracy'],
  )
  model.fit(images[64:], labels[64:], 128, epochs=FLAGS.epochs, verbose=0)
  _, accuracy = model.evaluate(images[:64], labels[:64], verbose=0)
  print(f'a small ResNet, accuracy {accuracy:.2f} on 64 images of 32 x 32')
  exact, found = (
    explain(
      model, images[:16], ALL, ids=[str(i) for i in range(16)], precision=name
    )
    for name in ('model', 'bfloat16')
  )
  for name, scores in exact.items():
    pixels = [
      np.sum(values, -1).reshape(16, -1) for values in (scores, found[name])
    ]
    correlations = [
      scipy.stats.spearmanr(a, b).statistic
      for a, b in zip(*pixels, strict=True)
    ]
    print('  ' + _ratio(f'{name}: rank correlation', correlations), flush=True)


def _ways(case: str, model) -> dict:
  half = _in_bfloat16(case, model)
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
  if FLAGS.agreement:
    _agreement()
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
