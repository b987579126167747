"""What is left of a study: units of every stage, and the work inside them.

One definition for `roar_study --dry_run` and `roar_preflight`. Units and their
markers are those of the pipeline; nothing here knows how a stage works, only
what its units say that they make.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence

import tensorflow as tf

from roar_tf import workspace
from roar_tf.cells import ORIGINAL
from roar_tf.estimators import Plan, registry
from roar_tf.study import (
  pipeline,
  rank_stage,
  report_stage,
  train_stage,
  trainings,
)
from roar_tf.study.experiment import Experiment
from roar_tf.study.units import Target, Unit
from roar_tf.training import checkpoint

RECORD = 16
"""Bytes that a TFRecord takes beside its data: a length and two checksums."""


@dataclasses.dataclass(frozen=True)
class Tally:
  """Units of one stage.

  Attributes:
    stage: its name.
    done: units whose artefacts are there.
    left: units to be made.
  """

  stage: str
  done: int = 0
  left: int = 0


@dataclasses.dataclass
class Records:
  """Records of one kind of dataset.

  Attributes:
    left: to be written.
    done: those that are there.
    done_bytes: their bytes on disk.
  """

  left: int = 0
  done: int = 0
  done_bytes: int = 0


@dataclasses.dataclass
class Amount:
  """How much there is to compute on one source.

  Attributes:
    runs: retrainings.
    steps: training steps of all of them together.
    explained_steps: steps of the explained model's training.
    explained_models: 1 if it is to be made, trained or given.
    evaluations: models that classify the test images.
    test_images: how many those are.
    train_images: size of the train split.
    images_loaded: images that are read, cell by cell, before a model is trained
      or tested on them.
    explained_images: images that some gradient estimator explains.
    gradient_evaluations: of all of them together.
    padded_evaluations: likewise, with those that fill up the last batches.
    units: units to be made by stage, without those that complete a dataset.
    datasets: datasets to be completed, by stage.
    records: what stages write, by (stage, kind): `original`, the granularity
      of a ranking, `cell`.
  """

  runs: int = 0
  steps: int = 0
  explained_steps: int = 0
  explained_models: int = 0
  evaluations: int = 0
  test_images: int = 0
  train_images: int = 0
  images_loaded: int = 0
  explained_images: int = 0
  gradient_evaluations: int = 0
  padded_evaluations: int = 0
  units: dict[str, int] = dataclasses.field(default_factory=dict)
  datasets: dict[str, int] = dataclasses.field(default_factory=dict)
  records: dict[tuple[str, str], Records] = dataclasses.field(
    default_factory=dict
  )

  @property
  def is_empty(self) -> bool:
    """Whether there is nothing to do."""
    every = (*self.units.values(), *self.datasets.values())
    return not (self.evaluations or any(every))

  def left(self, stage: str) -> int:
    """Returns the records that a stage has to write."""
    return sum(r.left for (s, _), r in self.records.items() if s == stage)


def gradient_evaluations(experiment: Experiment, names) -> int:
  """Returns gradient evaluations per image of some estimators together."""
  needing = [n for n in names if registry.parse(n).base.needs_model]
  if not needing:
    return 0
  return Plan(needing, experiment.attribution).gradient_evaluations


def whole(experiment: Experiment) -> Amount:
  """Returns what a study has to compute on one source from nothing.

  Without what only a workspace tells: units and records.
  """
  source = experiment.source
  train, test = source.count('train'), source.count('test')
  runs = experiment.study.runs(source.name)
  retrained = sum(run.trains for run in runs)
  explained = gradient_evaluations(experiment, experiment.study.estimators)
  trained = bool(explained) and not experiment.given
  return Amount(
    runs=retrained,
    steps=retrained * experiment.retrained.steps(train),
    explained_steps=experiment.explained.steps(train) if trained else 0,
    explained_models=int(bool(explained)),
    evaluations=len(runs) + bool(explained),
    test_images=test,
    train_images=train,
    explained_images=(train + test) if explained else 0,
    gradient_evaluations=(train + test) * explained,
  )


def left(
  works: Sequence[pipeline.Work], stages: Sequence[str], explaining: int = 1
) -> tuple[list[Tally], dict[str, Amount]]:
  """Returns what is left of a study.

  Args:
    works: the study, source by source.
    stages: those that are to be run.
    explaining: devices that share a batch of images to be explained.

  Returns:
    A tally per stage, and the amounts by the names of sources.

  Raises:
    UsageError: an artefact was made with other settings; it is named.
  """
  amounts = {}
  tallies = {stage: Tally(stage) for stage in stages}
  for work in works:
    counter = _Counter(work, explaining)
    for stage in stages:
      if stage != 'report':
        done, to_do = counter.count(stage, spare='train' not in stages)
        tallies[stage] = Tally(
          stage, tallies[stage].done + done, tallies[stage].left + to_do
        )
    amounts[work.context.experiment.source.name] = counter.amount
  if 'report' in stages:
    more = 'train' in stages and tallies['train'].left > 0
    stale = _report_is_stale(works, more)
    tallies['report'] = Tally('report', int(not stale), int(stale))
  return list(tallies.values()), amounts


def _report_is_stale(works: Sequence[pipeline.Work], more: bool) -> bool:
  """Whether the report will be made, `more` runs having been made before.

  A run that is made again is the same, so that its report stays valid.
  """
  (unit,) = report_stage.units(works)
  if not more:
    return bool(unit.pending())
  (target,) = unit.targets
  done = workspace.read_done(target.done)
  runs = {str(run) for work in works for run in work.chosen_runs}
  finished = {
    name for name, marker in target.inputs.items() if tf.io.gfile.exists(marker)
  }
  return not done or set(done['fingerprint']['inputs']) != finished | runs


class _Counter:
  """Counts the work of one source, stage by stage."""

  def __init__(self, work: pipeline.Work, explaining: int):
    self._work = work
    self._context = work.context
    self._size = (
      rank_stage.images_per_call(work.context.experiment) * explaining
    )
    self._markers = workspace.Listings()
    # The names of shard files do not depend on the dataset.
    self._parts = {
      os.path.basename(work.context.shard_done(ORIGINAL, *part)): part
      for part in work.context.all_shards()
    }
    self._evaluations = functools.cache(
      lambda names: gradient_evaluations(work.context.experiment, names)
    )
    source = work.context.experiment.source
    self.amount = Amount(
      test_images=source.count('test'), train_images=source.count('train')
    )

  def count(self, stage: str, spare: bool) -> tuple[int, int]:
    """Adds a stage to the amount, and returns its units (done, left).

    Args:
      stage: its name.
      spare: whether datasets are made that no run will read.
    """
    work = self._work
    if stage == 'shards' and not spare:
      work = work.without_spare_cells(self._markers.__contains__)
    units = work.units(stage)
    runs = work.chosen_runs if stage == 'train' else [None] * len(units)
    done = 0
    read = {}
    for unit, run in zip(units, runs, strict=True):
      missing = [t for t in unit.targets if not self._is_there(t)]
      if stage in ('source', 'rank', 'shards'):
        self._add_records(stage, unit, missing)
      if not missing:
        done += 1
      elif stage == 'model':
        self._add_model()
      elif stage == 'train':
        read[run.cell, run.input] = self._loaded(run.trains)
        self._add_run(run)
    self.amount.images_loaded += sum(read.values())
    return done, len(units) - done

  def _is_there(self, target: Target) -> bool:
    if target.done not in self._markers:
      return False
    target.check_settings()
    return True

  def _add_model(self) -> None:
    experiment, amount = self._context.experiment, self.amount
    amount.explained_models = 1
    amount.evaluations += 1
    amount.images_loaded += self._loaded(True)
    if not experiment.given:
      amount.explained_steps += experiment.explained.steps(amount.train_images)

  def _add_run(self, run) -> None:
    amount = self.amount
    amount.evaluations += 1
    if not run.trains:
      return
    place = train_stage.directory(self._context, run)
    steps = self._context.experiment.retrained.steps(amount.train_images)
    amount.runs += 1
    amount.steps += steps - checkpoint.newest_step(f'{place}/checkpoints')

  def _loaded(self, trains: bool) -> int:
    """Returns how many images are read before a model sees some of them.

    Of a split that streams from disk, labels and ids of the test images.
    """
    source, amount = self._context.experiment.source, self.amount
    if trains and trainings.fit_memory(source, amount.train_images):
      return amount.train_images + amount.test_images
    return amount.test_images

  def _add_records(self, stage: str, unit: Unit, missing) -> None:
    amount = self.amount
    if unit.shared:
      amount.datasets[stage] = amount.datasets.get(stage, 0) + bool(missing)
      return
    amount.units[stage] = amount.units.get(stage, 0) + bool(missing)
    lacking = {target.done for target in missing}
    for target in unit.targets:
      records = amount.records.setdefault(
        (stage, _kind(stage, target)), Records()
      )
      if target.done in lacking:
        records.left += self._records(target)
      else:
        contents = workspace.require(target.done)['contents']
        records.done += contents['records']
        records.done_bytes += contents['bytes'] + RECORD * contents['records']
    if stage == 'rank' and missing:
      self._add_gradients(missing)

  def _add_gradients(self, missing: Sequence[Target]) -> None:
    names = dict.fromkeys(t.settings['estimator'] for t in missing)
    each = self._evaluations(tuple(names))
    images = self._records(missing[0])
    self.amount.explained_images += images if each else 0
    self.amount.gradient_evaluations += images * each
    self.amount.padded_evaluations += (
      -(-images // self._size) * self._size * each
    )

  def _records(self, target: Target) -> int:
    """Returns how many images the shard of a target has."""
    context = self._context
    split, index = self._parts[os.path.basename(target.done)]
    if context.shard_done(ORIGINAL, split, index) in self._markers:
      return context.records(split, index)
    return self._bounds[split][index]

  @functools.cached_property
  def _bounds(self) -> dict[str, list[int]]:
    source = self._context.experiment.source
    return {
      split: [stop - start for start, stop in source.shard_bounds(split)]
      for split in ('train', 'test')
    }


def _kind(stage: str, target: Target) -> str:
  return {
    'source': ORIGINAL,
    'rank': target.settings.get('granularity'),
    'shards': 'cell',
  }[stage]
