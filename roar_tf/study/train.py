"""Stage train: one unit per run, most of which retrain a model from scratch.

A run of input `deletion` trains nothing: it tests the explained model on masked
images, the older way to judge estimators (paper, section 3 and Fig. 3). That
confuses what a model misses with what it has never seen, since masked images
are none of those it was trained on; it is reported beside retraining.
"""

import os
from collections.abc import Iterator, Sequence

from roar_tf import engine, errors
from roar_tf.engine import markers
from roar_tf.estimators import registry
from roar_tf.study import costs, shards, training
from roar_tf.study.context import Context
from roar_tf.study.data import Data
from roar_tf.study.dataset import Dataset, StudyStage
from roar_tf.study.grid import Run
from roar_tf.study.model import Model
from roar_tf.study.rank import Rank
from roar_tf.study.rerank import Rerank
from roar_tf.study.source import Source
from roar_tf.training.clock import Clock


class Train(StudyStage):
  """Trains and tests a model for every run."""

  name = 'train'
  version = 2

  def __init__(
    self,
    context: Context,
    source: Source,
    model: Model,
    rank: Rank,
    shards_: shards.Shards,
    data: Data,
    training_: training.Training,
  ):
    self._context, self._source, self._model = context, source, model
    self._rank, self._shards = rank, shards_
    self._rerank = None
    self._data, self._training = data, training_
    study = context.experiment.study
    self._masking = study.masking if study else 'shards'
    if study and study.protocol == 'recursive':
      self._rerank = Rerank(
        context, source, rank, data, training_, self.artefact
      )
    self._runs: dict[str, tuple[int, Run]] = {}

  def directory(self, run: Run) -> str:
    """Returns the directory of a run."""
    return self._context.workspace.run(
      run.study, run.source, run.folder, run.seed
    )

  def artefact(self, run: Run) -> engine.Artefact:
    """Returns a run as an artefact.

    Its masked dataset is among the inputs where the study reads shards: it is
    an intermediate one, of which the fingerprint says nothing.

    Raises:
      UsageError: the model that a cell's estimator explains is to be tested,
        and is elsewhere; or as `Rank.ranking`.
    """
    experiment, cell = self._context.experiment, run.cell
    settings, inputs = {}, {'original': self._source.original}
    if run.trains:
      settings |= experiment.retrained.settings(experiment.retrained_model)
      settings['seed'] = run.seed
    else:
      inputs['explained model'] = self._model.explained()
    if run.input != 'image':
      settings['input'] = run.input
    if self._is_explained(run):  # Its weights are kept.
      settings['Study.protocol'] = run.protocol
    if cell:
      settings |= shards.settings(cell)
      inputs['ranking'] = self._ranking(run)
      if not run.trains and registry.find(cell.estimator) is None:
        raise errors.UsageError(
          f'{run}: the model that "{cell.estimator}" explains is elsewhere, so '
          'that it cannot be tested here; leave out input "deletion".'
        )
      # No other run would read shards that are masked by a run's own ranking.
      is_own = bool(self._rerank and self._rerank.before(run))
      if self._masking == 'shards' and run.reads_cell and not is_own:
        inputs['masked images'] = self._shards.masked(cell)
    marker = f'{self.directory(run)}/{markers.DONE}'
    self._runs.setdefault(marker, (len(self._runs), run))
    return engine.Artefact(marker, self, settings, inputs)

  def _ranking(self, run: Run) -> Dataset:
    """Returns the ranking that a run's images are masked by."""
    return self._rerank.of(run) if self._rerank else self._rank.of(run.cell)

  def _is_explained(self, run: Run) -> bool:
    """Returns whether the model of a run is explained for another one."""
    return bool(
      self._rerank and run.input == 'image' and self._rerank.explains(run)
    )

  def check(self) -> None:
    """See `engine.Stage`: builds the model."""
    self._training.check('retrained')

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    """Returns one unit a run."""
    numbered = [(*self._runs[a.marker], a) for a in artefacts]
    return [
      engine.Unit(str(run), (artefact,), self.run, number)
      for number, run, artefact in numbered
    ]

  def cost(
    self,
    pending: Sequence[engine.Artefact],
    finished: Sequence[engine.Artefact],
    snapshot: engine.Snapshot,
  ) -> costs.Cost:
    """Returns what unfinished runs take; steps in checkpoints are done.

    Args:
      pending: unfinished runs.
      finished: finished ones.
      snapshot: the workspace.
    """
    from roar_tf.training import checkpoint

    del finished
    experiment, source = self._context.experiment, self._context.source
    tested = costs.of_test(source.count('test'))
    steps = experiment.retrained.steps(source.count('train'))
    each = []
    for artefact in pending:
      each.append(tested)
      if self._runs[artefact.marker][1].trains:
        left = steps
        directory = f'{os.path.dirname(artefact.marker)}/checkpoints'
        if snapshot.exists(directory):
          left -= checkpoint.newest_step(directory)
        each.append(costs.Cost(trainings=1, steps=left))
    return costs.total(each)

  def run(self, artefacts: Sequence[engine.Artefact]) -> Iterator[engine.Made]:
    """Trains and tests, or only tests, and yields the run."""
    (artefact,) = artefacts
    _, run = self._runs[artefact.marker]
    directory = os.path.dirname(artefact.marker)
    make = self._retrain if run.trains else self._delete
    measured = make(run, directory, artefact)
    names = training.CHECKED
    if self._is_explained(run):
      names = (*names, training.WEIGHTS)
    yield engine.Made(
      artefact, self._training.facts(directory, names), measured
    )
    self._training.clean(directory)

  def _retrain(self, run: Run, directory: str, artefact) -> dict:
    state, measured = self._training.run(
      'retrained',
      self._data.examples(run.cell, _ranking(artefact), run.input),
      # The cell is part of the seed, so that runs of different cells are
      # independent, as the statistics assume.
      ('run', run.source, run.folder, run.seed),
      directory,
      artefact.fingerprint(markers.read),
    )
    if self._is_explained(run) and self._context.devices.is_chief:
      training.save_weights(directory, state)
    return measured

  def _delete(self, run: Run, directory: str, artefact) -> dict:
    """Tests the explained model on the masked test images of a cell."""
    with Clock() as clock:
      ranking = _ranking(artefact)
      examples = self._data.examples(run.cell, ranking, splits=('test',))
      evaluation = self._model.evaluate(examples['test'])
    return self._training.write_outcome(
      directory, evaluation, examples['test'], 0, clock.timing
    )


def _ranking(artefact: engine.Artefact) -> Dataset | None:
  """Returns what a run masks images by, unless it reads masked ones."""
  inputs = artefact.inputs
  return None if 'masked images' in inputs else inputs.get('ranking')
