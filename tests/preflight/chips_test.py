"""Tests of roar_tf.preflight.chips."""

import pytest

from roar_tf import errors
from roar_tf.preflight import chips


@pytest.mark.parametrize(
  'name, count',
  [('v4:2x2x1', 4), ('v5e:2x2', 4), ('v5e:1x1', 1), ('v5p:2x2x4', 16)],
)
def test_a_name_gives_its_chips(name, count):
  topology = chips.topology(name)
  assert topology.chips == count
  assert topology.chip.name == name.split(':')[0]


@pytest.mark.parametrize(
  'name', ['v9:2x2', 'v5e', 'v5e:2x2x1', 'v4:2x2', 'v6e:0x2', 'v5e:2xy', '']
)
def test_what_is_no_topology_is_refused_with_those_that_are(name):
  with pytest.raises(errors.UsageError) as refusal:
    chips.topology(name)
  message = str(refusal.value)
  assert f'--topology={name}' in message and '\n' not in message
  for known in ('v4:2x2x1', 'v5e:2x2', 'v5p:2x2x1', 'v6e:2x2'):
    assert known in message


def test_programs_get_nearly_all_memory_of_a_chip():
  for chip in chips.CHIPS.values():
    # The v5p of libtpu has more than the published 95 GiB.
    assert 0.95 * chip.hbm < chip.usable < 1.01 * chip.hbm


@pytest.mark.parametrize(
  'flops, bytes_accessed, seconds, bound',
  [
    (1000, 10, 10, 'compute'),
    (1000, 200, 20, 'memory'),
    (0, 50, 5, 'memory'),
    (0, 0, 0, 'memory'),
  ],
)
def test_a_roofline_is_the_slower_of_both(
  flops, bytes_accessed, seconds, bound
):
  chip = chips.Chip('toy', 100.0, 1000, 900, 10.0, 2)
  roofline = chip.roofline(flops, bytes_accessed)
  assert (roofline.seconds, roofline.bound) == (seconds, bound)
  assert roofline.intensity == pytest.approx(flops / max(1, bytes_accessed))


@pytest.mark.parametrize(
  'kind, flops, bandwidth',
  [
    # What JAX calls them.
    ('NVIDIA H200', 989e12, 4800e9),
    ('NVIDIA H100 80GB HBM3', 989e12, 3350e9),
    ('NVIDIA H100 PCIe', 756e12, 2000e9),
    ('NVIDIA A100-SXM4-40GB', 312e12, 1555e9),
    ('NVIDIA A100-SXM4-80GB', 312e12, 2039e9),
    ('NVIDIA A100 80GB PCIe', 312e12, 1935e9),
    ('NVIDIA L4', 121e12, 300e9),
    ('Tesla T4', 8.1e12, 320e9),
    ('TPU v5 lite', 197e12, 819e9),
    ('TPU v5p', 459e12, 2765e9),
  ],
)
def test_devices_are_known_by_the_names_that_jax_gives_them(
  kind, flops, bandwidth
):
  peaks = chips.peaks(kind)
  assert peaks.flops['bfloat16'] == pytest.approx(flops)
  assert peaks.bandwidth == pytest.approx(bandwidth)


@pytest.mark.parametrize('kind', ['cpu', 'NVIDIA L40S', 'NVIDIA GeForce 4090'])
def test_no_peak_is_invented(kind):
  assert chips.peaks(kind) is None
