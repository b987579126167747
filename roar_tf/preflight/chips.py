"""Published peaks of chips, and topologies made of TPUs."""

import dataclasses
import math
import re
from collections.abc import Mapping

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
class Peaks:
  """What a chip can do at most.

  Attributes:
    flops: floating point operations per second, by the precision of a program.
    bandwidth: bytes of memory per second.
  """

  flops: Mapping[str, float]
  bandwidth: float


def _gpu(bfloat16: float, float32: float, float64: float, bandwidth: float):
  """Returns the peaks of a GPU, from TFLOP/s and GB/s."""
  flops = {'bfloat16': bfloat16, 'float32': float32, 'float64': float64}
  return Peaks({n: v * 1e12 for n, v in flops.items()}, bandwidth * 1e9)


# Dense, of the tensor cores if they take a type: data sheets mark twice as much
# as "with sparsity". float32 programs multiply TF32 there by default.
_GPUS = (
  # https://www.nvidia.com/en-us/data-center/h200/
  ('H200', _gpu(989, 494, 67, 4800)),
  # https://www.nvidia.com/en-us/data-center/h100/: SXM; NVL; and, from the data
  # sheet of 2022, PCIe.
  ('H100 NVL', _gpu(835, 417, 60, 3900)),
  ('H100 PCIe', _gpu(756, 378, 51, 2000)),
  ('H100', _gpu(989, 494, 67, 3350)),
  # https://www.nvidia.com/en-us/data-center/a100/: 40 GB, and 80 GB of SXM and
  # PCIe.
  ('A100-SXM4-80GB', _gpu(312, 156, 19.5, 2039)),
  ('A100 80GB PCIe', _gpu(312, 156, 19.5, 1935)),
  ('A100', _gpu(312, 156, 19.5, 1555)),
  # https://www.nvidia.com/en-us/data-center/l4/; float64 is a 64th of the 30.3
  # TFLOP/s of its float32 cores.
  ('L4', _gpu(121, 60, 0.47, 300)),
  # https://www.nvidia.com/en-us/data-center/tesla-t4/: its tensor cores know
  # neither bfloat16 nor TF32, so both are computed in float32. float64 is a
  # 32nd of that.
  ('T4', _gpu(8.1, 8.1, 0.25, 320)),
)
"""By words of the names that drivers give them; the first that fits counts."""

_TPUS = {
  'TPU v4': 'v4',
  'TPU v5 lite': 'v5e',
  'TPU v5e': 'v5e',
  'TPU v5': 'v5p',
  'TPU v5p': 'v5p',
  'TPU v6 lite': 'v6e',
  'TPU v6e': 'v6e',
}
"""JAX's names of the chips above."""


def peaks(device_kind: str) -> Peaks | None:
  """Returns the peaks of a device by JAX's name of it; None if unknown.

  Those of a TPU have no float64, which it has to make of many operations.
  """
  if device_kind in _TPUS:
    chip = CHIPS[_TPUS[device_kind]]
    flops = dict.fromkeys(('bfloat16', 'float32'), chip.flops)
    return Peaks(flops, chip.bandwidth)
  words = device_kind.replace('-', ' ').split()
  for name, found in _GPUS:
    if set(name.replace('-', ' ').split()) <= set(words):
      return found
  return None


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
