"""What happens to images and scores without a model, in every variant.

All variants are compiled, whatever the experiment uses: they are small.
"""

import functools
from collections.abc import Callable, Iterator

import tensorflow as tf

from roar_tf import fills, masking, randomness, ranking
from roar_tf.preflight.device_function import DeviceFunction, WithSpecs
from roar_tf.preflight.subject import Subject
from roar_tf.training import augmentation, preprocessing

KEY = tf.TensorSpec([2], tf.int32)
RANKINGS = (
  *((ties, 'exact', None) for ties in ranking.TIES),
  ('random', 'bernoulli', None),
  ('random', 'exact', (10, 30, 50, 70, 90)),
)
"""Ties, counts and cuts, of `ranking.levels`."""


def functions(subject: Subject) -> list[DeviceFunction]:
  """Returns rankings, masks, random numbers and preparations of images."""
  return [
    DeviceFunction(
      name,
      'others',
      subject.images_per_call,
      functools.partial(_batched, function, examples),
      loops=True,
    )
    for name, function, *examples in _variants(subject.shape)
  ]


def _batched(function: Callable, examples, batch: int) -> WithSpecs:
  specs = [tf.TensorSpec([batch, *e.shape], e.dtype) for e in examples]
  return lambda state, inputs: function(*inputs), ({}, specs)


def _variants(shape) -> Iterator[tuple]:
  """Yields names, functions of batches, and specs of one example of each."""
  images, scores = (tf.TensorSpec(shape, t) for t in (tf.uint8, tf.float32))
  levels = tf.TensorSpec([*shape[:2], 1], tf.uint8)
  for granularity in ranking.GRANULARITIES:
    for ties, counts, cuts in RANKINGS:
      how = dict(granularity=granularity, ties=ties, counts=counts, cuts=cuts)
      name = f'{granularity}, ties {ties}, {counts}{", cuts" if cuts else ""}'
      rank = functools.partial(ranking.levels, **how)
      yield f'ranking ({name})', rank, scores, KEY
  for mode in masking.MODES:
    for name in fills.NAMES:
      if masking.fits(name, shape[-1]):
        # The mean of a source is a constant of the program.
        fill = fills.named(name, [127.0] * shape[-1])
        mask = functools.partial(_masked, mode=mode, fill=fill)
        yield f'masking ({mode}, {name})', mask, images, levels, KEY
  normal = functools.partial(randomness.normal, shape=shape, count=2)
  yield 'Gaussian noise', normal, KEY
  for name, draw in (
    ('uniform numbers', randomness.uniform),
    ('random integers', randomness.integers),
  ):
    yield name, functools.partial(draw, shape=shape), KEY
  hashed = functools.partial(randomness.hashed_uniform, count=8)
  yield 'hashed numbers', hashed, KEY
  for name, augment in augmentation.AUGMENTATIONS.items():
    uniforms = tf.TensorSpec([augment.draws], tf.float32)
    yield f'augmentation ({name})', augment, images, uniforms
  for name, preprocess in preprocessing.EVAL_PREPROCESS.items():
    yield f'eval_preprocess ({name})', preprocess, images


def _masked(images, levels, keys, **how) -> tf.Tensor:
  return masking.mask(images, levels, threshold=50, keys=keys, **how)
