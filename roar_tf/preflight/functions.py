"""What a study runs on a device: the one list, group by group."""

from collections.abc import Sequence

from roar_tf.preflight import attribution, images, training
from roar_tf.preflight.device_function import DeviceFunction
from roar_tf.preflight.subject import Subject


def of(
  subject: Subject, groups: Sequence[str], replicas: int
) -> list[DeviceFunction]:
  """Returns the functions of some groups, as each of the replicas runs them."""
  listed = {
    'training': lambda: training.steps(subject, replicas),
    'evaluation': lambda: training.evaluations(subject, replicas),
    'attribution': lambda: attribution.of_model(subject),
    'others': lambda: attribution.controls(subject) + images.functions(subject),
  }
  return [function for group in groups for function in listed[group]()]
