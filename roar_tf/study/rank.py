"""Stage rank: `original` shards and the explained model to ranking datasets.

Rankings that are made from other rankings belong to it, too: see `derived`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from roar_tf import engine, errors, shards
from roar_tf.cells import (
  ORIGINAL,
  Cell,
  check_granularity,
  of_model,
)
from roar_tf.engine import files
from roar_tf.estimators import eager, registry
from roar_tf.score_files import ScoreFiles
from roar_tf.study import level_maps
from roar_tf.study.context import Context
from roar_tf.study.costs import Cost, total
from roar_tf.study.dataset import Dataset, DatasetStage, Shard, remaking
from roar_tf.study.derived import Derived
from roar_tf.study.model import Model
from roar_tf.study.scoring import Scoring, meaning
from roar_tf.study.source import Source

_SCORES = 'scores'
"""Setting that holds the digest of files of scores made elsewhere."""


def config_name(estimator: str, granularity: str, model: int = 0) -> str:
  """Returns the name of a ranking dataset.

  Args:
    estimator: of the ranking.
    granularity: of the ranking.
    model: which of several explained models was ranked, from 0.
  """
  return of_model(f'ranking_{estimator}_{granularity}', model)


class Rank(DatasetStage):
  """Scores every image with some estimators, and stores the ranks."""

  name = 'rank'
  version = 3

  def __init__(self, context: Context, source: Source, model: Model):
    super().__init__(context)
    self._source, self._model = source, model
    self._rankings: dict[tuple[str, str, int], Dataset] = {}
    self._models: dict[str, int] = {}
    self._score_files: dict[str, ScoreFiles] = {}
    self._scoring = Scoring(context, model, self._score_files)
    self._derived = Derived(context, source)

  def read_scores(self, name: str, score_files: ScoreFiles) -> None:
    """Has an estimator's scores come from files from now on.

    Args:
      name: a new name for them.
      score_files: the scores.

    Raises:
      UsageError: the name is no identifier, or means something already.
    """
    registry.check_new_for_scores(name)
    self._score_files[name] = score_files

  # --- artefacts -------------------------------------------------------------

  def of(self, cell: Cell) -> Dataset:
    """Returns the ranking that a cell is made from; see `ranking`."""
    return self.ranking(cell.estimator, cell.granularity, cell.model)

  def ranking(
    self, estimator: str, granularity: str, model: int = 0
  ) -> Dataset:
    """Returns the ranking of all images by one estimator.

    Args:
      estimator: its name.
      granularity: `pixel` or `element`.
      model: which of several explained models it ranks, from 0.

    Raises:
      UsageError: no such estimator is registered, and the workspace has no
        such ranking; an oracle is asked for on a source without truth; initial
        weights of a model that is not trained here; or a model other than the
        first of an estimator that asks none.
    """
    key = (estimator, granularity, model)
    if key not in self._rankings:
      self._rankings[key] = self._describe(*key)
    return self._rankings[key]

  def _describe(self, estimator: str, granularity: str, model: int) -> Dataset:
    """Returns a ranking; its settings are only those that it depends on."""
    context, experiment = self.context, self.context.experiment
    check_granularity(granularity)
    config = config_name(estimator, granularity, model)
    self._check_known(estimator, granularity, model)
    self._models[config] = model
    parsed = meaning(estimator)
    height, width, channels = context.source.image_shape
    depth = 1 if granularity == 'pixel' else channels
    layout = shards.Layout(levels=(height, width, depth))
    settings = {
      'estimator': estimator,
      'granularity': granularity,
      'seed': experiment.seed,
      'Ranking.cuts': experiment.ranking.cuts,
    }
    inputs = {'original': self._source.original}
    if parsed.derivation:
      other = self.ranking(parsed.derivation.ranking, granularity, model)
      inputs['ranking'] = other
      return self.dataset(config, layout, settings, inputs)
    if parsed.base.counts == 'exact':
      settings['Ranking.ties'] = experiment.ranking.ties
    for name in _attribution_settings(parsed):
      settings[f'Attribution.{name}'] = getattr(experiment.attribution, name)
    if parsed.base.code:
      settings |= parsed.base.code.settings(experiment.bindings)
    discovered = ()
    if parsed.base.name in self._score_files:
      settings[_SCORES] = self._score_files[parsed.base.name].digest()
    elif registry.find(estimator) is None:
      discovered = (_SCORES,)
    if parsed.trained:
      settings |= self._model.untrained_settings(model)
    elif parsed.base.needs_model:
      inputs['explained model'] = self._model.explained(model)
    return self.dataset(config, layout, settings, inputs, discovered=discovered)

  def _check_known(self, name: str, granularity: str, model: int) -> None:
    """Refuses an estimator that cannot rank this source.

    An unregistered name is valid where its ranking exists, or that which its
    ranking is made from.

    Raises:
      UsageError: the name means nothing; or it needs truth, or a training, that
        the source or the explained model lacks.
    """
    source, parsed = self.context.source, meaning(name)
    base, given = parsed.base, self.context.experiment.given
    known = registry.find(name) or base.name in self._score_files
    *_, last = registry.with_those_behind(name)
    config = config_name(last, granularity, model)
    if not known and not files.exists(self.context.marker(config)):
      registry.parse(name)  # Raises, and suggests the nearest name.
    if model and known and not base.needs_model:
      raise errors.UsageError(
        f'Estimator "{name}" asks no model, so that it has one ranking, and '
        f'none of model {model}; leave the model out.'
      )
    if base.needs_truth and not source.truth:
      raise errors.UsageError(
        f'Estimator "{name}" needs ground truth, which dataset {source.name} '
        'does not carry; leave it out.'
      )
    if base.eager and not parsed.derivation:
      self._check_eager(name, config_name(name, granularity, model))
    if parsed.trained and given:
      raise errors.UsageError(
        f'Estimator "{name}" needs the weights that the training of the '
        f'explained model starts from, and gin parameter {given} is a model '
        'that is not trained here; leave it out.'
      )

  def _check_eager(self, name: str, config: str) -> None:
    """Raises UsageError where Python cannot be called to make a ranking.

    A ranking that is there needs no call: what is made from it may use a TPU.
    """
    if self.context.experiment.attribution.jit_compile:
      asks = meaning(name).base.needs_model
      eager.refuse([name] if asks else [], *eager.XLA)
    if self.context.on_tpu and not files.exists(self.context.marker(config)):
      eager.refuse([name], *eager.TPU)

  def remedy(self, artefact: engine.Artefact) -> str:
    """See `engine.Stage`."""
    return remaking(artefact.settings['estimator'])

  def unit_name(self, shard: Shard) -> str:
    """Returns a name: one unit makes a shard of all rankings of one model.

    But those made from other rankings, which each wait for another one.
    """
    source, model = self.context.source.name, self._models[shard.config]
    name = f'{of_model(source, model)} rank {shard.split} {shard.index}'
    if meaning(shard.settings['estimator']).derivation:
      return f'{name} of {shard.config}'
    return name

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    """See `engine.Stage`: what is made from rankings takes no accelerator.

    Such a unit waits for a whole ranking, and so for all workers: it is for the
    one that finishes last.
    """
    return [
      dataclasses.replace(unit, light=True)
      if meaning(unit.makes[0].settings['estimator']).derivation
      else unit
      for unit in super().units(artefacts)
    ]

  def check(self) -> None:
    """See `engine.Stage`: builds the model of which initial weights are used.

    Otherwise the stage model does, or nobody needs it.
    """
    if any(meaning(name).trained for name, *_ in self._rankings):
      self._model.check()

  def cost(
    self,
    pending: Sequence[engine.Artefact],
    finished: Sequence[engine.Artefact],
    snapshot: engine.Snapshot,
  ) -> Cost:
    """Returns what unfinished rankings take; see `DatasetStage.cost`."""
    units: dict[tuple, list[str]] = {}
    for shard in pending:
      if isinstance(shard, Shard):
        name = shard.settings['estimator']
        parsed = meaning(name)
        if parsed.base.needs_model and not parsed.derivation:
          part = shard.split, shard.index
          key = (*part, self._models[shard.config], bool(parsed.trained))
          units.setdefault(key, []).append(parsed.trained or name)
    calls = [(*part, names) for (*part, _, _), names in units.items()]
    data = super().cost(pending, finished, snapshot)
    return data + explaining_cost(self.context, snapshot, calls)

  # --- work ------------------------------------------------------------------

  def write(self, artefacts: Sequence[Shard]) -> Iterator[engine.Made]:
    """Writes the same shard of some rankings, from one pass over its images.

    Raises:
      PartsFailedError: some estimators are faulty; the others' rankings were
        yielded.
    """
    context, first = self.context, artefacts[0]
    title = self.unit_name(first)
    if derivation := meaning(first.settings['estimator']).derivation:
      yield from self._derived.write(first, derivation, title)
      return
    model = self._models[first.config]

    def batches(size: int) -> Iterator[Mapping]:
      part = first.split, first.index
      return context.batches(ORIGINAL, context.source.layout, *part, size)

    def score(names, batch, keys, faults):
      return self._scoring.scores(names, model, batch, keys, faults)

    yield from level_maps.write(context, artefacts, title, batches, score)


def explaining_cost(
  context: Context,
  snapshot: engine.Snapshot,
  calls: Iterable[tuple[str, int, Sequence[str]]],
) -> Cost:
  """Returns what gradients and images explained cost.

  Args:
    context: the experiment.
    snapshot: the workspace.
    calls: (split, index of the shard, estimators) of every pass over images.
  """
  from roar_tf.estimators import plan

  @functools.cache
  def evaluations(names: tuple[str, ...]) -> int:
    attribution = context.experiment.attribution
    return plan.Plan(names, attribution).gradient_evaluations

  costs = []
  for *part, names in calls:
    images = context.expected_records(snapshot, *part)
    gradients = images * evaluations(tuple(dict.fromkeys(names)))
    costs.append(Cost(images_explained=images, gradient_evaluations=gradients))
  return total(costs)


def _attribution_settings(parsed: registry.Estimator) -> list[str]:
  """Returns the gin parameters of `Attribution` that an estimator reads."""
  names = [*parsed.base.settings]
  if parsed.base.needs_model:
    names += ['target', 'jit_compile']
  if parsed.base.path:
    names.append('quadrature')
  if parsed.base.rule and (parsed.base.path or parsed.statistic):
    names.append('precision')
  if parsed.statistic:
    names += ['samples', 'noise']
  if parsed.filter:
    names.append({'blur': 'blur_sigma', 'max': 'max_size'}[parsed.filter])
  return names
