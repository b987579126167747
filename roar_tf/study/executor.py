"""The in-process executor: one worker's share of a list of units."""

import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.study import progress
from roar_tf.study.heartbeat import Heartbeat
from roar_tf.study.units import Unit

_log = logging.getLogger(__name__)
_lock = threading.Lock()


_PASSING = (
  tf.errors.AbortedError,
  tf.errors.DeadlineExceededError,
  tf.errors.NotFoundError,
  tf.errors.UnavailableError,
  tf.errors.UnknownError,
)
"""What an object store may answer today and not tomorrow."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of one unit.

  Attributes:
    kind: `made`, `kept`, `left` (to another worker), `failed`, or `missing`: it
      failed only because its inputs are not there.
    failure: the name of the unit and what went wrong; empty unless it failed.
    again: whether it may go better later: files could not be reached, or are
      not seen yet.
  """

  kind: str
  failure: str = ''
  again: bool = False


@dataclasses.dataclass
class Tally:
  """What became of a stage's units.

  Attributes:
    made: units worked on.
    kept: units found finished.
    failures: what went wrong, one entry per failed unit.
    seconds: wall time.
    unit_seconds: the time that units took, one added to the other.
    step_seconds: what of that they spent in training steps.
  """

  made: int = 0
  kept: int = 0
  failures: list[str] = dataclasses.field(default_factory=list)
  seconds: float = 0.0
  unit_seconds: float = 0.0
  step_seconds: float = 0.0

  def add(self, outcome: Outcome) -> None:
    """Counts a unit; threads may call it side by side."""
    with _lock:
      self.made += outcome.kind == 'made'
      self.kept += outcome.kind == 'kept'
      if outcome.failure:
        self.failures.append(outcome.failure)

  def summary(self, stage: str) -> str:
    """Returns what to say of a stage, in a line."""
    text = (
      f'{stage}: {self.made} made, {self.kept} kept, '
      f'{len(self.failures)} failed, {self.seconds:.1f} s'
    )
    if stage == 'train' and self.made and self.unit_seconds:
      share = self.step_seconds / self.unit_seconds
      text += f', {share:.0%} of it in training steps'
    return text


def execute(
  stage: str,
  units: Sequence[Unit],
  *,
  worker: int = 0,
  num_workers: int = 1,
  parallel: int = 1,
  stop: Callable[[], bool] = lambda: False,
  heartbeat: Heartbeat | None = None,
) -> Tally:
  """Does this worker's share of a stage: every `num_workers`-th unit.

  A failed unit is named and the rest is done. Units share compiled functions,
  and since each is a pure function of its inputs, running several side by side
  changes no byte.

  Args:
    stage: name for the progress bar.
    units: all units of the stage, in an order that all workers agree on.
    worker: this worker, 0 <= worker < num_workers.
    num_workers: how many share the stage.
    parallel: units that run side by side in threads of this process.
    stop: whether a signal asked to stop; asked before every unit.
    heartbeat: is told of every unit.

  Raises:
    UsageError: an artefact was made with other settings.
    PreemptedError: stopped.
  """
  tally = Tally()
  start = time.monotonic()
  own = [u for u in units if not u.shared][worker::num_workers]
  shared = [u for u in units if u.shared]

  def one(unit: Unit) -> None:
    if stop():
      raise errors.PreemptedError(
        f'stopped before {unit.name}; run the same command again to go on.'
      )
    if heartbeat:
      heartbeat.begin(stage, unit.name)
    outcome = attempt(unit, num_workers)
    tally.add(outcome)
    if heartbeat:
      heartbeat.end(stage, unit.name, outcome.kind, outcome.failure)

  with progress.bar(len(own) + len(shared), f'{stage:>6}', 'units') as bar:
    # Shared units complete what the others made.
    for group in (own, shared):
      _side_by_side(group, one, bar, parallel)
  tally.seconds = time.monotonic() - start
  return tally


def _side_by_side(units, one: Callable[[Unit], None], bar, parallel) -> None:
  """Runs units in threads; the first error that ends the study ends all."""
  ending = threading.Event()

  def unless_ending(unit: Unit) -> None:
    if not ending.is_set():
      one(unit)

  with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
    futures = [pool.submit(unless_ending, unit) for unit in units]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
        bar.update()
    except BaseException:
      ending.set()  # Units that run are finished, the others not begun.
      raise


def attempt(unit: Unit, num_workers: int = 1) -> Outcome:
  """Makes what is unfinished of a unit.

  Args:
    unit: the unit.
    num_workers: how many share its stage.

  Raises:
    UsageError: an artefact was made with other settings.
    PreemptedError: stopped.
  """
  kind, again = 'failed', False
  try:
    pending = unit.pending()
    if not pending:
      return Outcome('kept')
    unit.work(pending)
    _log.info('%s: done', unit.name)
    return Outcome('made')
  except (errors.UsageError, errors.PreemptedError):
    raise
  except errors.MissingInputsError as e:
    if unit.shared and num_workers > 1:
      _log.info('%s: left to the worker that finishes last', unit.name)
      return Outcome('left')
    kind, reason, again = 'missing', str(e), True
  except errors.PartsFailedError as e:
    reason = f'\n  {unit.name}: '.join(str(e).splitlines())
  except errors.RoarError as e:
    reason = str(e)
  except (OSError, tf.errors.OpError) as e:
    if workspace.is_full(e):
      reason = workspace.describe_full(e)
    else:
      reason = f'{str(e).splitlines()[0]}.'
      passing = isinstance(e, (OSError, *_PASSING))
      again = passing and not isinstance(e, PermissionError)
  except Exception as e:  # A user's estimator or model may raise anything.
    reason = errors.describe(e)
    _log.debug('%s failed', unit.name, exc_info=e)
  return Outcome(kind, f'{unit.name}: {reason}', again)
