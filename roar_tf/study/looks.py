"""Looks of the sequential design: which runs are due, and what is decided.

The runs of such a study are those of all looks, and most are never made. What
is due until a look follows from what the looks before it decided: everything
that does not compete, random with all of its seeds, and of the comparisons that
are still undecided the seeds of this look. A look is an artefact made of these
runs: a pure function of them, so that any process may decide it. Its
fingerprint holds margin, nodes and all else that must be fixed beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from roar_tf import engine, errors
from roar_tf.cells import Cell
from roar_tf.engine import files, markers
from roar_tf.study import finished
from roar_tf.study.context import Context
from roar_tf.study.costs import REPORT, Cost
from roar_tf.study.grid import Run, Study

DECISIONS = 'decisions.json'


class Looks(engine.Stage):
  """Decides one look after the other."""

  name = 'look'
  version = 2

  def __init__(self, stages: Sequence, runs: Sequence[Run]):
    """Describes the looks of a study.

    Args:
      stages: the `stages.Stages` of every source.
      runs: all runs of the study.

    Raises:
      UsageError: the study has no random to compare with.
    """
    self._of_source = {each.context.source.name: each for each in stages}
    self._context: Context = stages[0].context
    self._runs = runs
    self._study: Study = self._context.experiment.study
    if self._study.random not in self._study.estimators:
      raise errors.UsageError(
        'gin parameter Study.design = "sequential" compares with random: add '
        '"random" to Study.estimators.'
      )
    self._numbers: dict[str, int] = {}

  @property
  def last(self) -> int:
    """The number of the last look that there may be."""
    return len(self._study.looks)

  def directory(self, number: int) -> str:
    """Returns where a look is, or will be."""
    return self._context.workspace.look(self._study.name, number)

  def artefact(self, number: int) -> engine.Artefact:
    """Returns a look; those before it must be decided."""
    study = self._study
    marker = f'{self.directory(number)}/{markers.DONE}'
    self._numbers[marker] = number
    inputs = {str(run): self._run(run) for run in self.due(number)}
    settings = {
      'look': number,
      'Study.margin': study.margin,
      'Study.comparisons': study.family,
      'Study.thresholds': list(study.thresholds),
      'Study.looks': list(study.looks),
      'Study.spending': list(study.spending),
      'Study.random_seeds': _random_seeds(study),
    }
    if study.explained_models > 1:
      settings['Study.explained_models'] = study.explained_models
    return engine.Artefact(marker, self, settings, inputs, varies=True)

  def _reached(self) -> tuple[int, list[Run], bool]:
    """Returns the current look, the runs until it, and whether it is decided.

    A look is there if it was made of the runs that are due until it. One that
    lacks an estimator which was added is decided anew. What it has decided it
    decides in the same way again, since those runs are the same, and it was
    said beforehand over how many comparisons.
    """
    running: dict[int, set | None] = {1: None}  # All of them.
    for number in range(1, self.last + 1):
      due = self._due(running)
      marker = markers.read(f'{self.directory(number)}/{markers.DONE}')
      made_of = marker['fingerprint']['inputs'].keys() if marker else set()
      if made_of != set(map(str, due)):
        return number, due, False
      running[number + 1] = self.undecided(number)
      if not running[number + 1]:
        break
    return number, due, True

  def current(self) -> int:
    """Returns the number of the look that is due, or the last there was.

    It is the last where every comparison is decided, or no look is left.
    """
    return self._reached()[0]

  def is_over(self) -> bool:
    """Returns whether nothing is due any more."""
    return self._reached()[2]

  def is_decided(self, number: int) -> bool:
    """Returns whether a look is there, and all before it."""
    current, _, is_over = self._reached()
    return number < current or (number == current and is_over)

  def undecided(self, number: int) -> set[tuple[str, ...]]:
    """Returns the comparisons that a look has left undecided.

    Each is (source, mode, granularity, fill, estimator).

    Raises:
      DataError: the look is damaged.
    """
    path = f'{self.directory(number)}/{DECISIONS}'
    return {
      tuple(one['comparison'])
      for one in markers.content_json(path)['decisions']
      if one['word'] == 'undecided'
    }

  def due(self, number: int | None = None) -> list[Run]:
    """Returns the runs until a look, by default the current one."""
    if number is None:
      return self._reached()[1]
    before = {look: self.undecided(look - 1) for look in range(2, number + 1)}
    return self._due({1: None, **before})

  def _due(self, running: Mapping[int, set | None]) -> list[Run]:
    """Returns the runs until a look.

    Args:
      running: by look, until that one, the comparisons that it still makes;
        None for all.
    """
    first = self._context.experiment.seed

    def is_due(run: Run) -> bool:
      cell = run.cell
      if cell is None or run.input != 'image' or not self._study.competes(cell):
        return True
      comparison = _comparison(run.source, cell)
      return any(
        run.seed - first < self._study.seeds_of(cell, look)
        and (left is None or comparison in left)
        for look, left in running.items()
      )

    return [run for run in self._runs if is_due(run)]

  def __str__(self):
    """Returns what is due, for --dry_run and --status."""
    number, due, is_over = self._reached()
    if is_over:
      return (
        f'Every comparison is decided, or no look is left: look {number} of '
        f'{self.last} was the last, of {len(due)} runs.'
      )
    return (
      f'Look {number} of {self.last} is due: {len(due)} runs until then, which '
      f'is the least that the study takes; at most it takes {len(self._runs)}.'
    )

  # --- the engine's ----------------------------------------------------------

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    """Returns one unit a look, which the worker that finishes last does."""
    return [
      engine.Unit(
        f'look {self._numbers[artefact.marker]} of {self._study.name}',
        (artefact,),
        self.run,
        number,
        light=True,
      )
      for number, artefact in enumerate(artefacts)
    ]

  def remedy(self, artefact: engine.Artefact) -> str:
    """What a look was decided by must not change afterwards."""
    del artefact
    return (
      'give the study another name: a look is decided by what was fixed before '
      'it, and estimators may be added where Study.comparisons left room for '
      'them'
    )

  def cost(self, pending, finished, snapshot) -> Cost:
    """Returns what undecided looks take."""
    del finished, snapshot
    return Cost(bytes=REPORT * len(pending))

  def run(self, artefacts: Sequence[engine.Artefact]) -> Iterator[engine.Made]:
    """Decides a look and writes its decisions."""
    from roar_tf.analysis import judging

    (artefact,) = artefacts
    number = self._numbers[artefact.marker]
    runs = finished.read({run: self._run(run) for run in self.due(number)})
    if runs.excluded:
      raise errors.PartsFailedError('\n'.join(runs.excluded))
    evidence = self.evidence(runs)
    decisions = [
      {
        'comparison': list(judged.curve),
        'word': judged.word,
        'look': judged.look,
        'lead': list(judged.lead),
        'seeds': judged.seeds,
        'spent': judged.spent,
      }
      for judged in judging.judge(evidence)
      if judged.member
    ]
    path = f'{self.directory(number)}/{DECISIONS}'
    files.publish_json(
      path,
      {
        'comparisons': evidence.comparisons,
        'margin': self._study.margin,
        'nodes': list(self._study.thresholds),
        'decisions': decisions,
      },
    )
    yield engine.Made(
      artefact, {'files': files.checksums(self.directory(number), [DECISIONS])}
    )

  def evidence(self, runs: finished.FinishedRuns):
    """Returns the evidence of some runs, under the rules of the study."""
    from roar_tf.analysis.evidence import Evidence
    from roar_tf.study import report

    chances = {
      name: report.chance(each.context)
      for name, each in self._of_source.items()
    }
    return Evidence(
      runs.frame,
      chances,
      rules(self._context),
      [run.columns for run in self._runs],
      finished.correct(runs.answers),
    )

  def _run(self, run: Run) -> engine.Artefact:
    return self._of_source[run.source].train.artefact(run)


def rules(context: Context):
  """Returns how a study is judged (`analysis.evidence.Rules`)."""
  from roar_tf.analysis.evidence import Rules

  study = context.experiment.study
  rules = Rules(
    study.margin, study.family, study.fills[0], tuple(study.thresholds)
  )
  if study.design == 'fixed':
    return rules
  return dataclasses.replace(
    rules,
    looks=tuple(study.looks),
    spending=tuple(study.spending),
    random_seeds=_random_seeds(study),
    first_seed=context.experiment.seed,
  )


def _random_seeds(study: Study) -> int:
  random = next(c for c in study.cells() if c.estimator == study.random)
  return study.seeds_of(random)


def _comparison(source: str, cell: Cell) -> tuple[str, ...]:
  return source, cell.mode, cell.granularity, cell.fill, cell.estimator
