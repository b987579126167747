"""Tests of roar_tf.preflight.preflight with a toy in the compiler's place."""

import pytest
import tensorflow as tf

from roar_tf.preflight import chips, compiling, lowering, preflight
from roar_tf.preflight.device_function import DeviceFunction
from roar_tf.preflight.subject import Subject
from roar_tf.study import experiment

TOPOLOGY = chips.topology('v5e:2x2')
STATE = {'trainable': [tf.TensorSpec([1 << 20], tf.float32)]}  # 4 MiB.


class ToyCompiler:
  """A program takes 1 GiB and as many more as its batch."""

  def __init__(self, topology):
    self.topology = topology

  def compile(self, hlo):
    if hlo > 64:  # The compiler knows what it has; the chip has less.
      raise compiling.DoesNotFitError('Used 99G of 15.75G hbm')
    size = hlo + 1 << 30
    return compiling.Program(1e12, 1e6, size, 0, 0, 0)


def lowered(function, specs):
  if function is None:
    raise lowering.LoweringError('operation AsString: none')
  return specs[1].shape[0]


@pytest.fixture
def outcomes(tiny, monkeypatch):
  """Function from device functions to what becomes of them."""
  (loaded,) = experiment.load(dataset=tiny.dataset)

  def run(*functions, **how):
    monkeypatch.setattr(preflight, 'Compiler', ToyCompiler)
    monkeypatch.setattr(lowering, 'lower', lowered)
    monkeypatch.setattr(preflight.functions, 'of', lambda *_: functions)
    return preflight.run(Subject(loaded), TOPOLOGY, **how).outcomes

  return run


def function(name, batch, call=len, **more):
  def build(batch):
    return call, (STATE, tf.TensorSpec([batch], tf.int32))

  return DeviceFunction(name, 'training', batch, build, **more)


def test_every_function_has_an_outcome(outcomes):
  step, plan, large, huge, broken = outcomes(
    function('step', 4),
    function('plan', 4, loops=True),
    function('large', 32),
    function('huge', 128),
    function('broken', 4, call=None, scales=True),
  )
  assert step.fits and step.per_second == pytest.approx(4 * 197)
  assert plan.fits and plan.roofline is None
  assert (large.fits, large.needed) == (False, 33 << 30)
  assert (huge.fits, huge.needed, huge.program) == (False, 99 << 30, None)
  assert (broken.fits, broken.error) == (None, 'operation AsString: none')


@pytest.mark.parametrize('batch', [1, 4, 32, 128])
def test_the_largest_batch_is_an_outcome_of_its_own(batch, outcomes):
  told = []
  scaling = function('step', batch, scales=True)
  asked, largest = outcomes(scaling, say=told.append)
  assert (asked.name, asked.batch) == ('step', batch)
  # 16 and 1 are above 15.75 GiB.
  assert (largest.name, largest.batch) == ('largest step', 8)
  assert f'v5e:2x2: step, batch {batch}' in told
  assert len(outcomes(scaling, largest=False)) == 1
