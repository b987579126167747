"""How ROAR is wired: its stages, in the order of section 3 of the paper.

A source is cropped once. A model is trained on it, and explained. Estimators
rank the pixels of every train and test image by importance. The most important
ones are replaced. Models are retrained from random initialisation on what is
left, and the report compares their accuracies with those of random removal.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from roar_tf import engine, errors
from roar_tf.cells import Cell
from roar_tf.study.context import Context, environment, facts
from roar_tf.study.data import Data, check_fills
from roar_tf.study.grid import Run, Study
from roar_tf.study.looks import Looks
from roar_tf.study.model import Model
from roar_tf.study.rank import Rank
from roar_tf.study.report import Report
from roar_tf.study.shards import Shards
from roar_tf.study.source import Source
from roar_tf.study.train import Train
from roar_tf.study.training import Training

TOGETHER = ('model', 'train')
"""Stages whose units all hosts of one program share; the first does the rest,
while the others wait. (Several programs share units by --worker.)"""


class Stages:
  """The stages of one source."""

  def __init__(self, context: Context):
    self.context = context
    self.data = Data(context)
    training = Training(context)
    self.source = Source(context)
    self.model = Model(context, self.source, self.data, training)
    self.rank = Rank(context, self.source, self.model)
    self.shards = Shards(context, self.source, self.rank, self.data)
    self.train = Train(
      context,
      self.source,
      self.model,
      self.rank,
      self.shards,
      self.data,
      training,
    )

  def __iter__(self) -> Iterator[engine.Stage]:
    """Yields the stages, each behind those that it reads from."""
    return iter(dict.fromkeys(_with_those_before(self.train)))

  @property
  def names(self) -> list[str]:
    """The names of the stages, in their order."""
    return list(dict.fromkeys(stage.name for stage in self))

  def check(self, cells: Iterable[Cell]) -> None:
    """Refuses cells that the source and its rankings cannot give.

    Raises:
      UsageError: a fill does not suit the images, a threshold is no cut, or
        an estimator is unknown.
    """
    cells, mistakes = list(cells), errors.Mistakes()
    with mistakes.noted():
      check_fills(self.context.source, cells)
    for cell in cells:
      with mistakes.noted():
        self.context.experiment.ranking.check_threshold(cell.threshold)
      with mistakes.noted():
        self.rank.of(cell)
    mistakes.check()


def _with_those_before(stage: engine.Stage) -> Iterator[engine.Stage]:
  """Yields the stages that a stage knows, and then itself."""
  for value in vars(stage).values():
    if isinstance(value, engine.Stage):
      yield from _with_those_before(value)
  yield stage


class Pipeline:
  """A study over all of its sources, in one workspace.

  Attributes:
    stages: those of every source.
    runs: all runs, numbered by their place in this list.
    looks: those of a sequential study, else None.
    report: the stage of the report.
  """

  def __init__(self, contexts: Sequence[Context]):
    self.stages = [Stages(context) for context in contexts]
    self._of_source = {each.context.source.name: each for each in self.stages}
    self.runs: list[Run] = []
    mistakes = errors.Mistakes()
    for each in self.stages:
      experiment = each.context.experiment
      with mistakes.noted():
        each.check(experiment.study.cells())
      self.runs += experiment.study.runs(
        experiment.source.name, experiment.seed
      )
    mistakes.check()
    self.looks = (
      Looks(self.stages, self.runs)
      if self.study.design == 'sequential'
      else None
    )
    self._chosen: Sequence[Run] | None = None
    self.report = Report(self.stages, self.runs, self.looks)

  @property
  def chosen(self) -> Sequence[Run]:
    """The runs that are to be made: those asked for, or all that are due."""
    if self._chosen is not None:
      return self._chosen
    return self.looks.due() if self.looks else self.runs

  @property
  def is_whole(self) -> bool:
    """Whether no single runs are asked for."""
    return self._chosen is None

  @property
  def context(self) -> Context:
    """The first source's context, for what all sources have in common."""
    return self.stages[0].context

  @property
  def study(self) -> Study:
    """The axes of the study."""
    return self.context.experiment.study

  def source_of(self, stage: engine.Stage) -> str:
    """Returns the source that a stage belongs to; '' for the report."""
    sources = self._of_source.items()
    return next((name for name, each in sources if stage in each), '')

  def of(self, run: Run) -> Stages:
    """Returns the stages of a run's source."""
    return self._of_source[run.source]

  @property
  def names(self) -> list[str]:
    """The names of the stages, in their order."""
    looks = [self.looks.name] if self.looks else []
    return [*self.stages[0].names, *looks, self.report.name]

  # --- goals -----------------------------------------------------------------

  def goals(
    self, stage: str | None = None, report: bool = True
  ) -> list[engine.Artefact]:
    """Returns what a command asks the engine for.

    Args:
      stage: only what this stage makes of the study.
      report: whether the report is asked for, too.
    """
    chosen = self.chosen
    runs = [self.of(run).train.artefact(run) for run in chosen]
    if self.looks and self.is_whole:
      runs.append(self.looks.artefact(self.looks.current()))
    if stage is None:
      return [*runs, self.report.artefact] if report else runs
    if stage == self.report.name:
      return [self.report.artefact]
    if stage not in self.names:
      raise errors.UsageError(
        f'--stage={stage}: there is no such stage.'
        f'{errors.nearest(stage, self.names)} Known: {", ".join(self.names)}.'
      )
    return [a for a in engine.behind(runs) if a.stage.name == stage]

  def first(
    self, goals: Iterable[engine.Artefact], within: Collection[str] | None
  ) -> list[engine.Artefact]:
    """Returns what the first unfinished unit of every stage makes.

    Args:
      goals: what is asked for.
      within: names of the stages that count; None for all.
    """
    snapshot = engine.Snapshot(self.context.workspace.root)
    return engine.Graph(goals, snapshot, within=within).first()

  def numbered(self) -> Iterator[tuple[int, Run]]:
    """Yields (number, run) of the runs asked for, due or not."""
    chosen = set(self.runs if self.is_whole else self._chosen)
    yield from (
      (number, run) for number, run in enumerate(self.runs) if run in chosen
    )

  def choose_number(self, number: int) -> None:
    """Chooses one run, by the number that --list prints.

    Raises:
      UsageError: there is no such run.
    """
    if not 0 <= number < len(self.runs):
      raise errors.UsageError(
        f'--run={number}: the study has {len(self.runs)} runs, numbered from 0 '
        f'to {len(self.runs) - 1}; --list prints them.'
      )
    self._chosen = [self.runs[number]]

  def choose(self, conditions: Sequence[str]) -> None:
    """Chooses the runs of which all conditions hold.

    Args:
      conditions: texts such as `estimator:grad,threshold:90`. Values of one key
        are alternatives, and different keys must all hold. A value is what
        results.csv says in the column of that name; the estimator of the
        unmodified images is `original`.

    Raises:
      UsageError: no key, or nothing of the study, is called so.
    """
    columns = {run: run.columns for run in self.runs}
    keys = [key for key in self.runs[0].columns if key != 'study']
    wanted = _parsed(conditions, keys)
    for key, values in wanted.items():
      known = list(dict.fromkeys(str(c[key]) for c in columns.values()))
      for value in values:
        if value not in known:
          raise errors.UsageError(
            f'--only={key}:{value}: no run of the study has that {key}.'
            f'{errors.nearest(value, known)} Known: '
            f'{", ".join(filter(None, known))}.'
          )
    self._chosen = [
      run
      for run, column in columns.items()
      if all(str(column[key]) in values for key, values in wanted.items())
    ]
    if not self._chosen:
      raise errors.UsageError(
        f'--only={",".join(conditions)}: the study has runs with each of '
        'these, and none with all of them; --list prints all runs.'
      )


def _parsed(
  conditions: Sequence[str], keys: Sequence[str]
) -> dict[str, list[str]]:
  """Returns the values asked for, by key."""
  wanted: dict[str, list[str]] = {}
  for part in ','.join(conditions).split(','):
    key, colon, value = (word.strip() for word in part.partition(':'))
    if not (colon and value):
      raise errors.UsageError(
        f'--only={",".join(conditions)}: "{part}" is not KEY:VALUE, as in '
        '--only=estimator:grad,threshold:90.'
      )
    if key not in keys:
      raise errors.UsageError(
        f'--only={part}: there is no key "{key}".{errors.nearest(key, keys)} '
        f'Known: {", ".join(keys)}.'
      )
    wanted.setdefault(key, []).append(value)
  return wanted


@dataclasses.dataclass(frozen=True)
class Workforce:
  """Who works on goals, and who is told: what all commands have in common.

  Attributes:
    pool: returns the pool, given the context, when there is something to do.
    share: which units are this process's.
    observers: who is told of every unit.
    stop: whether a signal asked to stop.
  """

  pool: Callable[[Context], engine.Pool]
  share: engine.Share = engine.Share()
  observers: Sequence[engine.Observer] = ()
  stop: Callable[[], bool] = lambda: False

  def make(
    self,
    context: Context,
    goals: Iterable[engine.Artefact],
    within: Collection[str] | None = None,
    trusts: bool = False,
  ) -> None:
    """Makes goals in the workspace of a context; see `engine.make`."""
    engine.make(
      goals,
      engine.Snapshot(context.workspace.root),
      functools.partial(self.pool, context),
      within=within,
      trusts=trusts,
      share=self.share,
      observers=self.observers,
      stop=self.stop,
    )


def local_pool(context: Context, parallel: int | None = 1) -> engine.Pool:
  """Returns what runs units in this process, and on the hosts it belongs to.

  Args:
    context: it says which devices there are.
    parallel: see `side_by_side`.

  Raises:
    UsageError: hosts that share the work see different code of the user's own.
  """
  devices = context.devices
  local = len(devices.local_replicas)
  if devices.hosts > 1:
    code = zlib.crc32(repr(context.experiment.code).encode()) % (1 << 20)
    if len({*devices.everywhere(code)}) > 1:
      raise errors.UsageError(
        'the hosts of TF_CONFIG see different source code of estimators, '
        'models or datasets of your own: let all of them see the same files.'
      )
    return engine.LockstepPool(
      TOGETHER, devices.is_chief, devices.barrier, facts, local
    )
  # One unit uses all devices of a strategy that shares every batch.
  size = 1 if devices.replicas > 1 else side_by_side(parallel)
  return engine.ThreadPool(size, facts, local)


def side_by_side(parallel: int | None) -> int:
  """Returns how many units run side by side, where each takes one device.

  Args:
    parallel: what a user asks for; None for one on an accelerator, and one a
      core on a CPU.
  """
  if parallel is not None:
    return parallel
  return engine.cores() if environment()['device'] == 'CPU' else 1
