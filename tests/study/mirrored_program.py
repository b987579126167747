"""Ranks with two logical CPUs that share every batch.

python mirrored_program.py WORKSPACE STUDY DATA_DIR [BINDING...]
"""

import os
import sys

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import tensorflow as tf

from roar_tf import workspace
from roar_tf.study import context, experiment, pipeline
from roar_tf.training import distribution


def main(root: str, study: str, data_dir: str, *bindings: str) -> None:
  """Runs the stage rank."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  (cpu,) = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
  )
  devices = distribution.connect('mirrored')
  assert devices.replicas == devices.explaining == 2
  place = workspace.Workspace(root)
  works = pipeline.study_work(
    [
      context.Context(place, e, data_dir, connect=lambda: devices)
      for e in experiment.load(study=study, gin_bindings=bindings)
    ]
  )
  pipeline.run(works, ['rank'], parallel=2)


if __name__ == '__main__':
  main(*sys.argv[1:])
