"""Published peaks of TPU chips, and topologies made of them."""

import dataclasses
import math
import re

from roar_tf import errors


@dataclasses.dataclass(frozen=True)
class Roofline:
  """The least time that a program takes on a chip.

  It keeps either the multipliers or the memory busy all the time; real programs
  take longer.

  Attributes:
    intensity: floating point operations per byte accessed.
    seconds: per call, at the chip's peaks.
    bound: what it waits for, `compute` or `memory`.
  """

  intensity: float
  seconds: float
  bound: str


@dataclasses.dataclass(frozen=True)
class Chip:
  """One kind of TPU chip.

  Attributes:
    name: as in the name of a topology.
    flops: peak floating point operations per second, bfloat16. Also of float32
      programs: at XLA's default precision a TPU rounds what it multiplies.
    hbm: bytes of high-bandwidth memory.
    usable: those of them that the compiler gives to programs.
    bandwidth: bytes of it per second.
    dimensions: of the torus that chips form.
    config: libtpu's configuration of the cores on a chip.
  """

  name: str
  flops: float
  hbm: int
  usable: int
  bandwidth: float
  dimensions: int
  config: str = 'default'

  def roofline(self, flops: float, bytes_accessed: float) -> Roofline:
    """Returns the roofline of so many operations and bytes."""
    compute, memory = flops / self.flops, bytes_accessed / self.bandwidth
    return Roofline(
      flops / max(1.0, bytes_accessed),
      max(compute, memory),
      'compute' if compute > memory else 'memory',
    )


def _gib(value: float) -> int:
  return int(value * 2**30)


# What programs may use is what libtpu 0.0.21 says of one that is too large,
# "Used 286.10G of 95.74G hbm"; a part of each chip's memory is reserved, and
# its v5p has 96 GiB where the page says 95.
CHIPS = {
  chip.name: chip
  for chip in (
    # https://cloud.google.com/tpu/docs/v4: 275 TFLOPS, 32 GiB, 1200 GBps. Two
    # cores, which TensorFlow sees as one device; libtpu's default as two.
    Chip('v4', 275e12, 32 << 30, _gib(30.75), 1200e9, 3, 'megacore'),
    # https://cloud.google.com/tpu/docs/v5e: 197 TFLOPS, 16 GB, 819 GBps.
    Chip('v5e', 197e12, 16 << 30, _gib(15.75), 819e9, 2),
    # https://cloud.google.com/tpu/docs/v5p: 459 TFLOPS, 95 GB, 2765 GBps.
    Chip('v5p', 459e12, 95 << 30, _gib(95.74), 2765e9, 3),
    # https://cloud.google.com/tpu/docs/v6e: 918 TFLOPS, 32 GB, 1638 GBps.
    Chip('v6e', 918e12, 32 << 30, _gib(31.25), 1638e9, 2),
  )
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Some chips, wired.

  Attributes:
    name: e.g. `v5e:2x2`.
    chip: their kind.
    shape: chips along each dimension.
  """

  name: str
  chip: Chip
  shape: tuple[int, ...]

  @property
  def chips(self) -> int:
    """How many chips there are."""
    return math.prod(self.shape)

  @property
  def options(self) -> dict:
    """What libtpu needs to be told beside the name."""
    options = {'chip_config_name': self.chip.config}
    if self.chips == 1:  # A host has 2x2 chips otherwise.
      options['chips_per_host_bounds'] = [1, 1, 1]
    return options


def topology(name: str) -> Topology:
  """Returns the topology of a name such as `v5e:2x2`.

  Raises:
    UsageError: the chip is unknown, or the shape is none of that chip.
  """
  match = re.fullmatch(r'(\w+):(\d+(?:x\d+)*)', name)
  chip = CHIPS.get(match[1]) if match else None
  shape = tuple(int(n) for n in match[2].split('x')) if match else ()
  if chip is None or len(shape) != chip.dimensions or 0 in shape:
    known = ', '.join(
      f'{c.name}:{"x".join(["2", "2", "1"][: c.dimensions])}'
      for c in CHIPS.values()
    )
    raise errors.UsageError(
      f'Unknown topology --topology={name}; known are {known} and other shapes '
      'of these chips.'
    )
  return Topology(name, chip, shape)
