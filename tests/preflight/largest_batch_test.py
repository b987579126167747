"""Tests of roar_tf.preflight.largest_batch."""

import pytest

from roar_tf.preflight.largest_batch import MOST_ROWS, largest_batch


@pytest.mark.parametrize('start', [1, 2, 64, 96, 4096, MOST_ROWS])
@pytest.mark.parametrize('per_row, fixed', [(10, 0), (10, 5000), (0.01, 0)])
@pytest.mark.parametrize('told', [True, False])
def test_it_is_found_from_everywhere(start, per_row, fixed, told):
  memory, asked = 10_000, []

  def needed(batch):
    asked.append(batch)
    size = int(fixed + per_row * batch)
    # A compiler does not always tell how much too much it was.
    return size if told or size <= memory else None

  largest = largest_batch(needed, start, fixed, memory)
  powers = [2**n for n in range(17)]
  assert largest == max(n for n in powers if fixed + per_row * n <= memory)
  assert len(asked) == len(set(asked)) <= (4 if told else 7), asked


def test_bytes_that_jump_do_not_mislead_the_search():
  # A small batch stays in the caches; near the memory some is computed twice.
  jumps = {16: 10, 32: 20, 64: 4000, 128: 8000, 256: 9990, 512: 9999}
  assert largest_batch(jumps.get, 16, 0, 10_000) == 512


@pytest.mark.parametrize('size', [None, 2000])
def test_a_model_that_never_fits_has_no_batch(size):
  assert largest_batch(lambda batch: size, 64, 1500, 1000) == 0
