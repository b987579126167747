"""What models compute in; variables and logits stay float32 or wider."""

import contextlib
import threading
from collections.abc import Iterator, Mapping

from roar_tf.lazy import keras

PRECISIONS: Mapping[str, str] = {
  'float32': 'float32',
  'bfloat16': 'mixed_bfloat16',
  'float64': 'float64',
}
"""Keras' dtype policies by `Training.precision`."""

_KERAS = threading.RLock()


@contextlib.contextmanager
def computing_in(precision: str = 'float32') -> Iterator[None]:
  """Makes models that are built or traced inside compute in a precision.

  Whoever builds them, a user's factory included, finds Keras as it is without
  settings: what `~/.keras/keras.json` and `keras.config` say of the types of
  numbers and the order of axes would change results, and no fingerprint has
  it. One thread at a time: these settings are global.

  Args:
    precision: a key of `PRECISIONS`.
  """
  policy, config = PRECISIONS[precision], keras.config
  with _KERAS:
    before = config.dtype_policy(), config.floatx(), config.image_data_format()
    config.set_floatx('float64' if precision == 'float64' else 'float32')
    config.set_image_data_format('channels_last')
    config.set_dtype_policy(policy)
    try:
      yield
    finally:
      config.set_dtype_policy(before[0])
      config.set_floatx(before[1])
      config.set_image_data_format(before[2])
