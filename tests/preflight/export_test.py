"""Exported programs under JAX on a CPU, beside TensorFlow's results."""

import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import gin
import numpy as np
import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.models import resnet
from roar_tf.preflight import export, exportable, lowering, manifest
from roar_tf.preflight.device_function import DeviceFunction

ROOT = pathlib.Path(__file__).resolve().parents[2]
needs_jax = pytest.mark.skipif(
  importlib.util.find_spec('jax') is None, reason='JAX is not installed'
)
BOTH_STEPS = ('attribution', 'training step')


def execute(folder, *arguments):
  """Runs an export in a process of its own, as its user does."""
  return subprocess.run(
    [sys.executable, '-m', 'roar_tf.preflight.execute', folder, *arguments],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )


def compared(folder, chosen) -> dict[str, dict]:
  """Exports and executes some comparisons; returns what was found by name."""
  export.write(str(folder), filter(chosen, exportable.comparisons()))
  done = execute(folder, '--seconds=0', f'--json={folder}/measured.json')
  assert done.returncode == 0, done.stderr
  measured = json.loads((folder / 'measured.json').read_text())
  return {program['name']: program for program in measured['programs']}


def is_deep_and_float32(each) -> bool:
  return 'ResNet-50' in each.name and each.precision == 'float32'


@pytest.fixture(scope='module')
def programs(tmp_path_factory):
  """What was found of all comparisons that compile fast, by name.

  ResNet-50 has one block in each of its stages, ResNets for small images have
  two stages: all kinds of layers, each a few times.
  """
  folder = tmp_path_factory.mktemp('export')
  with pytest.MonkeyPatch.context() as patch:
    widening, _ = resnet.DEPTHS[50]
    patch.setitem(resnet.DEPTHS, 50, (widening, (1, 1, 1, 1)))
    gin.bind_parameter('small_resnet.stages', 2)
    found = compared(folder, lambda each: not is_deep_and_float32(each))
  gin.clear_config()
  return folder, found


@needs_jax
def test_float64_programs_give_the_results_of_tensorflow(programs):
  _, found = programs
  for model in ('small ResNet', 'ResNet-50'):
    for step in BOTH_STEPS:
      program = found[f'{model}, {step}, float64']
      assert program['difference'] < 1e-9, program


@needs_jax
def test_float32_programs_agree_but_for_relus_at_nearly_zero(programs):
  _, found = programs
  for step in BOTH_STEPS:
    assert found[f'small ResNet, {step}, float32']['difference'] < 0.02


@needs_jax
@pytest.mark.slow
def test_whole_models_agree_and_the_deep_one_in_float32_too(tmp_path):
  found = compared(tmp_path, lambda each: True)
  assert len(found) == 8
  for program in found.values():
    tolerance = exportable.TOLERANCES[program['precision']]
    assert program['difference'] < tolerance, program


@needs_jax
def test_programs_are_told_with_their_work_and_times(programs):
  _, found = programs
  program = found['ResNet-50, training step, float64']
  assert (program['batch'], program['unit'], program['work']) == (
    4,
    'images',
    4,
  )
  low, median, high = program['seconds']
  assert 0 < low <= median <= high
  # 2 x 29.9 million multiplications forward at 32 x 32, and twice that back.
  assert program['flops'] == pytest.approx(4 * 3 * 2 * 29.9e6, rel=0.2)
  assert program['bytes_accessed'] > 0
  # Two images, and 2 noisy copies of each; 2 rules of ReLU, 3 steps, of which
  # GB, too, needs the last alone.
  program = found['small ResNet, attribution, float64']
  assert (program['unit'], program['work']) == ('gradients', 2 * (1 + 2) * 4)
  assert program['flops'] is None


@needs_jax
def test_an_export_of_a_study_tells_its_rates(tool, tiny, tmp_path):
  folder, rates = tmp_path / 'export', tmp_path / 'rates.json'
  made = tool(
    'roar_preflight',
    f'--export={folder}',
    f'--study={tiny.study}',
    '--chips=2',
    '--nocomparisons',
  )
  assert made.status == 0, made.err
  assert f'roar_tf.preflight.execute {folder}' in made.out
  for program in manifest.read(str(folder)).programs:
    assert program.chips == 2
  done = execute(folder, '--seconds=0.1', f'--rates={rates}')
  assert done.returncode == 0, done.stderr
  dry = tool(
    'roar_study',
    f'--study={tiny.study}',
    f'--workspace={tmp_path}/workspace',
    '--dry_run',
    f'--rates={rates}',
  )
  assert dry.status == 0, dry.err
  assert 'measured under JAX on one cpu' in dry.out


@needs_jax
def test_rates_are_refused_without_an_experiment(programs):
  folder, _ = programs
  done = execute(folder, f'--rates={folder}/rates.json')
  assert done.returncode == 2
  [sentence] = done.stderr.splitlines()
  assert '--study=NAME' in sentence


def small(tmp_path, function=None):
  """Exports one tiny program."""
  specs = ({}, {'x': tf.TensorSpec([3], tf.float64)})
  one = exportable.Exportable(
    DeviceFunction(
      'doubled',
      'others',
      3,
      lambda batch: (
        function or (lambda state, inputs: 2 * inputs['x']),
        specs,
      ),
    ),
    '',
    'float64',
    2,
    3,
    tolerance=1e-9,
  )
  return export.write(str(tmp_path), [one])


def with_another_artifact(tmp_path, data: bytes):
  path = tmp_path / manifest.FILE
  value = json.loads(path.read_text())
  program = value['programs'][0]
  (tmp_path / program['file']).write_bytes(data)
  program['sha256'] = hashlib.sha256(data).hexdigest()
  path.write_text(json.dumps(value))


@needs_jax
def test_a_result_that_differs_is_named_with_its_difference(tmp_path):
  [program] = small(tmp_path).programs
  path = tmp_path / program.example.file
  arrays = dict(np.load(path))
  arrays['expected/outputs'][1] *= 1.001
  np.savez(path, **arrays)
  done = execute(tmp_path)
  assert done.returncode == 1
  [sentence] = done.stderr.splitlines()
  assert 'doubled, float64: outputs differs' in sentence
  assert '1e-09' in sentence and 'DIFFERS at outputs' in done.stdout


@needs_jax
def test_an_artifact_that_jax_cannot_read_is_refused(tmp_path):
  small(tmp_path)
  with_another_artifact(tmp_path, b'of the year 2050')
  done = execute(tmp_path)
  assert done.returncode == 2
  [sentence] = done.stderr.splitlines()
  assert '.mlirbc: JAX' in sentence and 'version of StableHLO' in sentence


@needs_jax
def test_what_exceeds_the_budget_is_left_out_and_said(tmp_path):
  small(tmp_path)
  done = execute(tmp_path, '--budget=0')
  assert done.returncode == 0
  assert 'Left out' in done.stdout and 'doubled, float64' in done.stdout


def test_a_directory_with_other_files_is_kept(tmp_path):
  (tmp_path / 'thesis.tex').write_text('')
  with pytest.raises(errors.UsageError, match='holds other files'):
    small(tmp_path)


def test_an_export_is_replaced_by_the_next_one(tmp_path):
  small(tmp_path)
  assert small(tmp_path).programs == manifest.read(str(tmp_path)).programs


def test_a_function_that_xla_cannot_run_is_named(tmp_path):
  def printed(state, inputs):
    return tf.strings.to_number(tf.strings.as_string(inputs['x']))

  with pytest.raises(errors.UnitsFailedError, match='operation AsString'):
    small(tmp_path, printed)
  assert not (tmp_path / manifest.FILE).exists()


@pytest.mark.parametrize('operation', ['erf', 'Eigh'])
def test_an_operation_that_stablehlo_lacks_is_named(operation):
  call = {'erf': tf.math.erf, 'Eigh': tf.linalg.eigvalsh}[operation]
  with pytest.raises(lowering.LoweringError, match=f'operation {operation}:'):
    lowering.portable(call, (tf.TensorSpec([3, 3], tf.float32),))


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--rates=r.json'], ['--rates']),
    (['--topology=v5e:2x2'], ['--topology']),
    (['--chips=4'], ['--chips', '--dataset']),
    (['--functions=nothing'], ['nothing']),
  ],
)
def test_flags_that_do_not_go_with_an_export(refused, tmp_path, flags, words):
  refused('roar_preflight', [f'--export={tmp_path}/export', *flags], words)


def test_executing_needs_neither_tensorflow_nor_keras():
  program = """
import sys
from roar_tf.preflight import execute
print(*sys.modules)
"""
  done = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  modules = set(done.stdout.split())
  assert not modules & {'absl', 'gin', 'keras', 'tensorflow', 'jax', 'tqdm'}


def test_without_jax_one_sentence_says_how_to_get_it(tmp_path):
  small(tmp_path)
  program = f"""
import sys

class Hidden:
  def find_spec(self, name, path=None, target=None):
    if name == 'jax':
      raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Hidden())
from roar_tf.preflight import execute
sys.exit(execute.main([{str(tmp_path)!r}]))
"""
  done = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 2
  [sentence] = done.stderr.splitlines()
  assert 'pip install jax' in sentence
