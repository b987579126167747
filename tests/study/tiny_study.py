"""A tiny dataset and the study over it, and a folder of photographs."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

COUNTS = {'train': 120, 'test': 60}
SHAPE = (8, 8, 3)
CLASSES = 3

DATASET = """
include 'train/small_images.gin'
Source.tfds_name = 'tiny'
Source.image_shape = (8, 8, 3)
Source.num_classes = 3
Source.train_images = 120
Source.test_images = 60
Source.truth = True
Source.images_per_shard = 50
small_resnet.width = 4
small_resnet.blocks = 1
small_resnet.stages = 2
Training.augmentation = 'none'
Training.schedule_epochs = None
Training.batch_size = 16
Training.epochs = 10
Training.warmup_epochs = 1
Training.drops = ((8, 0.1),)
"""

STUDY = """
Study.sources = ('{dataset}',)
Study.estimators = ('random', 'grad')
Study.thresholds = (30, 70)
Study.seeds = 2
"""


def examples(split: str) -> dict[str, np.ndarray]:
  """Noise with a coloured square, whose colour and place are the class."""
  count = COUNTS[split]
  rng = np.random.default_rng(len(split))
  labels = np.arange(count) % CLASSES
  images = rng.integers(0, 256, (count, *SHAPE), np.uint8)
  truth = np.zeros((count, 8, 8, 1), np.uint8)
  for image, mask, label in zip(images, truth, labels, strict=True):
    place = np.s_[2:5, 1 + label : 4 + label]
    image[place] //= 2
    image[(*place, label)] = 200
    mask[place] = 1
  ids = np.array([f'{split}_{i:03d}' for i in range(count)], object)
  return {'image': images, 'label': labels, 'id': ids, 'truth': truth}


def store(data_dir, name, version, splits, features, config=None) -> None:
  """Writes arrays {split: {feature: values}} as a TFDS dataset."""
  import tensorflow_datasets as tfds

  tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    config=config,
    version=version,
    data_dir=data_dir,
    features=tfds.features.FeaturesDict(features),
    split_datasets={
      split: tf.data.Dataset.from_tensor_slices(dict(values))
      for split, values in splits.items()
    },
    disable_shuffling=True,
  )


@dataclasses.dataclass(frozen=True)
class Tiny:
  """A dataset in TFDS layout, a gin file for it and a study over it.

  Attributes:
    data_dir: what TFDS reads.
    dataset: gin file of the source `tiny`.
    study: gin file of the study `small`: original, and two estimators at two
      thresholds, two seeds each: ten runs.
  """

  data_dir: str
  dataset: str
  study: str

  def pipeline(
    self, root, *bindings, study=None, stop=lambda: False, seed=0, **more
  ):
    """Returns a study's `Pipeline` in the workspace `root`.

    Args:
      root: the workspace.
      *bindings: gin bindings.
      study: gin file of another study.
      stop: whether a signal asked to stop.
      seed: see `experiment.Configuration`.
      **more: see `context.Context`.
    """
    from roar_tf.study import context, experiment, paths, stages

    configuration = experiment.Configuration(
      study or self.study, gin_bindings=bindings, seed=seed
    )
    workspace = paths.Workspace(str(root))
    return stages.Pipeline(
      [
        context.Context(workspace, each, self.data_dir, stop, **more)
        for each in configuration.load()
      ]
    )

  def flags(self, root) -> list[str]:
    """Returns the flags that lead a tool to this dataset and a workspace."""
    return [f'--workspace={root}', f'--data_dir={self.data_dir}']


PHOTOGRAPHS = """
include 'train/small_images.gin'
Source.folder = '{folder}'
Source.preprocessing = 'resize_crop'
Source.resize_short_side = 10
Source.image_shape = (8, 8, 3)
Source.num_classes = 2
Source.train_images = 20
Source.test_images = 8
Source.images_per_shard = 5
small_resnet.width = 4
small_resnet.blocks = 1
small_resnet.stages = 2
Training.augmentation = 'none'
Training.schedule_epochs = None
Training.batch_size = 2
Training.epochs = 2
Training.warmup_epochs = 1
Training.drops = ()
"""


@dataclasses.dataclass(frozen=True)
class Photographs:
  """A folder of JPEGs of several sizes, 20 for training and 8 for testing.

  Attributes:
    folder: holds `<split>/<class>/<number>.jpg`.
    tiny: as the fixture `tiny`; its source is called `photographs`.
  """

  folder: pathlib.Path
  tiny: Tiny

  def damage(self, *ids: str) -> None:
    """Cuts images short."""
    for name in ids:
      path = self.folder / name
      path.write_bytes(path.read_bytes()[:-200])

  def repair(self, *ids: str) -> None:
    """Makes images what they were."""
    for name in ids:
      rng = np.random.default_rng(list(name.encode()))
      shape = (*rng.integers(10, 20, 2), 3)
      image = rng.integers(0, 256, shape, np.uint8)
      path = self.folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(tf.io.encode_jpeg(image).numpy())
