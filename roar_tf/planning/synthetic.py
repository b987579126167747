"""A study made small: few images, which are generated, and all else its own."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from roar_tf.datasets import crop
from roar_tf.datasets.source import Source
from roar_tf.planning.amounts import gradient_evaluations
from roar_tf.study import rank_stage
from roar_tf.study.experiment import Experiment
from roar_tf.training.settings import Training

# Bounds of the work, in pixels, so that it takes seconds at any image size.
BATCH_PIXELS = 2**18
"""Of a training batch on a CPU: 5 images of 224 x 224."""
TRAINING_PIXELS = 2**20
"""Of all batches of a training."""
GRADIENT_PIXELS = 2**23
"""Of the gradient evaluations of one call."""
SHARD_PIXELS = 2**18
"""Of a shard."""


def small_experiment(
  real: Experiment,
  names: Sequence[str],
  parallel: int,
  cpu: bool,
  replicas: int,
) -> Experiment:
  """Returns an experiment of a few synthetic images."""
  source = real.source
  height, width, _ = source.image_shape
  pixels = height * width
  size = rank_stage.images_per_call(real) * replicas
  attribution = real.attribution
  while cpu and (attribution.samples, attribution.steps) > (1, 2):
    small = dataclasses.replace(real, attribution=attribution)
    if gradient_evaluations(small, names) * size * pixels <= GRADIENT_PIXELS:
      break
    attribution = dataclasses.replace(
      attribution,
      samples=max(1, attribution.samples // 2),
      steps=max(2, attribution.steps // 2),
    )
  shard = min(source.images_per_shard, max(size, SHARD_PIXELS // pixels))
  rounds = 1 if size * pixels > SHARD_PIXELS else 2

  def training(of: Training) -> Training:
    most = max(1, BATCH_PIXELS // pixels) * replicas
    few = cpu and of.batch_size > most
    batch = most if few else of.batch_size
    steps = of.steps(source.count('train'))
    return dataclasses.replace(
      of,
      epochs=None,
      train_steps=int(
        np.clip(TRAINING_PIXELS // (batch * pixels), min(4, steps), steps)
      ),
      batch_size=batch,
      microbatches=1 if few else of.microbatches,
      base_learning_rate=1e-6,  # Of labels at random nothing can be learned.
    )

  return dataclasses.replace(
    real,
    source=dataclasses.replace(
      source,
      train_images=shard * rounds * parallel,
      train_subset=None,
      test_images=shard,
      images_per_shard=shard,
      unreadable='stop',
    ),
    attribution=attribution,
    explained=real.explained and training(real.explained),
    retrained=training(real.retrained),
  )


class Reader:
  """Stands for `datasets.reader.Reader`: clutter, with random labels."""

  def __init__(self, source: Source):
    self._source = source
    self._seed = itertools.count()

  def batches(self, split, start, stop, size, left_out=None):
    """Yields examples as `Reader.batches` does."""
    del left_out
    source = self._source
    generator = np.random.default_rng(next(self._seed))
    height, width, _ = source.image_shape
    for first in range(start, stop, size):
      count = min(size, stop - first)
      batch = {
        'image': self._images(generator, count),
        'label': generator.integers(0, source.num_classes, count),
        'id': np.array(
          [f'{split}_{first + i}'.encode() for i in range(count)], object
        ),
      }
      if source.truth:
        truth = np.zeros([count, height, width, 1], np.uint8)
        truth[:, : (height + 1) // 2, : (width + 1) // 2] = 1
        batch['truth'] = truth
      yield batch

  def completeness(self) -> dict:
    """Nothing is missing."""
    return {}

  def _images(self, generator, count: int) -> np.ndarray:
    source = self._source
    if source.preprocessing == 'none':
      return _clutter(generator, count, source.image_shape)
    height, width, _ = source.image_shape
    # Photographs as ImageNet has them: JPEG, 500 x 375.
    stored = [
      tf.io.encode_jpeg(image)
      for image in _clutter(generator, count, (375, 500, 3))
    ]

    def prepared(encoded):
      return crop.resize_crop(
        crop.decode(encoded), source.resize_short_side, height, width
      )

    dataset = tf.data.Dataset.from_tensor_slices(stored).map(prepared)
    return next(dataset.batch(count).as_numpy_iterator())


def _clutter(generator, count: int, shape) -> np.ndarray:
  """Returns uint8 images [count, H, W, C] of coarse and fine noise."""
  height, width, channels = shape
  coarse = generator.integers(
    0, 240, [count, -(-height // 8), -(-width // 8), channels], np.uint8
  )
  coarse = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]
  return coarse + generator.integers(0, 16, [count, *shape], np.uint8)
