"""Units of work: what the stages are made of and what workers share out.

A unit makes one or several artefacts (its targets) from one read. It is
idempotent and a pure function of its settings and inputs, so any number of
workers may take it, at any time, in any order.
"""

import dataclasses
import functools
import platform
from collections.abc import Callable, Container, Mapping

import tensorflow as tf

from roar_tf import workspace


@dataclasses.dataclass(frozen=True)
class Target:
  """One artefact.

  Attributes:
    done: path of its DONE marker.
    stage: name of the stage.
    version: version of the stage's code.
    settings: every setting that changes the artefact.
    inputs: DONE markers of what it is made from, by name.
    derived: whether it is made anew when its configuration has changed (a
      report), where for all others that is an error.
    reads: DONE markers of what its making reads besides, a cache: once the
      artefact is done nobody asks for it.
    found: names of settings of which only the work finds out whether they make
      a difference; where they did the marker has them, and where it has none
      the artefact is the same without them.
  """

  done: str
  stage: str
  version: int
  settings: Mapping
  inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
  derived: bool = False
  reads: tuple[str, ...] = ()
  found: tuple[str, ...] = ()

  def fingerprint(self) -> dict:
    """Returns the fingerprint under the inputs that are there now.

    Raises:
      MissingInputsError: an input was not made yet.
    """
    return workspace.fingerprint(
      self.stage,
      self.version,
      self._settings(),
      {n: workspace.require(p)['digest'] for n, p in self.inputs.items()},
    )

  def _settings(self) -> dict:
    """Returns the settings, and those that were found out."""
    done = workspace.read_done(self.done) if self.found else None
    there = done['fingerprint']['settings'] if done else {}
    return {**self.settings, **{n: there[n] for n in self.found if n in there}}

  def check_settings(self) -> None:
    """Raises UsageError if the artefact was made with other settings.

    Unlike `is_done` it asks nothing of the inputs, which may not be there yet.
    """
    if not self.derived:
      workspace.check_settings(
        self.done, self.stage, self.version, self._settings()
      )

  def is_done(self, fingerprint: Mapping) -> bool:
    """Whether the artefact is there as this fingerprint wants it.

    Raises:
      UsageError: it was made with other settings.
    """
    if self.derived:
      done = workspace.read_done(self.done)
      return bool(done) and done['fingerprint'] == fingerprint
    return workspace.is_done(self.done, fingerprint)

  def commit(self, fingerprint: Mapping, **facts) -> None:
    """Writes the DONE marker, with the environment the work was done in."""
    workspace.write_done(
      self.done, fingerprint, environment=environment(), **facts
    )


@functools.cache
def environment() -> dict:
  """Returns what bytes depend on besides settings; recorded, not compared."""
  import keras

  devices = tf.config.list_logical_devices()
  kinds = {device.device_type for device in devices}
  return {
    'tensorflow': tf.__version__,
    'keras': keras.__version__,
    'machine': platform.machine(),
    'device': next(k for k in ('TPU', 'GPU', 'CPU') if k in kinds),
    'intra_op_threads': tf.config.threading.get_intra_op_parallelism_threads(),
  }


@dataclasses.dataclass(frozen=True)
class Unit:
  """A piece of work.

  Attributes:
    name: what a progress bar and a failure message call it.
    targets: its artefacts.
    work: makes the given (target, fingerprint) pairs and commits each.
    shared: whether every worker tries it once its inputs are there (the last
      one to finish a stage completes it); others belong to one worker.
  """

  name: str
  targets: tuple[Target, ...]
  work: Callable[[list[tuple[Target, dict]]], None]
  shared: bool = False

  def only(self, dones: Container[str]) -> 'Unit':
    """Returns this unit for those of its targets that are named by markers."""
    targets = tuple(t for t in self.targets if t.done in dones)
    return dataclasses.replace(self, targets=targets)

  def pending(self) -> list[tuple[Target, dict]]:
    """Returns the unfinished targets with their fingerprints.

    Raises:
      MissingInputsError: an input was not made yet.
      UsageError: a target was made with other settings.
    """
    pairs = [(target, target.fingerprint()) for target in self.targets]
    return [
      (target, fingerprint)
      for target, fingerprint in pairs
      if not target.is_done(fingerprint)
    ]
