"""What several benchmarks measure with, and against."""

import os
import time
from collections.abc import Callable, Mapping

import numpy as np


def seconds(action) -> float:
  """Returns how long a call takes."""
  start = time.perf_counter()
  action()
  return time.perf_counter() - start


def now() -> np.ndarray:
  """Returns [2]: the wall clock, and CPU seconds of all of our threads."""
  return np.array([time.perf_counter(), time.process_time()])


def both_seconds(action) -> np.ndarray:
  """Returns how long a call takes: wall clock and CPU seconds [2].

  Neighbours on a shared machine change the first far more than the second.
  """
  start = now()
  action()
  return now() - start


def repeated(action: Callable[[], np.ndarray], repeats: int) -> np.ndarray:
  """Returns what an action measured [repeats, n], after a call in vain."""
  action()
  return np.array([action() for _ in range(repeats)])


def in_pairs(
  reference: Callable[[], np.ndarray],
  actions: Mapping[str, Callable[[], np.ndarray]],
  repeats: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Measures every action beside a reference, in turn, after a call in vain.

  Args:
    reference: a function that measures itself and returns numbers [n].
    actions: likewise, by name.
    repeats: pairs; every other one begins with the reference.

  Returns:
    By name, what the reference and what the action measured, [repeats, n] each.
  """
  for action in (reference, *actions.values()):
    action()
  found = {name: [] for name in actions}
  for i in range(repeats):
    for name, action in actions.items():
      pair = [reference, action]
      order = (0, 1) if i % 2 else (1, 0)
      measured = {place: pair[place]() for place in order}
      found[name].append((measured[0], measured[1]))
  return {
    name: tuple(np.array(pairs).swapaxes(0, 1)) for name, pairs in found.items()
  }


def spread(values, form: str = ',.0f') -> str:
  """Returns the median and, in brackets, the smallest and largest."""
  low, middle, high = (
    format(v, form) for v in (np.min(values), np.median(values), np.max(values))
  )
  return f'{middle} ({low}..{high})'


def rates(name: str, work: float, seconds, unit: str = 'images') -> str:
  """Returns a line of rates, for seconds [repeats, 2] of wall clock and CPU."""
  wall, cpu = (work / seconds).T
  return f'{name}: {spread(wall)} {unit}/s; per core {spread(cpu)}'


def ratios(reference, seconds) -> str:
  """Returns how fast something was beside its reference, [repeats, 2] each."""
  wall, cpu = (reference / seconds).T
  return f'{spread(wall, ".3f")}; by CPU time {spread(cpu, ".3f")}'


def use_cores(count: int) -> int:
  """Keeps this process to so many cores, all it may use if 0; returns them.

  To be called before TensorFlow starts its threads.
  """
  cores = sorted(os.sched_getaffinity(0))
  if count:
    cores = cores[:count]
    os.sched_setaffinity(0, cores)
  return len(cores)


def bare_gradient(model):
  """Returns the compiled input gradient that anyone would write.

  Its arguments are images float [R, H, W, C] and targets int32 [R].
  """
  # Here, since captum's process is measured without TensorFlow.
  import tensorflow as tf

  @tf.function
  def evaluate(images, targets):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(images)
      logits = model(images, training=False)
      selected = tf.gather(logits, targets, batch_dims=1)
    return tape.gradient(selected, images)

  return evaluate
