"""Bytes and rates of level maps in encodings that one might store them in.

    python benchmarks/rankings.py [--images=8] [--repeats=3]

Rankings are of 224 x 224 images: random ones, the worst case that there is, and
those of the gradient, of SmoothGrad-Squared and of Sobel, from a randomly
initialised ResNet-50 on images of smooth colour fields with noise. Each is
stored with 100 levels and with the paper's five cuts (six levels), by pixel
and by element. Prints a Markdown table per kind of map: bytes per image,
images encoded and decoded per second on one core (medians).

Deflate has strategies beside its levels, and every zlib reader reads them all:
`runs` looks for runs of one value only, `entropy` for nothing at all. Maps that
are PNG, or packed (7 bits a level; three of six levels in a byte), are no
compressed tensors, which TFDS reads without roar_tf: they are for comparison.
"""

import math
import os
import zlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import keras
import measuring
import numpy as np
import scipy.ndimage
import tensorflow as tf
from absl import app, flags

import roar_tf
from roar_tf import ranking, shards

FLAGS = flags.FLAGS
flags.DEFINE_integer('images', 8, 'Images per estimator.', lower_bound=1)
flags.DEFINE_integer('repeats', 3, 'Measurements of a rate.', lower_bound=1)

SIZE = 224
CUTS = (10, 30, 50, 70, 90)
ESTIMATORS = ('random', 'grad', 'sg_sq_grad', 'sobel')


def _images(count: int) -> np.ndarray:
  """Returns float32 [count, 224, 224, 3] in 0..255: smooth fields and noise."""
  generator = np.random.default_rng(0)
  fields = [
    scipy.ndimage.gaussian_filter(
      generator.normal(size=(count, SIZE, SIZE, 3)), (0, sigma, sigma, 0)
    )
    * sigma**1.5
    for sigma in (1, 4, 16)
  ]
  return np.clip(128 + 30 * sum(fields), 0, 255).astype(np.float32)


def _scores(images) -> dict[str, tf.Tensor]:
  keras.utils.set_random_seed(0)
  model = keras.applications.ResNet50(weights=None, classifier_activation=None)
  ids = np.arange(len(images))
  found = roar_tf.explain(None, images, ['random', 'sobel'], ids=ids)
  inputs = (images - 128) / 64
  # Four noisy copies: as rough as fifteen, and cheaper.
  return found | roar_tf.explain(
    model, inputs, ['grad', 'sg_sq_grad'], ids=ids, samples=4
  )


# --- encodings ----------------------------------------------------------------


def _deflate(level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY):
  def encode(levels: np.ndarray) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
    return stream.compress(levels.tobytes()) + stream.flush()

  return encode


def _inflate(data: bytes, shape) -> np.ndarray:
  return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)


def _png(levels: np.ndarray) -> bytes:
  return tf.io.encode_png(levels).numpy()


def _from_png(data: bytes, shape) -> np.ndarray:
  del shape
  return tf.io.decode_png(data).numpy()


def _pack_bits(levels: np.ndarray) -> bytes:
  bits = np.unpackbits(levels.reshape(-1, 1), axis=1)[:, 1:]
  return zlib.compress(np.packbits(bits).tobytes())


def _pack_digits(levels: np.ndarray) -> bytes:
  digits = np.searchsorted((*CUTS, 100), levels.ravel()).astype(np.uint8)
  digits = np.pad(digits, (0, -len(digits) % 3)).reshape(-1, 3)
  return zlib.compress((digits @ np.uint8([36, 6, 1])).tobytes())


def _unpack_bits(data: bytes, shape) -> np.ndarray:
  bits = np.unpackbits(np.frombuffer(zlib.decompress(data), np.uint8))
  bits = bits[: 7 * math.prod(shape)].reshape(-1, 7)
  return np.packbits(np.pad(bits, ((0, 0), (1, 0))), axis=1).reshape(shape)


def _unpack_digits(data: bytes, shape) -> np.ndarray:
  packed = np.frombuffer(zlib.decompress(data), np.uint8)
  digits = np.stack([packed // 36, packed // 6 % 6, packed % 6], axis=1)
  values = np.uint8([*CUTS, 100])[digits]
  return values.ravel()[: math.prod(shape)].reshape(shape)


def _encodings(cuts):
  """Returns {name: (encode, decode)}; in bold what roar_tf stores."""
  return {
    '**zlib, runs**': (shards.compress_levels, _inflate),
    'zlib 1': (_deflate(1), _inflate),
    'zlib 6': (_deflate(6), _inflate),
    'zlib 9': (_deflate(9), _inflate),
    'zlib, entropy': (_deflate(6, zlib.Z_HUFFMAN_ONLY), _inflate),
    'PNG': (_png, _from_png),
    'packed, zlib 6': (
      (_pack_digits, _unpack_digits) if cuts else (_pack_bits, _unpack_bits)
    ),
  }


# --- measurement --------------------------------------------------------------


def _rate(action, count: int) -> float:
  times = [measuring.seconds(action) for _ in range(FLAGS.repeats)]
  return count / np.median(times)


def _measure(maps: np.ndarray, encode, decode) -> tuple[float, float, float]:
  """Returns the largest size in bytes, and both rates per second."""
  data = [encode(levels) for levels in maps]
  for levels, encoded in zip(maps, data, strict=True):
    np.testing.assert_array_equal(decode(encoded, levels.shape), levels)
  return (
    max(map(len, data)),
    _rate(lambda: [encode(levels) for levels in maps], len(maps)),
    _rate(lambda: [decode(d, maps.shape[1:]) for d in data], len(maps)),
  )


def _print_table(granularity: str, cuts, scores) -> None:
  maps = {
    name: ranking.rank(
      s, granularity=granularity, ids=np.arange(len(s)), cuts=cuts
    ).numpy()
    for name, s in scores.items()
  }
  print(
    f'\n{granularity}, {"6" if cuts else "100"} levels: largest size in KB, '
    'then images encoded and decoded per second\n'
  )
  print('| encoding |', ' | '.join(maps), '|')
  print('| --- |', ' | '.join(['---:'] * len(maps)), '|')
  for name, (encode, decode) in _encodings(cuts).items():
    cells = [_measure(m, encode, decode) for m in maps.values()]
    print(
      f'| {name} |',
      ' | '.join(f'{s / 1000:.1f}, {e:,.0f}, {d:,.0f}' for s, e, d in cells),
      '|',
      flush=True,
    )


def main(argv) -> None:
  """Prints all tables."""
  del argv
  scores = _scores(_images(FLAGS.images))
  for granularity in ranking.GRANULARITIES:
    for cuts in (None, CUTS):
      _print_table(granularity, cuts, scores)


if __name__ == '__main__':
  app.run(main)
