"""Calls of registered functions, and checks of what they return."""

from __future__ import annotations

import traceback

from roar_tf.estimators import blocks, eager, registry
from roar_tf.estimators.settings import Settings
from roar_tf.lazy import tf


def scores(
  base: registry.Registered, model, inputs: blocks.Inputs, settings: Settings
) -> tf.Tensor:
  """Returns the scores of a registered function, [B, H, W, C].

  Args:
    base: what is called.
    model: the Keras model, or None.
    inputs: what it is given.
    settings: those of its fields that it takes are given, too.

  Raises:
    ValueError: it returns no scores of the images, or asks for the values of
      tensors that have none.
  """
  extra = {name: getattr(settings, name) for name in base.settings}
  if base.needs_truth:
    extra['truth'] = inputs.truth
  try:
    if base.eager:
      returned = eager.call(base, model, inputs, extra)
    else:
      returned = base.function(
        model, inputs.images, inputs.targets, inputs.keys, **extra
      )
  except (AttributeError, NotImplementedError, TypeError) as e:
    # Of these, tensors of a graph raise some: they have no values yet.
    symbolic = 'symbolic' in str(e).lower()
    if base.is_built_in or base.eager or not symbolic:
      raise
    place = traceback.extract_tb(e.__traceback__)[:2][-1]
    reason = str(e).split('. ')[0].strip()
    raise ValueError(
      f'Estimator "{base.name}" asks for the values of a tensor ({reason}; '
      f'{place.filename}:{place.lineno}), and estimators run inside of a '
      'tf.function, where there are none: use TensorFlow operations in place '
      'of .numpy(), NumPy and Python conditions, or register it with '
      'eager=True, and it is given NumPy arrays.'
    ) from e
  images = inputs.images
  found = getattr(returned, 'shape', None)
  pixels = images.shape[:3]
  if found not in (images.shape, pixels + [1], pixels):
    raise ValueError(
      f'Estimator "{base.name}" must return scores of shape {images.shape}, '
      f'that of its images, or {pixels + [1]} or {pixels}, one per pixel '
      '(tf.image.resize enlarges a smaller map), found '
      f'{returned if found is None else found}.'
    )
  values = tf.cast(returned, images.dtype)
  if len(found) == 3:
    values = values[..., None]
  return tf.broadcast_to(values, images.shape)
