"""Writes programs as portable StableHLO; `manifest` says what lies where.

Any TensorFlow can do that, of CPUs too, and no device is needed. `execute` runs
them where there is JAX and no TensorFlow.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

import roar_tf
from roar_tf import errors
from roar_tf.engine import files
from roar_tf.preflight import lowering
from roar_tf.preflight import manifest as manifests
from roar_tf.preflight.exportable import Exportable

MOST_EXPECTED = 2**18
"""Elements of all results of a program that are kept: every n-th if there are
more. All of the small ResNet's, 2 MB in float64."""


def write(
  folder: str,
  exportables: Iterable[Exportable],
  explains: Mapping[str, bool] | None = None,
  say: Callable[[str], None] = lambda text: None,
) -> manifests.Manifest:
  """Writes programs and their manifest; what was there is replaced.

  Args:
    folder: a local directory, made if need be.
    exportables: the programs.
    explains: see `Manifest`.
    say: told what is exported next.

  Raises:
    UsageError: the folder holds something else.
    UnitsFailedError: a function cannot be lowered.
  """
  _check(folder)
  with contextlib.suppress(FileNotFoundError):
    os.remove(os.path.join(folder, manifests.FILE))
  programs, failed = [], []
  for number, exportable in enumerate(exportables):
    say(exportable.name)
    try:
      programs.append(_written(folder, number, exportable))
    except lowering.LoweringError as e:
      failed.append(f'{exportable.name} ({e})')
  if failed:
    raise errors.UnitsFailedError(f'cannot be exported: {"; ".join(failed)}.')
  manifest = manifests.Manifest(
    lowering.STABLEHLO, _versions(), tuple(programs), dict(explains or {})
  )
  files.publish_json(
    os.path.join(folder, manifests.FILE), manifests.as_json(manifest)
  )
  return manifest


def _check(folder: str) -> None:
  if files.is_remote(folder):
    raise errors.UsageError(
      f'--export={folder}: give a local directory, and copy it.'
    )
  if os.path.exists(folder) and not os.path.isdir(folder):
    raise errors.UsageError(f'--export={folder} is a file; name a directory.')
  there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
  if there - {manifests.FILE, 'programs', 'examples'}:
    raise errors.UsageError(
      f'--export={folder} holds other files; name a new directory.'
    )


def _versions() -> dict[str, str | None]:
  return {
    'roar_tf': roar_tf.__version__,
    'tensorflow': tf.__version__,
    'keras': keras.__version__,
    'numpy': importlib.metadata.version('numpy'),
  }


def _written(
  folder: str, number: int, exportable: Exportable
) -> manifests.Program:
  """Writes one program, with its example if it has a tolerance."""
  function, specs = exportable.function.build(exportable.function.batch)
  # Traced once; TensorFlow runs it without XLA, and XLA lowers what it calls.
  call = tf.function(
    lambda *flat: function(*tf.nest.pack_sequence_as(specs, flat)),
    autograph=False,
  )
  flat = tf.nest.flatten(specs)
  results = call.get_concrete_function(*flat).structured_outputs
  compared = exportable.tolerance is not None
  with _exact_products() if compared else contextlib.nullcontext():
    artifact = lowering.portable(call, tuple(flat))
  name = f'{number:02}_{re.sub("[^a-z0-9]+", "_", exportable.name.lower())}'
  program = manifests.Program(
    name=exportable.name,
    file=f'programs/{name}.mlirbc',
    sha256=hashlib.sha256(artifact).hexdigest(),
    source=exportable.source,
    function=exportable.function.name,
    precision=exportable.precision,
    batch=exportable.function.batch,
    work=exportable.work,
    unit=exportable.unit,
    loops=exportable.function.loops,
    chips=exportable.chips,
    arguments=tuple(
      manifests.Array(*each, _range(*each, exportable.classes))
      for each in _described(('state', 'inputs'), specs)
    ),
    results=tuple(
      manifests.Array(*each) for each in _described(*_named(results))
    ),
  )
  files.publish(os.path.join(folder, program.file), artifact)
  if not compared:
    return program
  path = f'examples/{name}.npz'
  data, stride = _example(call, program)
  files.publish(os.path.join(folder, path), data)
  example = manifests.Example(path, stride, exportable.tolerance)
  return dataclasses.replace(program, example=example)


def _named(results):
  """Returns names for the results of a function, and the structures of each.

  A training step returns its state, and metrics.
  """
  if isinstance(results, tuple | list):
    return ('state', 'metrics'), results
  return ('outputs',), (results,)


def _described(names, structures) -> Iterator[tuple[str, tuple[int, ...], str]]:
  """Yields names, shapes and types, in the order of `tf.nest.flatten`."""
  for name, structure in zip(names, structures, strict=True):
    for path, spec in _paths(structure, (name,)):
      yield '/'.join(path), tuple(spec.shape), tf.as_dtype(spec.dtype).name


def _paths(structure, path: tuple[str, ...]):
  if isinstance(structure, Mapping):
    items = sorted(structure.items())
  elif isinstance(structure, tuple | list):
    items = enumerate(structure)
  else:
    yield path, structure
    return
  for key, value in items:
    yield from _paths(value, (*path, str(key)))


def _range(name: str, shape, dtype: str, classes: int) -> tuple[float, float]:
  """Returns a range in which the numbers of an argument make sense."""
  *_, last = name.split('/')
  state = manifests.STATE
  is_float = tf.as_dtype(dtype).is_floating
  if name.startswith(f'{state}velocity'):
    return -0.01, 0.01
  if name.startswith((f'{state}trainable', f'{state}moving')):
    if not is_float:
      return 0, 0
    if len(shape) < 2:  # Of batch norm; deviations and biases, too.
      return 0.5, 1.5
    bound = math.sqrt(6 / math.prod(shape[:-1]))  # He et al. 2015b.
    return -bound, bound
  if last == 'step':
    return 100, 100  # At 0 the rate would be 0.
  if last in ('label', 'targets'):
    return 0, classes
  if last in ('key', 'keys'):
    return 0, 2**31
  if last == 'truth':
    return 0, 2
  if dtype == 'uint8':
    return 0, 256
  if last == 'baseline':
    return -2, -2
  return (-2, 2) if is_float else (0, 0)


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
  """Makes programs ask for float32 products wherever they will run.

  GPUs and TPUs round what they multiply to fewer bits unless they are asked.
  """
  config = tf.config.experimental
  before = config.tensor_float_32_execution_enabled()
  config.enable_tensor_float_32_execution(False)
  try:
    yield
  finally:
    config.enable_tensor_float_32_execution(before)


def _example(call: Callable, program: manifests.Program) -> tuple[bytes, int]:
  """Returns the npz of a program, and its stride."""
  values = manifests.draw(program.arguments)
  results = [
    np.asarray(each)
    for each in tf.nest.flatten(call(*map(tf.constant, values)))
  ]
  size = sum(each.size for each in results)
  stride = -(-size // MOST_EXPECTED)
  arrays = {
    argument.name: value
    for argument, value in zip(program.arguments, values, strict=True)
    if not argument.name.startswith(manifests.STATE)
  }
  for result, value in zip(program.results, results, strict=True):
    arrays[f'expected/{result.name}'] = manifests.sampled(value, stride)
  arrays['norms'] = np.array(list(map(manifests.norm, results)))
  data = io.BytesIO()
  np.savez_compressed(data, **arrays)
  return data.getvalue(), stride
