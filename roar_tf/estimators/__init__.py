"""Feature-importance estimators for Keras models.

Images and scores are float [B, H, W, C]; models map images to logits [B, K].
"""

from __future__ import annotations

import inspect
import os

import numpy as np

from roar_tf import randomness
from roar_tf.estimators import blocks, compiled, habits, registry
from roar_tf.estimators.compiled import compile_plan
from roar_tf.estimators.gradient import grad
from roar_tf.estimators.guided_backprop import gb
from roar_tf.estimators.integrated_gradients import ig
from roar_tf.estimators.plan import Plan
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


@habits.accepted
def explain(
  model,
  images,
  estimators,
  targets=None,
  *,
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
  quadrature='riemann_right',
  precision='model',
  jit_compile=False,
) -> dict[str, tf.Tensor]:
  """Computes feature-importance estimators in one pass.

      scores = roar_tf.explain(model, images, ['grad', 'sg_sq_ig'])

  It compiles once per model, shape and settings; a smaller batch is padded to
  the size of one before, unless that costs more than to compile again. A model
  whose layers were changed is compiled anew; what its Python code reads
  elsewhere, such as a global variable, is read once. Inside a `tf.function` or
  `strategy.run` it becomes a part of that graph: shapes must then be static,
  the model is tried on noise instead of the images, and the values of tensors
  (NaN, targets) are not checked.

  What captum and Xplique call an argument is understood where it means the
  same: `inputs`, `target`, `baselines`, `baseline_value`, `n_steps`,
  `nt_samples`, `nb_samples` and `internal_batch_size`.

  Args:
    model: any Keras model that maps a float batch [B, H, W, C] to logits
      [B, K]; called in evaluation mode. None if no estimator needs a model.
    images: floating point or uint8 [B, H, W, C], as the model expects them.
    estimators: a name or a sequence of names, e.g. `grad`, `sg_sq_grad`; a
      function that is registered stands for its name.
    targets: integers [B], the class whose logit is explained, one for all
      images, or one-hot [B, K]; the class predicted on the clean image if None.
    ids: strings or integers [B] that name the examples; a fingerprint of each
      image's bytes if None. Noise depends on (seed, id) only.
    seed: integer.
    baseline: where the path of `ig` begins, broadcast to the images; 0 if None:
      black for a model that is fed unnormalised pixels.
    steps: k, gradients along the path of `ig` (paper: 25).
    samples: J, noisy copies per image of the ensembles (paper: 15).
    noise: standard deviation of the noise over (max - min) of each image, at
      most 1.
    truth: [B, H, W, 1] ground truth, for `oracle` and `inverse_oracle`.
    sobel: form of `sobel`: `magnitude`, or `released` as the paper's code.
    blur_sigma: standard deviation, in pixels, of the Gaussian of `blur_x`.
    max_size: `max_x` takes the largest of so many rows and columns, odd.
    batch_size: most gradient evaluations per call of the model; it bounds
      memory. By default 16 for images of 224 x 224, more for smaller ones.
    quadrature: of `ig`: `riemann_right`, the paper's sum, or `gauss_legendre`,
      which needs fewer steps for the same error.
    precision: `bfloat16` evaluates the model so along paths and for noisy
      images, which is nearly all there is to evaluate; predicted classes and
      `grad` and `gb` themselves come from the model as it is, sums are float32
      or wider. Everything as the model computes by default.
    jit_compile: True has XLA compile all that needs the model; slower on CPUs.

  Returns:
    Dict from name to scores [B, H, W, C], in the dtype of the images, or in
    float32 if that has fewer bits; higher is more important. Where the squares
    of an image have no place in the dtype (float32 gradients below 1e-19) they
    come times a power of two, in their right order.

  Raises:
    ValueError: unknown names (the nearest is suggested), inputs of wrong shape,
      dtype or range, or a model that cannot be explained, that cannot compute
      in this precision or that XLA cannot compile.
  """
  names = _names(estimators)
  if tf.config.functions_run_eagerly():
    raise ValueError(
      'tf.config.run_functions_eagerly(True) is set, and explain works in '
      'graphs only: call tf.config.run_functions_eagerly(False), and look into '
      'an estimator of your own with tf.print, or register it with eager=True.'
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
      quadrature=quadrature,
      precision=precision,
      jit_compile=jit_compile,
    ),
  )
  images = _checked_images(images)
  batch = images.shape[0]
  keys = randomness.keys_of(images, ids, 'images')
  if plan.needs_model:
    _check_model(model, images, plan)
  eager = tf.executing_eagerly()
  plans = compiled.plans_of(model if plan.needs_model else None)
  if plan.needs_model:
    classes = _classes(plans, model, images)
    targets = _checked_targets(targets, batch, classes)
  if plan.needs_truth:
    expected = (*images.shape[:3], 1)
    if truth is None or tuple(np.shape(truth)) != expected:
      found = None if truth is None else np.shape(truth)
      raise ValueError(
        f'oracle estimators need truth of shape {expected}, found {found}.'
      )
    truth = tf.convert_to_tensor(truth)
  inputs = blocks.Inputs(
    images,
    targets if plan.needs_model else None,
    keys,
    _checked_baseline(baseline, images) if plan.needs_baseline else None,
    truth if plan.needs_truth else None,
  )
  seed = randomness.as_seed(seed)
  if not eager:
    return compiled.inside_of_graph(plan, model)(
      inputs.images, inputs.targets, keys, inputs.truth, seed, inputs.baseline
    )
  return plans.scores(plan, model, inputs, seed)


def _names(estimators) -> list[str]:
  """Returns the names that estimators are given by.

  Raises:
    ValueError: some are no names, nor functions that are registered under one.
  """
  if isinstance(estimators, str) or callable(estimators):
    estimators = [estimators]
  try:
    names = list(estimators)
  except TypeError:
    names = [estimators]
  for i, each in enumerate(names):
    if callable(each):
      found = registry.names_of(each)
      if len(found) != 1:
        raise ValueError(
          f'estimators must be names, found {each!r}, which has '
          f'{" and ".join(found) or "none"}: give one name, and register a '
          'function without any by @roar_tf.register("my_name"), or '
          '@roar_tf.register("my_name", eager=True) if it calls an explainer '
          'of another library.'
        )
      names[i] = found[0]
  if not names or not all(isinstance(name, str) for name in names):
    raise ValueError(
      'estimators must be one or more names such as "grad", as in '
      f'explain(model, images, "grad"), found {names}.'
    )
  return names


def _check_model(model, images, plan) -> None:
  """Raises ValueError for what is no model of images, or of others."""
  if model is None:
    raise ValueError(
      f'a model is needed for {", ".join(plan.needing_model)}, found None.'
    )
  if isinstance(model, str | os.PathLike):
    raise ValueError(
      f'a model is needed, found the path {os.fspath(model)!r}: load it with '
      'keras.saving.load_model and give what that returns.'
    )
  if not callable(model):
    inner = callable(getattr(model, 'model', None))
    raise ValueError(
      f'a Keras model is needed, found {type(model).__name__}'
      f'{": give its attribute model" if inner else ""}.'
    )
  if any(c.__module__.startswith('torch.') for c in type(model).__mro__):
    raise ValueError(
      f'a Keras model is needed, found {type(model).__name__} of PyTorch: '
      'explain it by captum, and save the scores by roar_tf.save_scores '
      '(docs/guides/external_attributions.md).'
    )
  _check_input(model, images)


def _check_input(model, images) -> None:
  names = _inputs(model)
  if len(names) > 1:
    raise ValueError(
      f'the model takes {len(names)} inputs ({", ".join(names)}), and explain '
      'has images alone for it: give a model of one input, which holds the '
      'others.'
    )
  expected = getattr(model, 'input_shape', None)
  # Models that were never called know no input shape.
  if isinstance(expected, tuple) and not images.shape.is_compatible_with(
    expected
  ):
    batch, *sides = images.shape
    last = (batch, *sides[1:], sides[0])
    hint = (
      ' Channels come last: give images.transpose(0, 2, 3, 1).'
      if tf.TensorShape(last).is_compatible_with(expected)
      else ''
    )
    raise ValueError(
      f'images {images.shape} do not fit the model, which takes {expected}.'
      f'{hint}'
    )


def _inputs(model) -> list[str]:
  """Returns the names of what a model must be called with."""
  known = getattr(model, 'inputs', None)
  if isinstance(known, list):
    return [str(getattr(value, 'name', value)) for value in known]
  try:
    parameters = inspect.signature(getattr(model, 'call', model)).parameters
  except (TypeError, ValueError):  # Not one in Python.
    return []
  return [
    p.name
    for p in parameters.values()
    if p.default is p.empty
    and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    and p.name not in ('training', 'mask')
  ]


def _classes(plans, model, images) -> int | None:
  """Returns a model's number of classes, checked once.

  Inside of a `tf.function` the model is tried outside of it, without the
  images; None inside of a graph that lies in no function.
  """
  eager = tf.executing_eagerly()
  with tf.init_scope():
    if not tf.executing_eagerly():
      return None
    known = (images.shape[1:], images.dtype)
    if known not in plans.classes:
      zeros = tf.zeros([1, *images.shape[1:]], images.dtype)
      plans.classes[known] = heads.check(model, images if eager else zeros)
      plans.look_again(model)  # The call may have built it.
    return plans.classes[known]


def _checked_images(images) -> tf.Tensor:
  images = tf.convert_to_tensor(images)
  if images.dtype == tf.uint8:
    images = tf.cast(images, tf.float32)
  if images.shape.rank != 4 or not images.dtype.is_floating:
    raise ValueError(
      'images must be floating point or uint8 [batch, height, width, '
      f'channels], found {images.dtype.name} {images.shape}.'
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
  elif tf.executing_eagerly():
    targets = targets.numpy()
  if len(targets.shape) == 2:
    targets = _from_one_hot(targets, batch, classes)
  dtype = tf.as_dtype(targets.dtype)
  shape = tuple(targets.shape)
  if shape not in ((), (batch,)) or not dtype.is_integer:
    raise ValueError(
      f'targets must be integers [{batch}], one integer or one-hot [{batch}, '
      f'classes], found {dtype.name} {shape}.'
    )
  if classes is not None and not tf.is_tensor(targets):
    low, high = np.min(targets), np.max(targets)
    if low < 0 or high >= classes:
      raise ValueError(
        f'targets must be classes 0..{classes - 1}, found {low}..{high}.'
      )
  return tf.broadcast_to(tf.cast(targets, tf.int32), [batch])


def _from_one_hot(targets, batch: int, classes: int | None):
  """Returns integers [batch] of one-hot rows, or of a column of integers.

  The rows of a graph are taken for one-hot.
  """
  shape = tuple(targets.shape)
  if shape == (batch, 1) and tf.as_dtype(targets.dtype).is_integer:
    return targets[:, 0]
  if tf.is_tensor(targets):
    return tf.argmax(tf.cast(targets, tf.float32), -1, output_type=tf.int32)
  ones = (targets == 1).sum(-1) == 1
  zeros = (targets == 0).sum(-1) == shape[1] - 1
  if shape[1] != (classes or shape[1]) or not (ones & zeros).all():
    raise ValueError(
      f'targets with two dimensions must be one-hot [{batch}, {classes}], a 1 '
      f'and zeros in every row, found {targets.dtype.name} {shape}; or give '
      f'integers [{batch}].'
    )
  return np.argmax(targets, -1)


def _checked_baseline(baseline, images) -> tf.Tensor | None:
  """Returns x0 of every image, or None."""
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
  return tf.broadcast_to(values, images.shape)
