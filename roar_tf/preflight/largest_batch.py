"""The search for the largest batch that fits into the memory of a chip."""

import math
from collections.abc import Callable

MOST_ROWS = 1 << 16
"""Where the search ends."""


def largest_batch(
  needed: Callable[[int], int | None], batch: int, fixed: int, memory: int
) -> int:
  """Returns the largest power of two that fits, 0 if 1 does not.

  Asks for few batches, since each is compiled: the next one is where a straight
  line through the last answer reaches the memory. Bytes are no straight line:
  a small batch stays in the chip's caches, and close to its memory the compiler
  computes some values twice.

  Args:
    needed: from a batch to bytes of memory, None for too many to tell.
    batch: the first that is asked for is the power of two below.
    fixed: bytes that do not grow with the batch.
    memory: bytes that there are.
  """
  fitting, failing = 0, 2 * MOST_ROWS
  batch = _power_of_two(batch)
  while True:
    bytes_ = needed(batch)
    if bytes_ is not None and bytes_ <= memory:
      fitting = batch
    else:
      failing = batch
    if failing <= max(1, 2 * fitting):
      return fitting
    if bytes_ is None:  # Half way, by the logarithm.
      batch = math.sqrt(max(1, fitting) * failing)
    else:
      batch *= max(1, memory - fixed) / max(1, bytes_ - fixed)
    lowest, highest = max(1, 2 * fitting), failing // 2
    batch = min(max(_power_of_two(batch), lowest), highest)


def _power_of_two(value: float) -> int:
  """Returns the largest power of two that is not above a value, at least 1."""
  return 1 << int(math.log2(max(1, value)))
