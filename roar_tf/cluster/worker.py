"""What a Ray task does: rebuilds the experiment and makes one unit of it.

Only text goes to a task and comes back. What was rebuilt, and all that was
compiled, stays while Ray keeps the worker process.
"""

import contextlib
import dataclasses
import functools
import io
import os
import signal
import sys
import threading
import time

import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.study import STAGES, executor, pipeline
from roar_tf.study.recipe import Recipe
from roar_tf.study.units import Unit

MOST_SAID = 10_000
"""Characters that a unit may print; the last ones are kept."""

_stop = threading.Event()


@dataclasses.dataclass(frozen=True)
class Place:
  """Where and for what the tasks of one command work.

  Attributes:
    recipe: the experiment.
    directory: where the command was called; relative paths begin there.
    identity: what `Workspace.identity` is, seen from there.
  """

  recipe: Recipe
  directory: str
  identity: str


@dataclasses.dataclass(frozen=True)
class Task:
  """One unit, as it is named to a worker.

  Attributes:
    stage: its stage.
    name: its name.
    dones: DONE markers of its targets.
    look: whether this task is only to see if all of that is done.
  """

  stage: str
  name: str
  dones: tuple[str, ...]
  look: bool = False


@dataclasses.dataclass(frozen=True)
class Result:
  """What became of a task.

  Attributes:
    kind: that of `executor.Outcome`, or `stopped` (after saving), `work` (it
      was only to look, and there is work), `refused` (nothing of the study can
      be done there), `died` (with its process or node, too often).
    text: the unit and what went wrong.
    again: see `executor.Outcome`.
    node: the machine.
    said: what was printed.
    seconds: how long it took.
    step_seconds: what of that was spent in training steps.
  """

  kind: str
  text: str = ''
  again: bool = False
  node: str = ''
  said: str = ''
  seconds: float = 0.0
  step_seconds: float = 0.0


def work(place: Place, task: Task, board=None) -> Result:
  """Makes what is unfinished of a unit; raises nothing that is known.

  Args:
    place: where and for what.
    task: the unit.
    board: a Ray actor that is told of tasks as they begin, or None.
  """
  import ray

  if board is not None:
    board.begin.remote(task.stage, task.name)
  node = ray.util.get_node_ip_address()
  start, steps = time.monotonic(), 0.0
  said = io.StringIO()
  _stop.clear()
  with _saving_when_cancelled(), contextlib.redirect_stdout(said):
    try:
      works = _works(place)
      before = pipeline.step_seconds(works)
      result = _attempt(_unit(place, task), task.look)
      steps = pipeline.step_seconds(works) - before
    except errors.UsageError as e:
      text = f'{str(e).rstrip(".")} (on node {node}).'
      result = Result('refused', text)
    except errors.PreemptedError as e:
      result = Result('stopped', f'{task.name}: {e}', again=True)
    except errors.RoarError as e:
      result = Result('failed', f'{task.name}: {e}')
    except (OSError, tf.errors.OpError) as e:
      result = Result('failed', f'{task.name}: {e}', again=True)
  return dataclasses.replace(
    result,
    node=node,
    said=said.getvalue()[-MOST_SAID:],
    seconds=time.monotonic() - start,
    step_seconds=steps,
  )


def _attempt(unit: Unit, look: bool) -> Result:
  if look and not _is_done(unit):
    return Result('work')
  outcome = executor.attempt(unit)
  return Result(outcome.kind, outcome.failure, outcome.again)


def _is_done(unit: Unit) -> bool:
  """Whether nothing is left to do; where that cannot be seen, there is."""
  try:
    return not unit.pending()
  except errors.UsageError:
    raise
  except (errors.RoarError, OSError, tf.errors.OpError):
    return False


@contextlib.contextmanager
def _saving_when_cancelled():
  """A cancelled task is interrupted: it saves, as a command does on Ctrl-C."""
  before = signal.signal(signal.SIGINT, lambda *_: _stop.set())
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)


@functools.lru_cache(maxsize=1)
def _works(place: Place) -> list[pipeline.Work]:
  """Returns the whole study, with the caches of this process."""
  import ray

  if os.path.isdir(place.directory):
    os.chdir(place.directory)
  if '' not in sys.path:  # A gin `import` line finds the user's file there.
    sys.path.insert(0, '')
  tf.get_logger().setLevel('ERROR')
  with contextlib.suppress(RuntimeError):  # Devices exist already: in tests.
    tf.config.threading.set_intra_op_parallelism_threads(place.recipe.threads)
    if not ray.get_gpu_ids():  # Those that there are belong to other tasks.
      tf.config.set_visible_devices([], 'GPU')
  found = workspace.Workspace(place.recipe.workspace).identity()
  if found != place.identity:
    what = 'another one' if found else 'not there'
    raise errors.UsageError(
      f'--workspace={place.recipe.workspace} is {what}, seen from a worker: '
      'give a directory or URL that all nodes share, by its full path.'
    )
  return pipeline.study_work(place.recipe.contexts(_stop.is_set))


def _unit(place: Place, task: Task) -> Unit:
  """Returns the unit of a task, for the task's artefacts alone."""
  # The unit of a report depends on what is there.
  find = _makers if task.stage == 'report' else _kept_makers
  maker = find(place, task.stage).get(task.dones[0])
  if maker is None:
    raise errors.UsageError(
      f'a worker knows no unit that makes {task.dones[0]}: install the same '
      'roar_tf on every node, and let all see the same gin files.'
    )
  return maker.only(task.dones)


def _makers(place: Place, stage: str) -> dict[str, Unit]:
  """Returns {DONE marker: the unit that makes it}."""
  return {
    target.done: unit
    for unit in pipeline.units(_works(place), stage)
    for target in unit.targets
  }


_kept_makers = functools.lru_cache(maxsize=len(STAGES))(_makers)
