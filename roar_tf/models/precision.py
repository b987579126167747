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


@contextlib.contextmanager
def called_in(model, precision: str) -> Iterator[None]:
  """Makes a built model compute in a precision while it is called or traced.

  In this thread alone; weights stay what they are, and the model is left as it
  was. Quantized layers compute as ever.

  Args:
    model: a Keras model, whose layers have dtype policies.
    precision: a key of `PRECISIONS`.

  Raises:
    ValueError: the model has no layers.
  """
  if not hasattr(model, '_flatten_layers'):
    raise ValueError(
      f'precision {precision!r} is that of Keras layers, and {model!r} has '
      'none: leave precision out.'
    )
  policy = keras.DTypePolicy(PRECISIONS[precision])
  plain = keras.DTypePolicy, keras.FloatDTypePolicy
  # One thread at a time: another would take our policies for the model's.
  with _KERAS:
    policies = [
      (layer.__dict__, layer.dtype_policy)
      for layer in model._flatten_layers()
      if type(layer.dtype_policy) in plain
    ]
    try:
      for attributes, before in policies:
        attributes['_dtype_policy'] = _PolicyHere(policy, before)
      yield
    finally:
      for attributes, before in policies:
        attributes['_dtype_policy'] = before


class _PolicyHere:
  """A dtype policy in this thread, and another one in all others."""

  def __init__(self, here, elsewhere):
    self._thread = threading.get_ident()
    self._here, self._elsewhere = here, elsewhere

  def __getattr__(self, name):
    is_here = threading.get_ident() == self._thread
    return getattr(self._here if is_here else self._elsewhere, name)
