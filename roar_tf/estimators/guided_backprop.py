"""GB: guided backpropagation (Springenberg et al. 2014; paper, section 4.1).

Backwards through every ReLU pass only gradients that are positive, at units
that were active: dy * (dy > 0) * (y > 0). For ReLU6 a unit is active below 6.
"""

from __future__ import annotations

from roar_tf.estimators import gradient, registry
from roar_tf.lazy import tf


@registry.register('gb', rule='guided')
def gb(model, images, targets, keys) -> tf.Tensor:
  """Returns the guided gradient of logit_target, signed.

  Raises:
    ValueError: the model has no ReLU.
  """
  del keys
  return gradient.estimate(model, images, targets, 'guided')
