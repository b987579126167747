"""How (image, copy, step) triples fill the batches of a model.

One row of a batch is one gradient evaluation. Batches have one static shape,
at most `bound` rows, as few of them as possible, and little padding. The shapes
follow from the numbers of images, copies and steps alone, never from which
estimators are asked for: neither do, therefore, the bits of any outcome.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from roar_tf.lazy import tf

CALL_ROWS = 2
"""What a call costs beside its rows, in rows (ResNet-50, two cores: 1.8)."""


@dataclasses.dataclass(frozen=True)
class Block:
  """The shape of one batch of gradient evaluations at noisy images.

  Attributes:
    images: images per block.
    copies: noisy copies of each.
    steps: steps of an integration path per call, for each copy.
  """

  images: int
  copies: int
  steps: int


def default_bound(height: int, width: int) -> int:
  """Returns rows that keep a device busy in bounded memory.

  16 at 224 x 224, where a process with a ResNet-50 then needs 2.5 GB and more
  rows are no faster on two cores; in proportion to the pixels for other sizes,
  a power of two, at most 256.
  """
  rows = 2**20 // (height * width)
  return max(1, min(256, 1 << rows.bit_length() - 1 if rows else 1))


def choose(images: int, copies: int, steps: int, bound: int) -> Block:
  """Returns the block of least cost.

  Args:
    images: number of images, 1 or more.
    copies: number of copies of each, 1 or more.
    steps: number of steps on the path of each copy; may be 0.
    bound: rows per call, 1 or more.
  """

  def calls_cost(total, at_once, rows):
    return -(-total // at_once) * (rows * at_once + CALL_ROWS)

  def cost(shape):
    per_block, at_once = shape
    blocks = -(-images // per_block)
    # Larger blocks of images win ties: arithmetic is vectorised over images.
    return blocks * calls_cost(copies, at_once, per_block), -per_block

  shapes = [
    (some, at_once)
    for some in range(1, min(images, bound) + 1)
    for at_once in range(1, min(copies, bound // some) + 1)
  ]
  per_block, at_once = min(shapes, key=cost)
  rows = per_block * at_once
  most = max(1, min(steps, bound // rows))
  path = min(range(1, most + 1), key=lambda n: calls_cost(steps, n, rows))
  return Block(per_block, at_once, path)


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What estimators are computed from.

  Attributes:
    images: float [N, H, W, C].
    targets: int32 [N], or None for the predicted classes.
    keys: int32 [N, 2].
    baseline: x0 of IG, like the images, or None.
    truth: [N, H, W, 1], or None.
  """

  images: tf.Tensor
  targets: tf.Tensor | None
  keys: tf.Tensor
  baseline: tf.Tensor | None = None
  truth: tf.Tensor | None = None

  def map(self, function) -> Inputs:
    """Applies a function to every tensor there is."""
    values = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }
    return Inputs(
      **{n: None if v is None else function(v) for n, v in values.items()}
    )


def by_blocks(run, inputs: Inputs, size: int, signature):
  """Runs a function on `size` images at a time and joins what it returns.

  Args:
    run: from `Inputs` of `size` images to a structure of tensors [size, ...].
    inputs: all images.
    size: images per block.
    signature: the structure, of specs without the first dimension.
  """
  count = inputs.images.shape[0]
  if size == count:
    return run(inputs)
  number = -(-count // size)
  # Repeating the last image keeps every block at one shape.
  rows = np.minimum(np.arange(number * size), count - 1).reshape(number, size)

  def run_rows(some):
    return run(inputs.map(lambda x: tf.gather(x, some)))

  if tf.executing_eagerly():  # `map_fn` would have AutoGraph rewrite `run`.
    return tf.nest.map_structure(
      lambda *parts: tf.concat(parts, 0)[:count], *map(run_rows, rows)
    )
  signature = tf.nest.map_structure(
    lambda s: tf.TensorSpec([size, *s.shape], s.dtype), signature
  )
  outcome = tf.map_fn(
    run_rows,
    tf.constant(rows),
    parallel_iterations=1,
    fn_output_signature=signature,
  )
  return tf.nest.map_structure(lambda x: _joined(x)[:count], outcome)


def padded(values, size: int) -> tf.Tensor:
  """Returns [size, ...]: values [N, ...], the last one repeated."""
  return tf.gather(values, np.minimum(np.arange(size), values.shape[0] - 1))


def _joined(values) -> tf.Tensor:
  """Returns [blocks, size, ...] as [blocks * size, ...]."""
  shape = values.shape
  return tf.reshape(values, [shape[0] * shape[1], *shape[2:]])


def total(values) -> tf.Tensor:
  """Returns the sum over the first axis, rounded alike at every place.

  The last elements of an odd number are summed by scalar code, in another
  order than the others: the sum of an image would depend on its place in the
  batch. Whole vectors of 16 lanes have no such rest.
  """
  count, *shape = values.shape
  flat = tf.reshape(values, [count, -1])
  size = flat.shape[1]
  flat = tf.pad(flat, [[0, 0], [0, -size % 16]])
  return tf.reshape(tf.reduce_sum(flat, 0)[:size], shape)
