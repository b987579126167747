"""Rates and errors of fills, images per second of one core.

    python benchmarks/fills.py [--images=16] [--repeats=5] [--errors]

Masks images of 28 x 28 and 224 x 224, three channels, by a blurred random
ranking at t = 90 % by pixel and by element, and prints a Markdown table:
medians per fill, CPU time, the compilation that comes first left out and told.

With --errors: the largest error of `noisy_linear` without noise, in grey
levels, against a direct sparse solver, after 1 to 6 iterations, for random
masks and for a hole of 90 % of the image.
"""

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import statistics
import time

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
import tensorflow as tf
from absl import app, flags

from roar_tf import fills, inpainting, masking, randomness, ranking

FLAGS = flags.FLAGS
flags.DEFINE_integer('images', 16, 'Images per batch.', lower_bound=1)
flags.DEFINE_integer('repeats', 5, 'Measurements of a rate.', lower_bound=1)
flags.DEFINE_bool('errors', False, 'Errors of the solver instead of rates.')

NAMES = ('mean', 'zero', 'blurred', 'noisy_linear')


def _rate(act, count: int) -> tuple[float, float]:
  """Returns images per CPU second, and CPU seconds of the first call."""
  start = time.process_time()
  act()
  first = time.process_time() - start
  times = []
  for _ in range(FLAGS.repeats):
    start = time.process_time()
    act()
    times.append(time.process_time() - start)
  return count / statistics.median(times), first


def _rates(size: int) -> None:
  generator = np.random.default_rng(0)
  shape = (FLAGS.images, size, size, 3)
  images = generator.integers(0, 256, shape).astype(np.uint8)
  keys = randomness.keys_of_ids(np.arange(len(images)))
  scores = scipy.ndimage.gaussian_filter(
    generator.normal(size=shape), (0, 1, 1, 0)
  )
  for granularity in ranking.GRANULARITIES:
    levels = ranking.rank(scores, granularity=granularity)
    for name in NAMES:
      fill = fills.named(name, [120.0, 110.0, 100.0])

      def act(levels=levels, fill=fill):
        masking.mask(images, levels, threshold=90, fill=fill, keys=keys).numpy()

      rate, first = _rate(act, len(images))
      print(
        f'| {size} | {granularity} | {name} | {rate:,.0f} | {first:.1f} s |',
        flush=True,
      )


def _exact(values: np.ndarray, unknown: np.ndarray) -> np.ndarray:
  """Returns what a direct solver makes of values [H, W]."""
  size = values.shape[0]
  line = scipy.sparse.diags([1, 2, 1], [-1, 0, 1], (size, size))
  weights = scipy.sparse.kron(line, line).tolil() / 12
  weights.setdiag(0)
  weights = weights.tocsr()
  reach = np.asarray(weights.sum(axis=1)).ravel()
  system = (scipy.sparse.diags(reach) - weights).tocsr()
  asked, given = (np.flatnonzero(m) for m in (unknown, ~unknown))
  solution = values.astype(float).ravel()
  solution[asked] = scipy.sparse.linalg.spsolve(
    system[asked][:, asked].tocsc(), weights[asked][:, given] @ solution[given]
  )
  return solution.reshape(values.shape)


def _errors(size: int) -> None:
  generator = np.random.default_rng(0)
  values = scipy.ndimage.gaussian_filter(
    generator.normal(size=(size, size)), size / 28
  )
  values = np.clip(128 + 50 * values / values.std(), 0, 255).astype(np.float32)
  masks = {
    f'random {t} %': generator.random((size, size)) < t / 100 for t in (50, 90)
  }
  hole = np.zeros((size, size), bool)
  rim = round((1 - 0.9**0.5) / 2 * size)
  hole[rim:-rim, rim:-rim] = True
  masks['hole of 90 %'] = hole
  solve = tf.function(
    lambda v, m, n: 128 + inpainting.solve(v - 128, m, n), jit_compile=True
  )
  for name, unknown in masks.items():
    exact = _exact(values, unknown)
    found = [
      np.abs(
        solve(values[None], unknown[None], tf.constant(n))[0] - exact
      ).max()
      for n in range(1, 7)
    ]
    print(f'| {size} | {name} | ' + ' | '.join(f'{e:.3f}' for e in found), '|')


def main(_) -> None:
  """Prints a table."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  for size in (28, 224):
    (_errors if FLAGS.errors else _rates)(size)


if __name__ == '__main__':
  app.run(main)
