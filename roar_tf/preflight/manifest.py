"""What an export holds: the files between `--export` and `execute`.

`roar_preflight --export=DIR` writes them, and `roar_tf.preflight.execute` reads
them, which knows NumPy and JAX only:

    manifest.json     `Manifest`, written last
    programs/*.mlirbc portable StableHLO artifacts
    examples/*.npz    for small programs: inputs, and samples of what TensorFlow
                      returns

Weights are not carried. Every argument has a range, and `draw` makes the same
numbers of it everywhere.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence

import numpy as np

from roar_tf import errors

FORMAT = 'roar_tf export 1'
FILE = 'manifest.json'
STATE = 'state/'
"""What names of arguments begin with that programs may return anew."""


@dataclasses.dataclass(frozen=True)
class Array:
  """An argument or a result of a program.

  Attributes:
    name: its place in the structure that the function takes or returns, e.g.
      `state/trainable/0`.
    shape: all of it is static.
    dtype: NumPy's name.
    range: of an argument: its values are uniform from the first number up to,
      not including, the second, or equal to both. None of a result.
  """

  name: str
  shape: tuple[int, ...]
  dtype: str
  range: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Example:
  """Inputs, and what TensorFlow returns for them.

  Attributes:
    file: npz with inputs by the names of arguments; `expected/<result>`, every
      `stride`-th element of it; and `norms`, the root mean squares of all
      results.
    stride: 1 where all elements are there.
    tolerance: how far a result may be away from TensorFlow's, over its largest
      element.
  """

  file: str
  stride: int
  tolerance: float


@dataclasses.dataclass(frozen=True)
class Program:
  """One program and what is known of it.

  Attributes:
    name: unique in its export, together with the batch.
    file: the artifact, relative to the export.
    sha256: of the artifact.
    source: the dataset whose images it is made for; empty for none.
    function: what it computes; see `device_function.DeviceFunction`.
    precision: what its model computes in.
    batch: images, or rows of gradients, in its arguments.
    work: how many images, or gradients, one call computes.
    unit: `images` or `gradients`.
    loops: whether it holds loops, whose bodies a compiler counts once.
    chips: how many share the batch of the experiment; this is one's part.
    arguments: in their order.
    results: in their order. One that is called like an argument takes its place
      in the next call.
    example: None for programs that are only timed.
  """

  name: str
  file: str
  sha256: str
  source: str
  function: str
  precision: str
  batch: int
  work: int
  unit: str
  loops: bool
  chips: int
  arguments: tuple[Array, ...]
  results: tuple[Array, ...]
  example: Example | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
  """An export.

  Attributes:
    stablehlo: version of the artifacts; later ones read them, too.
    versions: of the packages that made them.
    programs: in the order in which they should run.
    explains: by the name of each source of an experiment, whether it needs
      gradients; empty unless a study or a dataset was exported.
  """

  stablehlo: str
  versions: dict[str, str | None]
  programs: tuple[Program, ...]
  explains: dict[str, bool]


def as_json(manifest: Manifest) -> dict:
  """Returns what `read` reads."""
  return {'format': FORMAT, **dataclasses.asdict(manifest)}


def read(folder: str) -> Manifest:
  """Returns the manifest of an export.

  Raises:
    UsageError: the folder is none, or of another version of roar_tf.
  """
  path = os.path.join(folder, FILE)
  try:
    with open(path, 'rb') as file:
      value = json.load(file)
  except (FileNotFoundError, NotADirectoryError):
    raise errors.UsageError(
      f'{folder} is no export: there is no {path}; '
      '`roar_preflight --export=DIR` writes one.'
    ) from None
  except (OSError, *errors.MALFORMED) as e:
    raise errors.UsageError(f'{path} cannot be read: {e}') from e
  try:
    if value['format'] != FORMAT:
      raise ValueError(f'its format is {value["format"]!r}')
    programs = tuple(map(_program, value['programs']))
    return _of_fields(Manifest, value, programs=programs)
  except errors.MALFORMED as e:
    raise errors.UsageError(
      f'{path} is not what `roar_preflight --export=DIR` writes ({e}): export '
      'again with this version of roar_tf.'
    ) from e


def _program(value: dict) -> Program:
  example = value['example']
  return _of_fields(
    Program,
    value,
    arguments=tuple(map(_array, value['arguments'])),
    results=tuple(map(_array, value['results'])),
    example=example and _of_fields(Example, example),
  )


def _array(value: dict) -> Array:
  low_high = value['range']
  return _of_fields(
    Array,
    value,
    shape=tuple(value['shape']),
    range=None if low_high is None else tuple(low_high),
  )


def _of_fields(cls: type, value: dict, **others):
  """Returns a dataclass of what a file holds."""
  names = (field.name for field in dataclasses.fields(cls))
  return cls(**{n: others[n] if n in others else value[n] for n in names})


def artifact(folder: str, program: Program) -> bytes:
  """Returns the bytes of a program.

  Raises:
    DataError: they are not those that were written, or not there.
  """
  path = os.path.join(folder, program.file)
  try:
    with open(path, 'rb') as file:
      data = file.read()
  except OSError as e:
    raise errors.DataError(f'{path} cannot be read: {e.strerror}.') from e
  if hashlib.sha256(data).hexdigest() != program.sha256:
    raise errors.DataError(f'{path} is damaged; export again.')
  return data


def example(folder: str, program: Program) -> dict[str, np.ndarray]:
  """Returns what the npz of a program holds.

  Raises:
    DataError: it is damaged, or not there.
  """
  path = os.path.join(folder, program.example.file)
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return dict(arrays)
  except Exception as e:  # Of zipfile, zlib and NumPy, which name no base.
    raise errors.DataError(
      f'{path} is damaged or missing ({type(e).__name__}: {e}); export again.'
    ) from e


def draw(arguments: Sequence[Array]) -> list[np.ndarray]:
  """Returns values of arguments, the same wherever they are drawn.

  They are made of the bits of PCG64, which NumPy keeps for ever; what it makes
  of those bits may change.
  """
  return [_drawn(a, np.random.PCG64(i)) for i, a in enumerate(arguments)]


def _drawn(argument: Array, bits: np.random.PCG64) -> np.ndarray:
  (low, high), shape = argument.range, argument.shape
  if low == high:
    return np.full(shape, low, argument.dtype)
  raw = bits.random_raw(int(np.prod(shape))).reshape(shape)
  values = low + (high - low) * ((raw >> np.uint64(11)) * 2.0**-53)
  return values.astype(argument.dtype)


def sampled(values: np.ndarray, stride: int) -> np.ndarray:
  """Returns every `stride`-th element, the first one included."""
  return np.ravel(values)[::stride]


def norm(values: np.ndarray) -> float:
  """Returns the root mean square of all elements."""
  wide = np.ravel(values).astype(np.float64)
  return float(np.sqrt(np.mean(np.square(wide)))) if wide.size else 0.0
