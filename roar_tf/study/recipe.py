"""What rebuilds an experiment in any process: words and numbers only."""

import dataclasses
import functools
from collections.abc import Callable

from roar_tf import workspace
from roar_tf.study import experiment, external
from roar_tf.study.context import Context
from roar_tf.training import distribution


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a command line asks for, as text: it may be sent to other machines.

  Attributes:
    workspace: directory or URL of all artefacts.
    study: see `experiment.load`, like the next four.
    dataset: one source, or None.
    gin_files: the user's files.
    gin_bindings: the user's bindings.
    seed: seed.
    data_dir: where TFDS looks for datasets; its default if None.
    strategy: see `distribution.connect`.
    tpu: likewise.
    threads: CPU threads inside one operation.
    price_per_hour: see `Context`.
  """

  workspace: str
  study: str | None = None
  dataset: str | None = None
  gin_files: tuple[str, ...] = ()
  gin_bindings: tuple[str, ...] = ()
  seed: int = 0
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
    place = workspace.Workspace(self.workspace)
    external.announce(place)
    experiments = experiment.load(
      dataset=self.dataset,
      study=self.study,
      gin_files=self.gin_files,
      gin_bindings=self.gin_bindings,
      seed=self.seed,
    )
    # Only when they are wanted: --list must not wait for hosts or a TPU.
    connect = functools.cache(
      lambda: distribution.connect(self.strategy, self.tpu)
    )
    return [
      Context(
        place,
        one,
        self.data_dir,
        stop,
        connect,
        price_per_hour=self.price_per_hour,
      )
      for one in experiments
    ]
