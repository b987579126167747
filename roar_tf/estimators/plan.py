"""One pass for all estimators asked for.

A plan groups names by base. Every base runs once on the clean images and once
on each of the J noisy copies, whatever number of statistics is asked for; the
noisy copies are drawn once and shared by all bases. An estimator's outcome does
not depend on which others are asked for.
"""

import dataclasses

import tensorflow as tf

from roar_tf import randomness
from roar_tf.estimators import ensemble, registry


@dataclasses.dataclass(frozen=True)
class Settings:
  """What changes the values of model-based estimators.

  Attributes:
    samples: J, noisy copies per image (paper, section 4.1: 15).
    noise: standard deviation of the noise over (max - min) of each image.
  """

  samples: int = 15
  noise: float = 0.15

  def __post_init__(self):
    """Raises ValueError for values that mean nothing."""
    if not (isinstance(self.samples, int) and self.samples >= 1):
      raise ValueError(f'samples must be at least 1, found {self.samples!r}.')
    if not self.noise >= 0:
      raise ValueError(f'noise must not be negative, found {self.noise!r}.')


class Plan:
  """The computation of several estimators.

  Attributes:
    names: identifiers asked for.
    needs_model: whether any of them looks at the model.
    needs_truth: whether any of them needs ground truth.
  """

  def __init__(self, names, settings: Settings):
    self.names = tuple(dict.fromkeys(names))
    self.settings = settings
    self._estimators = [registry.parse(name) for name in self.names]
    bases = [e.base for e in self._estimators]
    self.needs_model = any(b.needs_model for b in bases)
    self.needs_truth = any(b.needs_truth for b in bases)

  @property
  def key(self) -> tuple:
    """What a compiled function of this plan depends on, hashable."""
    return (*self._estimators, self.settings)

  @property
  def gradient_evaluations(self) -> int:
    """Gradient evaluations per image, shared work counted once."""
    clean = {e.base for e in self._estimators if not e.statistic}
    noisy = {e.base for e in self._estimators if e.statistic}
    return sum(b.gradients for b in clean) + self.settings.samples * sum(
      b.gradients for b in noisy
    )

  def scores(self, model, images, targets, keys, truth=None):
    """Computes all estimators; pure, static shapes, compiles under XLA.

    Args:
      model: Keras model from float [B, H, W, C] to logits [B, K], or None if
        the plan does not need one.
      images: float [B, H, W, C].
      targets: int32 [B], or None for the predicted class of the clean image.
      keys: int32 [B, 2], the seed folded in.
      truth: [B, H, W, 1] ground truth, if the plan needs it.

    Returns:
      Dict from name to scores [B, H, W, C] of the images' dtype.
    """
    if targets is None and self.needs_model:
      logits = model(images, training=False)
      targets = tf.argmax(logits, axis=-1, output_type=tf.int32)

    def run(base, batch, batch_keys):
      extra = {'truth': truth} if base.needs_truth else {}
      scores = base.function(model, batch, targets, batch_keys, **extra)
      if scores is None or scores.shape != images.shape:
        raise ValueError(
          f'Estimator "{base.name}" must return scores of shape '
          f'{images.shape}, found {getattr(scores, "shape", scores)}.'
        )
      return tf.cast(scores, images.dtype)

    bases = {e.base.name: e.base for e in self._estimators if not e.statistic}
    clean = {name: run(base, images, keys) for name, base in bases.items()}
    noisy = self._ensembles(run, images, keys)
    outcome = {}
    for e in self._estimators:
      if e.statistic:
        scores = noisy[e.base.name, e.statistic]
      else:
        scores = clean[e.base.name]
      outcome[e.name] = tf.square(scores) if e.squared else scores
    return outcome

  def _ensembles(self, run, images, keys):
    """Returns the statistics over noise by (base name, statistic)."""
    wanted = sorted(
      {(e.base.name, e.statistic) for e in self._estimators if e.statistic}
    )
    if not wanted:
      return {}
    bases = {e.base.name: e.base for e in self._estimators if e.statistic}
    span = tf.reduce_max(images, axis=[1, 2, 3], keepdims=True) - tf.reduce_min(
      images, axis=[1, 2, 3], keepdims=True
    )
    sigma = tf.cast(self.settings.noise, images.dtype) * span

    def sample(index, states):
      seeds = randomness.fold(keys, randomness.Purpose.NOISE, index)
      noise = randomness.normal(seeds, images.shape[1:])
      noisy = images + sigma * tf.cast(noise, images.dtype)
      count = tf.cast(index + 1, images.dtype)
      values = {name: run(base, noisy, seeds) for name, base in bases.items()}
      return index + 1, [
        ensemble.STATISTICS[statistic].update(state, values[name], count)
        for (name, statistic), state in zip(wanted, states, strict=True)
      ]

    zeros = tf.zeros_like(images)
    samples = self.settings.samples
    _, states = tf.while_loop(
      lambda index, states: index < samples,
      sample,
      (0, [ensemble.STATISTICS[s].start(zeros) for _, s in wanted]),
      # One copy at a time: memory must not grow with the number of samples.
      parallel_iterations=1,
      maximum_iterations=samples,
    )
    count = tf.cast(samples, images.dtype)
    return {
      key: ensemble.STATISTICS[key[1]].finish(state, count)
      for key, state in zip(wanted, states, strict=True)
    }


def compile_plan(plan: Plan, model):
  """Returns a `tf.function` of `plan.scores` for one model.

  Its arguments are (images, targets or None, keys, truth or None, seed).
  """

  @tf.function
  def explain(images, targets, keys, truth, seed):
    keys = randomness.fold(keys, randomness.Purpose.SEED, seed)
    return plan.scores(model, images, targets, keys, truth)

  return explain
