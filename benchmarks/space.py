"""Bytes of ten cells: as masked PNG datasets, and as one ranking.

    .venv-peers/bin/python benchmarks/space.py [--images=200]

Ten cells are the paper's five thresholds, each removed and kept. They can be
written as ten datasets of masked images (`roar_shards`), or masked while they
are read (`Study.masking = 'ranking'`) from one ranking and the original, which
all of a study's 18 estimators share. What is compared, in bytes of serialized
records as the stages write them:

    ten masked datasets / (one ranking + 1/18 of the original)

Images, 224 x 224, two kinds:

* photographs: crops at random places, of random sizes, mirrored at random, of
  the colour photographs that come with matplotlib, scikit-learn and
  scikit-image, as far as these are installed, and of all files below
  --photographs. `make peers` installs all three. A crop has at least 224 pixels
  a side before it is resized, so that none is smoother than its photograph. Few
  photographs make many crops that are alike; the table's header names them;
* synthetic, a quarter as many: fields whose amplitude falls as 1/f, as that of
  natural images does, with correlated colours; nothing else of natural images.

Rankings: `random`, whose bytes no encoding can help, and by gradients (`grad`,
`sg_sq_grad` of five copies) of a small ResNet with random weights.
"""

import concurrent.futures
import importlib.util
import os
import pathlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import roar_tf
from roar_tf import ranking, shards
from roar_tf.models import resnet

FLAGS = flags.FLAGS
flags.DEFINE_integer('images', 200, 'Crops of photographs.', lower_bound=4)
flags.DEFINE_multi_string(
  'photographs', [], 'Folder of more photographs; may be repeated.'
)

SIZE = 224
SHAPE = (SIZE, SIZE, 3)
CUTS = (10, 30, 50, 70, 90)
CELLS = [(mode, t) for mode in ('remove', 'keep') for t in CUTS]
SHARING = 18
"""Estimators that share an original."""
ESTIMATORS = ('random', 'grad', 'sg_sq_grad')
REQUIRED = {None: 15, CUTS: 25}
"""How many times smaller ten cells by pixel are to be, by cuts."""
BATCH = 25

INSTALLED = {
  'matplotlib': ['mpl-data/sample_data/grace_hopper.jpg'],
  'sklearn': ['datasets/images/china.jpg', 'datasets/images/flower.jpg'],
  'skimage': [
    f'data/{name}'
    for name in (
      'astronaut.png',
      'chelsea.png',
      'coffee.png',
      'motorcycle_left.png',
      'rocket.jpg',
    )
  ],
}
"""Photographs that come with packages."""


# --- images -------------------------------------------------------------------


def _photographs() -> dict[str, np.ndarray]:
  """Returns uint8 [H, W, 3], at least 224 a side, by name."""
  paths = []
  for package, names in INSTALLED.items():
    spec = importlib.util.find_spec(package)
    if spec:
      root = pathlib.Path(spec.origin).parent
      paths += [root / name for name in names]
  for folder in FLAGS.photographs:
    paths += sorted(pathlib.Path(folder).rglob('*.jp*g'))
    paths += sorted(pathlib.Path(folder).rglob('*.png'))
  found = {}
  for path in paths:
    if path.exists():
      image = tf.io.decode_image(path.read_bytes(), 3, expand_animations=False)
      if min(image.shape[:2]) >= SIZE:
        found[path.name] = image.numpy()
  return found


def _crops(photographs, count: int) -> np.ndarray:
  """Returns uint8 [count, 224, 224, 3], from each photograph in turn."""
  generator = np.random.default_rng(0)
  crops = []
  for i in range(count):
    image = photographs[i % len(photographs)]
    side = generator.integers(SIZE, min(image.shape[:2]), endpoint=True)
    top, left = (generator.integers(n - side + 1) for n in image.shape[:2])
    crop = image[top : top + side, left : left + side]
    if generator.integers(2):
      crop = crop[:, ::-1]
    crops.append(tf.image.resize(crop, (SIZE, SIZE), antialias=True))
  return np.uint8(np.clip(np.round(crops), 0, 255))


def _synthetic(count: int) -> np.ndarray:
  """Returns uint8 [count, 224, 224, 3] whose amplitude falls as 1/f."""
  generator = np.random.default_rng(1)
  frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(SIZE)] * 2))
  frequency[0, 0] = np.inf
  spectrum = np.fft.fft2(generator.normal(size=(count, 3, SIZE, SIZE)))
  fields = np.fft.ifft2(spectrum / frequency).real
  fields /= fields.std(axis=(2, 3), keepdims=True)
  # Colours of photographs differ less than their brightness does.
  fields = 0.9 * fields[:, :1] + 0.3 * fields
  images = 120 + 50 * np.moveaxis(fields, 1, -1)
  return np.uint8(np.clip(np.round(images), 0, 255))


# --- bytes --------------------------------------------------------------------


def _model() -> keras.Model:
  """Returns a ResNet of random weights all of whose branches count."""
  keras.utils.set_random_seed(0)
  model = resnet.small_resnet(SHAPE, 10, width=8)
  for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
      # The last of a block begins at 0, and its gradients would be in grids.
      layer.gamma.assign(tf.ones_like(layer.gamma))
  return model


def _scores(model, images, ids) -> dict[str, tf.Tensor]:
  inputs = (images.astype(np.float32) - 128) / 64
  return roar_tf.explain(model, inputs, ESTIMATORS, ids=ids, samples=5)


def _bytes(layout: shards.Layout, **batch) -> int:
  return sum(map(len, layout.serialize(batch)))


def _measure(images, model) -> dict[tuple, int]:
  """Returns bytes of the original, of rankings, and of ten cells of each.

  Keys are ('original',), ('ranking', granularity, cuts, estimator) and
  ('cells', granularity, estimator).
  """
  fill = np.uint8(np.round(images.mean(axis=(0, 1, 2))))
  cell_layout = shards.Layout(image=SHAPE, classes=1000)
  total = {}

  def add(key, count):
    total[key] = total.get(key, 0) + count

  for start in range(0, len(images), BATCH):
    batch = images[start : start + BATCH]
    ids = np.arange(start, start + len(batch))
    example = {
      'id': [f'image_{i:08d}'.encode() for i in ids],
      'label': ids % 1000,
    }
    add(('original',), _bytes(cell_layout, image=batch, **example))
    scores = _scores(model, batch, ids)
    for granularity in ranking.GRANULARITIES:
      depth = 1 if granularity == 'pixel' else 3
      layout = shards.Layout(levels=(*SHAPE[:2], depth))
      for name, values in scores.items():
        for cuts in REQUIRED:
          levels = ranking.rank(
            values, granularity=granularity, ids=ids, cuts=cuts
          ).numpy()
          key = ('ranking', granularity, cuts, name)
          add(key, _bytes(layout, levels=levels, **example))

        def cell(which, levels=levels, example=example, batch=batch):
          mode, threshold = which
          masked = roar_tf.mask(
            batch, levels, threshold=threshold, mode=mode, fill=fill
          )
          return _bytes(cell_layout, image=masked, **example)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
          add(('cells', granularity, name), sum(pool.map(cell, CELLS)))
    print('.', end='', flush=True)
  print()
  return total


def _print_table(total, count: int) -> None:
  original = total['original',]
  print(f'\nKB an image; the original: {original / count / 1000:.1f}\n')
  print('| ranking | levels | ten datasets | one ranking | ratio | asked |')
  print('| --- | --- | ---: | ---: | ---: | ---: |')
  for (kind, *key), stored in total.items():
    if kind != 'ranking':
      continue
    granularity, cuts, name = key
    cells = total['cells', granularity, name]
    ratio = cells / (stored + original / SHARING)
    asked = REQUIRED[cuts] if granularity == 'pixel' else ''
    print(
      f'| `{name}` by {granularity} | {"five cuts" if cuts else "100"} '
      f'| {cells / count / 1000:.0f} | {stored / count / 1000:.1f} '
      f'| {ratio:.1f} | {asked} |'
    )


def main(argv) -> None:
  """Prints a table per kind of images."""
  del argv
  model = _model()
  kinds = {}
  if photographs := _photographs():
    names = ', '.join(photographs)
    crops = _crops(list(photographs.values()), FLAGS.images)
    different = len({crop.tobytes() for crop in crops})
    kinds[f'{different} different crops of {names}'] = crops
  else:
    print('No photographs are installed; see --photographs.')
  kinds[f'{FLAGS.images // 4} synthetic 1/f images'] = _synthetic(
    FLAGS.images // 4
  )
  for what, images in kinds.items():
    print(f'\n{what}:')
    _print_table(_measure(images, model), len(images))


if __name__ == '__main__':
  app.run(main)
