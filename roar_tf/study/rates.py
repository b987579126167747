"""How fast a machine works on a source: the file between two tools.

`roar_preflight --rates=FILE` writes it, and `roar_study --dry_run --rates=FILE`
reads it to tell how long a study takes on that machine.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping

from roar_tf import errors
from roar_tf.engine import files, locations

FORMAT = 'roar_tf rates 1'


@dataclasses.dataclass(frozen=True)
class Rates:
  """Seconds of the work on one source, shared by all devices of a machine.

  Attributes:
    step: of one training step of a retrained model.
    explained_step: of one training step of the explained model.
    test_image: to classify one image.
    gradient: of one gradient evaluation.
  """

  step: float
  explained_step: float
  test_image: float
  gradient: float

  def __post_init__(self):
    """Raises ValueError for what cannot be seconds."""
    for name, value in dataclasses.asdict(self).items():
      if not (type(value) in (int, float) and 0 <= value < 1e100):
        raise ValueError(f'{name} is {value!r:.60}')


@dataclasses.dataclass(frozen=True)
class Machine:
  """What the rates are of.

  Attributes:
    text: a phrase for people.
    devices: how many share every training and every ranking.
    lower_bound: whether nothing can be faster, and everything is slower.
  """

  text: str
  devices: int
  lower_bound: bool

  def __post_init__(self):
    """Raises ValueError for what cannot be said of a machine."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if type(value) is not field.type:
        raise ValueError(f'{field.name} is {value!r:.60}')
    if not 1 <= self.devices < 1 << 31:
      raise ValueError(f'devices is {self.devices!r:.60}')


def as_json(machine: Machine, rates: Mapping[str, Rates]) -> dict:
  """Returns what `read` reads, from the rates by the names of sources."""
  return {
    'format': FORMAT,
    'machine': dataclasses.asdict(machine),
    'sources': {
      name: dataclasses.asdict(value) for name, value in rates.items()
    },
  }


def read(
  path: str, sources: Collection[str]
) -> tuple[Machine, dict[str, Rates]]:
  """Returns the machine of a file, and its rates by the names of sources.

  Raises:
    UsageError: there is no such file, it holds something else, or it lacks one
      of the sources.
  """
  path = locations.located(path, '--rates')
  locations.check_reachable(path, '--rates')
  if not files.exists(path):
    raise errors.UsageError(
      f'--rates={path}: there is no such file; roar_preflight --rates=FILE '
      'writes one.'
    )
  try:
    value = json.loads(files.read(path))
    if value['format'] != FORMAT:
      raise ValueError(f'its format is {value["format"]!r}')
    machine = _of_fields(Machine, value['machine'])
    rates = {
      name: _of_fields(Rates, seconds)
      for name, seconds in value['sources'].items()
    }
  except errors.MALFORMED as e:
    raise errors.UsageError(
      f'--rates={path} does not hold rates as roar_preflight --rates=FILE '
      f'writes them ({e}).'
    ) from e
  for name in sources:
    if name not in rates:
      raise errors.UsageError(
        f'--rates={path} has no rates of {name}, only of {", ".join(rates)}; '
        'run roar_preflight for this study.'
      )
  return machine, rates


def _of_fields(cls: type, values: Mapping):
  """Returns a dataclass of what a file holds; older files hold more."""
  return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})
