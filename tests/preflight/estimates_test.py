"""Tests of roar_tf.preflight.estimates."""

import pytest

from roar_tf.planning.amounts import Amount
from roar_tf.preflight import chips, compiling, estimates

CHIP = chips.Chip('toy', 100.0, 1000, 900, 10.0, 2)


def program(flops, bytes_accessed):
  return compiling.Program(flops, bytes_accessed, 0, 0, 0, 0)


@pytest.mark.parametrize(
  'flops, bytes_accessed, seconds, bound',
  [(1000, 10, 10, 'compute'), (1000, 200, 20, 'memory'), (0, 50, 5, 'memory')],
)
def test_a_roofline_is_the_slower_of_both(
  flops, bytes_accessed, seconds, bound
):
  roof = estimates.roofline(program(flops, bytes_accessed), CHIP)
  assert roof.seconds == pytest.approx(seconds)
  assert roof.bound == bound
  assert roof.intensity == pytest.approx(flops / bytes_accessed)


def test_a_program_that_does_nothing_takes_no_time():
  roof = estimates.roofline(program(0, 0), CHIP)
  assert (roof.seconds, roof.intensity) == (0, 0)


@pytest.mark.parametrize('start', [1, 2, 64, 96, 4096, estimates.MOST_ROWS])
@pytest.mark.parametrize('per_row, fixed', [(10, 0), (10, 5000), (0.01, 0)])
@pytest.mark.parametrize('told', [True, False])
def test_the_largest_batch_is_found_from_everywhere(
  start, per_row, fixed, told
):
  memory, asked = 10_000, []

  def needed(batch):
    asked.append(batch)
    bytes_ = int(fixed + per_row * batch)
    # A compiler does not always tell how much too much it was.
    return bytes_ if told or bytes_ <= memory else None

  largest = estimates.largest_batch(needed, start, fixed, memory)
  expected = max(
    (
      2**n
      for n in range(17)
      if int(fixed + per_row * 2**n) <= memory and 2**n <= estimates.MOST_ROWS
    ),
    default=0,
  )
  assert largest == expected
  assert len(asked) == len(set(asked)), asked
  assert len(asked) <= (4 if told else 7), asked


def test_bytes_that_jump_do_not_mislead_the_search():
  # A small batch stays in the caches; near the memory some is computed twice.
  jumps = {16: 10, 32: 20, 64: 4000, 128: 8000, 256: 9990, 512: 9999}
  largest = estimates.largest_batch(jumps.get, 16, 0, 10_000)
  assert largest == 512


def test_a_model_that_never_fits_has_no_batch():
  assert estimates.largest_batch(lambda batch: None, 64, 0, 1000) == 0
  assert estimates.largest_batch(lambda batch: 2000, 64, 1500, 1000) == 0


def test_device_hours_add_up():
  amount = Amount(
    runs=10,
    steps=3600,
    explained_steps=720,
    evaluations=11,
    test_images=1000,
    explained_images=100,
    gradient_evaluations=41600,
  )
  seconds = estimates.Seconds(
    step=0.5, explained_step=1.0, test_image=0.01, gradient=0.09
  )
  hours = estimates.device_hours(amount, seconds, 4)
  assert hours['retraining'] == pytest.approx(10 * 360 * 0.5 * 4 / 3600)
  assert hours['training the explained model'] == pytest.approx(0.8)
  assert hours['evaluation'] == pytest.approx(11 * 10 / 3600)
  assert hours['attribution'] == pytest.approx(1.04)
  assert hours['all'] == pytest.approx(
    sum(value for name, value in hours.items() if name != 'all')
  )


def test_host_cores():
  assert estimates.host_cores(3000.0, 500.0) == 6.0
