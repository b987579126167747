"""The flags that binaries share; each defines those that it has a use for."""

import functools
import os
from collections.abc import Callable

from absl import flags

STRATEGIES = ('auto', 'one_device', 'mirrored', 'multi_worker', 'tpu')

FLAGS = flags.FlagValues()
"""The flags of a command. absl's own registry also has those of absl.app and
absl.logging, such as --only_check_args, which would be taken and do nothing."""

SECTIONS: dict[str, str] = {}
"""Titles of `--help`, by flag; a flag without one is the command's own."""

define_bool = functools.partial(flags.DEFINE_bool, flag_values=FLAGS)
define_enum = functools.partial(flags.DEFINE_enum, flag_values=FLAGS)
define_float = functools.partial(flags.DEFINE_float, flag_values=FLAGS)
define_integer = functools.partial(flags.DEFINE_integer, flag_values=FLAGS)
define_list = functools.partial(flags.DEFINE_list, flag_values=FLAGS)
define_multi_string = functools.partial(
  flags.DEFINE_multi_string, flag_values=FLAGS
)
define_string = functools.partial(flags.DEFINE_string, flag_values=FLAGS)


def _section(title: str) -> Callable[[Callable], Callable]:
  """Puts the flags that a function defines under a title of `--help`."""

  def decorate(define: Callable[[], None]) -> Callable[[], None]:
    @functools.wraps(define)
    def call() -> None:
      before = set(FLAGS)
      define()
      SECTIONS.update((name, title) for name in set(FLAGS) - before)

    return call

  return decorate


PLACE = 'Where and what'


@_section(PLACE)
def define_workspace_flag() -> None:
  """Defines the flag of binaries that write anything."""
  define_string(
    'workspace',
    os.environ.get('ROAR_WORKSPACE', './workspace'),
    'Directory or URL of all artefacts; default $ROAR_WORKSPACE.',
  )


@_section(PLACE)
def define_seed_flag() -> None:
  """Defines the flag of binaries in which something is random."""
  define_integer('seed', 0, 'Seed.', lower_bound=0)


def define_shared_flags() -> None:
  """Defines the flags of binaries that make artefacts of a source."""
  define_workspace_flag()
  _define_configuration_flags()
  define_seed_flag()
  _define_work_flags()


@_section(PLACE)
def _define_configuration_flags() -> None:
  """Defines the flags that say what is worked on."""
  define_string(
    'data_dir',
    os.environ.get('TFDS_DATA_DIR'),
    'Where TFDS finds datasets; default $TFDS_DATA_DIR.',
  )
  define_multi_string(
    'gin_file',
    [],
    'A gin file, yours or one of ours such as profiles/paper.gin; may be '
    'repeated.',
  )
  define_multi_string(
    'gin_bindings',
    [],
    'A gin binding, e.g. Training.epochs=8; may be repeated.',
  )
  define_string('dataset', None, 'Name or .gin file of a source.')


@_section('CPU')
def _define_work_flags() -> None:
  """Defines the flags that say how much of the CPU is used."""
  define_integer(
    'threads',
    1,
    'CPU threads inside one operation. Equal numbers give equal bytes.',
    lower_bound=1,
  )
  define_integer(
    'parallel',
    None,
    'Units of work that run side by side; changes no byte. By default one on a '
    'GPU or TPU, else one a CPU core.',
    lower_bound=1,
  )


@_section('Devices')
def define_device_flags() -> None:
  """Defines the flags of binaries that train or explain."""
  define_enum(
    'strategy',
    'auto',
    STRATEGIES,
    'Devices that share one training or one ranking; auto takes the TPU that '
    '--tpu names, the hosts of TF_CONFIG, all GPUs, or the one device there '
    'is.',
  )
  define_string('tpu', None, 'A TPU: "local" on a TPU VM, or the name of one.')


def define_model_flag() -> None:
  """Defines the flag of binaries that make single rankings and cells."""
  define_integer(
    'model',
    0,
    'Which of several explained models (Study.explained_models), from 0.',
    lower_bound=0,
  )


def define_price_flag() -> None:
  """Defines the flag of binaries that tell costs."""
  define_float(
    'price_per_hour',
    None,
    'Of one device, in any currency; with it costs are told in money, too.',
    lower_bound=0,
  )


@_section('Several workers')
def define_worker_flags() -> None:
  """Defines the flags of binaries whose units several workers may share."""
  define_integer('worker', 0, 'This worker, from 0.', lower_bound=0)
  define_integer('num_workers', 1, 'How many workers.', lower_bound=1)


@_section('A Ray cluster')
def define_cluster_flags() -> None:
  """Defines the flags of binaries that may hand their units to a cluster."""
  define_enum(
    'executor',
    'local',
    ('local', 'ray'),
    'Who makes the units of work: this process, or a Ray cluster.',
  )
  define_string(
    'ray_address',
    None,
    'A Ray cluster: "auto", HOST:PORT, or "local" for a new one of this '
    'machine alone; default $RAY_ADDRESS, else the one that "ray start" made '
    'here, else local.',
  )
  define_list(
    'resources',
    [],
    'What a unit takes of a Ray cluster, e.g. train:GPU=1,rank:TPU=4; a core '
    'per --threads unless train:CPU=8 says otherwise.',
  )
  define_integer(
    'retries',
    3,
    'How often a unit begins again on a Ray cluster after its node died or '
    'files could not be reached.',
    lower_bound=0,
  )
