"""Stage rerank: rankings of the recursive protocol, one for each retraining.

ROAR explains one model, once. A model that ignores a copy of what it uses has
an explanation that leaves the copy in the images, and retraining finds it there
(paper, section 6.5). Here the model that was retrained at one threshold is
explained on the very images that it was tested with, whose most important
values are gone, and what it finds important among the rest goes next (Madsen et
al. 2022, "Evaluating the Faithfulness of Importance Measures in NLP by
Recursively Masking Allegedly Important Tokens and Retraining").
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from roar_tf import engine, masking, randomness
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.lazy import tf
from roar_tf.study import level_maps, training
from roar_tf.study.context import Cache, Context
from roar_tf.study.costs import Cost
from roar_tf.study.data import Data, check_same_ids
from roar_tf.study.dataset import Dataset, DatasetStage, Shard
from roar_tf.study.grid import Run
from roar_tf.study.rank import Rank, explaining_cost
from roar_tf.study.scoring import Scoring
from roar_tf.study.shards import settings
from roar_tf.study.source import Source


class Rerank(DatasetStage):
  """Ranks anew what the retraining at the threshold before has left."""

  name = 'rerank'
  version = 1

  def __init__(
    self,
    context: Context,
    source: Source,
    rank: Rank,
    data: Data,
    training_: training.Training,
    retrained: Callable[[Run], engine.Artefact],
  ):
    """Describes the stage.

    Args:
      context: the experiment; its study is recursive.
      source: makes the images.
      rank: makes the first ranking of every retraining.
      data: masks images.
      training_: builds retrained models.
      retrained: returns a run as an artefact.
    """
    super().__init__(context)
    self._source, self._rank = source, rank
    self._data, self._training = data, training_
    self._retrained = retrained
    self._rankings: dict[tuple[Cell, int], Dataset] = {}
    self._runs: dict[str, Run] = {}
    # Runs come one after the other; two of them side by side.
    self._scoring = Cache(most=2)

  def before(self, run: Run) -> Run | None:
    """Returns the run whose model says what a run removes, if any does."""
    cell = self.context.experiment.study.before(run.cell)
    return cell and dataclasses.replace(run, cell=cell, input='image')

  def explains(self, run: Run) -> bool:
    """Returns whether a run's model is explained for another run."""
    study = self.context.experiment.study
    return run.cell is not None and any(
      study.before(dataclasses.replace(run.cell, threshold=threshold))
      == run.cell
      for threshold in (*study.thresholds, *study.curve_thresholds)
    )

  def of(self, run: Run) -> Dataset:
    """Returns the ranking that a run's images are masked by."""
    before = self.before(run)
    if before is None:
      return self._rank.of(run.cell)
    key = run.cell, run.seed
    if key not in self._rankings:
      image = dataclasses.replace(run, input='image')
      self._rankings[key] = self._describe(image, before)
    return self._rankings[key]

  def _describe(self, run: Run, before: Run) -> Dataset:
    plain = self._rank.of(run.cell)
    workspace = self.context.workspace
    config = workspace.ranking_of_run(
      workspace.run(run.study, run.source, run.folder, run.seed)
    )
    self._runs[config] = run
    removed = settings(before.cell)
    return self.dataset(
      config,
      plain.layout,
      {
        **plain.settings,
        **{f'{name} before': value for name, value in removed.items()},
      },
      {
        'original': self._source.original,
        'ranking before': self.of(before),
        'run before': self._retrained(before),
      },
    )

  def unit_name(self, shard: Shard) -> str:
    """Returns a name: one unit makes a shard of one ranking."""
    return f'{self._runs[shard.config]} rerank {shard.split} {shard.index}'

  def cost(
    self,
    pending: Sequence[engine.Artefact],
    finished: Sequence[engine.Artefact],
    snapshot: engine.Snapshot,
  ) -> Cost:
    """Returns what unfinished rankings take; see `DatasetStage.cost`."""
    calls = [
      (shard.split, shard.index, [shard.settings['estimator']])
      for shard in pending
      if isinstance(shard, Shard)
    ]
    data = super().cost(pending, finished, snapshot)
    return data + explaining_cost(self.context, snapshot, calls)

  def write(self, artefacts: Sequence[Shard]) -> Iterator[engine.Made]:
    """Writes one shard of a ranking.

    Raises:
      PartsFailedError: the estimator is faulty.
    """
    (shard,) = artefacts
    run = self._runs[shard.config]
    before = self.before(run)
    scoring = self._scoring.get(
      before,
      lambda: Scoring(
        self.context,
        _Retrained(
          self._training, os.path.dirname(self._retrained(before).marker)
        ),
        {},
      ),
    )

    def score(names, batch, keys, faults):
      return scoring.scores(names, 0, batch, keys, faults)

    yield from level_maps.write(
      self.context,
      artefacts,
      self.unit_name(shard),
      lambda size: self._left(shard, before, size),
      score,
    )

  def _left(self, shard: Shard, before: Run, size: int) -> Iterator[Mapping]:
    """Yields batches of what the run before has left of the images.

    What is gone keeps its place in the ranking: first where the most important
    values are removed, last where they are kept.
    """
    context, ranking = self.context, shard.inputs['ranking before']
    part, cell = (shard.split, shard.index, size), before.cell
    for batch, ranked in zip(
      context.batches(ORIGINAL, context.source.layout, *part),
      context.batches(ranking.config, ranking.layout, *part),
      strict=True,
    ):
      check_same_ids(context.source, cell.ranking, batch, ranked)
      levels, keys = ranked['levels'], randomness.keys_of_ids(batch['id'])
      gone = masking.removed_by(levels, cell.threshold, cell.mode)
      left = gone if cell.mode == 'keep' else tf.logical_not(gone)
      yield {
        **batch,
        'image': self._data.masked(cell, batch['image'], levels, keys),
        level_maps.GROUPS: tf.cast(left, tf.int8),
      }


class _Retrained:
  """The model of one run, as `Scoring` asks the stage model for one."""

  def __init__(self, training_: training.Training, directory: str):
    self._trainer = training_.trainer('retrained')
    self._directory = directory

  def load(self, number: int):
    """Returns the model as a Keras model with its weights."""
    from roar_tf.models import stateless

    del number
    weights = training.load_weights(f'{self._directory}/{training.WEIGHTS}')
    return stateless.assign(self._trainer.build(), weights)

  def scaling(self) -> Callable:
    """Returns the function from images of 0..255 to what the model takes."""
    return self._trainer.normalise
