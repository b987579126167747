"""Feature-importance estimators for Keras models.

Images and scores are float [B, H, W, C]; models map images to logits [B, K].
"""

from __future__ import annotations

import numpy as np

from roar_tf import randomness
from roar_tf.estimators.gradient import grad
from roar_tf.estimators.guided_backprop import gb
from roar_tf.estimators.integrated_gradients import ig
from roar_tf.estimators.plan import Plan, compile_plan
from roar_tf.estimators.registry import parse, register, registered
from roar_tf.estimators.settings import Settings
from roar_tf.lazy import tf
from roar_tf.models import heads

__all__ = [
  'Plan',
  'Settings',
  'compile_plan',
  'explain',
  'gb',
  'grad',
  'ig',
  'parse',
  'register',
  'registered',
]


def explain(
  model,
  images,
  estimators,
  *,
  targets=None,
  ids=None,
  seed=0,
  baseline=None,
  steps=25,
  samples=15,
  noise=0.15,
  truth=None,
  sobel='magnitude',
  blur_sigma=1.0,
  max_size=3,
  batch_size=None,
) -> dict[str, tf.Tensor]:
  """Computes feature-importance estimators in one pass.

  It compiles once per model, shape and settings. Inside a `tf.function` or
  `strategy.run` it becomes a part of that graph: shapes must then be static,
  and values (NaN, targets) are not checked.

  Args:
    model: any Keras model that maps a float batch [B, H, W, C] to logits
      [B, K]; called in evaluation mode. None if no estimator needs a model.
    images: floating point [B, H, W, C], as the model expects them.
    estimators: a name or a sequence of names, e.g. `grad`, `sg_sq_grad`.
    targets: integers [B], the class whose logit is explained; the class
      predicted on the clean image if None.
    ids: strings or integers [B] that name the examples; a fingerprint of each
      image's bytes if None. Noise depends on (seed, id) only.
    seed: integer.
    baseline: where the path of `ig` begins, broadcast to the images; 0 if None:
      black for a model that is fed unnormalised pixels.
    steps: k, gradients along the path of `ig` (paper: 25).
    samples: J, noisy copies per image of the ensembles (paper: 15).
    noise: standard deviation of the noise over (max - min) of each image.
    truth: [B, H, W, 1] ground truth, for `oracle` and `inverse_oracle`.
    sobel: form of `sobel`: `magnitude`, or `released` as the paper's code.
    blur_sigma: standard deviation, in pixels, of the Gaussian of `blur_x`.
    max_size: `max_x` takes the largest of so many rows and columns, odd.
    batch_size: most gradient evaluations per call of the model; it bounds
      memory. By default 16 for images of 224 x 224, more for smaller ones.

  Returns:
    Dict from name to scores [B, H, W, C], in the dtype of the images; higher is
    more important.

  Raises:
    ValueError: unknown names (the nearest is suggested), or inputs of wrong
      shape, dtype or range.
  """
  names = [estimators] if isinstance(estimators, str) else list(estimators)
  if not names or not all(isinstance(name, str) for name in names):
    raise ValueError(
      f'estimators must be one or more names such as "grad", found {names}.'
    )
  plan = Plan(
    names,
    Settings(
      samples,
      noise,
      steps,
      sobel=sobel,
      blur_sigma=blur_sigma,
      max_size=max_size,
      batch_size=batch_size,
    ),
  )
  images = _checked_images(images)
  batch = images.shape[0]
  keys = randomness.keys_of(images, ids, 'images')
  if plan.needs_model:
    if model is None:
      raise ValueError(
        f'a model is needed for {", ".join(plan.needing_model)}, found None.'
      )
    _check_input(model, images)
    targets = _checked_targets(targets, batch, _classes(model, images))
  if plan.needs_truth:
    expected = (*images.shape[:3], 1)
    if truth is None or tuple(np.shape(truth)) != expected:
      found = None if truth is None else np.shape(truth)
      raise ValueError(
        f'oracle estimators need truth of shape {expected}, found {found}.'
      )
    truth = tf.convert_to_tensor(truth)
  arguments = (
    images,
    targets if plan.needs_model else None,
    keys,
    truth if plan.needs_truth else None,
    randomness.as_seed(seed),
    _checked_baseline(baseline, images) if plan.needs_baseline else None,
  )
  if not tf.executing_eagerly():
    return compile_plan(plan, model).python_function(*arguments)
  cache = _cache(model)
  if plan.key not in cache:
    cache[plan.key] = compile_plan(plan, model)
  return cache[plan.key](*arguments)


def _check_input(model, images) -> None:
  expected = getattr(model, 'input_shape', None)
  # Models that were never called know no input shape.
  if isinstance(expected, tuple) and not images.shape.is_compatible_with(
    expected
  ):
    raise ValueError(
      f'images {images.shape} do not fit the model, which takes {expected}.'
    )


def _cache(model) -> dict:
  """Compiled functions live on the model, and are freed with it."""
  return {} if model is None else model.__dict__.setdefault('_roar_tf', {})


def _classes(model, images) -> int | None:
  """Returns a model's number of classes, checked once; None in a graph."""
  if not tf.executing_eagerly():
    return None
  cache = _cache(model)
  known = (images.shape[1:], images.dtype)
  if known not in cache:
    cache[known] = heads.check(model, images)
  return cache[known]


def _checked_images(images) -> tf.Tensor:
  images = tf.convert_to_tensor(images)
  if images.shape.rank != 4 or not images.dtype.is_floating:
    raise ValueError(
      'images must be floating point [batch, height, width, channels], found '
      f'{images.dtype.name} {images.shape}.'
    )
  if not images.shape.is_fully_defined():
    raise ValueError(f'images must have a static shape, found {images.shape}.')
  if 0 in images.shape:
    raise ValueError(f'images must not be empty, found shape {images.shape}.')
  if tf.executing_eagerly():
    finite = tf.reduce_all(tf.math.is_finite(images), axis=[1, 2, 3]).numpy()
    if not finite.all():
      raise ValueError(
        f'image {int(np.argmin(finite))} of the batch holds NaN or infinity.'
      )
  return images


def _checked_targets(targets, batch: int, classes: int | None):
  """Returns int32 [batch] or None; values are checked if `classes` is known."""
  if targets is None:
    return None
  if not tf.is_tensor(targets):
    targets = np.asarray(targets)
  dtype = tf.as_dtype(targets.dtype)
  if tuple(targets.shape) != (batch,) or not dtype.is_integer:
    raise ValueError(
      f'targets must be integers [{batch}], found {dtype.name} '
      f'{tuple(targets.shape)}.'
    )
  if classes is not None:
    low, high = np.min(targets), np.max(targets)
    if low < 0 or high >= classes:
      raise ValueError(
        f'targets must be classes 0..{classes - 1}, found {low}..{high}.'
      )
  return tf.cast(targets, tf.int32)


def _checked_baseline(baseline, images) -> tf.Tensor | None:
  if baseline is None:
    return None
  if tf.is_tensor(baseline) and not tf.executing_eagerly():
    return tf.cast(baseline, images.dtype)
  values = baseline
  try:
    values = np.asarray(baseline, images.dtype.as_numpy_dtype)
    np.broadcast_to(values, images.shape)
  except (TypeError, ValueError):
    # A ragged list has no shape.
    raise ValueError(
      f'baseline must broadcast to the images {images.shape}, found '
      f'{getattr(values, "shape", values)}.'
    ) from None
  if not np.isfinite(values).all():
    raise ValueError('baseline holds NaN or infinity.')
  return tf.constant(values)
