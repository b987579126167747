"""The in-process executor: one worker's share of a list of units."""

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Sequence

import tensorflow as tf
import tqdm

from roar_tf import errors, workspace
from roar_tf.study.units import Unit

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Tally:
  """What became of a stage's units.

  Attributes:
    made: units worked on.
    kept: units found finished.
    failures: sentences, one per failed unit.
    seconds: wall time.
  """

  made: int = 0
  kept: int = 0
  failures: list[str] = dataclasses.field(default_factory=list)
  seconds: float = 0.0


def execute(
  stage: str,
  units: Sequence[Unit],
  *,
  worker: int = 0,
  num_workers: int = 1,
  stop: Callable[[], bool] = lambda: False,
) -> Tally:
  """Does this worker's share of a stage: every `num_workers`-th unit.

  A failed unit is named and the rest is done.

  Args:
    stage: name for the progress bar.
    units: all units of the stage, in an order that all workers agree on.
    worker: this worker, 0 <= worker < num_workers.
    num_workers: how many share the stage.
    stop: whether SIGTERM arrived; asked between units.

  Raises:
    UsageError: an artefact was made with other settings.
    PreemptedError: stopped between units.
  """
  tally = Tally()
  start = time.monotonic()
  own = [u for u in units if not u.shared][worker::num_workers]
  shared = [u for u in units if u.shared]
  with tqdm.tqdm(
    total=len(own) + len(shared),
    desc=f'{stage:>6}',
    unit='unit',
    disable=not sys.stderr.isatty(),
    dynamic_ncols=True,
  ) as bar:
    for unit in [*own, *shared]:
      if stop():
        raise errors.PreemptedError(
          f'stopped by SIGTERM before {unit.name}; run the same command again '
          'to go on.'
        )
      bar.set_postfix_str(unit.name)
      _try(unit, tally, num_workers)
      bar.update()
  tally.seconds = time.monotonic() - start
  return tally


def _try(unit: Unit, tally: Tally, num_workers: int) -> None:
  try:
    pending = unit.pending()
    if pending:
      unit.work(pending)
      tally.made += 1
      _log.info('%s: done', unit.name)
    else:
      tally.kept += 1
  except (errors.UsageError, errors.PreemptedError):
    raise
  except errors.MissingInputsError as e:
    if unit.shared and num_workers > 1:
      _log.info('%s: left to the worker that finishes last', unit.name)
    else:
      tally.failures.append(f'{unit.name}: {e}')
  except errors.RoarError as e:
    tally.failures.append(f'{unit.name}: {e}')
  except (OSError, tf.errors.OpError) as e:
    if workspace.is_full(e):
      reason = (
        'the disk is full; free some space and run the same command again'
      )
    else:
      reason = str(e).splitlines()[0]
    tally.failures.append(f'{unit.name}: {reason}.')
