"""Connecting to a Ray cluster: its address, and what units take of it."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Hashable, Iterator, Sequence

from roar_tf import errors
from roar_tf.engine.ray_pool import RayPool, Rebuild, Resources

PATIENCE = 10.0
"""Seconds that a cluster has to answer."""


def parse_resources(
  values: Sequence[str], stages: Sequence[str], threads: int = 1
) -> dict[str, dict[str, float]]:
  """Returns what a unit of each stage takes, {stage: {'CPU': 1, ...}}.

  Args:
    values: words such as `train:GPU=1`, the values of a flag.
    stages: names of all stages.
    threads: cores that a unit takes if nothing else is said.

  Raises:
    UsageError: a word is not of that form.
  """
  resources = {stage: {'CPU': float(threads)} for stage in stages}
  for value in values:
    stage, _, rest = value.partition(':')
    name, _, text = rest.partition('=')
    try:
      amount = float(text)
    except ValueError:
      amount = -1.0
    # Ray shares out parts of one device, and whole ones.
    possible = 0 <= amount <= 1 or amount.is_integer()
    if stage not in resources or not name or amount < 0 or not possible:
      raise errors.UsageError(
        f'--resources={value} must be STAGE:NAME=AMOUNT, where a NAME is such '
        f'as GPU, with a stage of {", ".join(stages)} and an amount up to 1, '
        'or a whole one.'
      )
    resources[stage][name] = amount
  return resources


@contextlib.contextmanager
def connected(
  rebuild: Rebuild,
  argument: Hashable,
  resources: Resources,
  *,
  address: str | None = None,
  cores: int = 1,
  retries: int = 3,
  accelerated: Sequence[str] = (),
  say: Callable[[str], None] = print,
) -> Iterator[RayPool]:
  """Connects to a Ray cluster, or starts one on this machine alone.

  Args:
    rebuild: rebuilds the program in a worker process.
    argument: what it is given there.
    resources: what a unit of each stage takes.
    address: of the cluster; None for that of $RAY_ADDRESS, else the one that
      runs on this machine, else a new one. `local` for a new one in any case.
    cores: cores of a new one.
    retries: how often a unit begins again.
    accelerated: names of the stages that could use GPUs, for the hint that none
      is used.
    say: is told in a sentence what the user should know of the cluster.

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
    offers = [node['Resources'] for node in ray.nodes() if node['Alive']]
    _check_offers(offers, resources, address == 'local', accelerated, say)
    yield RayPool(rebuild, argument, resources, retries)
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
  """Returns the variables that change what is computed, or what is found.

  With those by which TensorFlow reaches object stores: credentials, proxies.
  """
  prefixes = (
    *('TF_', 'XLA_', 'KERAS_', 'TFDS_', 'PYTHONPATH'),
    *('GOOGLE_', 'CLOUDSDK_', 'GCE_', 'GCS_', 'NO_GCE_', 'CURL_', 'AWS_'),
    *('S3_', 'HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'),
  )
  chosen = {
    k: v for k, v in os.environ.items() if k.upper().startswith(prefixes)
  }
  # Other tasks are no replicas of this one.
  return {**chosen, 'TF_CPP_MIN_LOG_LEVEL': '3', 'TF_CONFIG': ''}


def _check_offers(offers, resources, is_fixed, accelerated, say) -> None:
  """Says what no node offers, and what is offered in vain.

  Raises:
    UsageError: none ever will, since the cluster is fixed.
  """
  for stage, amounts in resources.items():
    if not any(
      all(offer.get(name, 0) >= amount for name, amount in amounts.items())
      for offer in offers
    ):
      needs = ', '.join(f'{n}={a:g}' for n, a in amounts.items())
      text = f'no node of the cluster has {needs}, as stage {stage} asks for'
      if is_fixed:
        raise errors.UsageError(f'--resources: {text}.')
      say(f'{text}: its units wait until one has joined')
  gpus = sum(offer.get('GPU', 0) for offer in offers)
  is_used = any('GPU' in amounts for amounts in resources.values())
  if gpus and accelerated and not is_used:
    words = ','.join(f'{stage}:GPU=1' for stage in accelerated)
    say(f'none of the {gpus:g} GPUs is used; --resources={words} uses them')
