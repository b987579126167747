"""Stage report: the runs of a study to tables, figures and one page."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from roar_tf import engine, errors
from roar_tf.datasets.source import SPLITS
from roar_tf.engine import files, markers, progress
from roar_tf.study import finished, pieces
from roar_tf.study.context import Context, environment
from roar_tf.study.costs import REPORT, Cost
from roar_tf.study.grid import Run
from roar_tf.study.looks import Looks, rules


class Report(engine.Stage):
  """Makes the report of one study over its sources.

  A report is made from the runs that are there and says which are missing; it
  is made anew whenever more have finished. Runs that are damaged or of another
  configuration are left out and named, in the report and by the failure of its
  unit, until they are mended. (What is damaged after the report is finished,
  `roar_shards --verify` tells.)
  """

  name = 'report'
  version = 4

  def __init__(
    self, stages: Sequence, runs: Sequence[Run], looks: Looks | None = None
  ):
    """Describes a report.

    Args:
      stages: the `stages.Stages` of every source.
      runs: all runs of the study, whatever is chosen to be made.
      looks: those of a sequential study.
    """
    self._looks = looks
    self._contexts = [each.context for each in stages]
    self._of_source = {each.context.source.name: each for each in stages}
    self._runs = runs
    first = self._contexts[0]
    self._study = first.experiment.study
    self.folder = first.workspace.report(self._study.name)

  @functools.cached_property
  def artefact(self) -> engine.Artefact:
    """The report."""
    first = self._contexts[0]
    settings = {
      'runs': [str(run) for run in self._runs],
      'margin': self._study.margin,
      'comparisons': self._study.family,
    }
    if first.price_per_hour is not None:
      settings['price_per_hour'] = first.price_per_hour
    return engine.Artefact(
      f'{self.folder}/{markers.DONE}',
      self,
      settings,
      soft_inputs={
        str(run): artefact for run, artefact in self._artefacts.items()
      },
    )

  @functools.cached_property
  def _artefacts(self) -> dict[Run, engine.Artefact]:
    return {
      run: self._of_source[run.source].train.artefact(run) for run in self._runs
    }

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    """Returns one unit, which the worker that finishes last does."""
    name = f'report of {self._study.name}'
    return [engine.Unit(name, tuple(artefacts), self.run, light=True)]

  def cost(self, pending, finished, snapshot) -> Cost:
    """Returns what an unfinished report takes."""
    del finished, snapshot
    return Cost(bytes=REPORT * len(pending))

  def run(self, artefacts: Sequence[engine.Artefact]) -> Iterator[engine.Made]:
    """Writes the files of the report."""
    from roar_tf.analysis import results

    self._say_growth()
    piece = self._piece()
    runs = piece.runs
    if not runs.frame.empty or not runs.excluded:
      # What it commits is replaced.
      files.remove(self.artefact.marker)
      self._write(piece, self.folder)
    if runs.excluded:  # What is damaged will be mended, and then reported.
      raise errors.PartsFailedError('\n'.join(runs.excluded))
    facts = {'comparisons': self._study.family}
    if not runs.frame.empty:
      facts['results'] = results.digest(runs.frame)
    yield engine.Made(artefacts[0], facts)

  def _say_growth(self) -> None:
    """Says what estimators that were added do to those of the last report."""
    was = markers.intact(self.artefact.marker) or {}
    before, now = was.get('comparisons', 0), self._study.family
    if 0 < before < now:
      progress.say(
        f'report of {self._study.name}: {now} comparisons with random now hold '
        f'together, {before} did in the last report, so that every interval is '
        'wider and a verdict may become undecided. Study.comparisons, set '
        'before the first report, leaves room for estimators that are added.'
      )

  def merge(self, paths: Sequence[str], folder: str) -> None:
    """Writes a report of runs that lie elsewhere, and of those that are here.

    Args:
      paths: see `pieces.read`.
      folder: where to write.

    Raises:
      UsageError: a path holds no runs of this study.
      DataError: a file is damaged, or two disagree.
      MissingInputsError: runs of the study are missing; the report says which.
    """
    from roar_tf.analysis import results

    given = [pieces.read(path, self._study.name, self._runs) for path in paths]
    piece = pieces.merged([self._piece(), *given])
    self._write(piece, folder)
    if piece.runs.excluded:
      raise errors.UnitsFailedError('\n'.join(piece.runs.excluded))
    there = set(results.identities(piece.runs.frame))
    expected = self._expected(piece.runs.frame)
    _require(
      run for run in expected if results.identity(run.columns) not in there
    )

  def _piece(self) -> pieces.Piece:
    """Returns the runs that are in the workspace, and what is known there."""
    runs = finished.read(self._artefacts)
    if runs.frame.empty:
      return pieces.Piece(runs, pieces.About())
    known = {
      context.source.name: chance(context)
      for context in self._contexts
      if _manifest(context)
    }
    about = pieces.About(known, self._explained(), self._facts())
    return pieces.Piece(runs, about)

  def _write(self, piece: pieces.Piece, folder: str) -> None:
    from roar_tf.analysis import report, results

    runs, about = piece.runs, piece.about
    contexts = {context.source.name: context for context in self._contexts}
    first = self._contexts[0]
    last = self._runs[-1]
    examples = self._examples(runs.excluded)
    chances = {name: chance(context) for name, context in contexts.items()}
    report.write(
      folder,
      runs.frame,
      study=self._study.name,
      chances=chances | about.chances,
      rules=rules(first),
      expected=[run.columns for run in self._expected(runs.frame)],
      correct=finished.correct(runs.answers),
      excluded=runs.excluded,
      examples=examples,
      explained=about.explained,
      price_per_hour=first.price_per_hour,
      facts=about.facts,
      commands={
        'The whole study': study_command(first),
        'One of its runs': run_command(contexts[last.source], last),
      },
      origins={
        results.identity(run.columns): report.Origin(
          run_command(contexts[run.source], run), runs.devices.get(run, 1)
        )
        for run in self._runs
      },
      operative_config='\n'.join(
        context.experiment.operative_config for context in self._contexts
      ),
    )
    for name, data in pieces.written(piece).items():
      files.publish(f'{folder}/{name}', data)

  def _expected(self, frame=None) -> Sequence[Run]:
    """Returns the runs that a whole report has: all, or those that are due.

    Args:
      frame: the runs that count; what is there is no surprise, due or not.
    """
    if not self._looks:
      return self._runs
    from roar_tf.analysis import results

    due = set(self._looks.due())
    there = set() if frame is None else set(results.identities(frame))
    return [
      run
      for run in self._runs
      if run in due or results.identity(run.columns) in there
    ]

  def _examples(self, excluded: list[str]) -> dict[str, list]:
    """Returns images to show, by source; adds to a list what is damaged."""
    from roar_tf.study import gallery

    examples = {}
    for name, each in self._of_source.items():
      try:
        shown = gallery.examples(each.context, each.data, each.rank)
      except errors.DataError as e:
        shown = []
        excluded.append(f'{name}: images are left out: {e}')
      examples[name] = shown
    return examples

  def _accuracies(self, context: Context) -> dict[int, float]:
    """Returns the accuracies of the explained models that there are."""
    model = self._of_source[context.source.name].model
    paths = map(model.result_path, range(self._study.explained_models))
    return {
      number: markers.content_json(path)['accuracy']
      for number, path in enumerate(paths)
      if files.exists(path)
    }

  def _explained(self) -> dict[str, float]:
    """Returns test accuracies of first models trained like `original`."""
    accuracies = {}
    for context in self._contexts:
      experiment = context.experiment
      accuracy = self._accuracies(context).get(0)
      if (
        accuracy is not None
        and not experiment.given
        and experiment.explained.settings(experiment.explained_model)
        == experiment.retrained.settings(experiment.retrained_model)
      ):
        accuracies[context.source.name] = accuracy
    return accuracies

  def _facts(self) -> list[tuple[str, str]]:
    """Returns (label, text): what the runs were made on and from."""
    facts = [(name, str(value)) for name, value in environment().items()]
    for context in self._contexts:
      name = context.source.name
      facts += [
        (f'{name}: {label}', text) for label, text in facts_of_images(context)
      ]
      text = f'{100 * chance(context):.4g} %, the most frequent test class'
      facts.append((f'{name}: accuracy of guessing', text))
      for number, accuracy in self._accuracies(context).items():
        label = f'{name}: explained model{f" {number}" if number else ""}'
        facts.append((label, f'{accuracy:.2%} test accuracy'))
    return facts

  # --- for a terminal --------------------------------------------------------

  def summary(self, folder: str = '') -> str:
    """Returns the result tables and the report's path, for a terminal.

    Empty where there is no report, since no run has finished.

    Args:
      folder: of the report; that in the workspace by default.

    Raises:
      DataError: the results of a finished report are damaged.
    """
    from roar_tf.analysis import evidence, results, tables

    folder = folder or self.folder
    path = f'{folder}/results.csv'
    if not files.exists(path):
      return ''
    frame = results.read_csv(path)
    marker = markers.intact(f'{folder}/{markers.DONE}') or {}
    if marker.get('results') not in (None, results.digest(frame)):
      raise errors.DataError(
        f'{path} is not what the report has written; delete {folder} and '
        'run the same command again.'
      )
    summary = results.summarise(frame)
    weights = evidence.of_leads(
      frame, [run.columns for run in self._expected()], rules(self._contexts[0])
    )
    parts = [
      f'\n{source}, {mode}\n'
      + tables.table(
        summary, source, mode, weights.get((source, mode, 'image'))
      )
      for source in sorted(set(summary['source']))
      for mode in self._study.modes
    ]
    return '\n'.join([*parts, f'Report: {folder}/index.html'])

  def require_all(self) -> None:
    """Raises MissingInputsError if runs have not finished, and names them."""
    _require(
      run
      for run in self._expected()
      if not files.exists(self._artefacts[run].marker)
    )


def _require(missing: Iterable[Run]) -> None:
  """Raises MissingInputsError if there are any, and names them."""
  missing = list(missing)
  if missing:
    noun = 'run has' if len(missing) == 1 else 'runs have'
    raise errors.MissingInputsError(
      f'the report is written, but {len(missing)} {noun} not finished; run '
      'roar_study to make them:\n  ' + '\n  '.join(finished.named(missing))
    )


def study_command(context: Context) -> str:
  """Returns the command line that makes a whole study, quoted for a shell."""
  configuration = context.experiment.configuration
  return dataclasses.replace(configuration, dataset=None).command('roar_study')


def run_command(context: Context, run: Run) -> str:
  """Returns the command line that makes one run, quoted for a shell.

  Without --workspace and --data_dir: where a study lies is not part of it.
  """
  seed = context.experiment.seed
  more = [f'--cell={run.cell_name}', f'--seed={run.seed}']
  if run.input != 'image':
    more.append(f'--input={run.input}')
  if seed:
    more.append(f'--ranking_seed={seed}')
  return context.experiment.configuration.command('roar_train', *more)


def chance(context: Context) -> float:
  """Returns the accuracy of guessing: always the most frequent test class.

  Where nobody counted the classes, because `original` is gone or older, they
  are taken for equally frequent.
  """
  labels = _manifest(context).get('labels')
  if labels is None:
    return 1 / context.source.num_classes
  return max(labels['test']) / sum(labels['test'])


def _manifest(context: Context) -> Mapping:
  """Returns the manifest of `original`, empty if that is gone."""
  if not files.exists(context.manifest_path):
    return {}
  return markers.content_json(context.manifest_path)


def facts_of_images(context: Context) -> list[tuple[str, str]]:
  """Returns (label, text): how many images there are, and are missing."""
  source, manifest = context.source, _manifest(context)
  counts = manifest.get('images') or {s: source.count(s) for s in SPLITS}
  facts = [('images', ', '.join(f'{counts[s]} {s}' for s in SPLITS))]
  record = manifest.get('completeness', {})
  if any(
    r['present'] < max(r['expected'], r['listed']) for r in record.values()
  ):
    texts = (
      '{}: {present:,} found of {listed:,} listed, the paper has '
      '{expected:,}'.format(split, **record[split])
      for split in SPLITS
    )
    facts.append(('completeness', '; '.join(texts)))
  if unreadable := manifest.get('unreadable'):
    counts = ', '.join(
      f'{len(unreadable[s])} {s}' for s in SPLITS if s in unreadable
    )
    text = f'{counts} (ids in manifest.json of original)'
    facts.append(('images left out, not decodable', text))
  return facts
