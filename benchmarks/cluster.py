"""How much faster two Ray workers of one core each are than one.

    python benchmarks/cluster.py [--runs=12] [--repeats=3]

Trains a list of independent runs (`original` of planted_patch, one seed each)
on a cluster of one node that is held to one core, and on one of two nodes, held
to one core each. Prints the seconds of the list, with start-up (processes,
TensorFlow, tracing) and without it, and their ratios: medians, with the
smallest and largest. Neighbours on the machine show in the ratios; repeat when
it is quiet.
"""

import os
import tempfile
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Before Ray is imported: it listens on the loopback device, and tells nobody.
os.environ.setdefault('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')

import measuring
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from ray import cluster_utils

from roar_tf import engine
from roar_tf.engine import files, ray_connection
from roar_tf.study import recipe as recipes
from roar_tf.study.experiment import Configuration
from roar_tf.study.recipe import Recipe
from roar_tf.study.stages import Pipeline, Workforce, local_pool

FLAGS = flags.FLAGS
flags.DEFINE_integer('runs', 12, 'Runs that are timed.', lower_bound=2)
flags.DEFINE_integer('repeats', 3, 'Pairs of measurements.', lower_bound=1)
flags.DEFINE_float('epochs', 5, 'Epochs of a run.')

NODE = {'include_dashboard': False, 'node_ip_address': '127.0.0.1'}


def _runs(recipe: Recipe) -> tuple[Pipeline, list[engine.Artefact]]:
  """Returns a study, and its runs on `original`."""
  pipeline = Pipeline(recipe.contexts())
  runs = [run for run in pipeline.runs if run.cell is None and run.trains]
  return pipeline, [pipeline.of(run).train.artefact(run) for run in runs]


def _seconds(recipe: Recipe, cores: list[int]) -> np.ndarray:
  """Returns [2]: how long the runs take with and without start-up."""
  pipeline, runs = _runs(recipe)
  context = pipeline.context
  remote = recipes.RemoteRecipe(
    recipe,
    os.getcwd(),
    recipes.share_identity(context.workspace),
    context.experiment.code,
  )
  files.remove(f'{recipe.workspace}/runs')
  start = time.perf_counter()
  everywhere = os.sched_getaffinity(0)
  cluster = cluster_utils.Cluster()
  cluster.add_node(num_cpus=0, **NODE)
  for core in cores:
    os.sched_setaffinity(0, {core})  # What is started inherits it.
    cluster.add_node(num_cpus=1, **NODE)
  os.sched_setaffinity(0, everywhere)
  resources = ray_connection.parse_resources([], pipeline.names)
  with ray_connection.connected(
    recipes.rebuild, remote, resources, address=cluster.address
  ) as pool:
    workforce = Workforce(lambda context: pool)
    warm = len(cores)  # One run for every worker.
    workforce.make(context, runs[:warm], ('train',))
    ready = time.perf_counter()
    workforce.make(context, runs[warm : warm + FLAGS.runs], ('train',))
    end = time.perf_counter()
  cluster.remove_node(cluster.head_node, allow_graceful=False)
  cluster.shutdown()
  return np.array([end - start, end - ready])


def main(_) -> None:
  """Measures in turn and prints seconds and ratios."""
  cores = sorted(os.sched_getaffinity(0))[:2]
  if len(cores) < 2:
    raise SystemExit('This takes two cores.')
  logging.set_verbosity(logging.FATAL)
  tf.config.threading.set_intra_op_parallelism_threads(1)
  with tempfile.TemporaryDirectory() as root:
    recipe = Recipe(
      root,
      Configuration(
        'quickstart',
        gin_bindings=(
          f'Study.original_seeds = {FLAGS.runs + 2}',
          f'Training.epochs = {FLAGS.epochs}',
        ),
      ),
    )
    pipeline, _ = _runs(recipe)
    Workforce(local_pool).make(
      pipeline.context, [pipeline.stages[0].source.original]
    )
    found = measuring.in_pairs(
      lambda: _seconds(recipe, cores[:1]),
      {'two': lambda: _seconds(recipe, cores)},
      FLAGS.repeats,
    )
  one, two = found['two']
  print(f'{FLAGS.runs} runs of {FLAGS.epochs:g} epochs, on cores {cores}')
  for index, what in enumerate(('with start-up', 'without start-up')):
    print(
      f'{what}: one worker {measuring.spread(one[:, index], ".1f")} s, two '
      f'{measuring.spread(two[:, index], ".1f")} s, ratio '
      f'{measuring.spread(one[:, index] / two[:, index], ".2f")}'
    )


if __name__ == '__main__':
  app.run(main)
