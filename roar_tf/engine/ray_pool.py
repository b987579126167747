"""The pool of a Ray cluster: each unit is a task in some process of a node.

A task is text only: what rebuilds the program in the process, and which unit of
it to make. What was rebuilt, and all that was compiled, stays while Ray keeps
the process. A task whose process or node dies begins again on another one. If
the program that submits dies, Ray ends its tasks, and the same command, run
again, finds all that is committed.
"""

import contextlib
import dataclasses
import functools
import io
import signal
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Protocol

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.engine.unit import FAILED, Outcome, Unit, attempt

MOST_TASKS = 1000
"""Tasks of one stage that Ray knows of at once."""
MOST_PRINTED = 10_000
"""Characters of what a unit printed that come back: the last ones."""
_LIGHT = {'CPU': 1.0}
"""What a light unit takes, whatever its stage takes."""
_NEWS = 10.0
"""Seconds between two looks at the devices of a cluster, which may grow."""

Resources = Mapping[str, Mapping[str, float]]
"""What a unit of each stage takes, {stage: {'CPU': 1, 'GPU': 1}}."""


class Program(Protocol):
  """What a worker process knows of the program whose units it makes."""

  def unit(self, stage: str, name: str) -> Unit | None:
    """Returns a unit of a stage by its name; None if there is no such unit.

    It may make more than it is asked for. A unit that depends on what is there,
    such as a report, must be described anew at every call.
    """

  def facts(self) -> Mapping:
    """Returns what every marker records; see `unit.attempt`."""


Rebuild = Callable[[Hashable, Callable[[], bool]], Program]
"""Rebuilds the program in a worker process: `rebuild(argument, stop)`.

It is a function of a module and its argument a value such as a frozen dataclass
of text and numbers: Ray pickles both by reference to what is installed on the
node. It is called before the first unit of a process, and again only for
another argument or after it has failed. Whatever is peculiar to the process is
its business, in this order:

1. It changes to the directory where the command was called, if the node has it,
   and puts '' into `sys.path`, so that relative paths and modules of the user
   are the same everywhere.
2. It sets the threads of the numerical library, and hides the accelerators if
   `ray.get_gpu_ids()` is empty: those that there are belong to other tasks.
3. It raises UsageError if the node sees another workspace than the command, or
   lacks a file. Ray's pool adds the node and ends the work.
4. It has the work ask `stop` wherever a signal would be asked for: once true,
   the work saves and raises PreemptedError.

What a unit measures, such as the seconds of its steps, is `Made.measured`.
"""


class RayPool:
  """Units as tasks of the cluster that this process is connected to.

  `ray_connection.connected` makes the pool. Priority is the order of
  submission.

  Attributes:
    retries: see `Pool`; Ray begins a unit as often whose process or node died.
  """

  queues = True

  def __init__(
    self,
    rebuild: Rebuild,
    argument: Hashable,
    resources: Resources,
    retries: int = 3,
  ):
    """Describes a pool; see `ray_connection.connected`."""
    self._program = (rebuild, argument)
    self._resources = resources
    self.retries = retries
    self._names: dict[object, str] = {}
    self._devices, self._looked = 1, float('-inf')

  @property
  def devices(self) -> int:
    """How many devices units share: accelerators, if some units take any."""
    import ray

    if time.monotonic() - self._looked > _NEWS:
      self._looked = time.monotonic()
      names = {name for amounts in self._resources.values() for name in amounts}
      names = names - {'CPU', 'memory'} or {'CPU'}
      there = ray.cluster_resources()
      self._devices = max(1, int(sum(there.get(name, 0) for name in names)))
    return self._devices

  def has_room(self, stage: str, running: Mapping[str, int]) -> bool:
    """See `Pool`; Ray slows down when it knows of very many tasks."""
    return running.get(stage, 0) < MOST_TASKS

  def submit(self, unit: Unit):
    """See `Pool`; the handle is Ray's reference of the outcome."""
    needs = dict(_LIGHT if unit.light else self._resources[unit.stage])
    accelerates = any(needs[name] for name in needs.keys() - {'CPU', 'memory'})
    options = {
      'num_cpus': needs.pop('CPU', 0),
      'num_gpus': needs.pop('GPU', 0),
      'memory': needs.pop('memory', None),
      'resources': needs,
      'name': unit.name,
      'max_retries': self.retries,
    }
    if accelerates:
      # A process keeps its devices until it ends, and one that has begun
      # without them never sees any: such units get a new process each.
      variables = {'ROAR_DEVICES': unit.stage}
      options['runtime_env'] = {'env_vars': variables}
    markers = tuple(artefact.marker for artefact in unit.makes)
    task = (*self._program, unit.stage, unit.name, markers, self._board)
    handle = _remote(ends=accelerates).options(**options).remote(*task)
    self._names[handle] = unit.name
    return handle

  def wait(self, handles: Collection, timeout: float) -> list:
    """See `Pool`."""
    import ray

    handles = list(handles)
    if not ray.wait(handles, timeout=timeout)[0]:
      return []
    return ray.wait(handles, num_returns=len(handles), timeout=0)[0]

  def outcome(self, handle) -> Outcome:
    """See `Pool`; a unit that was stopped may be tried again."""
    import ray

    name = self._names.pop(handle)
    try:
      result = ray.get(handle)
    except ray.exceptions.TaskCancelledError:
      return Outcome(FAILED, f'{name}: cancelled.', passing=True)
    except (
      ray.exceptions.RayTaskError,
      ray.exceptions.RuntimeEnvSetupError,
    ) as e:
      # Tasks do not raise: this node cannot do any.
      reason = str(e).strip().splitlines()[-1].rstrip('.')
      raise errors.UsageError(
        f'a Ray worker cannot run roar_tf ({reason}): install the same roar_tf '
        'on every node.'
      ) from e
    except ray.exceptions.RayError as e:
      reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
      return Outcome(
        FAILED, f'{name}: its process or node died too often ({reason}).'
      )
    if isinstance(result, errors.UsageError):
      raise result
    return result

  def cancel(self, handle) -> None:
    """See `Pool`."""
    import ray

    ray.cancel(handle)

  def begun(self) -> list[tuple[str, str]]:
    """See `Pool`; those that Ray began anew are there again."""
    import ray

    try:
      return ray.get(self._board.take.remote(), timeout=5.0)
    except ray.exceptions.RayError:  # It is dead, or late: a loss of news only.
      return []

  def agree(self) -> None:
    """Tasks have nobody to wait for."""

  @functools.cached_property
  def _board(self):
    """What tasks tell as they begin: an actor, on the node of this process."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
      here, soft=True
    )
    board = ray.remote(_Board)
    return board.options(num_cpus=0, scheduling_strategy=strategy).remote()


class _Board:
  """The units that have begun since somebody asked; a Ray actor."""

  def __init__(self):
    self._begun = []

  def begin(self, stage: str, name: str) -> None:
    self._begun.append((stage, name))

  def take(self) -> list[tuple[str, str]]:
    begun, self._begun = self._begun, []
    return begun


@functools.cache
def _remote(ends: bool):
  """Returns what Ray runs; one, since it queues tasks function by function.

  Args:
    ends: whether a process ends after every task.
  """
  import ray

  return ray.remote(max_calls=int(ends))(_attempt)


# --- in a worker process -----------------------------------------------------

_stop = threading.Event()


def _attempt(
  rebuild: Rebuild,
  argument: Hashable,
  stage: str,
  name: str,
  markers: Sequence[str],
  board,
) -> Outcome | errors.UsageError:
  """Makes what is unfinished of a unit; this is what a task does.

  Args:
    rebuild: see `Rebuild`.
    argument: likewise.
    stage: stage of the unit.
    name: its name.
    markers: those of the artefacts that it is to make.
    board: a `_Board`.

  Returns:
    The outcome, or the UsageError that `RayPool.outcome` is to raise.
  """
  import ray

  board.begin.remote(stage, name)
  node = ray.util.get_node_ip_address()
  printed = io.StringIO()
  _stop.clear()
  with _saving_when_cancelled(), contextlib.redirect_stdout(printed):
    try:
      program = _rebuilt(rebuild, argument)
      unit = _chosen(program.unit(stage, name), markers)
      outcome = attempt(unit, program.facts)
    except errors.UsageError as e:
      return errors.UsageError(f'{str(e).rstrip(".")} (on node {node}).')
    except (errors.PreemptedError, *files.storage_errors()) as e:
      outcome = Outcome(FAILED, f'{name}: {e}', passing=True)
    except errors.RoarError as e:
      outcome = Outcome(FAILED, f'{name}: {e}')
  text = printed.getvalue()[-MOST_PRINTED:]
  return dataclasses.replace(outcome, node=node, printed=text)


@contextlib.contextmanager
def _saving_when_cancelled():
  """A cancelled task is interrupted: it saves, as a command does on Ctrl-C."""
  before = signal.signal(signal.SIGINT, lambda *_: _stop.set())
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)


@functools.lru_cache(maxsize=1)
def _rebuilt(rebuild: Rebuild, argument: Hashable) -> Program:
  """Returns the program, with the caches of this process."""
  return rebuild(argument, _stop.is_set)


def _chosen(unit: Unit | None, markers: Sequence[str]) -> Unit:
  """Returns a unit for the artefacts of a task alone; refuses without it."""
  known = {artefact.marker for artefact in unit.makes} if unit else set()
  for marker in markers:
    if marker not in known:
      raise errors.UsageError(
        f'a worker knows no unit that makes {marker}: install the same roar_tf '
        'on every node, and let all see the same configuration files.'
      )
  return unit.only(markers)
