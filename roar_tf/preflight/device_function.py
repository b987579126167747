"""A function that runs on a device, described so that it can be compiled."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

WithSpecs = tuple[Callable, tuple]
"""A function `(state, inputs)` and the two structures of TensorSpecs it takes.

The state holds the variables of a model, and is empty where there is no model;
the inputs grow with the batch. The function takes all that it uses as arguments
and has static shapes: variables of a model are neither read nor written.
"""


@dataclasses.dataclass(frozen=True)
class DeviceFunction:
  """One function that a study runs on a device.

  Attributes:
    name: for the report.
    group: of `preflight.GROUPS`.
    batch: images, or gradient evaluations, per call.
    build: from a batch to the function and its specs.
    loops: whether it holds loops, whose bodies the compiler's cost analysis
      counts once: operations and bytes then say nothing.
    scales: whether its largest batch is of interest.
  """

  name: str
  group: str
  batch: int
  build: Callable[[int], WithSpecs]
  loops: bool = False
  scales: bool = False


def variables(model: keras.Model) -> dict[str, list[tf.TensorSpec]]:
  """Returns specs of a model's variables, named as in a training's state."""
  return {
    name: [tf.TensorSpec(v.shape, v.dtype) for v in values]
    for name, values in (
      ('trainable', model.trainable_variables),
      ('moving', model.non_trainable_variables),
    )
  }
