"""The devices that one program trains or explains on.

A program is one `tf.distribute` strategy: one device, the GPUs of a host
(MirroredStrategy), the GPUs or CPUs of several hosts (MultiWorkerMirrored-
Strategy, described by the environment variable TF_CONFIG), or TPUs. Everything
below it works with `Devices` and does not ask which one it is.
"""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
from collections.abc import Callable, Sequence

from roar_tf import errors
from roar_tf.lazy import keras, tf

PATIENCE, STEP_PATIENCE = 24 * 60 * 60.0, 30 * 60.0
"""Seconds after which a host gives up others: while one of them does units that
are not shared out, and inside of a training step."""


@dataclasses.dataclass(frozen=True, eq=False)
class Devices:
  """The replicas of one program.

  Attributes:
    strategy: TensorFlow's strategy.
    hosts: how many processes run the program.
    host: this process, from 0; the first one writes what is to be written.
  """

  strategy: tf.distribute.Strategy
  hosts: int = 1
  host: int = 0

  @property
  def replicas(self) -> int:
    """How many replicas the program has, on all hosts."""
    return self.strategy.num_replicas_in_sync

  @property
  def local_replicas(self) -> range:
    """The replicas of this host."""
    count = self.replicas // self.hosts
    return range(self.host * count, (self.host + 1) * count)

  @property
  def explaining(self) -> int:
    """How many replicas share a batch that is explained: those of one host.

    Explaining needs no word between hosts, which share shards instead.
    """
    return self.replicas if self.hosts == 1 else 1

  @property
  def is_chief(self) -> bool:
    """Whether this process writes results."""
    return self.host == 0

  @property
  def are_gpus(self) -> bool:
    """Whether the replicas are GPUs."""
    return bool(tf.config.list_logical_devices('GPU'))

  def variables(self, values):
    """Returns variables of the same structure, one copy per replica.

    Every replica assigns its own copy; the step keeps them equal.
    """
    how = {}
    if self.replicas > 1:
      how = {
        'synchronization': tf.VariableSynchronization.ON_READ,
        'aggregation': tf.VariableAggregation.ONLY_FIRST_REPLICA,
      }
    with self.strategy.scope():
      return tf.nest.map_structure(
        lambda v: tf.Variable(v, trainable=False, **how), values
      )

  def values(self, variables):
    """Returns the values of `variables` of this host's first replica."""
    return tf.nest.map_structure(
      lambda v: tf.identity(self.local(v)[0]), variables
    )

  def local(self, value) -> tuple:
    """Returns what every replica of this host has of a distributed value."""
    return self.strategy.experimental_local_results(value)

  def copies(self, tensor):
    """Returns a tensor on the device of every replica of this host."""
    if self._is_alone:
      return tf.identity(tensor)
    devices = self.strategy.extended.worker_devices

    def copy(replica: int):
      with tf.device(devices[replica]):
        return tf.identity(tensor)

    return self._distributed(copy)

  def iterator(self, dataset: tf.data.Dataset):
    """Returns an iterator that hands every replica its next element.

    Args:
      dataset: this host's; its elements go to the replicas of this host in
        turn.
    """
    with tf.device('CPU:0'):
      if self._is_alone:
        return iter(dataset)
      return iter(
        self.strategy.distribute_datasets_from_function(lambda _: dataset)
      )

  def gathered(self, value) -> tf.Tensor:
    """Joins a value of every replica, in their order, along the first axis."""
    if self.replicas == 1:
      return self.local(value)[0]
    return self.strategy.gather(value, axis=0)

  def split(self, value):
    """Splits a tensor [B, ...] evenly over the replicas of this host."""
    if self._is_alone:
      return value
    parts = tf.split(value, len(self.local_replicas))
    return self._distributed(lambda replica: parts[replica])

  def reduce(self, values: Sequence[tf.Tensor], mean: bool = False) -> list:
    """Returns sums, or means, over all replicas; called on every replica."""
    reduced = list(values)
    if self.replicas == 1:
      return reduced
    context = tf.distribute.get_replica_context()
    how = tf.distribute.ReduceOp.MEAN if mean else tf.distribute.ReduceOp.SUM
    options = _waiting(STEP_PATIENCE)
    # One reduction takes one type.
    for dtype in dict.fromkeys(v.dtype for v in reduced):
      places = [i for i, v in enumerate(reduced) if v.dtype == dtype]
      for i, value in zip(
        places,
        context.all_reduce(how, [reduced[i] for i in places], options),
        strict=True,
      ):
        reduced[i] = value
    return reduced

  def everywhere(self, number: int) -> list[int]:
    """Returns a number of every host, in order; all hosts ask together."""
    if self.hosts == 1:
      return [number]
    share = number / len(self.local_replicas)
    own = [share if host == self.host else 0.0 for host in range(self.hosts)]
    votes = self.strategy.run(lambda: tf.constant(own))
    total = self.strategy.reduce('SUM', votes, axis=None)
    return [round(each) for each in total.numpy().tolist()]

  def any(self, flag: bool) -> bool:
    """Whether the flag is true on any host; all hosts ask together."""
    return any(self.everywhere(int(flag)))

  def barrier(self) -> None:
    """Waits until all hosts are here."""
    self.any(False)

  def check_divides(self, batch_size: int, what: str) -> None:
    """Raises UsageError unless the replicas share a batch evenly."""
    if batch_size % self.replicas:
      raise errors.UsageError(
        f'{what} = {batch_size} cannot be split evenly over {self.replicas} '
        'replicas; take a multiple of their number.'
      )

  def _distributed(self, value: Callable[[int], tf.Tensor]):
    """Returns a value of every replica of this host, numbered from 0."""
    return self.strategy.experimental_distribute_values_from_function(
      lambda context: value(
        context.replica_id_in_sync_group - self.local_replicas[0]
      )
    )

  @property
  def _is_alone(self) -> bool:
    """Whether TensorFlow places everything on the one device by itself."""
    return self.replicas == 1 and not isinstance(
      self.strategy, tf.distribute.TPUStrategy
    )


def one_device() -> Devices:
  """Returns the default: the first accelerator, or the CPU."""
  return Devices(tf.distribute.get_strategy())


def connect(name: str = 'auto', tpu: str | None = None) -> Devices:
  """Returns the devices that the flags --strategy and --tpu ask for.

  `auto` takes the TPU that is named, the hosts that TF_CONFIG describes, all
  GPUs if there are several, or else the one device there is.

  Raises:
    UsageError: they are not there.
  """
  keras.config.backend()  # Another one than TensorFlow is refused by now.
  check(name, tpu)
  if name == 'auto':
    name = _best(tpu)
  return {
    'one_device': one_device,
    'mirrored': _mirrored,
    'multi_worker': _multi_worker,
    'tpu': lambda: _tpu(tpu or 'local'),
  }[name]()


def check(name: str, tpu: str | None) -> None:
  """Refuses flags --strategy and --tpu that can never be; needs no TensorFlow.

  Raises:
    UsageError: they contradict each other, or TF_CONFIG describes no hosts.
  """
  if tpu is not None and name not in ('auto', 'tpu'):
    raise errors.UsageError(
      f'--tpu={tpu} goes with --strategy=tpu, not with --strategy={name}.'
    )
  if name == 'multi_worker':
    _hosts()


def _best(tpu) -> str:
  if tpu is not None:
    return 'tpu'
  if os.environ.get('TF_CONFIG'):
    return 'multi_worker'
  if len(tf.config.list_logical_devices('GPU')) > 1:
    return 'mirrored'
  return 'one_device'


def _mirrored() -> Devices:
  for kind in ('GPU', 'CPU'):
    names = [d.name for d in tf.config.list_logical_devices(kind)]
    if kind == 'GPU' and names or len(names) > 1:
      return Devices(tf.distribute.MirroredStrategy(names))
  raise errors.UsageError(
    '--strategy=mirrored found no GPU; use --strategy=one_device to work on '
    'the CPU, or install roar_tf[cuda].'
  )


def _hosts() -> tuple[int, int]:
  """Returns how many hosts TF_CONFIG describes, and which this one is."""
  text = os.environ.get('TF_CONFIG', '')
  try:
    described = json.loads(text)
    hosts = len(described['cluster']['worker'])
    kind, host = described['task']['type'], int(described['task']['index'])
  except (ValueError, KeyError, TypeError):
    hosts, kind, host = 0, None, 0
  if kind != 'worker' or not 0 <= host < hosts:
    raise errors.UsageError(
      '--strategy=multi_worker needs the environment variable TF_CONFIG to be '
      '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
      f'"index": 0}}}}, found {text!r}.'
    )
  return hosts, host


def _multi_worker() -> Devices:
  hosts, host = _hosts()
  strategy = tf.distribute.MultiWorkerMirroredStrategy(
    communication_options=_waiting(PATIENCE)
  )
  return Devices(strategy, hosts, host)


def _waiting(seconds: float):
  """Returns how hosts talk: whoever waits longer than that gives up."""
  return tf.distribute.experimental.CommunicationOptions(
    timeout_seconds=seconds
  )


def _tpu(name: str) -> Devices:
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
    if name != 'local':
      tf.config.experimental_connect_to_cluster(resolver)
    topology = tf.tpu.experimental.initialize_tpu_system(resolver)
  except Exception as e:  # Whatever the cloud's libraries raise.
    lines = str(e).strip().splitlines() or [type(e).__name__]
    reason = textwrap.shorten(lines[0], 120, placeholder=' ...')
    raise errors.UsageError(
      f'--tpu={name} cannot be reached ({reason}); name a TPU of this '
      'project and zone, or "local" on a TPU VM with roar_tf[tpu] installed.'
    ) from e
  if topology.num_tasks > 1:
    raise errors.UsageError(
      f'--tpu={name} has {topology.num_tasks} hosts, and a program takes the '
      'TPUs of one host: start one on each of them with --tpu=local, and '
      'divide a study by --worker and --num_workers (docs/guides/cloud_tpu.md).'
    )
  return Devices(tf.distribute.TPUStrategy(resolver))
