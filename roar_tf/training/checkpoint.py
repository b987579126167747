"""Checkpoints of an unfinished training: one npz file, no pickle.

A checkpoint holds the state, the number of finished steps and the digest of the
run's fingerprint. It is published whole, so the newest one is always readable;
it is deleted when the run is done.
"""

import io
import zipfile

import numpy as np
import tensorflow as tf

from roar_tf import workspace


def save(path: str, state: dict, step: int, digest: str) -> None:
  """Publishes a checkpoint after `step` finished steps."""
  buffer = io.BytesIO()
  arrays = {
    f'{part}/{index:05d}': np.asarray(value)
    for part, values in state.items()
    for index, value in enumerate(values)
  }
  np.savez(buffer, step=np.int64(step), digest=np.array(digest), **arrays)
  workspace.write_atomic(path, buffer.getvalue())


def restore(path: str, digest: str) -> tuple[dict, int] | None:
  """Returns (state, finished steps), or None where nothing can be resumed.

  A checkpoint of another configuration, or a damaged one, is not resumed: the
  run starts again from its first step.
  """
  if not tf.io.gfile.exists(path):
    return None
  try:
    with np.load(
      io.BytesIO(workspace.read_bytes(path)), allow_pickle=False
    ) as data:
      if str(data['digest']) != digest:
        return None
      state = {}
      for name in sorted(n for n in data.files if '/' in n):
        state.setdefault(name.split('/')[0], []).append(tf.constant(data[name]))
      return state, int(data['step'])
  except (ValueError, KeyError, zipfile.BadZipFile):
    return None
