"""IG: integrated gradients (Sundararajan et al. 2017; paper, section 4.1).

(x - x0) times the mean gradient along the line from x0 to x. The paper's mean
is over x0 + (i / k) (x - x0), i = 1..k: right endpoints, so that the last of
the k gradients is GRAD itself. Scores add up to f(x) - f(x0), up to an error
that falls with k; with the k points and weights of Gauss and Legendre it falls
far faster, where f is smooth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roar_tf.estimators import blocks, gradient, registry
from roar_tf.lazy import tf


def ends_at_images(quadrature: str) -> bool:
  """Whether the last point of a path is the image itself."""
  return quadrature == 'riemann_right'


def points(steps: int, quadrature: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns the points of a path before its end, and their weights.

  Args:
    steps: k, the number of points, with the end if that is one.
    quadrature: of `settings.QUADRATURES`.

  Returns:
    Shares of the path, in order, and weights, which add up to k with the end's
    weight of 1; float64 [k - 1] or [k].
  """
  if ends_at_images(quadrature):
    return np.arange(1, steps) / steps, np.ones(steps - 1)
  nodes, weights = np.polynomial.legendre.leggauss(steps)
  return (1 + nodes) / 2, weights * (steps / 2)


def attributions(total, images, baseline, steps: int) -> tf.Tensor:
  """Returns (x - x0) times the mean of the gradients of all `steps` points.

  Args:
    total: weighted sum of the gradients at all points, [R, H, W, C].
    images: x.
    baseline: x0, broadcast to the images.
    steps: k.
  """
  mean = total / tf.cast(steps, images.dtype)
  return (images - baseline) * mean


def path_sums(
  model,
  images,
  targets,
  baseline,
  *,
  rules: Sequence[str],
  steps: int,
  quadrature: str = 'riemann_right',
  at_once: int = 1,
) -> dict[str, tf.Tensor]:
  """Sums weighted gradients over the points of a straight path but its end.

  Args:
    model: Keras model of logits.
    images: float [R, H, W, C], the end of each path.
    targets: int32 [R].
    baseline: the start, broadcast to the images.
    rules: of `gradient.RULES`.
    steps: k.
    quadrature: see `points`.
    at_once: points per call of the model, which gets at_once * R rows.

  Returns:
    Dict from rule to sums [R, H, W, C].
  """
  shares, weights = points(steps, quadrature)
  zeros = [tf.zeros_like(images) for _ in rules]
  if not shares.size:
    return dict(zip(rules, zeros, strict=True))
  # The last block may reach beyond the path: its last point again, for nothing.
  padding = -len(shares) % at_once
  shares = np.pad(shares, (0, padding), 'edge').reshape(-1, at_once)
  weights = np.pad(weights, (0, padding)).reshape(-1, at_once)
  weighted = (weights != 1).any()
  difference = images - baseline
  targets = tf.tile(targets, [at_once])

  def of_call(values, call):
    row = tf.constant(values, images.dtype)[call]
    return row[:, None, None, None, None]

  def evaluate(call, sums):
    rows = baseline + of_call(shares, call) * difference
    values, _ = gradient.gradients(
      model,
      tf.reshape(rows, [-1, *images.shape[1:]]),
      targets,
      rules,
      reduced=True,
    )
    after = []
    for rule, total in zip(rules, sums, strict=True):
      parts = tf.reshape(values[rule], [at_once, *images.shape])
      if weighted:
        parts *= of_call(weights, call)
      after.append(total + blocks.total(parts))
    return call + 1, after

  _, sums = tf.while_loop(
    lambda call, sums: call < len(shares),
    evaluate,
    (0, zeros),
    # One block at a time: memory must not grow with the number of steps.
    parallel_iterations=1,
  )
  return dict(zip(rules, sums, strict=True))


@registry.register('ig', rule='gradient', path=True, settings=('steps',))
def ig(
  model,
  images,
  targets,
  keys,
  *,
  steps=25,
  baseline=0.0,
  quadrature='riemann_right',
) -> tf.Tensor:
  """Returns integrated gradients along a straight line, signed.

  Args:
    model: Keras model of logits.
    images: float [B, H, W, C].
    targets: int32 [B].
    keys: unused.
    steps: k (paper: 25).
    baseline: x0, broadcast to the images (paper: a black image).
    quadrature: `riemann_right` (paper) or `gauss_legendre`.
  """
  del keys

  def evaluate(images, targets):
    start = tf.convert_to_tensor(baseline, images.dtype)
    with gradient.prepared(model):
      sums = path_sums(
        model,
        images,
        targets,
        start,
        rules=['gradient'],
        steps=steps,
        quadrature=quadrature,
      )
      total = sums['gradient']
      if ends_at_images(quadrature):
        ends, _ = gradient.gradients(model, images, targets)
        total += ends['gradient']
    return attributions(total, images, start, steps)

  return gradient.in_graph(evaluate)(images, targets)
