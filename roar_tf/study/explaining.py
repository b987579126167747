"""A plan of estimators, compiled for one device or for several."""

import tensorflow as tf

from roar_tf.estimators import compiled as compiled_plans
from roar_tf.estimators.plan import Plan
from roar_tf.models import stateless
from roar_tf.training.distribution import Devices


def compiled(planned: Plan, model, devices: Devices):
  """Returns what `compile_plan` returns, on all replicas of this host.

  Every replica scores as many examples as one device would, so that a score
  does not depend on how many there are.

  Args:
    planned: the estimators.
    model: the explained model, or None.
    devices: they share every batch; hosts do not, each explains by itself.
  """
  if model is None or devices.explaining == 1:
    return _telling(compiled_plans.compile_plan(planned, model))
  if planned.eager:
    return _in_turn(planned, model, devices.explaining)
  variables = devices.variables(
    {
      'trainable': [tf.convert_to_tensor(v) for v in model.trainable_variables],
      'others': [
        tf.convert_to_tensor(v) for v in model.non_trainable_variables
      ],
    }
  )

  def one(variables, given, seed):
    values = tf.nest.map_structure(tf.convert_to_tensor, variables)
    with stateless.with_variables(model, values['trainable'], values['others']):
      return compiled_plans.inside_of_graph(planned, model)(
        given['images'],
        given.get('targets'),
        given['keys'],
        given.get('truth'),
        seed,
        given.get('baseline'),
      )

  @tf.function(autograph=False)
  def on_all(variables, given, seed):
    return devices.strategy.run(one, (variables, given, seed))

  def explain(images, targets, keys, truth, seed, baseline=None):
    if baseline is not None:
      baseline = tf.repeat(baseline[None], images.shape[0], 0)
    given = {
      'images': images,
      'targets': targets,
      'keys': keys,
      'truth': truth,
      'baseline': baseline,
    }
    parts = {
      name: devices.split(value)
      for name, value in given.items()
      if value is not None
    }
    scores = on_all(variables, parts, seed)
    return {name: devices.gathered(value) for name, value in scores.items()}

  return _telling(explain)


def _in_turn(planned: Plan, model, number: int):
  """Returns a function that scores the parts of a batch one after the other.

  Python calls the estimators, once for what a device would have of the batch.
  """
  function = compiled_plans.compile_plan(planned, model)

  def explain(images, targets, keys, truth, seed, baseline=None):
    split = [
      [None] * number if value is None else tf.split(value, number)
      for value in (images, targets, keys, truth)
    ]
    scores = [
      function(*part, seed, baseline) for part in zip(*split, strict=True)
    ]
    return {
      name: tf.concat([each[name] for each in scores], 0)
      for name in planned.names
    }

  return explain


def _telling(function):
  """Returns a function that says what XLA cannot compile."""

  def told(*arguments):
    with compiled_plans.xla_told():
      return function(*arguments)

  return told
