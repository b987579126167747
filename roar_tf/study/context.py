"""What the units of one experiment share while a process lives."""

import dataclasses
import functools
import threading
from collections.abc import Callable

import numpy as np

from roar_tf import shards, workspace
from roar_tf.cells import ORIGINAL
from roar_tf.datasets.source import SPLITS
from roar_tf.study.experiment import Experiment
from roar_tf.training import distribution


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
  """One experiment in one workspace.

  Attributes:
    workspace: paths.
    experiment: configuration.
    data_dir: where TFDS looks for datasets; its default if None.
    stop: whether a signal asked to stop.
    connect: returns what trains and explains; called once, by `devices`.
    memory_bound: bytes of decoded train images up to which they are held in
      memory; None for `examples.MEMORY_BOUND`.
    price_per_hour: of one device, for the costs in a report; None leaves them
      out.
    cache: what `cached` has made, by key.
  """

  workspace: workspace.Workspace
  experiment: Experiment
  data_dir: str | None = None
  stop: Callable[[], bool] = lambda: False
  connect: Callable[[], distribution.Devices] = distribution.one_device
  memory_bound: int | None = None
  price_per_hour: float | None = None
  cache: dict = dataclasses.field(default_factory=dict)
  _lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)

  def cached(self, key: tuple, make: Callable[[], object], keep: int = 0):
    """Returns what is expensive to make and used by several units.

    Units run side by side: whoever comes first makes it, the others wait.

    Args:
      key: its name; the first element says what kind of thing it is.
      make: makes it.
      keep: how many things of this kind are kept, the newest; 0 for all.
    """
    with self._lock:
      if key not in self.cache:
        if keep:
          kind = [k for k in self.cache if k[0] == key[0]]
          for old in kind[: len(kind) + 1 - keep]:
            del self.cache[old]
        self.cache[key] = make()
      return self.cache[key]

  def dataset_done(self, config: str) -> str:
    """Returns the DONE marker of a whole dataset of this source."""
    source = self.experiment.source.name
    return f'{self.workspace.dataset(source, config)}/DONE'

  def model_done(self) -> str:
    """Returns the DONE marker of the explained model."""
    return f'{self.workspace.model(self.experiment.source.name)}/DONE'

  def shard_path(self, config: str, split: str, index: int) -> str:
    """Returns the file of a shard of a dataset of this source."""
    source = self.experiment.source
    count = source.shard_count(split)
    return self.workspace.shard(source.name, config, split, index, count)

  def shard_done(self, config: str, split: str, index: int) -> str:
    """Returns the DONE marker of a shard."""
    return self.shard_path(config, split, index) + '.DONE'

  def all_shards(self, *splits: str) -> list[tuple[str, int]]:
    """Returns (split, index) of the shards of this source's datasets.

    Args:
      *splits: those wanted; all if there are none.
    """
    return [
      (split, index)
      for split in splits or SPLITS
      for index in range(self.experiment.source.shard_count(split))
    ]

  def batches(
    self, config: str, layout: shards.Layout, split: str, index: int, size: int
  ):
    """Yields the batches of one shard of a dataset of this source."""
    yield from shards.read_batches(
      self.shard_path(config, split, index),
      self.records(split, index),
      layout,
      size,
    )

  def records(self, split: str, index: int) -> int:
    """Returns how many images a shard of `original` has, as of all datasets.

    They may be fewer than the source's bounds say: see `Source.unreadable`.

    Raises:
      MissingInputsError: it was not made yet.
    """

    def read() -> int:
      done = workspace.require(self.shard_done(ORIGINAL, split, index))
      return done['contents']['records']

    return self.cached(('records', split, index), read)

  def images(self, split: str) -> int:
    """Returns how many images a split of `original` has; see `records`."""
    return sum(self.records(*part) for part in self.all_shards(split))

  @functools.cached_property
  def devices(self) -> distribution.Devices:
    """What trains and explains; other hosts may be waited for."""
    return self.connect()

  @functools.cached_property
  def statistics(self) -> tuple[np.ndarray, np.ndarray]:
    """Per-channel (mean, std) [C] of the unmasked train split, in 0..255."""
    workspace.require(self.dataset_done(ORIGINAL))
    manifest = workspace.read_json(self.manifest_path)
    return np.array(manifest['mean']), np.array(manifest['std'])

  @property
  def manifest_path(self) -> str:
    """The manifest of the source's `original` dataset."""
    source = self.experiment.source.name
    return f'{self.workspace.dataset(source, ORIGINAL)}/manifest.json'
