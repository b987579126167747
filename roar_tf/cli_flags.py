"""The flags that binaries share; each defines those that it has a use for."""

import os

from absl import flags

STRATEGIES = ('auto', 'one_device', 'mirrored', 'multi_worker', 'tpu')
# Flags defined here belong to the tool that asks for them, in its --help too.
flags.disclaim_key_flags()


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
    None,
    'Units of work that run side by side; changes no byte. By default one on a '
    'GPU or TPU, else one a CPU core.',
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


def define_model_flag() -> None:
  """Defines the flag of binaries that make single rankings and cells."""
  flags.DEFINE_integer(
    'model',
    0,
    'Which of several explained models (Study.explained_models), from 0.',
    lower_bound=0,
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
