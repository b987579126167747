"""One experiment in one workspace: what its stages share in a process."""

import dataclasses
import functools
import platform
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from roar_tf import shards
from roar_tf.cells import ORIGINAL
from roar_tf.datasets.source import SPLITS
from roar_tf.engine import Snapshot, markers
from roar_tf.study.experiment import Experiment
from roar_tf.study.paths import Workspace


class Cache:
  """Values that are expensive to make and used by several units.

  Units run side by side: whoever asks for a value first makes it, and those who
  ask for the same one meanwhile wait.
  """

  def __init__(self, most: int | None = None):
    """Makes an empty cache.

    Args:
      most: how many values are kept, the newest; None for all.
    """
    self._most = most
    self._entries: dict[Hashable, _Entry] = {}
    self._lock = threading.Lock()

  def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """Returns the value of a key, and makes it where it is not there."""
    with self._lock:
      if key not in self._entries:
        self._entries[key] = _Entry()
        while self._most and len(self._entries) > self._most:
          del self._entries[next(iter(self._entries))]
      entry = self._entries[key]
    with entry.lock:
      if not entry.is_filled:
        entry.value = make()
        entry.is_filled = True
      return entry.value


class _Entry:
  def __init__(self):
    self.lock = threading.Lock()
    self.is_filled = False
    self.value = None


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
  """One experiment in one workspace.

  Attributes:
    workspace: paths.
    experiment: configuration.
    data_dir: where TFDS looks for datasets; its default if None.
    stop: whether a signal asked to stop.
    connect: returns what trains and explains (`distribution.Devices`); called
      once, by `devices`, when something is to be computed.
    memory_bound: bytes of decoded train images up to which they are held in
      memory; None for `examples.MEMORY_BOUND`.
    price_per_hour: of one device, for the costs in a report; None leaves them
      out.
    on_tpu: whether a TPU is asked for.
  """

  workspace: Workspace
  experiment: Experiment
  data_dir: str | None = None
  stop: Callable[[], bool] = lambda: False
  connect: Callable[[], Any] | None = None
  memory_bound: int | None = None
  price_per_hour: float | None = None
  on_tpu: bool = False
  _records: Cache = dataclasses.field(default_factory=Cache)

  @property
  def source(self):
    """The source (`datasets.source.Source`)."""
    return self.experiment.source

  @functools.cached_property
  def devices(self):
    """What trains and explains; other hosts may be waited for."""
    from roar_tf.training import distribution

    return (self.connect or distribution.one_device)()

  # --- datasets of the source ------------------------------------------------

  def directory(self, config: str) -> str:
    """Returns the directory of a dataset of this source."""
    return self.workspace.dataset(self.source.name, config)

  def marker(self, config: str) -> str:
    """Returns the DONE marker of a whole dataset of this source."""
    return f'{self.directory(config)}/{markers.DONE}'

  def shard_path(self, config: str, split: str, index: int) -> str:
    """Returns the file of a shard of a dataset of this source."""
    count = self.source.shard_count(split)
    return self.workspace.shard(self.source.name, config, split, index, count)

  def shard_marker(self, config: str, split: str, index: int) -> str:
    """Returns the DONE marker of a shard."""
    return f'{self.shard_path(config, split, index)}.{markers.DONE}'

  def all_shards(self, *splits: str) -> list[tuple[str, int]]:
    """Returns (split, index) of the shards of this source's datasets.

    Args:
      *splits: those wanted; all if there are none.
    """
    return [
      (split, index)
      for split in splits or SPLITS
      for index in range(self.source.shard_count(split))
    ]

  def batches(
    self, config: str, layout: shards.Layout, split: str, index: int, size: int
  ) -> Iterator[dict]:
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

    def count() -> int:
      marker = markers.require(self.shard_marker(ORIGINAL, split, index))
      return marker['contents']['records']

    return self._records.get((split, index), count)

  def expected_records(self, snapshot: Snapshot, split: str, index: int) -> int:
    """Returns how many images a shard has, as far as a snapshot tells."""
    if snapshot.exists(self.shard_marker(ORIGINAL, split, index)):
      return self.records(split, index)
    start, stop = self.source.shard_bounds(split)[index]
    return stop - start

  def images(self, split: str) -> int:
    """Returns how many images a split of `original` has; see `records`."""
    return sum(self.records(*part) for part in self.all_shards(split))

  @property
  def manifest_path(self) -> str:
    """The manifest of the source's `original` dataset."""
    return f'{self.directory(ORIGINAL)}/manifest.json'

  @functools.cached_property
  def statistics(self):
    """Per-channel (mean, std) [C] of the unmasked train split, in 0..255."""
    import numpy as np

    manifest = markers.content_json(self.manifest_path)
    return np.array(manifest['mean']), np.array(manifest['std'])


@functools.cache
def environment() -> dict:
  """Returns what bytes depend on besides settings; it is not compared."""
  from roar_tf.lazy import keras, tf

  devices = {device.device_type for device in tf.config.list_logical_devices()}
  return {
    'tensorflow': tf.__version__,
    'keras': keras.__version__,
    'machine': platform.machine(),
    'device': next(d for d in ('TPU', 'GPU', 'CPU') if d in devices),
    'intra_op_threads': tf.config.threading.get_intra_op_parallelism_threads(),
  }


def facts() -> dict:
  """Returns what every marker records beside its fingerprint."""
  return {'environment': environment()}
