"""The real TPU compiler on small programs (`make preflight`)."""

import json
import sys

import keras
import pytest
import tensorflow as tf

from roar_tf import errors
from roar_tf.models import batch_norm, expansion, precision
from roar_tf.preflight import chips, compiling, device_function, lowering

pytestmark = pytest.mark.preflight

SQUARE = tf.TensorSpec([512, 512], tf.bfloat16)


@pytest.fixture(scope='module')
def compiler():
  return compiling.Compiler(chips.topology('v5e:2x2'))


def test_a_product_costs_what_it_must(compiler):
  program = compiler.compile(lowering.lower(tf.matmul, (SQUARE, SQUARE)))
  assert program.flops == pytest.approx(2 * 512**3, rel=0.01)
  assert program.arguments == 2 * 512 * 512 * 2
  assert program.outputs == 512 * 512 * 2


def test_an_operation_that_tpus_lack_is_named():
  with pytest.raises(lowering.LoweringError, match='operation AsString'):
    lowering.lower(tf.strings.as_string, (SQUARE,))


def test_a_captured_variable_is_refused():
  variable = tf.Variable(1.0)
  with pytest.raises(lowering.LoweringError, match='resource'):
    lowering.lower(lambda x: tf.cast(x, tf.float32) * variable, (SQUARE,))


def test_a_program_that_is_too_large_does_not_fit(compiler):
  huge = tf.TensorSpec([50_000, 50_000], tf.float32)  # 10 GB.
  hlo = lowering.lower(lambda a, b: tf.sort(a @ b) + tf.sort(b), (huge, huge))
  with pytest.raises(compiling.DoesNotFitError):
    compiler.compile(hlo)


def test_the_body_of_a_loop_is_counted_once(compiler):
  """Why rooflines of attribution come from one batch of gradients."""

  def costs(count):
    def function(x):
      return tf.while_loop(
        lambda i, x: i < count, lambda i, x: (i + 1, x @ x), (0, x)
      )[1]

    return compiler.compile(lowering.lower(function, (SQUARE,))).flops

  assert costs(20) == pytest.approx(costs(10), rel=0.01)


def test_a_widening_convolution_and_its_batch_norm_move_fewer_bytes(compiler):
  """What `expansion` is for; docs/evidence/tpu_bytes.md has whole networks."""
  with precision.computing_in('bfloat16'):
    images = keras.Input((28, 28, 64))
    convolution = keras.layers.Conv2D(256, 1, use_bias=False)
    outputs = batch_norm.BatchNormalization()(convolution(images))
    model = keras.Model(images, keras.layers.ReLU()(outputs))

  def gradients(state, images, upstream):
    watched = [images, *state['trainable']]
    with tf.GradientTape() as tape:
      tape.watch(watched)
      outputs, moving = model.stateless_call(
        state['trainable'], state['moving'], images, training=True
      )
    return moving, tape.gradient(outputs, watched, upstream)

  def lean(*arguments):
    with expansion.training(model):
      return gradients(*arguments)

  specs = (
    device_function.variables(model),
    tf.TensorSpec([128, 28, 28, 64], tf.bfloat16),
    tf.TensorSpec([128, 28, 28, 256], tf.bfloat16),
  )
  plain_bytes, lean_bytes = (
    compiler.compile(lowering.lower(f, specs)).bytes_accessed
    for f in (gradients, lean)
  )
  assert lean_bytes < 0.85 * plain_bytes


@pytest.mark.parametrize('name', ['v4:2x2x1', 'v5p:2x2x1', 'v6e:1x1'])
def test_every_chip_compiles(name):
  topology = chips.topology(name)
  compiler = compiling.Compiler(topology)
  program = compiler.compile(lowering.lower(tf.matmul, (SQUARE, SQUARE)))
  assert program.flops > 0


def test_a_shape_that_no_hosts_make_is_refused_in_one_sentence():
  with pytest.raises(errors.UsageError) as refusal:
    compiling.Compiler(chips.topology('v5e:3x3'))
  assert '--topology=v5e:3x3' in str(refusal.value)
  assert '\n' not in str(refusal.value)


def test_the_tool_compiles_a_study(tool, tiny, tmp_path):
  outcome = tool(
    'roar_preflight',
    f'--study={tiny.study}',
    '--precision=bfloat16',
    '--functions=training,evaluation,attribution',
    '--nolargest',
    f'--json={tmp_path}/preflight.json',
  )
  assert outcome.status == 0, outcome.err
  assert 'compiled for, never run on, TPU' in outcome.out
  assert '10 trainings' in outcome.out
  [result] = json.loads((tmp_path / 'preflight.json').read_text())['results']
  assert [o['fits'] for o in result['outcomes']] == [True] * 4
  assert result['hours']['all'] > 0


def test_an_estimator_that_tpus_cannot_run_fails_by_name(tool, tiny, tmp_path):
  (tmp_path / 'smeared_estimator.py').write_text(
    'import tensorflow as tf\n'
    'from roar_tf import estimators\n'
    "@estimators.register('smeared')\n"
    'def smeared(model, images, targets, keys):\n'
    '  return tf.raw_ops.ResizeBicubic(images=images, size=images.shape[1:3])\n'
  )
  (tmp_path / 'mine.gin').write_text(
    "import smeared_estimator\nStudy.estimators = ('random', 'smeared')\n"
  )
  sys.path.insert(0, str(tmp_path))  # The fixture `tool` restores it.
  outcome = tool(
    'roar_preflight',
    f'--study={tiny.study}',
    f'--gin_file={tmp_path}/mine.gin',
    '--functions=attribution',
    '--nolargest',
  )
  assert outcome.status == 1
  [sentence] = outcome.err.splitlines()
  assert 'attribution (estimators: 1) on v5e:2x2' in sentence
  assert 'operation ResizeBicubic' in sentence
