"""Checkpoints of an unfinished training: npz files behind their checksums.

A checkpoint holds the state, which counts its steps, what the training has
taken so far, and the fingerprint of the run. Each is published whole and
checked when it is read. The two newest are kept, and all are deleted when the
run is done. Another process may be the first to do it: files may vanish at any
time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Mapping

import numpy as np

from roar_tf import errors
from roar_tf.engine import files, markers
from roar_tf.lazy import tf
from roar_tf.training.clock import Timing
from roar_tf.training.step import PARTS

KEPT = 2
_NAME = re.compile(r'step_\d+\.npz')
SAVING = 50.0
"""Checkpoints are so many times as far apart as saving one takes, or more."""
_log = logging.getLogger('roar_tf')


@dataclasses.dataclass(frozen=True)
class Resumption:
  """Where and when an unfinished training is saved.

  Attributes:
    directory: of its checkpoints.
    fingerprint: the run's.
    every_seconds: least time between checkpoints; see `SAVING`.
    stop: asked after every call; true saves and raises PreemptedError.
  """

  directory: str
  fingerprint: Mapping
  every_seconds: float = 60.0
  stop: Callable[[], bool] = lambda: False


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What an unfinished training goes on from.

  Attributes:
    state: see `step`.
    timing: what it has taken so far.
  """

  state: dict
  timing: Timing = Timing()

  @property
  def step(self) -> int:
    """How many steps are finished."""
    return int(self.state['step'])


def save(
  directory: str,
  state: Mapping,
  fingerprint: Mapping,
  timing: Timing,
) -> None:
  """Publishes a checkpoint and deletes all but the newest ones.

  Nothing is saved where another process finishes the run meanwhile.
  """
  step = int(state['step'])
  buffer = io.BytesIO()
  arrays = {
    f'{part}/{index:05d}': np.asarray(value)
    for part in PARTS
    for index, value in enumerate(state[part])
  }
  np.savez(
    buffer,
    step=np.int64(step),
    seed=np.int32(state['seed']),
    fingerprint=np.array(json.dumps(fingerprint, sort_keys=True)),
    timing=np.array(dataclasses.astuple(timing)),
    **arrays,
  )
  data = buffer.getvalue()
  with contextlib.suppress(*files.missing_errors()):
    files.publish(
      f'{directory}/step_{step:08d}.npz', hashlib.sha256(data).digest() + data
    )
    for path in _newest_first(directory)[KEPT:]:
      files.remove(path)


def delete(directory: str) -> None:
  """Deletes the checkpoints of a run that is done."""
  with contextlib.suppress(*files.missing_errors()):
    files.remove(directory)


def restore(
  directory: str,
  fingerprint: Mapping,
  like: Mapping,
  most: int | None = None,
) -> Checkpoint | None:
  """Returns the newest checkpoint that is intact, or None without one.

  A damaged checkpoint is warned about, and the one before it is taken.

  Args:
    directory: where `save` put them.
    fingerprint: what the run is now.
    like: a state of the run's model; its values are not looked at.
    most: newer ones than of this step are passed over.

  Raises:
    UsageError: the checkpoint is of another configuration or model.
  """
  for path in _newest_first(directory):
    if most is not None and _step_of(path) > most:
      continue
    try:
      content = files.read(path)
    except files.missing_errors():
      continue
    checksum, data = content[:32], content[32:]
    if hashlib.sha256(data).digest() != checksum:
      _log.warning(
        '%s is damaged; training goes on from the checkpoint before it, or '
        'from its start',
        path,
      )
      continue
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
      _check_same(path, json.loads(str(arrays['fingerprint'])), fingerprint)
      state = {
        part: [
          arrays[name]
          for name in sorted(arrays.files)
          if name.startswith(f'{part}/')
        ]
        for part in PARTS
      }
      state |= {name: arrays[name] for name in ('step', 'seed')}
      # Earlier versions wrote none.
      spent = arrays['timing'].tolist() if 'timing' in arrays else ()
    _check_shapes(path, state, like)
    state = tf.nest.map_structure(tf.constant, state)
    return Checkpoint(state, Timing(*spent))
  return None


def newest_step(directory: str) -> int:
  """Returns the step of the newest checkpoint, 0 where there is none."""
  paths = _newest_first(directory)
  return _step_of(paths[0]) if paths else 0


def _step_of(path: str) -> int:
  return int(path.removesuffix('.npz').rpartition('_')[2])


def _newest_first(directory: str) -> list[str]:
  names = [name for name in files.names_in(directory) if _NAME.fullmatch(name)]
  return [f'{directory}/{name}' for name in sorted(names, reverse=True)]


def _check_same(path: str, saved: Mapping, now: Mapping) -> None:
  if saved != now:
    changes = '; '.join(markers.differences(saved, now))
    raise errors.UsageError(
      f'{path} was saved under other settings ({changes}): ask for those '
      'settings to go on, or delete its directory to start that run anew.'
    )


def _check_shapes(path: str, state: Mapping, like: Mapping) -> None:
  found, wanted = (
    [
      f'{tf.as_dtype(v.dtype).name} {tuple(v.shape)}'
      for part in PARTS
      for v in values[part]
    ]
    for values in (state, like)
  )
  if found == wanted:
    return
  if len(found) != len(wanted):
    reason = f'{len(found)} variables where the model has {len(wanted)}'
  else:
    one, other = next(
      (a, b) for a, b in zip(found, wanted, strict=True) if a != b
    )
    reason = f'a variable {one} where the model has {other}'
  raise errors.UsageError(
    f'{path} belongs to a model of another architecture or number of classes '
    f'({reason}): bring that model back, or delete its directory to start that '
    'run anew.'
  )
