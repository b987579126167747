"""Checkpoints of an unfinished training: an npz behind its checksum.

A checkpoint holds the state, the number of finished steps and the digest of the
run's fingerprint. It is published whole and checked when it is read; it is
deleted when the run is done.
"""

import hashlib
import io

import numpy as np
import tensorflow as tf

from roar_tf import workspace

_PARTS = ('trainable', 'moving', 'velocity')


def save(path: str, state: dict, step: int, digest: str) -> None:
  """Publishes a checkpoint after `step` finished steps."""
  buffer = io.BytesIO()
  arrays = {
    f'{part}/{index:05d}': np.asarray(value)
    for part in _PARTS
    for index, value in enumerate(state[part])
  }
  np.savez(buffer, step=np.int64(step), digest=np.array(digest), **arrays)
  data = buffer.getvalue()
  workspace.write_atomic(path, hashlib.sha256(data).digest() + data)


def restore(path: str, digest: str) -> tuple[dict, int] | None:
  """Returns (state, finished steps), or None where nothing can be resumed.

  A checkpoint of another configuration, or a damaged one, is not resumed: the
  run starts again from its first step.
  """
  if not tf.io.gfile.exists(path):
    return None
  content = workspace.read_bytes(path)
  checksum, data = content[:32], content[32:]
  if hashlib.sha256(data).digest() != checksum:
    return None
  with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
    if str(arrays['digest']) != digest:
      return None
    state = {
      part: [
        tf.constant(arrays[name])
        for name in sorted(arrays.files)
        if name.startswith(f'{part}/')
      ]
      for part in _PARTS
    }
    return state, int(arrays['step'])
