"""One pass for all estimators asked for.

A plan groups names by base, and bases by what they are made from. Noisy copies
are drawn once and shared by all bases; bases made from gradients share forward
passes and, where two ask for the same gradient, backward passes: the last step
of IG is GRAD. An estimator's outcome does not depend on which others are asked
for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from roar_tf import errors, filters, lazy, randomness, scaling
from roar_tf.estimators import (
  blocks,
  custom,
  eager,
  ensemble,
  gradient,
  registry,
)
from roar_tf.estimators import integrated_gradients as ig
from roar_tf.estimators.settings import Settings
from roar_tf.lazy import tf


class Plan:
  """The computation of several estimators.

  Attributes:
    names: identifiers asked for.
    needing_model: those that look at the model.
    needs_model: whether any of them does.
    needs_truth: whether any of them needs ground truth.
    needs_baseline: whether any of them follows an integration path.
    eager: those that are called outside of graphs, see `eager`.
  """

  def __init__(self, names, settings: Settings):
    """Plans what one model, or none, is asked for.

    Raises:
      UsageError: a name means nothing, or something that only a study knows, or
        an estimator that is registered with eager=True is to be compiled by
        XLA.
    """
    self.names = tuple(dict.fromkeys(names))
    self.settings = settings
    self._estimators = [_of_scores(name) for name in self.names]
    self._clean = _bases(e for e in self._estimators if not e.statistic)
    self._noisy = _bases(e for e in self._estimators if e.statistic)
    bases = [*self._clean, *self._noisy]
    self.needing_model = tuple(
      e.name for e in self._estimators if e.base.needs_model
    )
    self.needs_model = bool(self.needing_model)
    self.needs_truth = any(b.needs_truth for b in bases)
    self.needs_baseline = any(b.path for b in bases)
    self.eager = tuple(e.name for e in self._estimators if e.base.eager)
    if settings.jit_compile:
      eager.refuse(
        [name for name in self.eager if name in self.needing_model],
        *eager.XLA,
      )

  @property
  def is_eager(self) -> bool:
    """Whether all of its estimators are called outside of graphs."""
    return len(self.eager) == len(self.names)

  @property
  def parts(self) -> tuple[Plan, ...]:
    """The plans of its eager estimators and of the others, where it has both.

    An estimator's outcome does not depend on the others that are asked for.
    """
    if self.is_eager or not self.eager:
      return (self,)
    others = [name for name in self.names if name not in self.eager]
    return Plan(others, self.settings), Plan(self.eager, self.settings)

  @property
  def key(self) -> tuple:
    """What a compiled function of this plan depends on, hashable."""
    return (*self._estimators, self.settings)

  @property
  def is_compiled_by_xla(self) -> bool:
    """Whether XLA is asked for; never of controls alone."""
    return self.settings.jit_compile and self.needs_model

  @property
  def is_current(self) -> bool:
    """Whether its names still mean the functions that it calls."""
    return self._estimators == [registry.find(name) for name in self.names]

  @property
  def gradient_evaluations(self) -> int:
    """Backward passes per image, shared ones counted once (paper's 15: 416)."""
    return self._evaluations(lambda rules: len(rules))

  @property
  def forward_evaluations(self) -> int:
    """Forward passes per image; one serves all rules of a point.

    The pass that predicts the target is counted where no other one does it.
    """
    alone = self.needs_model and not self._rules_at_images(self._clean)
    return alone + self._evaluations(lambda rules: min(1, len(rules)))

  def _evaluations(self, cost: Callable[[list[str]], int]) -> int:
    def per_copy(bases):
      return (
        sum(b.gradients for b in bases if not b.rule)
        + cost(self._rules_at_images(bases))
        + cost(_rules(b for b in bases if b.path)) * self._points
      )

    samples = self.settings.samples if self._noisy else 0
    return per_copy(self._clean) + samples * per_copy(self._noisy)

  @property
  def _points(self) -> int:
    """Points of a path that are not the image itself."""
    settings = self.settings
    return settings.steps - ig.ends_at_images(settings.quadrature)

  def _rules_at_images(self, bases) -> list[str]:
    """Returns the gradient rules that bases need at the images themselves."""
    ends = ig.ends_at_images(self.settings.quadrature)
    return _rules(b for b in bases if ends or not b.path)

  def scores(self, model, images, targets, keys, truth=None, baseline=None):
    """Computes all estimators; pure, static shapes, compiles under XLA.

    To be called while a graph is traced, or outside of graphs by a plan that
    `is_eager`; inside `strategy.run` the images are those of one replica.

    Args:
      model: Keras model from float [B, H, W, C] to logits [B, K], or None if
        the plan does not need one.
      images: float [B, H, W, C]; the model sees them in this dtype.
      targets: int32 [B], or None for the predicted class of the clean image;
        a plan that `is_eager` and looks at the model needs them.
      keys: int32 [B, 2], the seed folded in.
      truth: [B, H, W, 1] ground truth, if the plan needs it.
      baseline: where integration paths begin, broadcast to the images; 0 if
        None.

    Returns:
      Dict from name to scores [B, H, W, C] of the images' dtype, of float32 if
      that has less than 32 bits.

    Raises:
      ValueError: the model's output is not [B, K], a ReLU's gradient cannot be
        replaced (`gb`), or a custom estimator returns another shape.
    """
    takes, images = images.dtype, scaling.at_least_float32(images)
    if baseline is None:
      baseline = tf.zeros([], images.dtype)
    baseline = tf.cast(baseline, images.dtype)
    inputs = blocks.Inputs(
      images,
      targets,
      keys,
      tf.broadcast_to(baseline, images.shape) if self.needs_baseline else None,
      truth if self.needs_truth else None,
    )
    # An eager estimator calls the model as it is.
    prepares = self.needs_model and not self.eager
    with gradient.prepared(
      model if prepares else None, takes, self.settings.precision
    ):
      clean, targets = self._clean_values(model, inputs)
      inputs = dataclasses.replace(inputs, targets=targets)
      moments = self._moments(model, inputs)
    return {
      e.name: _traced(_outcome)(
        (moments if e.statistic else clean)[e.base.name], e, self.settings
      )
      for e in self._estimators
    }

  def _clean_values(self, model, inputs: blocks.Inputs):
    """Returns the clean bases' values by name, and the targets."""
    block = self._block(inputs, copies=1)

    def run(part):
      values, targets = self._values(model, self._clean, part, block.steps)
      if not self.needs_model:
        return values, {}
      if targets is None:
        targets = gradient.predicted(model, part.images)
      return values, {'targets': targets}

    scores = tf.TensorSpec(inputs.images.shape[1:], inputs.images.dtype)
    targets = (
      {'targets': tf.TensorSpec([], tf.int32)} if self.needs_model else {}
    )
    values, targets = blocks.by_blocks(
      run,
      inputs,
      block.images,
      ({b.name: scores for b in self._clean}, targets),
    )
    return values, targets.get('targets')

  def _moments(
    self, model, inputs: blocks.Inputs
  ) -> dict[str, ensemble.Moments]:
    """Returns the moments of the noisy bases over all copies, by name."""
    if not self._noisy:
      return {}
    block = self._block(inputs, copies=self.settings.samples)
    scores = tf.TensorSpec(inputs.images.shape[1:], inputs.images.dtype)
    return blocks.by_blocks(
      lambda part: self._moments_of_block(model, part, block),
      inputs,
      block.images,
      {base.name: ensemble.signature(scores) for base in self._noisy},
    )

  def _moments_of_block(
    self, model, inputs: blocks.Inputs, block: blocks.Block
  ):
    """Loops over the copies of some images, `block.copies` at a time."""
    images, samples = inputs.images, self.settings.samples
    axes = [1, 2, 3]
    span = tf.reduce_max(images, axes, True) - tf.reduce_min(images, axes, True)
    # Not tf.cast: it takes a Python float through float32.
    sigma = tf.constant(self.settings.noise, images.dtype) * span
    seeds = randomness.fold(inputs.keys, randomness.Purpose.NOISE)
    tiled = inputs.map(lambda x: tf.concat([x] * block.copies, 0))

    def add_copies(first, moments):
      noisy, keys = _traced(_noisy_copies)(
        images, sigma, seeds, inputs.keys, first, block.copies
      )
      copies = dataclasses.replace(tiled, images=noisy, keys=keys)
      values, _ = self._values(
        model, self._noisy, copies, block.steps, reduced=True
      )
      return first + block.copies, {
        name: _traced(_updated)(moments[name], value, first, samples)
        for name, value in values.items()
      }

    zeros = tf.zeros_like(images)
    _, moments = tf.while_loop(
      lambda first, moments: first < samples,
      add_copies,
      (
        tf.constant(0),
        {base.name: ensemble.start(zeros) for base in self._noisy},
      ),
      # One block at a time: memory must not grow with the number of samples.
      parallel_iterations=1,
    )
    return moments

  def _values(
    self,
    model,
    bases,
    inputs: blocks.Inputs,
    steps_at_once: int,
    reduced: bool = False,
  ):
    """Returns the values of bases at some images by name, and the targets.

    The images are one batch: every call of the model gets as many rows, or
    `steps_at_once` times as many along a path. Gradients at the images are
    evaluated in the settings' precision if `reduced`, as those of paths are.
    """
    images, targets = inputs.images, inputs.targets
    ends, sums = {}, {}
    if rules := self._rules_at_images(bases):
      ends, targets = gradient.gradients(
        model, images, targets, rules, reduced=reduced
      )
    if targets is None and any(b.needs_model for b in bases):
      targets = gradient.predicted(model, images)
    if rules := _rules(b for b in bases if b.path):
      sums = ig.path_sums(
        model,
        images,
        targets,
        inputs.baseline,
        rules=rules,
        steps=self.settings.steps,
        quadrature=self.settings.quadrature,
        at_once=steps_at_once,
      )
    values = {}
    for base in bases:
      if base.path:
        total = sums[base.rule]
        if ig.ends_at_images(self.settings.quadrature):
          total += ends[base.rule]
        values[base.name] = ig.attributions(
          total, images, inputs.baseline, self.settings.steps
        )
      elif base.rule:
        values[base.name] = ends[base.rule]
      else:
        given = dataclasses.replace(inputs, targets=targets)
        values[base.name] = custom.scores(base, model, given, self.settings)
    return values, targets

  def _block(self, inputs: blocks.Inputs, copies: int) -> blocks.Block:
    count, height, width, _ = inputs.images.shape
    bound = self.settings.batch_size or blocks.default_bound(height, width)
    return blocks.choose(count, copies, self._points, bound)


@lazy.function(autograph=False)
def _outcome(
  values, estimator: registry.Estimator, settings: Settings
) -> tf.Tensor:
  """Returns what an estimator makes of its base's values, or their moments."""
  scores = values
  if estimator.statistic:
    count = tf.cast(settings.samples, values.mean.dtype)
    scores = ensemble.STATISTICS[estimator.statistic](values, count)
  scores = scaling.square(scores) if estimator.squared else scores
  return filtered(estimator, scores, settings)


def filtered(
  estimator: registry.Estimator, scores, settings: Settings
) -> tf.Tensor:
  """Returns scores [B, H, W, C] under the filter of a name, if it has one.

  Every channel is filtered alone, signs and all.
  """
  if estimator.filter == 'blur':
    # In a loop of its own, which the optimiser of graphs does not look into:
    # it would regroup sums depending on what else is asked for.
    return tf.map_fn(
      lambda one: filters.gaussian(one[None], settings.blur_sigma)[0], scores
    )
  if estimator.filter == 'max':
    return filters.maximum(scores, settings.max_size)
  return scores


def _of_scores(name: str) -> registry.Estimator:
  """Returns an estimator that one model, or none, gives scores of."""
  estimator = registry.parse(name)
  if estimator.derivation:
    raise errors.UsageError(
      f'Estimator "{name}" cannot be computed from images: it is made from the '
      f'ranking "{estimator.derivation.ranking}" of a whole dataset, by a '
      'study or roar_rank.'
    )
  if estimator.trained:
    raise errors.UsageError(
      f'Estimator "{name}" cannot be computed from a model alone: only a study '
      'or roar_rank knows the weights that its training starts from; explain '
      f'a model with such weights by "{estimator.trained}".'
    )
  return estimator


def _bases(estimators) -> list[registry.Registered]:
  """Returns the bases of estimators, each once."""
  return list({e.base.name: e.base for e in estimators}.values())


def _rules(bases) -> list[str]:
  """Returns the gradient rules that bases follow, each once."""
  needed = {base.rule for base in bases}
  return [rule for rule in gradient.RULES if rule in needed]


def _traced(function):
  """Returns a function of this module to be called here.

  Eagerly its graph is called, which is traced once per shape: operation by
  operation it would take longer than many an estimator.
  """
  return function if tf.executing_eagerly() else function.python_function


@lazy.function(autograph=False)
def _noisy_copies(images, sigma, seeds, keys, first, count: int):
  """Returns consecutive noisy copies [count * N, H, W, C], and their keys."""
  noise = randomness.normal(
    seeds, images.shape[1:], first=first, count=count, dtype=images.dtype
  )
  noisy = tf.reshape(images + sigma * noise, [-1, *images.shape[1:]])
  return noisy, _keys_of_copies(keys, first, count)


@lazy.function(autograph=False)
def _updated(moments, values, first, samples: int) -> ensemble.Moments:
  """Returns moments after the values [n * N, H, W, C] of some more copies."""
  values = tf.reshape(values, [-1, *moments.mean.shape])
  return ensemble.update(moments, values, first, samples)


def _keys_of_copies(keys, first, count: int) -> tf.Tensor:
  """Returns int32 [count * N, 2]: keys of consecutive copies of each image."""
  folded = tf.map_fn(
    lambda copy: randomness.fold(keys, randomness.Purpose.NOISY_COPY, copy),
    first + tf.range(count),
    fn_output_signature=tf.TensorSpec(keys.shape, tf.int32),
  )
  return tf.reshape(folded, [-1, 2])
