"""What several tests of estimators share."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from roar_tf import randomness
from roar_tf.estimators import compiled, plan, registry

FIFTEEN = tuple(
  prefix + base
  for base in ('grad', 'gb', 'ig')
  for prefix in ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
)


@pytest.fixture(scope='session')
def fifteen() -> tuple[str, ...]:
  """Names of the paper's fifteen gradient estimators."""
  return FIFTEEN


@pytest.fixture
def own_registry(monkeypatch) -> None:
  """Names registered by a test are gone after it."""
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))


@pytest.fixture(scope='module')
def model():
  """A small network without kinks, of 4 x 5 images and four classes."""
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [
      keras.Input((4, 5, 3)),
      keras.layers.Conv2D(3, 3, activation='softplus'),
      keras.layers.Flatten(),
      keras.layers.Dense(4),
    ]
  )


@pytest.fixture(scope='module')
def images():
  """Three images of it."""
  generator = np.random.default_rng(0)
  return generator.normal(size=(3, 4, 5, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def compute():
  """Function that computes a plan; equal plans are compiled once."""
  functions = {}

  def function(names, settings, model, jit_compile):
    some = plan.Plan(names, plan.Settings(**settings))
    key = some.key, model, jit_compile
    if key not in functions:
      # No AutoGraph, as in `compiled.compile_plan`.
      functions[key] = tf.function(
        compiled.compile_plan(some, model).python_function,
        autograph=False,
        jit_compile=jit_compile,
      )
    return functions[key]

  def run(
    model,
    images,
    names,
    *,
    targets=None,
    ids='abc',
    seed=0,
    baseline=0.0,
    jit_compile=False,
    **settings,
  ):
    outcome = function(names, settings, model, jit_compile)(
      tf.constant(images),
      None if targets is None else tf.constant(targets, tf.int32),
      randomness.keys_of_ids(list(ids)),
      None,
      tf.constant(seed),
      tf.constant(baseline, images.dtype),
    )
    return {name: value.numpy() for name, value in outcome.items()}

  return run


@pytest.fixture(scope='session')
def assert_close():
  """Function that compares dicts of scores up to `rtol` of their maximum."""

  def check(found, expected, rtol=1e-10):
    assert found.keys() == expected.keys()
    for name, goal in expected.items():
      scale = np.abs(goal).max()
      assert scale > 0, name
      np.testing.assert_allclose(
        found[name], goal, rtol=0, atol=rtol * scale, err_msg=name
      )

  return check
