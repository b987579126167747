"""How long work takes, and how much of devices that it may share."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import ClassVar


@dataclasses.dataclass(frozen=True)
class Timing:
  """How long a training or a test took, over all processes that worked on it.

  Attributes:
    seconds: in all.
    step_seconds: in training steps.
    device_seconds: in all, each divided by the pieces of work of the process
      that shared its devices in that second.
  """

  seconds: float = 0.0
  step_seconds: float = 0.0
  device_seconds: float = 0.0

  def __add__(self, other: Timing) -> Timing:
    """Returns the sum."""
    return Timing(
      *(
        a + b
        for a, b in zip(
          dataclasses.astuple(self), dataclasses.astuple(other), strict=True
        )
      )
    )


class Clock:
  """A context that measures one piece of work.

  Attributes:
    before: what earlier processes took for it.
    step_seconds: time in training steps so far, in this process.
  """

  _lock = threading.Lock()
  _running: ClassVar[list[Clock]] = []
  _told = 0.0

  def __init__(self):
    self.before, self.step_seconds = Timing(), 0.0
    self._seconds = self._device_seconds = 0.0

  def __enter__(self) -> Clock:
    with self._lock:
      self._tell()
      self._running.append(self)
    return self

  def __exit__(self, *_):
    with self._lock:
      self._tell()
      self._running.remove(self)

  @property
  def timing(self) -> Timing:
    """What the work has taken so far, in all processes."""
    with self._lock:
      self._tell()
    return self.before + Timing(
      self._seconds, self.step_seconds, self._device_seconds
    )

  @classmethod
  def _tell(cls) -> None:
    """Tells all clocks that run how long it is since they were told last."""
    now = time.monotonic()
    passed, cls._told = now - cls._told, now
    for clock in cls._running:
      clock._seconds += passed
      clock._device_seconds += passed / len(cls._running)
