"""A Ray cluster: connecting to it, what units take, handing it tasks."""

import contextlib
import functools
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence

from roar_tf import errors
from roar_tf.cluster import worker
from roar_tf.study import STAGES, progress

PATIENCE = 10.0
"""Seconds that a cluster has to answer."""
_LIGHT = {'CPU': 1.0}
"""What it takes to complete a dataset, or to see that a unit is done."""


def parse_resources(
  values: Sequence[str], threads: int = 1
) -> dict[str, dict[str, float]]:
  """Returns what a unit of every stage takes, {stage: {'CPU': 1, ...}}.

  Args:
    values: words such as `train:GPU=1`, the values of a flag.
    threads: cores that a unit takes if nothing else is said.

  Raises:
    UsageError: a word is not of that form.
  """
  resources = {stage: {'CPU': float(threads)} for stage in STAGES}
  for value in values:
    stage, _, rest = value.partition(':')
    name, _, text = rest.partition('=')
    try:
      amount = float(text)
    except ValueError:
      amount = -1.0
    # Ray shares out parts of one device, and whole ones.
    possible = 0 <= amount <= 1 or amount.is_integer()
    if stage not in STAGES or not name or amount < 0 or not possible:
      raise errors.UsageError(
        f'--resources={value} must be STAGE:NAME=AMOUNT such as train:GPU=1, '
        f'with a stage of {", ".join(STAGES)} and an amount up to 1, or a '
        'whole one.'
      )
    resources[stage][name] = amount
  return resources


@contextlib.contextmanager
def connected(
  place: worker.Place,
  address: str | None,
  resources: Mapping[str, Mapping[str, float]],
  *,
  cores: int = 1,
  retries: int = 3,
) -> Iterator['Cluster']:
  """Connects to a Ray cluster, or starts one on this machine alone.

  Args:
    place: what tasks rebuild.
    address: of the cluster; None for that of $RAY_ADDRESS, else the one that
      runs on this machine, else a new one. `local` for a new one in any case.
    resources: what a unit takes, {stage: {'CPU': 1, 'GPU': 1, ...}}.
    cores: units side by side in a new one.
    retries: how often a unit begins again.

  Raises:
    UsageError: Ray is not installed, the cluster cannot be reached, or it lacks
      what units take.
  """
  address = _resolved(address or os.environ.get('RAY_ADDRESS'))
  os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
  if address == 'local':
    # Ray then listens on the loopback device only.
    os.environ.setdefault('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')
  try:
    import ray
  except ImportError as e:
    raise errors.UsageError(
      "--executor=ray needs Ray: pip install 'roar_tf[ray]'."
    ) from e
  own = {'num_cpus': cores, 'include_dashboard': False}
  handlers = [(s, signal.getsignal(s)) for s in (signal.SIGTERM, signal.SIGINT)]
  try:
    ray.init(
      address=address,
      runtime_env={'env_vars': _environment()},
      log_to_driver=False,
      logging_level=logging.ERROR,
      **(own if address == 'local' else {}),
    )
  except (
    ConnectionError,
    RuntimeError,
    ValueError,
    ray.exceptions.RayError,
  ) as e:
    reason = (str(e).splitlines() or [type(e).__name__])[0].rstrip('.')
    raise _no_cluster(address, reason) from e
  finally:
    for number, handler in handlers:  # Ray has put its own in their place.
      signal.signal(number, handler)
  try:
    _check_resources(ray.nodes(), resources, address == 'local')
    yield Cluster(place, resources, retries)
  finally:
    ray.shutdown()


def _resolved(address: str | None) -> str:
  """Returns an address that answers, or `local`; see `connected`.

  Ray itself would wait ten minutes for one that does not.
  """
  if address in (None, '', 'auto'):
    folder = os.environ.get('RAY_TMPDIR', '/tmp')
    try:  # What `ray start` leaves behind, and a crash does, too.
      with open(os.path.join(folder, 'ray', 'ray_current_cluster')) as file:
        running = file.read().strip()
    except OSError:
      running = ''
    if running and not _silence(running):
      return running
    if not address:
      return 'local'
    raise _no_cluster(address, 'none runs on this machine')
  if silence := _silence(address):
    raise _no_cluster(address, silence)
  return address


def _silence(address: str) -> str:
  """Returns why HOST:PORT does not answer; empty if it does, or is no such."""
  host, _, port = address.rpartition(':')
  if not host or '/' in host or not port.isdecimal():
    return ''
  try:
    socket.create_connection((host, int(port)), PATIENCE).close()
  except (OSError, OverflowError) as e:
    return getattr(e, 'strerror', None) or str(e)
  return ''


def _no_cluster(address: str, reason: str) -> errors.UsageError:
  return errors.UsageError(
    f'--ray_address={address}: there is no Ray cluster ({reason}); start one '
    'with "ray start --head", or take --ray_address=local.'
  )


def _environment() -> dict[str, str]:
  """Returns the variables that change what is computed, or what is found."""
  kinds = ('TF_', 'XLA_', 'KERAS_', 'TFDS_', 'PYTHONPATH')
  chosen = {k: v for k, v in os.environ.items() if k.startswith(kinds)}
  # Other tasks are no replicas of this one.
  return {**chosen, 'TF_CPP_MIN_LOG_LEVEL': '3', 'TF_CONFIG': ''}


def _check_resources(nodes, resources, fixed: bool) -> None:
  """Says what no node offers, and what is offered in vain.

  Raises:
    UsageError: it never will, since the cluster is `fixed`.
  """
  offers = [node['Resources'] for node in nodes if node['Alive']]
  for stage, amounts in resources.items():
    if not any(
      all(offer.get(name, 0) >= amount for name, amount in amounts.items())
      for offer in offers
    ):
      needs = ', '.join(f'{n}={a:g}' for n, a in amounts.items())
      text = f'no node of the cluster has {needs}, as stage {stage} asks for'
      if fixed:
        raise errors.UsageError(f'--resources: {text}.')
      progress.say(f'{text}: its units wait until one has joined')
  gpus = sum(offer.get('GPU', 0) for offer in offers)
  if gpus and not any('GPU' in amounts for amounts in resources.values()):
    progress.say(
      f'none of the {gpus:g} GPUs is used; '
      '--resources=model:GPU=1,rank:GPU=1,train:GPU=1 uses them'
    )


@functools.cache
def _remote(ends: bool):
  """Returns what Ray runs; one, since it queues tasks function by function.

  Args:
    ends: whether a process ends after every task.
  """
  import ray

  return ray.remote(max_calls=int(ends))(worker.work)


class _Board:
  """What tasks tell the driver as they begin; a Ray actor."""

  def __init__(self):
    self._begun = []

  def begin(self, stage: str, name: str) -> None:
    self._begun.append((stage, name))

  def take(self) -> list[tuple[str, str]]:
    begun, self._begun = self._begun, []
    return begun


class Cluster:
  """A Ray cluster that this process is connected to."""

  def __init__(
    self,
    place: worker.Place,
    resources: Mapping[str, Mapping[str, float]],
    retries: int,
  ):
    """See `connected`."""
    self._place = place
    self._resources = resources
    self.retries = retries
    self._board = None

  def watch(self) -> None:
    """Has tasks say when they begin; see `begun`."""
    import ray

    if self._board is None:
      # Beside this process, with which it may die.
      here = ray.get_runtime_context().get_node_id()
      strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
      self._board = (
        ray.remote(_Board)
        .options(num_cpus=0, scheduling_strategy=strategy(here, soft=True))
        .remote()
      )

  def begun(self) -> list[tuple[str, str]]:
    """Returns (stage, name) of the tasks that have begun since the last call.

    Those of a task that Ray began anew are there again.
    """
    import ray

    try:
      return ray.get(self._board.take.remote(), timeout=5.0)
    except ray.exceptions.RayError:  # It is dead, or late: a loss of news only.
      return []

  def devices(self) -> int:
    """Returns how many devices units share: accelerators, if some take any."""
    import ray

    names = {name for amounts in self._resources.values() for name in amounts}
    names = names - {'CPU', 'memory'} or {'CPU'}
    there = ray.cluster_resources()
    return max(1, int(sum(there.get(name, 0) for name in names)))

  def submit(self, task: worker.Task, light: bool):
    """Hands a task to Ray; returns the reference of its result.

    Args:
      task: the task.
      light: whether it takes a core only, whatever its stage takes.
    """
    needs = dict(_LIGHT if light else self._resources[task.stage])
    ends, fresh = False, {}
    if self.accelerates(task.stage) and not light:
      # A process keeps its devices until it ends, and one that has begun
      # without them never sees any.
      ends = True
      fresh = {'runtime_env': {'env_vars': {'ROAR_DEVICES': task.stage}}}
    options = {
      'num_cpus': needs.pop('CPU', 0),
      'num_gpus': needs.pop('GPU', 0),
      'memory': needs.pop('memory', None),
      'resources': needs,
      'name': task.name,
      'max_retries': self.retries,
      **fresh,
    }
    function = _remote(ends)
    return function.options(**options).remote(self._place, task, self._board)

  def accelerates(self, stage: str) -> bool:
    """Whether units of a stage take more than cores and memory."""
    amounts = self._resources[stage]
    return any(amounts[name] for name in amounts.keys() - {'CPU', 'memory'})

  def wait(self, references: Sequence, timeout: float) -> list:
    """Returns those whose tasks have ended, once there is one."""
    import ray

    if not ray.wait(references, timeout=timeout)[0]:
      return []
    every = len(references)
    return ray.wait(references, num_returns=every, timeout=0)[0]

  def cancel(self, reference) -> None:
    """Has a task save and end, or never begin."""
    import ray

    ray.cancel(reference)

  def result(self, reference, name: str) -> worker.Result:
    """Returns what a task returned, or what Ray says became of it.

    Args:
      reference: of a task that has ended.
      name: its name.
    """
    import ray

    try:
      return ray.get(reference)
    except ray.exceptions.TaskCancelledError:
      return worker.Result('stopped', f'{name}: cancelled.', again=True)
    except (
      ray.exceptions.RayTaskError,
      ray.exceptions.RuntimeEnvSetupError,
    ) as e:
      # Tasks do not raise: this node cannot do any.
      reason = str(e).strip().splitlines()[-1].rstrip('.')
      return worker.Result(
        'refused',
        f'a Ray worker cannot run roar_tf ({reason}): install the same roar_tf '
        'on every node.',
      )
    except ray.exceptions.RayError as e:
      reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
      return worker.Result(
        'died', f'{name}: its process or node died too often ({reason}).'
      )
