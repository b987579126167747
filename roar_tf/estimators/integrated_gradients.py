"""IG: integrated gradients (Sundararajan et al. 2017; paper, section 4.1).

(x - x0) times the mean gradient at x0 + (i / k) (x - x0), i = 1..k: right
endpoints, so that the last of the k gradients is GRAD itself. Scores add up to
f(x) - f(x0), up to an error that falls with k.
"""

from __future__ import annotations

from collections.abc import Sequence

from roar_tf.estimators import blocks, gradient, registry
from roar_tf.lazy import tf


def attributions(ends, sums, images, baseline, steps: int) -> tf.Tensor:
  """Returns (x - x0) times the mean of the gradients of all `steps` points.

  Args:
    ends: gradients at the images, [R, H, W, C].
    sums: sum of the gradients at the points before, likewise.
    images: x.
    baseline: x0, broadcast to the images.
    steps: k.
  """
  mean = (sums + ends) / tf.cast(steps, images.dtype)
  return (images - baseline) * mean


def path_sums(
  model,
  images,
  targets,
  baseline,
  *,
  rules: Sequence[str],
  steps: int,
  at_once: int = 1,
) -> dict[str, tf.Tensor]:
  """Sums gradients over the points i = 1..k-1 of a straight path.

  Args:
    model: Keras model of logits.
    images: float [R, H, W, C], the end of each path.
    targets: int32 [R].
    baseline: the start, broadcast to the images.
    rules: of `gradient.RULES`.
    steps: k.
    at_once: steps per call of the model, which gets at_once * R rows.

  Returns:
    Dict from rule to sums [R, H, W, C].
  """
  difference = images - baseline
  targets = tf.tile(targets, [at_once])

  def evaluate(start, sums):
    numbers = start + tf.range(at_once)
    shares = tf.cast(numbers, images.dtype) / tf.cast(steps, images.dtype)
    points = baseline + shares[:, None, None, None, None] * difference
    values, _ = gradient.gradients(
      model, tf.reshape(points, [-1, *images.shape[1:]]), targets, rules
    )
    after = []
    for rule, total in zip(rules, sums, strict=True):
      parts = tf.reshape(values[rule], [at_once, *images.shape])
      if (steps - 1) % at_once:
        # The last block reaches beyond the path.
        valid = numbers[:, None, None, None, None] < steps
        parts = tf.where(valid, parts, tf.zeros_like(parts))
      after.append(total + blocks.total(parts))
    return start + at_once, after

  _, sums = tf.while_loop(
    lambda start, sums: start < steps,
    evaluate,
    (1, [tf.zeros_like(images) for _ in rules]),
    # One block at a time: memory must not grow with the number of steps.
    parallel_iterations=1,
  )
  return dict(zip(rules, sums, strict=True))


@registry.register('ig', rule='gradient', path=True, settings=('steps',))
def ig(model, images, targets, keys, *, steps=25, baseline=0.0) -> tf.Tensor:
  """Returns integrated gradients along a straight line, signed.

  Args:
    model: Keras model of logits.
    images: float [B, H, W, C].
    targets: int32 [B].
    keys: unused.
    steps: k (paper: 25).
    baseline: x0, broadcast to the images (paper: a black image).
  """
  del keys

  def evaluate(images, targets):
    start = tf.convert_to_tensor(baseline, images.dtype)
    with gradient.prepared(model):
      sums = path_sums(
        model, images, targets, start, rules=['gradient'], steps=steps
      )
      ends, _ = gradient.gradients(model, images, targets)
    return attributions(
      ends['gradient'], sums['gradient'], images, start, steps
    )

  return gradient.in_graph(evaluate)(images, targets)
