"""Progress of long work: bars in a terminal, log lines elsewhere."""

import collections
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Mapping

import tqdm

from roar_tf.engine.unit import KEPT, MADE, Outcome

_log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that inner work may take before it gets a bar of its own."""
LOG_EVERY = 60.0
"""Seconds between log lines of inner work."""


def bar(
  total: int, what: str, unit: str, inner: bool = False, initial: int = 0
) -> tqdm.tqdm:
  """Returns a progress bar with rate and remaining time, a context manager.

  Args:
    total: how many units of work there are.
    what: what is being done.
    unit: what is counted.
    inner: whether it is part of a unit of another bar; it is then shown only
      if it takes a while, and disappears when it is done.
    initial: how many were finished before, which tell nothing of the rate.
  """
  return tqdm.tqdm(
    total=total,
    desc=what,
    unit=f' {unit}',
    leave=not inner,
    delay=PATIENCE if inner else 0,
    disable=not sys.stderr.isatty(),
    dynamic_ncols=True,
    initial=initial,
  )


def logged(bar_: tqdm.tqdm, what: str) -> Callable[[int], None]:
  """Returns a function that advances a bar, and the log where it is hidden."""
  done, last = 0, time.monotonic()

  def advance(count: int) -> None:
    nonlocal done, last
    done += count
    bar_.update(count)
    if bar_.disable and time.monotonic() - last > LOG_EVERY:
      last = time.monotonic()
      _log.info('%s: %d of %d', what, done, bar_.total)

  return advance


def say(text: str) -> None:
  """Prints a line on stdout, without breaking a bar on the same terminal."""
  with tqdm.tqdm.external_write_mode():
    print(text, flush=True)


@dataclasses.dataclass
class _Tally:
  """What became of the units of a stage so far.

  Attributes:
    units: how many there are.
    ended: how many have ended, or were finished before.
    made: how many were made.
    kept: how many were finished before.
    failed: how many failed.
    start: when the first of them began; None before.
    seconds: what the units made took, one added to the other.
    measured: what they measured, added up.
    bar: shown from the beginning of the first unit.
  """

  units: int
  ended: int = 0
  made: int = 0
  kept: int = 0
  failed: int = 0
  start: float | None = None
  seconds: float = 0.0
  measured: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  bar: tqdm.tqdm | None = None

  def add(self, outcome: Outcome) -> None:
    """Counts a unit that has ended."""
    self.ended += 1
    self.kept += outcome.state == KEPT
    self.failed += bool(outcome.failure)
    if outcome.state == MADE:
      self.made += 1
      self.seconds += outcome.seconds
      self.measured.update(outcome.measured)

  def summary(
    self, stage: str, seconds: float, shares: Mapping[str, str]
  ) -> str:
    """Returns what to say of a stage that has ended, in a line."""
    text = (
      f'{stage}: {self.made} made, {self.kept} kept, {self.failed} failed, '
      f'{seconds:.1f} s'
    )
    for name, words in shares.items():
      if name in self.measured and self.seconds:
        share = self.measured[name] / self.seconds
        text += f', {share:.0%} of it in {words}'
    return text


class Bars:
  """A bar for every stage, and a line when it has ended; an observer.

  As a context manager it removes what bars keep of the terminal.
  """

  def __init__(
    self,
    shares: Mapping[str, str] = {},
    clock: Callable[[], float] = time.monotonic,
  ):
    """Describes bars; nothing is shown before a unit begins.

    Args:
      shares: names of measured seconds whose share of the time of units is
        told, and the words for it, such as {'read_seconds': 'reading'}.
      clock: returns seconds.
    """
    self._shares, self._clock = shares, clock
    self._tallies: dict[str, _Tally] = {}
    self._printed: set[str] = set()

  def __enter__(self) -> 'Bars':
    return self

  def __exit__(self, *error) -> None:
    for tally in self._tallies.values():
      if tally.bar is not None:
        tally.bar.close()

  def plan(self, stage: str, units: int) -> None:
    """See `scheduler.Observer`."""
    self._tallies[stage] = _Tally(units)

  def uses(self, devices: int) -> None:
    """Bars do not tell devices."""

  def begin(self, stage: str, unit: str) -> None:
    """See `scheduler.Observer`."""
    self._start(stage, self._clock())

  def end(self, stage: str, unit: str, outcome: Outcome) -> None:
    """See `scheduler.Observer`."""
    tally, now = self._tallies[stage], self._clock()
    if outcome.state == MADE:  # That it began may have been told nobody.
      self._start(stage, now - outcome.seconds)
    for line in outcome.printed.splitlines():
      if line not in self._printed:  # Every process prints it.
        self._printed.add(line)
        say(line)
    tally.add(outcome)
    if tally.bar is not None:
      tally.bar.update()
    if tally.ended == tally.units:
      if tally.bar is not None:
        tally.bar.close()
      seconds = 0.0 if tally.start is None else now - tally.start
      say(tally.summary(stage, seconds, self._shares))

  def _start(self, stage: str, now: float) -> None:
    """Shows the bar of a stage of which a unit begins."""
    tally = self._tallies[stage]
    if tally.start is None:
      tally.start = now
      tally.bar = bar(tally.units, f'{stage:>6}', 'units', initial=tally.ended)
