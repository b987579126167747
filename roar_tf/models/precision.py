"""What models compute in; variables and logits stay float32."""

import contextlib
from collections.abc import Iterator, Mapping

from roar_tf.lazy import keras

PRECISIONS: Mapping[str, str | None] = {
  'float32': None,
  'bfloat16': 'mixed_bfloat16',
}
"""Keras' dtype policies by `Training.precision`; None leaves Keras' setting."""


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
  """Makes models built inside compute in a precision of `PRECISIONS`."""
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(PRECISIONS[precision] or before)
  try:
    yield
  finally:
    keras.config.set_dtype_policy(before)
