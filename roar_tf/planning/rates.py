"""How fast a machine works on a source; measured, or from roar_preflight."""

import dataclasses
import json
import math
from collections.abc import Mapping

from roar_tf import errors, workspace

FORMAT = 'roar_tf rates 1'


@dataclasses.dataclass(frozen=True)
class Rates:
  """Seconds of the work on one source.

  All but `once` are seconds of one unit of work, while as many run side by side
  as on the machine that the rates are of.

  Attributes:
    step: of one training step of a retrained model.
    explained_step: of the explained model, which is trained alone.
    test_image: to classify one image.
    gradient: of one gradient evaluation.
    run: of a training beside steps, images and evaluation.
    read: to make one image of `original`.
    ranked: to rank one image for one estimator, and to write that.
    masked: to write one masked image.
    loaded: to load one image of a cell.
    dataset: to complete one dataset.
    once: by stage, what a process spends only once, on compiling for example.
  """

  step: float
  explained_step: float
  test_image: float
  gradient: float
  run: float = 0.0
  read: float = 0.0
  ranked: float = 0.0
  masked: float = 0.0
  loaded: float = 0.0
  dataset: float = 0.0
  once: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Machine:
  """What rates are of.

  Attributes:
    text: a phrase for people.
    devices: how many share every training.
    parallel: units that run side by side.
    lower_bound: whether nothing can be faster, and everything is slower.
    start: seconds before the first stage.
    report: seconds of the report.
  """

  text: str
  devices: int = 1
  parallel: int = 1
  lower_bound: bool = False
  start: float = 0.0
  report: float = 0.0


def as_json(machine: Machine, rates: Mapping[str, Rates]) -> dict:
  """Returns what `read` reads."""
  return {
    'format': FORMAT,
    'machine': dataclasses.asdict(machine),
    'sources': {
      name: dataclasses.asdict(value) for name, value in rates.items()
    },
  }


def read(path: str, sources) -> tuple[Machine, dict[str, Rates]]:
  """Returns the machine of a file, and the rates of some sources.

  Raises:
    UsageError: there is no such file, it holds something else, or it lacks one
      of the sources.
  """
  import tensorflow as tf

  if not tf.io.gfile.exists(path):
    raise errors.UsageError(
      f'--rates={path}: there is no such file; roar_preflight --rates=FILE '
      'writes one, and without --rates they are measured here.'
    )
  try:
    value = json.loads(workspace.read_bytes(path))
    if value['format'] != FORMAT:
      raise ValueError(f'its format is {value["format"]!r}')
    machine = Machine(**value['machine'])
    found = {name: Rates(**v) for name, v in value['sources'].items()}
    for each in found.values():
      _check(each)
  except (ValueError, KeyError, TypeError, AttributeError) as e:
    raise errors.UsageError(
      f'--rates={path} does not hold rates as roar_preflight --rates=FILE '
      f'writes them ({e}).'
    ) from e
  for name in sources:
    if name not in found:
      raise errors.UsageError(
        f'--rates={path} has no rates of {name}, only of {", ".join(found)}; '
        'run roar_preflight for this study.'
      )
  return machine, found


def _check(rates: Rates) -> None:
  values = dataclasses.asdict(rates)
  values |= {f'once {k}': v for k, v in values.pop('once').items()}
  for name, value in values.items():
    if not (isinstance(value, int | float) and 0 <= value < math.inf):
      raise ValueError(f'{name} is {value!r}')
