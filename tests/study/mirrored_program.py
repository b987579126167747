"""Ranks with two logical CPUs that share every batch.

python mirrored_program.py WORKSPACE STUDY DATA_DIR [BINDING...]
"""

import os
import sys

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import tensorflow as tf

from roar_tf.study import experiment, recipe, stages


def main(root: str, study: str, data_dir: str, *bindings: str) -> None:
  """Runs the stage rank."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  (cpu,) = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
  )
  configuration = experiment.Configuration(study, gin_bindings=bindings)
  made = recipe.Recipe(root, configuration, data_dir, strategy='mirrored')
  pipeline = stages.Pipeline(made.contexts())
  devices = pipeline.context.devices
  assert devices.replicas == devices.explaining == 2
  workforce = stages.Workforce(stages.local_pool)
  workforce.make(pipeline.context, pipeline.goals('rank'), within=('rank',))


if __name__ == '__main__':
  main(*sys.argv[1:])
