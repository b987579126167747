"""Keras models as pure functions of their variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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
