"""Datasets: what a source is, the builders of our own, and how TFDS is read.

Importing this package registers the builders `roar_<source>` with TFDS, see
`roar_tf.datasets.registration`: at once if TFDS is there already, as it is in
`tfds build`, or else when somebody imports it.
"""

import contextlib
import importlib

from roar_tf import lazy


@contextlib.contextmanager
def _registering():
  """Registers the builders after TFDS was imported."""
  yield
  importlib.import_module('roar_tf.datasets.registration')


lazy.around_import('tensorflow_datasets', _registering)
