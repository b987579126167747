"""Scores of one batch of images by several estimators, whatever they ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from roar_tf import errors
from roar_tf.engine import progress
from roar_tf.estimators import registry
from roar_tf.lazy import tf
from roar_tf.score_files import ScoreFiles
from roar_tf.study.context import Cache, Context
from roar_tf.study.model import Model


class Scoring:
  """Scores images of one source."""

  def __init__(
    self, context: Context, model: Model, score_files: Mapping[str, ScoreFiles]
  ):
    """Compiles nothing yet.

    Args:
      context: the experiment.
      model: the stage that makes the explained model.
      score_files: scores made elsewhere, by name; it may grow.
    """
    self._context, self._model = context, model
    self._score_files = score_files
    self._explainers = Cache()

  def scores(
    self,
    names: Sequence[str],
    model: int,
    batch: Mapping,
    keys,
    faults: dict[str, str],
  ) -> dict[str, tf.Tensor]:
    """Returns scores [B, H, W, C] of a full batch, by estimator.

    Estimators of roar_tf that look at the model share one pass, those that look
    at it with its initial weights another one, and its controls a third. Each
    estimator of a user's own has a pass to itself, with all prefixes of it:
    what it raises is its own fault and stops no other.

    Args:
      names: of the estimators.
      model: which explained model is asked, from 0.
      batch: examples of `original`.
      keys: int32 [B, 2], of their ids.
      faults: {estimator: sentence}, to which this adds.
    """
    scores, passes = {}, {}
    for name in names:
      parsed = meaning(name)
      base = parsed.base
      if registry.find(name) is None:
        try:
          scores[name] = self._scores_from_files(name, base.name, batch['id'])
        except errors.DataError as e:
          faults[name] = str(e)
        continue
      own = '' if base.is_built_in else base.name
      key = base.needs_model, bool(parsed.trained), own
      passes.setdefault(key, []).append(name)
    for (needs_model, _, own), group in passes.items():
      try:
        scores |= self._pass(tuple(group), needs_model, model, batch, keys)
      except errors.RoarError:
        raise  # The model, for example, is damaged.
      except Exception as e:  # A user's estimator may raise anything.
        if not own:
          raise
        reason = errors.describe(e)
        faults |= {name: f'estimator "{name}": {reason}' for name in group}
    return scores

  def _pass(
    self,
    names: tuple[str, ...],
    needs_model: bool,
    number: int,
    batch: Mapping,
    keys,
  ) -> dict[str, tf.Tensor]:
    """Scores with estimators of which all, or none, look at the model.

    Those that do see what the model sees, normalised images; controls see the
    images themselves, float 0..255. All, or none, look at it with its initial
    weights.
    """
    experiment = self._context.experiment
    images = tf.cast(batch['image'], tf.float32)
    inputs, baseline, targets = images, None, None
    if experiment.attribution.target == 'label':
      targets = tf.cast(batch['label'], tf.int32)
    if needs_model:
      scaled = self._model.scaling()
      # Integration paths begin at a black image (paper, section 4.1).
      inputs, baseline = scaled(images), scaled(tf.zeros_like(images[0]))
    explain = self._explainers.get(
      (names, number), lambda: self._explainer(names, number)
    )
    seed = tf.constant(experiment.seed, tf.int32)
    scores = explain(inputs, targets, keys, batch.get('truth'), seed, baseline)
    return {name: scores[planned(name)] for name in names}

  def _explainer(self, names: tuple[str, ...], number: int):
    """Returns the compiled function that scores one batch for some names.

    It calls them as `planned` does.

    Args:
      names: of the estimators.
      number: of the explained model that is asked.
    """
    from roar_tf.estimators import plan
    from roar_tf.study import explaining

    context = self._context
    wanted = plan.Plan(map(planned, names), context.experiment.attribution)
    model = None
    if wanted.needs_model:
      progress.say(
        f'rank {context.source.name}: gradient evaluations per image: '
        f'{wanted.gradient_evaluations}, forward passes: '
        f'{wanted.forward_evaluations}'
      )
      is_trained = names[0] == planned(names[0])
      load = self._model.load if is_trained else self._model.load_untrained
      model = load(number)
    return explaining.compiled(wanted, model, context.devices)

  def _scores_from_files(self, name: str, base: str, ids) -> tf.Tensor:
    """Returns the scores of examples that were made elsewhere."""
    from roar_tf.estimators import plan

    if base not in self._score_files:
      raise errors.DataError(
        f'estimator "{name}" was ranked from files: bring these back and run '
        f'roar_rank --scores=DIR --estimators={name} again.'
      )
    scores = tf.constant(self._score_files[base].rows(ids.numpy().tolist()))
    attribution = self._context.experiment.attribution
    return plan.filtered(meaning(name), scores, attribution)


def meaning(name: str) -> registry.Estimator:
  """Returns what a name means: here also scores made elsewhere."""
  return registry.find(name) or registry.made_elsewhere(name)


def planned(name: str) -> str:
  """Returns what a plan for one model calls an estimator."""
  return registry.parse(name).trained or name
