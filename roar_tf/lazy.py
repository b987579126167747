"""TensorFlow, Keras and TFDS, imported when they are first used.

Importing them takes seconds, and TensorFlow may not be installed at all, so
every module of roar_tf takes them from here:

    from roar_tf.lazy import keras, tf

A function that uses `tf` then imports it when it is called. What Python
evaluates while a module is imported must leave them alone: modules begin with
`from __future__ import annotations`, and decorate with `lazy.function` where
others write `@tf.function`. Modules that cannot, because they define a class of
Keras' or TFDS', are imported inside the functions that need them.
"""

import functools
import importlib
import sys
import threading
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from roar_tf import errors

_importing = threading.RLock()
_LIBRARIES = ('tensorflow', 'keras', 'tensorflow_datasets')


class _LazyModule(types.ModuleType):
  """A module that is imported when something in it is asked for."""

  def __getattr__(self, name: str):
    value = getattr(_imported(self.__name__), name)
    setattr(self, name, value)  # Python then finds it without this function.
    return value


def _imported(name: str) -> types.ModuleType:
  """Imports one of the libraries; TensorFlow, which all of them need, first."""
  try:
    with _importing:
      importlib.import_module('tensorflow')
      module = importlib.import_module(name)
      if name == 'tensorflow_datasets':
        # Its parts are imported when they are asked for, behind locks of their
        # own: two threads that asked at once would wait for each other.
        importlib.import_module('tensorflow_datasets.core')
  except (ImportError, ValueError) as e:
    _check_backend()  # One that is not installed: Keras fails to load it.
    if getattr(e, 'name', None) not in _LIBRARIES:
      raise  # One of their own dependencies is missing.
    raise errors.MissingTensorFlowError(
      'roar_tf needs TensorFlow 2.20 or later, which comes with an extra: '
      'install roar_tf[cpu], roar_tf[cuda] or roar_tf[tpu].'
    ) from e
  if name == 'keras':
    _check_backend()
  return module


def _check_backend() -> None:
  """Raises UsageError if Keras has loaded, or tried, another backend."""
  # There even if Keras could not be imported.
  config = sys.modules.get('keras.src.backend.config')
  backend = config.backend() if config else 'tensorflow'
  if backend != 'tensorflow':
    raise errors.UsageError(
      f'Keras is set to the backend "{backend}", and roar_tf needs TensorFlow: '
      'set the environment variable KERAS_BACKEND=tensorflow, which goes '
      'before "backend" in ~/.keras/keras.json.'
    )


if TYPE_CHECKING:
  import keras
  import tensorflow as tf
  import tensorflow_datasets as tfds
else:
  keras, tf, tfds = map(
    _LazyModule, ('keras', 'tensorflow', 'tensorflow_datasets')
  )


def function(python_function: Callable | None = None, **options) -> Callable:
  """Decorates as `tf.function` does, but compiles when it is first called.

  Args:
    python_function: what is compiled; it stays an attribute of the outcome.
    **options: of `tf.function`.
  """
  if python_function is None:
    return functools.partial(function, **options)

  @functools.cache
  def compiled():
    return unwarned(tf.function(python_function, **options))

  @functools.wraps(python_function)
  def call(*args, **kwargs):
    return compiled()(*args, **kwargs)

  call.python_function = python_function
  return call


def unwarned(compiled):
  """Returns a `tf.function` that does not warn of being traced again.

  Ours are, on purpose: once per shape, per model and per set of estimators.
  TensorFlow counts them together, and in notebooks it soon warned of loops.
  """
  compiled._omit_frequent_tracing_warning = True
  return compiled


def around_import(
  name: str, context: Callable[[], AbstractContextManager]
) -> None:
  """Enters a context around the import of a module, whoever imports it.

  If the module is there already, the context is entered and left at once.

  Args:
    name: of a module that is in no package.
    context: makes the context; what follows its `yield` finds the module ready.
  """
  if name in sys.modules:
    with context():
      return
  sys.meta_path.insert(0, _Importer(name, context))


class _Importer:
  """Finds one module where later finders do, and surrounds its execution."""

  def __init__(self, name: str, context):
    self._name = name
    self._context = context

  def find_spec(self, name, path=None, target=None):
    """Returns the module's spec; called by Python for whatever is imported."""
    if name != self._name:
      return None
    others = sys.meta_path[sys.meta_path.index(self) + 1 :]
    specs = (finder.find_spec(name, path, target) for finder in others)
    spec = next(filter(None, specs), None)
    if spec is not None:
      spec.loader.exec_module = functools.partial(
        self._execute, spec.loader.exec_module
      )
    return spec

  def _execute(self, execute, module):
    with self._context():
      execute(module)
    if self in sys.meta_path:
      sys.meta_path.remove(self)
