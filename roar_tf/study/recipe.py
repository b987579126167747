"""What rebuilds a study in any process: words and numbers only."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Mapping

from roar_tf import engine, errors
from roar_tf.engine import files, locations
from roar_tf.study import experiment
from roar_tf.study.context import Context, facts
from roar_tf.study.paths import Workspace
from roar_tf.study.stages import Pipeline


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a command line asks for, as text: it may be sent to other machines.

  Attributes:
    workspace: directory or URL of all artefacts.
    configuration: of the experiment.
    data_dir: where TFDS looks for datasets; its default if None.
    strategy: see `distribution.connect`.
    tpu: see `distribution.connect`.
    threads: CPU threads inside one operation.
    price_per_hour: see `Context`.
  """

  workspace: str
  configuration: experiment.Configuration = experiment.Configuration()
  data_dir: str | None = None
  strategy: str = 'one_device'
  tpu: str | None = None
  threads: int = 1
  price_per_hour: float | None = None

  def contexts(self, stop: Callable[[], bool] = lambda: False) -> list[Context]:
    """Returns a Context per experiment; touches neither disk nor devices.

    Args:
      stop: whether a signal asked to stop.

    Raises:
      UsageError: a name, file or parameter is unknown or impossible.
    """

    @functools.cache
    def connect():
      # Only when it is wanted: --list must not wait for hosts or a TPU.
      from roar_tf.training import distribution

      return distribution.connect(self.strategy, self.tpu)

    workspace = Workspace(self.workspace)
    data_dir = self.data_dir and locations.located(self.data_dir, '--data_dir')
    return [
      Context(
        workspace,
        each,
        data_dir,
        stop,
        connect,
        price_per_hour=self.price_per_hour,
        on_tpu=self.tpu is not None or self.strategy == 'tpu',
      )
      for each in self.configuration.load()
    ]


@dataclasses.dataclass(frozen=True)
class RemoteRecipe:
  """What a worker of a cluster rebuilds.

  Attributes:
    recipe: the study.
    directory: where the command was called; relative paths begin there.
    identity: the word in the workspace's `.identity`.
    code: of the user's own; see `Experiment.code`.
  """

  recipe: Recipe
  directory: str
  identity: str
  code: tuple[tuple[str, str], ...]


def share_identity(workspace: Workspace) -> str:
  """Returns the word that marks a workspace, and gives it one if need be.

  Processes that do this at once end with one word.
  """
  path = workspace.identity
  if files.exists(path):
    word = files.read(path)
  elif files.is_remote(path):  # Whoever sees this URL sees this store.
    word = hashlib.sha256(path.encode()).hexdigest().encode()
    files.publish(path, word)
  else:
    word = files.publish_first(path, os.urandom(16).hex().encode())
  return word.decode(errors='replace')


class RemoteStudy:
  """A study in a worker process of a cluster.

  Attributes:
    facts: returns what every marker records.
  """

  facts = staticmethod(facts)

  def __init__(self, pipeline: Pipeline):
    self._pipeline = pipeline

  @functools.cached_property
  def _units(self) -> Mapping[tuple[str, str], engine.Unit]:
    graph = engine.Graph(
      self._pipeline.goals(),
      engine.Snapshot(self._pipeline.context.workspace.root),
      checks=False,
      everything=True,
    )
    return {(n.unit.stage, n.unit.name): n.unit for n in graph.nodes}

  def unit(self, stage: str, name: str) -> engine.Unit | None:
    """Returns a unit of the study, for all of its artefacts, or None."""
    return self._units.get((stage, name))


def rebuild(remote: RemoteRecipe, stop: Callable[[], bool]) -> RemoteStudy:
  """Returns a study in a worker process, which is set up for it.

  Args:
    remote: what the driver asks for.
    stop: whether the task is to save and end.

  Raises:
    UsageError: the worker does not see the driver's workspace, or sees other
      code of the user's own.
  """
  import tensorflow as tf

  if os.path.isdir(remote.directory):
    os.chdir(remote.directory)
  if '' not in sys.path:  # A gin `import` line finds the user's file there.
    sys.path.insert(0, '')
  recipe = remote.recipe
  tf.get_logger().setLevel('ERROR')
  with contextlib.suppress(RuntimeError):  # Devices exist already: in tests.
    tf.config.threading.set_intra_op_parallelism_threads(recipe.threads)
    if not _has_accelerators():  # Those that there are belong to other tasks.
      tf.config.set_visible_devices([], 'GPU')
  path = Workspace(recipe.workspace).identity
  there = files.exists(path)
  word = files.read(path).decode(errors='replace') if there else ''
  if word != remote.identity:
    what = 'another one' if word else 'not there'
    raise errors.UsageError(
      f'--workspace={recipe.workspace} is {what}, seen from a worker: give a '
      'directory or URL that all nodes share, by its full path.'
    )
  contexts = recipe.contexts(stop)
  here = contexts[0].experiment.code
  for name, value in remote.code:
    if (name, value) not in here:
      raise errors.UsageError(
        f'the {name} is not what it is where the command was called: let all '
        'nodes see the same files.'
      )
  return RemoteStudy(Pipeline(contexts))


def _has_accelerators() -> bool:
  """Whether Ray has given this process accelerators."""
  import ray

  return bool(ray.get_gpu_ids())
