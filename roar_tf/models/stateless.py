"""Keras models as pure functions of their variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from roar_tf.lazy import keras


@contextlib.contextmanager
def with_variables(model: keras.Model, trainable, others) -> Iterator[None]:
  """Makes tensors stand for a model's variables while it is called or traced.

  `stateless_call` does that for a forward pass; attribution calls models from
  within its plan, and folds batch norm by reading their variables.

  Args:
    model: its own variables are neither read nor written.
    trainable: values of its trainable variables, in their order.
    others: values of its non-trainable variables.
  """
  variables = [*model.trainable_variables, *model.non_trainable_variables]
  mapping = list(zip(variables, [*trainable, *others], strict=True))
  with keras.StatelessScope(state_mapping=mapping):
    yield


def assign(model: keras.Model, state: Mapping) -> keras.Model:
  """Puts the weights of a state of a training into a model; returns it."""
  for variables, values in (
    (model.trainable_variables, state['trainable']),
    (model.non_trainable_variables, state['moving']),
  ):
    for variable, value in zip(variables, values, strict=True):
      variable.assign(value)
  return model
