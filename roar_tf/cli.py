"""What all binaries share: flags, quiet start-up, signals, exit statuses.

Exit status: 0 all done; 1 some unit failed or data is damaged; 2 bad usage;
75 stopped by a signal after saving.
"""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

# Before TensorFlow is imported: its start-up lines are not for people.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from absl import app, flags  # noqa: E402
from absl import logging as absl_logging  # noqa: E402

from roar_tf import errors  # noqa: E402

FLAGS = flags.FLAGS
STRATEGIES = ('auto', 'one_device', 'mirrored', 'multi_worker', 'tpu')
# Flags defined here belong to the tool that asks for them, in its --help too.
flags.disclaim_key_flags()

_stop = threading.Event()


def define_shared_flags() -> None:
  """Defines the flags that every binary has."""
  flags.DEFINE_string(
    'workspace',
    os.environ.get('ROAR_WORKSPACE', './workspace'),
    'Directory or URL of all artefacts; default $ROAR_WORKSPACE.',
  )
  flags.DEFINE_string(
    'data_dir',
    os.environ.get('TFDS_DATA_DIR'),
    'Where TFDS finds datasets; default $TFDS_DATA_DIR.',
  )
  flags.DEFINE_multi_string(
    'gin_file',
    [],
    'A gin file, yours or one of ours such as profiles/paper.gin; may be '
    'repeated.',
  )
  flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    'A gin binding, e.g. Training.epochs=8; may be repeated.',
  )
  flags.DEFINE_string('dataset', None, 'Name or .gin file of a source.')
  flags.DEFINE_integer('seed', 0, 'Seed.', lower_bound=0)
  flags.DEFINE_integer(
    'threads',
    1,
    'CPU threads inside one operation. Equal numbers give equal bytes.',
    lower_bound=1,
  )
  flags.DEFINE_integer(
    'parallel',
    _cores(),
    'Units of work that run side by side; changes no byte.',
    lower_bound=1,
  )


def define_device_flags() -> None:
  """Defines the flags of binaries that train or explain."""
  flags.DEFINE_enum(
    'strategy',
    'auto',
    STRATEGIES,
    'Devices that share one training or one ranking; auto takes the TPU that '
    '--tpu names, the hosts of TF_CONFIG, all GPUs, or the one device there '
    'is.',
  )
  flags.DEFINE_string(
    'tpu', None, 'A TPU: "local" on a TPU VM, or the name of one.'
  )


def define_price_flag() -> None:
  """Defines the flag of binaries that tell costs."""
  flags.DEFINE_float(
    'price_per_hour',
    None,
    'Of one device, in any currency; with it costs are told in money, too.',
    lower_bound=0,
  )


def define_worker_flags() -> None:
  """Defines the flags of binaries whose units several workers may share."""
  flags.DEFINE_integer('worker', 0, 'This worker, from 0.', lower_bound=0)
  flags.DEFINE_integer('num_workers', 1, 'How many workers.', lower_bound=1)


def define_cluster_flags() -> None:
  """Defines the flags of binaries that may hand their units to a cluster."""
  flags.DEFINE_enum(
    'executor',
    'local',
    ('local', 'ray'),
    'Who makes the units of work: this process, or a Ray cluster.',
  )
  flags.DEFINE_string(
    'ray_address',
    None,
    'A Ray cluster: "auto", HOST:PORT, or "local" for a new one of this '
    'machine alone; default $RAY_ADDRESS, else the one that "ray start" made '
    'here, else local.',
  )
  flags.DEFINE_list(
    'resources',
    [],
    'What a unit takes of a Ray cluster, e.g. train:GPU=1,rank:TPU=4; a core '
    'per --threads unless train:CPU=8 says otherwise.',
  )
  flags.DEFINE_integer(
    'retries',
    3,
    'How often a unit begins again on a Ray cluster after its node died or '
    'files could not be reached.',
    lower_bound=0,
  )


@contextlib.contextmanager
def cluster(study: str | None = None, dataset: str | None = None):
  """Yields the function that executes units on the cluster of the flags.

  Raises:
    UsageError: there is no such cluster, or flags contradict each other.
  """
  from roar_tf import workspace
  from roar_tf.cluster import connection, driver, worker

  for name in ('worker', 'num_workers'):
    if FLAGS[name].value != FLAGS[name].default:
      raise errors.UsageError(
        f'--{name} goes with --executor=local: a Ray cluster shares out units '
        'itself.'
      )
  if FLAGS.strategy == 'multi_worker':
    raise errors.UsageError(
      '--strategy=multi_worker goes with --executor=local: on a Ray cluster a '
      'unit has one node.'
    )
  resources = connection.parse_resources(FLAGS.resources, FLAGS.threads)
  place = worker.Place(
    recipe(study, dataset),
    os.getcwd(),
    workspace.Workspace(FLAGS.workspace).identity(make=True),
  )
  with connection.connected(
    place,
    FLAGS.ray_address,
    resources,
    cores=FLAGS.parallel * FLAGS.threads,
    retries=FLAGS.retries,
  ) as connected:
    yield functools.partial(driver.execute, connected)


def execution() -> dict:
  """Returns how units are executed, as arguments of `pipeline.run`."""
  how = {'parallel': FLAGS.parallel, 'stop': _stop.is_set}
  if 'num_workers' not in FLAGS:
    return how
  if FLAGS.worker >= FLAGS.num_workers:
    raise errors.UsageError(
      f'--worker={FLAGS.worker} must be below --num_workers='
      f'{FLAGS.num_workers}.'
    )
  return {**how, 'worker': FLAGS.worker, 'num_workers': FLAGS.num_workers}


def require_flag(name: str) -> str:
  """Returns a flag's value; raises UsageError if it was not given."""
  value = FLAGS[name].value
  if value is None or value == []:
    raise errors.UsageError(f'--{name} is required; see --help.')
  return value


def contexts(
  study: str | None = None,
  dataset: str | None = None,
  seed: int | None = None,
  root: str = 'made',
):
  """Returns a Context per experiment that the flags ask for.

  Args:
    study: name or .gin file.
    dataset: likewise, of one source.
    seed: --seed if None.
    root: the workspace is to be `made`, if need be, and tried whether it can be
      written; `there` already, and stays as it is; or `anywhere`: nothing is
      asked of it.

  Raises:
    UsageError: something is unknown, or the workspace cannot be used.
  """
  made = recipe(study, dataset, seed).contexts(_stop.is_set)
  if root == 'there':
    made[0].workspace.check_there()
  elif root == 'made':
    made[0].workspace.make()
  return made


def recipe(study: str | None = None, dataset: str | None = None, seed=None):
  """Returns the Recipe of what the flags ask for."""
  from roar_tf.study.recipe import Recipe

  # Not every tool has these.
  names = ('strategy', 'tpu', 'price_per_hour')
  more = {name: FLAGS[name].value for name in names if name in FLAGS}
  return Recipe(
    FLAGS.workspace,
    study=study,
    dataset=dataset,
    gin_files=tuple(FLAGS.gin_file),
    gin_bindings=tuple(FLAGS.gin_bindings),
    seed=FLAGS.seed if seed is None else seed,
    data_dir=FLAGS.data_dir,
    threads=FLAGS.threads,
    **more,
  )


def run(main: Callable[[], None]) -> None:
  """Parses flags, runs `main` and exits with the status of its outcome."""
  sys.exit(_status(main))


def _status(main: Callable[[], None]) -> int:
  app.define_help_flags()
  try:
    try:
      rest = FLAGS(sys.argv)[1:]
    except SystemExit:  # absl has printed the --help, and would exit with 1.
      return 0
    if rest:
      raise errors.UsageError(
        f'Unexpected argument "{rest[0]}"; every option is a --flag=value.'
      )
    _prepare()
    main()
  except flags.Error as e:
    return _say(str(e), errors.UsageError.exit_status)
  except errors.RoarError as e:
    return _say(str(e), e.exit_status)
  except Exception as e:
    import tensorflow as tf

    from roar_tf import workspace

    if workspace.is_full(e):
      return _say(workspace.describe_full(e), 1)
    if isinstance(e, OSError | tf.errors.OpError):
      return _say(str(e).splitlines()[0], 1)
    raise
  return 0


def _say(message: str, status: int) -> int:
  name = os.path.basename(sys.argv[0]).removesuffix('.py')
  print(f'{name}: {message}', file=sys.stderr, flush=True)
  return status


def _cores() -> int:
  """Returns the number of CPU cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _interrupt(*_) -> None:
  """Ctrl-C: the first saves and stops, the second stops at once."""
  if _stop.is_set():
    os._exit(130)
  _stop.set()
  print(
    '\nstopping as soon as the work is saved; Ctrl-C again stops at once',
    file=sys.stderr,
  )


def _prepare() -> None:
  """Sets up signals, imports, logging and TensorFlow's threads."""
  # A gin `import` line finds the user's file where the command was called.
  if '' not in sys.path:
    sys.path.insert(0, '')
  signal.signal(signal.SIGTERM, lambda *_: _stop.set())
  signal.signal(signal.SIGINT, _interrupt)
  absl_logging.set_verbosity(absl_logging.ERROR)
  # gin tells the root logger about every place where a file is not.
  logging.getLogger().setLevel(logging.CRITICAL)
  log = logging.getLogger('roar_tf')
  log.setLevel(logging.INFO)
  log.propagate = False
  if sys.stderr.isatty():  # Progress bars say it.
    log.addHandler(logging.NullHandler())
  else:
    handler = logging.StreamHandler()
    handler.setFormatter(
      logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S')
    )
    log.addHandler(handler)
  with _silent():
    import tensorflow as tf

  tf.get_logger().setLevel('ERROR')
  tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)


@contextlib.contextmanager
def _silent():
  """Sends what C++ code writes to stderr to nowhere; errors still raise."""
  sys.stderr.flush()
  saved = os.dup(2)
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(saved, 2)
    os.close(saved)
    os.close(nowhere)
