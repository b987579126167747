"""The one environment in which the TPU compiler runs without a TPU.

Tried: tensorflow-tpu 2.20.0, libtpu 0.0.21, jax and jaxlib 0.7.1 together.
tensorflow-tpu lowers graphs through the TPU's own kernel registry; a CPU build
of TensorFlow lacks it. jaxlib has the compile-only client that feeds libtpu.
"""

import importlib.metadata
import os

from roar_tf import errors

PACKAGES = ('tensorflow-tpu', 'libtpu', 'jax', 'jaxlib', 'keras')
"""What figures depend on: compare them within one set of versions only."""

_SETTINGS = {
  # libtpu asks the metadata server of a TPU VM what machine this is, and waits
  # for minutes where there is no such server.
  'TPU_SKIP_MDS_QUERY': '1',
  # Not asked, it complains about every answer that it did not get.
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  # One process per machine may hold a TPU; to compile, as many as there are.
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TF_CPP_MIN_LOG_LEVEL': '3',
  'TPU_MIN_LOG_LEVEL': '3',
  # jax compiles, it shall look for no device.
  'JAX_PLATFORMS': 'cpu',
}


def prepare() -> None:
  """Sets what libtpu reads; to be called before TensorFlow is imported."""
  for name, value in _SETTINGS.items():
    os.environ.setdefault(name, value)


def check() -> None:
  """Raises UsageError if the compiler is not installed."""
  missing = [name for name, version in versions().items() if not version]
  if missing:
    raise errors.UsageError(
      f'the TPU compiler needs {", ".join(missing)}, not installed here: run '
      "`make preflight`, or `pip install 'roar_tf[preflight]'` into an "
      'environment of its own.'
    )


def versions() -> dict[str, str | None]:
  """Returns the installed version of each of `PACKAGES`, or None."""
  installed = {}
  for name in PACKAGES:
    try:
      installed[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      installed[name] = None
  return installed
