"""What all binaries share: flags, quiet start-up, signals, exit statuses.

Exit status: 0 all done; 1 some unit failed or data is damaged; 2 bad usage;
75 stopped by a signal after saving.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable

# Before TensorFlow is imported: its start-up lines are not for people.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from absl import flags  # noqa: E402
from absl import logging as absl_logging  # noqa: E402

from roar_tf import cli_flags, cli_help, errors, lazy, silence  # noqa: E402

FLAGS = cli_flags.FLAGS
_stop = threading.Event()


def require_flag(name: str) -> str:
  """Returns a flag's value; raises UsageError if it was not given."""
  value = FLAGS[name].value
  if value is None or value == []:
    raise errors.UsageError(f'--{name} is required; see --help.')
  return value


def refuse(title: str, names: Iterable[str]) -> None:
  """Refuses flags that mean nothing beside others.

  Args:
    title: what is asked for, such as `--list`.
    names: of flags.

  Raises:
    UsageError: some have another value than their default.
  """
  given = [f'--{n}' for n in names if FLAGS[n].value != FLAGS[n].default]
  if given:
    it = 'them' if len(given) > 1 else 'it'
    raise errors.UsageError(
      f'{title} takes no {" and no ".join(given)}; leave {it} out.'
    )


def path(name: str) -> str | None:
  """Returns the path that a flag names, without `~`; None if it is not given.

  Raises:
    UsageError: it is none that roar_tf takes.
  """
  from roar_tf.engine import locations

  value = FLAGS[name].value
  return value and locations.located(value, f'--{name}')


def recipe(study: str | None = None, dataset: str | None = None, seed=None):
  """Returns the `Recipe` of what the flags ask for.

  Args:
    study: name or .gin file of a study.
    dataset: name or .gin file of one source.
    seed: --seed if None.
  """
  from roar_tf.engine import locations
  from roar_tf.study.experiment import Configuration
  from roar_tf.study.recipe import Recipe

  # Not every tool has these.
  names = ('strategy', 'tpu', 'price_per_hour')
  more = {name: FLAGS[name].value for name in names if name in FLAGS}
  return Recipe(
    path('workspace'),
    Configuration(
      study,
      dataset,
      tuple(locations.located(file, '--gin_file') for file in FLAGS.gin_file),
      tuple(FLAGS.gin_bindings),
      FLAGS.seed if seed is None else seed,
    ),
    data_dir=path('data_dir'),
    threads=FLAGS.threads,
    **more,
  )


def stages(dataset: str, study: str | None = None, seed=None):
  """Returns the `Stages` of one source; the workspace is made if need be.

  Args:
    dataset: name or .gin file of the source.
    study: name or .gin file of a study whose configuration it has.
    seed: --seed if None.

  Raises:
    UsageError: something is unknown, or the workspace cannot be written.
  """
  from roar_tf.study.stages import Stages

  (context,) = recipe(study, dataset, seed).contexts(_stop.is_set)
  _create(context)
  return Stages(context)


def pipeline(study: str, dataset: str | None = None, root: str = 'created'):
  """Returns the `Pipeline` of a study.

  Args:
    study: name or .gin file of the study.
    dataset: one of its sources; all if None.
    root: the workspace is to be `created`, if need be, and tried whether it can
      be written; `there` already, and stays as it is; or `anywhere`: nothing is
      asked of it.

  Raises:
    UsageError: something is unknown, or the workspace cannot be used.
  """
  from roar_tf.study.stages import Pipeline

  contexts = recipe(study, dataset).contexts(_stop.is_set)
  if root == 'there':
    contexts[0].workspace.check_there()
  elif root == 'created':
    _create(contexts[0])
    contexts[0].workspace.check_study(contexts[0].experiment.study.name)
  return Pipeline(contexts)


def _create(context) -> None:
  """Makes the workspace, and has the storage of the data answer, too."""
  from roar_tf.engine import locations

  _check_devices()
  context.workspace.create()
  say_workspace(context.workspace)
  if context.data_dir:
    locations.check_reachable(context.data_dir, '--data_dir')


def _check_devices() -> None:
  """Refuses flags of devices and workers that can never be."""
  if 'executor' in FLAGS and FLAGS.executor == 'ray':
    for name in ('worker', 'num_workers'):
      if FLAGS[name].value != FLAGS[name].default:
        raise errors.UsageError(
          f'--{name} goes with --executor=local: a Ray cluster shares out '
          'units itself.'
        )
    if FLAGS.strategy == 'multi_worker':
      raise errors.UsageError(
        '--strategy=multi_worker goes with --executor=local: on a Ray cluster '
        'a unit has one node.'
      )
  elif 'strategy' in FLAGS:
    from roar_tf.training import distribution

    distribution.check(FLAGS.strategy, FLAGS.tpu)


def say_workspace(workspace) -> None:
  """Prints where artefacts go: another directory has another ./workspace."""
  from roar_tf.engine import locations

  print(f'Workspace: {locations.whole(workspace.root)}', flush=True)


@contextlib.contextmanager
def workforce(heartbeat=None, pool=None):
  """Yields the `Workforce` of the flags, which shows bars meanwhile.

  Args:
    heartbeat: an observer that tells others what this process does, or None.
    pool: returns where units run, given a context; threads of this process if
      None.
  """
  from roar_tf.engine.progress import Bars
  from roar_tf.study.stages import Workforce, local_pool

  with Bars({'step_seconds': 'training steps'}, result='accuracy') as bars:
    yield Workforce(
      pool or functools.partial(local_pool, parallel=FLAGS.parallel),
      share(),
      [bars] if heartbeat is None else [bars, heartbeat],
      _stop.is_set,
    )


def share():
  """Returns the `Share` of the work that the flags give this process.

  Raises:
    UsageError: there is no such worker.
  """
  from roar_tf.engine import Share

  if 'num_workers' not in FLAGS:
    return Share()
  if FLAGS.worker >= FLAGS.num_workers:
    raise errors.UsageError(
      f'--worker={FLAGS.worker} must be below --num_workers='
      f'{FLAGS.num_workers}.'
    )
  return Share(FLAGS.worker, FLAGS.num_workers)


def stopping() -> bool:
  """Whether a signal asked to stop."""
  return _stop.is_set()


@contextlib.contextmanager
def cluster_pool(study_pipeline, asked):
  """Yields what returns the pool of a Ray cluster, as the flags name it.

  Args:
    study_pipeline: the study, for the names of its stages.
    asked: the study's `Recipe`.

  Raises:
    UsageError: flags contradict each other.
  """
  from roar_tf import engine
  from roar_tf.engine import progress, ray_connection
  from roar_tf.study import recipe as recipes

  resources = ray_connection.parse_resources(
    FLAGS.resources, study_pipeline.names, FLAGS.threads
  )
  with contextlib.ExitStack() as stack:

    def connected(context):
      identity = recipes.share_identity(context.workspace)
      return stack.enter_context(
        ray_connection.connected(
          recipes.rebuild,
          recipes.RemoteRecipe(
            asked,
            os.getcwd(),
            identity,
            study_pipeline.context.experiment.code,
          ),
          resources,
          address=FLAGS.ray_address,
          cores=(FLAGS.parallel or engine.cores()) * FLAGS.threads,
          retries=FLAGS.retries,
          accelerated=('model', 'rank', 'rerank', 'train'),
          say=progress.say,
        )
      )

    yield connected


@dataclasses.dataclass(frozen=True)
class Verb:
  """A command, as it is called and explained.

  Attributes:
    main: does it; it is given the words that are no flags.
    about: what `--help` begins with: a summary, examples.
    takes: names of the flags that mean something to it; None for all that are
      defined.
    words: what the words are that are no flags; empty if it takes none.
  """

  main: Callable[..., None]
  about: str = ''
  takes: Collection[str] | None = None
  words: str = ''

  @property
  def flags(self) -> list[str]:
    """The names of the flags that mean something to it, as they are defined."""
    return [name for name in FLAGS if self.takes is None or name in self.takes]

  def run(self) -> None:
    """Parses flags, does it, and exits with the status of its outcome."""
    out, err = map(_Stream, (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = _status(self)
      out.flush()
      err.flush()
    sys.exit(status)


def run(main: Callable[[], None], about: str = '') -> None:
  """Runs a command that takes all flags that are defined; see `Verb`."""
  Verb(main, about).run()


class _Stream:
  """Standard output or error, which no outcome of the work depends on.

  What its encoding lacks is written as escapes. When its reader has gone, as
  `head` does, what is still printed is lost.
  """

  def __init__(self, stream):
    # Python has none where the shell has closed it.
    self._stream = stream or open(os.devnull, 'w')  # noqa: SIM115
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')

  def __getattr__(self, name):
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """See `io.TextIOBase`."""
    try:
      return self._stream.write(text)
    except BrokenPipeError:
      self._give_up()
      return len(text)

  def flush(self) -> None:
    """See `io.TextIOBase`."""
    try:
      self._stream.flush()
    except BrokenPipeError:
      self._give_up()

  def _give_up(self) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, self._stream.fileno())
    os.close(nowhere)


def _status(verb: Verb) -> int:
  try:
    if text := _asked(verb):
      print(text)
      return 0
    FLAGS.set_gnu_getopt()  # Flags may follow words.
    words = FLAGS(sys.argv)[1:]
    if words and not verb.words:
      raise errors.UsageError(
        f'Unexpected argument "{words[0]}"; every option is a --flag=value.'
      )
    refuse('it', [name for name in FLAGS if name not in verb.flags])
    _prepare()
    verb.main(*words)
  except flags.UnrecognizedFlagError as e:
    close = errors.closest(e.flagname, verb.flags, 0.6)
    hint = f' Did you mean "--{close}"?' if close else ''
    return _say(
      f'--{e.flagname}: there is no such flag.{hint} See --help.',
      errors.UsageError.exit_status,
    )
  except flags.Error as e:
    return _say(str(e), errors.UsageError.exit_status)
  except errors.RoarError as e:
    return _say(str(e), e.exit_status)
  except Exception as e:
    from roar_tf.engine import files

    if files.is_full(e):
      return _say(files.describe_full(e), 1)
    if isinstance(e, files.storage_errors()):
      return _say(str(e).splitlines()[0], 1)
    raise
  return 0


def _name() -> str:
  """Returns what the command is called."""
  return os.path.basename(sys.argv[0]).removesuffix('.py')


def _say(message: str, status: int) -> int:
  print(f'{_name()}: {message}', file=sys.stderr, flush=True)
  return status


def _asked(verb: Verb) -> str:
  """Returns the help or the version if the command line asks for it."""
  for word in sys.argv[1:]:
    if word == '--':
      break
    name = word.lstrip('-') if word.startswith('-') else ''
    if name in cli_help.HELP:
      return cli_help.text(_name(), verb.about, verb.flags, verb.words)
    if name == 'helpxml':  # For programs, as in all commands of absl.
      FLAGS.write_help_in_xml_format(sys.stdout)
      return '\n'
    if name == 'version':
      return cli_help.versions()
  return ''


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
  flags.FLAGS.mark_as_parsed()  # Code of a user's own may define some.
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
  lazy.around_import('tensorflow', _around_tensorflow)


@contextlib.contextmanager
def _around_tensorflow():
  """Silences the import of TensorFlow, whenever it comes, and sets it up."""
  with silence.silent():
    yield
  import tensorflow as tf

  tf.get_logger().setLevel('ERROR')
  if 'threads' in FLAGS:
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
  if 'executor' in FLAGS and FLAGS.executor == 'ray':  # They are the workers'.
    tf.config.set_visible_devices([], 'GPU')
