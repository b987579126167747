"""What hands batches to a compiled loop, whether they are read or gathered.

A loop takes many steps a call. A split on disk gives it an iterator of
`tf.data`. A split in memory lies on the devices, and the loop gathers its
batches there by row: nothing is made, traced or copied for it but the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from roar_tf.lazy import tf
from roar_tf.training import examples
from roar_tf.training.distribution import Devices

_ON_GPUS = {'uint8': 'float16', 'int32': 'int64'}
"""Types that hold the same numbers and that TensorFlow gathers on a GPU. Others
it gathers on the host, and brings the whole split there in every step."""


class Feed:
  """The batches of one training, or of one pass over a test split."""

  def __init__(self, devices: Devices, batches: Callable, most: int):
    """Puts a split in memory on the devices, or begins to read.

    Args:
      devices: where it is used.
      batches: returns those of this host, `examples.Batches` or a
        `tf.data.Dataset`.
      most: most steps of a call.
    """
    self._devices, self._most = devices, most
    with tf.device('CPU:0'):
      self._batches = batches()
    self._gathers = isinstance(self._batches, examples.Batches)
    if self._gathers:
      self._split = {
        name: devices.copies(self._stored(values))
        for name, values in self._batches.split.items()
      }
    else:
      self._iterator = devices.iterator(self._batches)

  def _stored(self, values: tf.Tensor) -> tf.Tensor:
    if not self._devices.are_gpus:
      return values
    return tf.cast(values, _ON_GPUS[values.dtype.name])

  def source(self, count: int):
    """Returns what the next call takes its batches from, by `batch`.

    Args:
      count: its steps; it must take them all.
    """
    if not self._gathers:
      return self._iterator
    local = len(self._devices.local_replicas)
    taken = self._batches.take(count * local)
    # One shape, so that nothing is traced for a shorter call.
    rows = np.zeros([2, self._most * local, taken.shape[2]], np.int32)
    rows[:, : taken.shape[1]] = taken
    # Each replica has its own, one after the other.
    rows = rows.reshape(2, self._most, local, -1).transpose(2, 1, 0, 3)
    rows = tf.constant(rows.reshape(local * self._most, 2, -1))
    return {'split': self._split, 'rows': self._devices.split(rows)}


def batch(source, step) -> dict:
  """Returns the batch of a step of a call, still to be `gathered`.

  Args:
    source: see `Feed.source`.
    step: which one, from 0; they are taken in turn.
  """
  if isinstance(source, dict):
    return {**source, 'step': step}
  return next(source)


def gathered(found: dict) -> dict:
  """Returns a batch of the replica that calls it, see `step`.

  Args:
    found: what this replica has of a `batch`.
  """
  if 'rows' not in found:
    return found
  rows, epoch = tf.unstack(found['rows'][found['step']])
  stored = examples.gathered(found['split'], rows, epoch)
  return {
    name: tf.cast(values, examples.TYPES[name])
    for name, values in stored.items()
  }


def repeated(count, body: Callable, first):
  """Returns the last value of a compiled loop.

  Args:
    count: how often its body runs.
    body: `(number, value) -> (next number, next value)`.
    first: the first value.
  """
  return tf.while_loop(
    lambda i, _: i < count, body, (0, first), parallel_iterations=1
  )[1]
