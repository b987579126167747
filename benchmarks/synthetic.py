"""Sources and workspaces of made-up images that benchmarks measure on.

Images are 1/f noise: random phases under the amplitudes that photographs have
(inversely proportional to frequency), one pattern shared by the channels and a
weaker one per channel, so that codecs find about as much in them as in
photographs. Masks come from the estimator `random`, the worst case for PNG.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterable

import measuring
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from roar_tf import cells, engine
from roar_tf.datasets.reader import Reader
from roar_tf.datasets.source import Source
from roar_tf.models import resnet
from roar_tf.ranking import Ranking
from roar_tf.study import experiment
from roar_tf.study.context import Context, facts
from roar_tf.study.paths import Workspace
from roar_tf.study.stages import Stages
from roar_tf.training import examples, loop, streams
from roar_tf.training.order import Order, Share
from roar_tf.training.settings import Training

CLASSES = 10
TEST_IMAGES = 16
DISTINCT = 64
"""Different images; a source repeats them under other ids."""

JPEG_SIZE = (375, 500)
"""Height and width of the photographs, near ImageNet's average."""

COUNTS = (1000, 8192, 50_000)
"""Train images of the small sources."""

CELLS = tuple(
  cells.Cell('random', 'pixel', 'remove', t) for t in (10, 30, 50, 70, 90)
)
"""What the shards of one ranking are written for, the paper's thresholds."""

CELL = CELLS[2]


def noise_images(count: int, height: int, width: int) -> np.ndarray:
  """Returns 1/f noise, uint8 [count, height, width, 3]."""
  generator = np.random.default_rng(0)
  rows = np.fft.fftfreq(height)[:, None]
  columns = np.fft.rfftfreq(width)
  amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width))

  def fields(channels):
    white = generator.normal(size=(count, channels, height, width))
    made = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(height, width))
    return made / made.std((2, 3), keepdims=True)

  values = 118 + 55 * fields(1) + 15 * fields(3)
  return np.clip(values, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


class RoarSynthetic(tfds.core.GeneratorBasedBuilder):
  """Small images, as TFDS has them: PNG in TFRecords."""

  VERSION = tfds.core.Version('1.0.0')
  SIZE = 28
  BUILDER_CONFIGS = [  # noqa: RUF012 as TFDS wants it
    tfds.core.BuilderConfig(name=f'images_{count}') for count in COUNTS
  ]

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(self.SIZE, self.SIZE, 3)),
          'label': tfds.features.ClassLabel(num_classes=CLASSES),
          'id': tfds.features.Text(),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    count = int(self.builder_config.name.removeprefix('images_'))
    return {
      'train': self._generate_examples('train', count),
      'test': self._generate_examples('test', TEST_IMAGES),
    }

  def _generate_examples(self, split, count):
    images = noise_images(DISTINCT, self.SIZE, self.SIZE)
    for i in range(count):
      yield (
        i,
        {
          'image': images[i % DISTINCT],
          'label': i % CLASSES,
          'id': f'{split}/{i}',
        },
      )


def small_source(count: int, images_per_shard: int) -> Source:
  """Returns a source of 28x28x3 images, made by a TFDS builder."""
  return Source(
    'small',
    tfds_name=f'roar_synthetic/images_{count}',
    builder_module=__name__,
    generated=True,
    image_shape=(RoarSynthetic.SIZE, RoarSynthetic.SIZE, 3),
    num_classes=CLASSES,
    train_images=count,
    test_images=TEST_IMAGES,
    images_per_shard=images_per_shard,
  )


def photograph_source(
  folder: str, count: int, images_per_shard: int
) -> tuple[Source, float]:
  """Writes JPEGs and returns their 224x224x3 source, and bytes per file."""
  jpegs = [
    tf.io.encode_jpeg(image, quality=90).numpy()
    for image in noise_images(DISTINCT, *JPEG_SIZE)
  ]
  for split, images in (('train', count), ('test', TEST_IMAGES)):
    for i in range(images):
      path = pathlib.Path(folder, split, f'class_{i % CLASSES}', f'{i}.jpg')
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(jpegs[i % DISTINCT])
  source = Source(
    'photographs',
    folder=folder,
    image_shape=(224, 224, 3),
    num_classes=CLASSES,
    train_images=count,
    test_images=TEST_IMAGES,
    images_per_shard=images_per_shard,
    preprocessing='resize_crop',
  )
  return source, sum(map(len, jpegs)) / len(jpegs)


def stages_of(root: str, source: Source) -> Stages:
  """Returns the stages of a source in a workspace, without a study."""
  workspace = Workspace(root)
  workspace.create()
  chosen = experiment.of_source(source, Ranking())
  return Stages(Context(workspace, chosen))


def prepare(stages: Stages) -> None:
  """Makes a source's TFDS dataset, where it is not there."""
  context = stages.context
  Reader(context.source, None, context.workspace.tfds)


def source_units(stages: Stages) -> list[engine.Unit]:
  """Returns the units of stage source."""
  return _units(stages.source.original)


def rank_units(stages: Stages) -> list[engine.Unit]:
  """Returns the units of stage rank for the ranking of CELLS."""
  return _units(stages.rank.ranking(CELL.estimator, CELL.granularity))


def shard_units(stages: Stages) -> list[engine.Unit]:
  """Returns the units of stage shards for CELLS."""
  return _units(*(stages.shards.masked(cell) for cell in CELLS))


def _units(*datasets: engine.Artefact) -> list[engine.Unit]:
  """Returns the units that make some datasets of one stage."""
  parts = [part for whole in datasets for part in whole.parts().values()]
  return datasets[0].stage.units([*parts, *datasets])


def run(units: Iterable[engine.Unit]) -> None:
  """Does what is not done yet, in the order given."""
  for unit in units:
    outcome = engine.attempt(unit, facts)
    assert not outcome.failure, outcome.failure


def again(units: Iterable[engine.Unit]) -> Callable[[], None]:
  """Returns a function that does the units' work, done before or not."""

  def act():
    for unit in units:
      for _ in unit.run(unit.makes):
        continue

  return act


def train_units(units: list[engine.Unit]) -> list[engine.Unit]:
  """Returns the units that make shards of the train split."""
  return [u for u in units if ' train ' in u.name]


@contextlib.contextmanager
def _on_disk():
  """Splits are not held in memory, however small."""
  bound = examples.MEMORY_BOUND
  examples.MEMORY_BOUND = 0
  try:
    yield
  finally:
    examples.MEMORY_BOUND = bound


def train_split(stages: Stages, form: str):
  """Returns the train split as a training takes it.

  Args:
    stages: of a workspace with all that is read.
    form: `originals`; `masked shards` of CELL; `masked on the fly`, the same
      from originals and their ranking; `memory`, the same decoded.
  """
  cell = None if form == 'originals' else CELL
  ranking = None
  if form == 'masked on the fly':
    ranking = stages.rank.ranking(CELL.estimator, CELL.granularity)
  bound = contextlib.nullcontext() if form == 'memory' else _on_disk()
  with bound:
    return stages.data.examples(cell, ranking)['train']


def stream(
  split: streams.Stream, batch: int, count: int
) -> Callable[[], np.ndarray]:
  """Returns a function that reads batches and tells how long one took.

  It counts from the first of `count` batches to the last: seconds of wall clock
  and CPU [2].
  """

  def act():
    order = Order(split.counts, 16, 'benchmark')
    dataset = split.training_batches(order, 0, batch * count, Share(batch))
    batches = iter(dataset)
    next(batches)
    start, read = measuring.now(), 0
    for _ in batches:
      read += 1
    return (measuring.now() - start) / read

  return act


def trainer(
  source_stages: Stages,
  batch: int,
  steps: int,
  augmentation: str,
  width: int,
  stages: int = 3,
) -> loop.Trainer:
  """Returns the trainer of a small ResNet on a source's images."""
  source = source_stages.context.source
  return loop.Trainer(
    functools.partial(resnet.small_resnet, width=width, stages=stages),
    source.image_shape,
    source.num_classes,
    Training(
      model=resnet.small_resnet,
      train_steps=steps,
      batch_size=batch,
      base_learning_rate=0.1,
      augmentation=augmentation,
    ),
    *source_stages.context.statistics,
  )


def steps_of(trainer: loop.Trainer, split) -> Callable[[], np.ndarray]:
  """Returns a function that trains and tells how long one step took.

  It counts from the end of the first call, which is one step and waits for the
  first shards to be read, to the end of the last one: seconds of wall clock and
  CPU [2]. Initialisation and the making of the input graph come before.
  """

  def act():
    marks = []
    trainer.train(
      split, 0, log=lambda step, _: marks.append((step, measuring.now()))
    )
    (first, start), (last, end) = marks[0], marks[-1]
    return (end - start) / (last - first)

  return act
