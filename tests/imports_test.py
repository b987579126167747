"""Tests of what imports what, and that TensorFlow waits until it is needed."""

import ast
import functools
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

LAYERS = (
  ('errors', 'lazy', 'silence'),
  ('engine', 'gin_files', 'own_code', 'randomness', 'scaling'),
  (
    'config',
    'fills',
    'filters',
    'inpainting',
    'masking',
    'ranking',
    'score_files',
    'shards',
  ),
  ('cells',),
  ('datasets', 'estimators', 'models', 'training'),
  ('analysis', 'plot'),
  ('study',),
  ('preflight',),
  ('cli_flags', 'cli_help', 'cli', 'tools', '__main__'),
)
"""What stands below `roar_tf`, lowest first: a module imports its own layer and
those below it, and nothing above, inside of functions neither."""

ENTRY_POINT = 'roar_tf.datasets.registration'
"""TFDS calls it to make a cell, so its functions may import the study."""

DEFINING = {
  'roar_tf.datasets.birdsnap',
  'roar_tf.datasets.planted',
  'roar_tf.datasets.planted_colour',
  'roar_tf.datasets.planted_patch',
  'roar_tf.datasets.registration',
  'roar_tf.estimators.relus',
  'roar_tf.models.batch_norm',
}
"""Modules that define a class or a gradient of a library, and so import it."""

HEAVY = (
  'keras',
  'matplotlib',
  'pandas',
  'scipy',
  'tensorflow',
  'tensorflow_datasets',
)


@functools.cache
def _modules() -> dict[str, pathlib.Path]:
  """Returns the files of all modules by name; tools as they are installed."""
  modules = {}
  for folder, package in (('roar_tf', 'roar_tf'), ('tools', 'roar_tf.tools')):
    for path in (ROOT / folder).rglob('*.py'):
      parts = path.relative_to(ROOT / folder).with_suffix('').parts
      name = '.'.join((package, *parts)).removesuffix('.__init__')
      modules[name] = path
  return modules


@functools.cache
def _imports(name: str) -> list[tuple[str, bool]]:
  """Returns which modules of ours one imports, and whether at its top."""
  tree = ast.parse(_modules()[name].read_text())
  inner = {
    id(node)
    for function in ast.walk(tree)
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for node in ast.walk(function)
  }
  found = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{name} has a relative import'
      names = [
        full
        if (full := f'{node.module}.{alias.name}') in _modules()
        # A name that a module defines.
        else node.module
        for alias in node.names
      ]
    else:
      continue
    ours = [n for n in names if n in _modules()]
    found += [(n, id(node) not in inner) for n in ours]
  return found


def _part(module: str) -> str:
  """Returns what stands below `roar_tf` in a module's name."""
  return module.split('.')[1]


def test_no_modules_import_each_other_at_their_top():
  graph = {
    name: {other for other, top in _imports(name) if top} for name in _modules()
  }
  list(graphlib.TopologicalSorter(graph).static_order())  # Or CycleError.


def test_no_module_imports_one_above_it():
  height = {part: i for i, layer in enumerate(LAYERS) for part in layer}
  upward = []
  for name in set(_modules()) - {'roar_tf'}:
    for other, top in _imports(name):
      if other == 'roar_tf':
        continue
      if name == ENTRY_POINT and _part(other) == 'study' and not top:
        continue
      if height[_part(other)] > height[_part(name)]:
        upward.append(f'{name} imports {other}')
  assert not upward


def _run(program: str) -> str:
  """Returns what a program prints in a process of its own."""
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_modules_import_no_library_before_they_need_it():
  low = {part for layer in LAYERS[:5] for part in layer}
  names = sorted(
    name
    for name in set(_modules()) - {'roar_tf'} - DEFINING
    if _part(name) in low
  )
  program = f'import {", ".join(names)}, sys; print(*sys.modules)'
  assert not set(HEAVY) & set(_run(program).split())


def test_a_configuration_is_read_without_tensorflow():
  program = """
import sys
from roar_tf import cells, config, fills, masking, ranking
from roar_tf.datasets.source import Source
from roar_tf.estimators import registry, settings
from roar_tf.models import given, resnet
from roar_tf.training.settings import Training

config.parse([config.find('datasets', 'fashion_mnist')], [])
config.configured(Source, 'fashion_mnist').settings()
for scope in ('', 'explained'):
  training = config.configured(Training, scope=scope)
  training.settings(config.factory(training.model, scope=scope))
config.factory(resnet.resnet50)
config.operative_config()
assert not config.configured(given.ExplainedModel)
ranking.Ranking(cuts=(10, 30)).check_threshold(10)
settings.Settings(steps=3)
registry.parse('blur_sg_sq_grad')
cell = cells.parse_cell('sg_ig_element_keep_30_blurred')
fills.settings(cell.fill), masking.fits(cell.fill, 3)
print(*sys.modules)
"""
  assert not set(HEAVY) & set(_run(program).split())


def test_results_are_read_and_drawn_without_tensorflow(tmp_path):
  columns = 'study source estimator granularity mode threshold fill input seed'
  columns += ' accuracy top5 steps test_images seconds explained_seed'
  table = """
s,d,original,,,0,mean,image,0,0.9,1,9,100,1.0,0
s,d,random,pixel,remove,30,mean,image,0,0.8,1,9,100,1.0,0
s,d,grad,pixel,remove,30,mean,image,0,0.7,1,9,100,1.0,0
"""
  text = columns.replace(' ', ',') + table
  (tmp_path / 'results.csv').write_text(text)
  program = f"""
import sys
import roar_tf
results = roar_tf.load_results({str(tmp_path)!r})
results._repr_html_(), results.plot()._repr_png_()
roar_tf.plot.attributions([[[[1, 2, 3]]]], [[[0.5]]])
roar_tf.register, roar_tf.load_model, roar_tf.save_scores, dir(roar_tf)
print(*sys.modules)
"""
  assert not {'tensorflow', 'keras'} & set(_run(program).split())


def test_without_tensorflow_the_first_use_names_the_extras():
  program = """
import sys

class Hidden:
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] == 'tensorflow':
      raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Hidden())
import numpy as np
import roar_tf
from roar_tf import config, errors, lazy
from roar_tf.models import resnet

print(*dir(roar_tf))
images = np.zeros([1, 4, 4, 3], np.float32)
for use in (
  lambda: roar_tf.explain(None, images, 'random'),
  lambda: roar_tf.rank(images),
  lambda: roar_tf.mask(images, images, threshold=5, fill=0),
  lambda: config.factory(resnet.small_resnet)((8, 8, 3), 3),
  lambda: lazy.tfds.builder('mnist'),
):
  try:
    use()
  except ImportError as e:
    assert isinstance(e, errors.UsageError)
    print(e)
"""
  listed, *messages = _run(program).splitlines()
  assert {'explain', 'mask', 'rank'} <= set(listed.split())
  assert len(messages) == 5
  for message in messages:
    for extra in ('roar_tf[cpu]', 'roar_tf[cuda]', 'roar_tf[tpu]'):
      assert extra in message


@pytest.mark.parametrize(
  'order',
  [
    'import roar_tf.datasets, tensorflow_datasets',
    'import tensorflow_datasets, roar_tf.datasets',
  ],
)
def test_our_builders_are_there_once_tfds_is(order):
  program = f"""
import sys
{order}
from tensorflow_datasets.core import registered
print('roar_fashion_mnist' in registered._DATASET_REGISTRY)
"""
  assert _run(program).split() == ['True']


def test_threads_that_ask_for_tfds_at_once_do_not_wait_for_each_other():
  """As units that complete datasets, where nothing was imported before."""
  program = """
import threading
from roar_tf.lazy import tfds
ask = [lambda: tfds.core.ShardedFileTemplate, lambda: tfds.folder_dataset]
ask += [lambda: tfds.features.Text, lambda: tfds.core.SplitInfo]
threads = [threading.Thread(target=each, daemon=True) for each in ask]
for thread in threads: thread.start()
for thread in threads: thread.join(60)
assert not any(thread.is_alive() for thread in threads)
"""
  subprocess.run([sys.executable, '-c', program], check=True, timeout=120)
