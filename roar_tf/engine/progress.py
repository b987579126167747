"""Progress of long work: bars in a terminal, log lines elsewhere."""

import collections
import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping

import tqdm

from roar_tf import errors
from roar_tf.engine.unit import KEPT, MADE, Outcome

_log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that inner work may take before it gets a bar of its own."""
LOG_EVERY = 60.0
"""Seconds between two lines of the log, whatever goes on."""


class _Log:
  """What the log says where stderr is no terminal: one line a minute."""

  def __init__(self):
    self._lock = threading.Lock()
    self._last = time.monotonic()
    self._stage = ''
    self._results: list[str] = []

  def start(self) -> None:
    """Begins a minute of silence: what is short needs no line."""
    with self._lock:
      self._last = time.monotonic()

  def tell(self, stage: str = '', result: str = '', inner: str = '') -> None:
    """Writes a line if it is time for one; what it did not write may follow.

    Args:
      stage: how far a stage is, from now on.
      result: what a unit has found.
      inner: how far a unit is, at this moment.
    """
    with self._lock:
      self._stage = stage or self._stage
      self._results += [result] if result else []
      now = time.monotonic()
      if now - self._last <= LOG_EVERY:
        return
      self._last = now
      newest = errors.few(self._results[::-1]) if self._results else ''
      self._results.clear()
    _log.info('%s', '; '.join(filter(None, (self._stage, newest, inner))))


_progress_log = _Log()


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
  if not inner:
    _progress_log.start()
  return tqdm.tqdm(
    total=total,
    desc=what,
    unit=f' {unit}',
    leave=not inner,
    delay=PATIENCE if inner else 0,
    # A notebook is no terminal, and shows bars too.
    disable=not (sys.stderr.isatty() or 'ipykernel' in sys.modules),
    dynamic_ncols=True,
    initial=initial,
  )


def logged(bar_: tqdm.tqdm, what: str) -> Callable[[int], None]:
  """Returns a function that advances a bar, and the log where it is hidden."""
  done = 0

  def advance(count: int) -> None:
    nonlocal done
    done += count
    bar_.update(count)
    if bar_.disable:
      _progress_log.tell(inner=f'{what}: {done} of {bar_.total}')

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
    results: what they found, such as accuracies.
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
  results: list[float] = dataclasses.field(default_factory=list)
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
    self, stage: str, seconds: float, shares: Mapping[str, str], result: str
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
    if self.results:
      ends = dict.fromkeys(
        f'{value:.1%}' for value in (min(self.results), max(self.results))
      )
      text += f', {result} {" to ".join(ends)}'
    return text


class Bars:
  """A bar for every stage, and a line when it has ended; an observer.

  As a context manager it removes what bars keep of the terminal.
  """

  def __init__(
    self,
    shares: Mapping[str, str] = {},
    clock: Callable[[], float] = time.monotonic,
    result: str = '',
  ):
    """Describes bars; nothing is shown before a unit begins.

    Args:
      shares: names of measured seconds whose share of the time of units is
        told, and the words for it, such as {'read_seconds': 'reading'}.
      clock: returns seconds.
      result: name of a measured fraction, such as an accuracy, that is told of
        every unit which measures it.
    """
    self._shares, self._clock, self._result = shares, clock, result
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
    seconds = 0.0 if tally.start is None else now - tally.start
    text = ''
    if outcome.state == MADE and self._result in outcome.measured:
      value = outcome.measured[self._result]
      tally.results.append(value)
      text = f'{unit}: {self._result} {value:.1%}'
    if tally.bar is not None:
      tally.bar.set_postfix_str(text, refresh=False)
      tally.bar.update()
      if tally.bar.disable:
        done = f'{stage}: {tally.ended} of {tally.units} in {seconds:.0f} s'
        _progress_log.tell(done, text)
    if tally.ended == tally.units:
      if tally.bar is not None:
        tally.bar.close()
      say(tally.summary(stage, seconds, self._shares, self._result))

  def _start(self, stage: str, now: float) -> None:
    """Shows the bar of a stage of which a unit begins."""
    tally = self._tallies[stage]
    if tally.start is None:
      tally.start = now
      tally.bar = bar(tally.units, f'{stage:>6}', 'units', initial=tally.ended)
