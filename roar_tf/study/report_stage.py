"""Stage report: the runs of a study to tables, figures and one page."""

import dataclasses
import shlex

import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.analysis import report, results, tables
from roar_tf.datasets.source import SPLITS
from roar_tf.study import report_images, report_inputs, train_stage
from roar_tf.study.context import Context
from roar_tf.study.grid import Run
from roar_tf.study.units import Target, Unit, environment

VERSION = 2


@dataclasses.dataclass(frozen=True)
class _ReportTarget(Target):
  """A report: made anew whenever other runs are there than it was made from."""

  def fingerprint(self) -> dict:
    """Returns the fingerprint under the runs that are there now."""
    return workspace.fingerprint(
      self.stage,
      self.version,
      self.settings,
      report_inputs.digests(self.inputs),
    )


def units(works) -> list[Unit]:
  """Returns the unit that makes the report of one study over its sources.

  Args:
    works: the study's `pipeline.Work`, one per source.

  A report is made from the runs that are there and says which are missing; it
  is made anew whenever more have finished. Runs that are damaged or of another
  configuration are left out and named, in the report and by the failure of its
  unit.
  """
  contexts = [work.context for work in works]
  runs = [run for work in works for run in work.runs]
  first = contexts[0]
  study = first.experiment.study.name
  folder = first.workspace.report(study)
  settings = {'runs': [str(run) for run in runs]}
  if first.price_per_hour is not None:
    settings['price_per_hour'] = first.price_per_hour
  target = _ReportTarget(
    f'{folder}/DONE',
    'report',
    VERSION,
    settings,
    {str(run): train_stage.done(first, run) for run in runs},
    derived=True,
  )

  def work(pending):
    inputs = report_inputs.read(works)
    if inputs.frame.empty and inputs.excluded:
      raise errors.PartsFailedError('\n'.join(inputs.excluded))
    _write(works, inputs)
    if inputs.excluded:  # What is damaged will be mended, and then reported.
      raise errors.PartsFailedError('\n'.join(inputs.excluded))
    ((_, fingerprint),) = pending
    target.commit(fingerprint)

  return [Unit(unit_name(study), (target,), work, shared=True)]


def unit_name(study: str) -> str:
  """Returns the name of the unit that makes a study's report."""
  return f'report of {study}'


def _write(works, inputs: report_inputs.Inputs) -> None:
  """Writes the files of the report."""
  contexts = [work.context for work in works]
  pairs = [(work.context, run) for work in works for run in work.runs]
  first = contexts[0]
  study = first.experiment.study.name
  by_source = {c.experiment.source.name: c for c in contexts}
  report.write(
    first.workspace.report(study),
    inputs.frame,
    study=study,
    chances={
      name: 1 / c.experiment.source.num_classes for name, c in by_source.items()
    },
    expected=[report_inputs.identity(run) for _, run in pairs],
    excluded=inputs.excluded,
    examples={n: report_images.examples(c) for n, c in by_source.items()},
    explained=_explained(contexts),
    price_per_hour=first.price_per_hour,
    facts=_facts(contexts),
    commands={
      'The whole study': study_command(first),
      'One of its runs': command(*pairs[-1]),
    },
    origins={
      results.identity(report_inputs.identity(run)): report.Origin(
        command(context, run), inputs.replicas.get(run, 1)
      )
      for context, run in pairs
    },
    operative_config='\n'.join(c.experiment.operative_config for c in contexts),
  )


def outcome(works) -> str:
  """Returns the result tables and the report's path, for a terminal.

  Empty where there is no report, since no run has finished.
  """
  study = works[0].context.experiment.study
  folder = works[0].context.workspace.report(study.name)
  if not tf.io.gfile.exists(f'{folder}/results.csv'):
    return ''
  summary = results.summarise(results.read_csv(f'{folder}/results.csv'))
  parts = [
    f'\n{source}, {mode}\n{tables.table(summary, source, mode)}'
    for source in sorted(set(summary['source']))
    for mode in study.modes
  ]
  return '\n'.join([*parts, f'Report: {folder}/index.html'])


def require_all(works) -> None:
  """Raises MissingInputsError if runs have not finished, and names them."""
  missing = [
    run
    for work in works
    for run in work.runs
    if not tf.io.gfile.exists(train_stage.done(work.context, run))
  ]
  if missing:
    noun = 'run has' if len(missing) == 1 else 'runs have'
    raise errors.MissingInputsError(
      f'the report is written, but {len(missing)} {noun} not finished; run '
      'roar_study to make them:\n  ' + '\n  '.join(report_inputs.named(missing))
    )


def study_command(context: Context) -> str:
  """Returns the command line that makes a whole study, quoted for a shell."""
  flags = context.experiment.flags
  return shlex.join(
    ['roar_study', *(f for f in flags if not f.startswith('--dataset='))]
  )


def command(context: Context, run: Run) -> str:
  """Returns the command line that makes one run, quoted for a shell.

  Without --workspace and --data_dir: where a study lies is not part of it.
  """
  experiment = context.experiment
  flags = [*experiment.flags, f'--cell={run.cell_name}', f'--seed={run.seed}']
  if run.input != 'image':
    flags.append(f'--input={run.input}')
  if experiment.seed:
    flags.append(f'--ranking_seed={experiment.seed}')
  return shlex.join(['roar_train', *flags])


def _explained(contexts: list[Context]) -> dict[str, float]:
  """Returns test accuracies of explained models trained like `original`."""
  accuracies = {}
  for context in contexts:
    experiment = context.experiment
    name = experiment.source.name
    path = f'{context.workspace.model(name)}/result.json'
    if (
      not experiment.given
      and experiment.explained.settings(experiment.explained_model)
      == experiment.retrained.settings(experiment.retrained_model)
      and tf.io.gfile.exists(path)
    ):
      accuracies[name] = workspace.read_json(path)['accuracy']
  return accuracies


def _facts(contexts: list[Context]) -> list[tuple[str, str]]:
  facts = [(name, str(value)) for name, value in environment().items()]
  for context in contexts:
    name = context.experiment.source.name
    facts += [
      (f'{name}: {label}', text) for label, text in facts_of_images(context)
    ]
    path = f'{context.workspace.model(name)}/result.json'
    if tf.io.gfile.exists(path):
      accuracy = workspace.read_json(path)['accuracy']
      facts.append(
        (f'{name}: explained model', f'{accuracy:.2%} test accuracy')
      )
  return facts


def facts_of_images(context: Context) -> list[tuple[str, str]]:
  """Returns (label, text): how many images there are, and are missing."""
  source = context.experiment.source
  manifest = {}  # A report on runs alone: `original` is gone.
  if tf.io.gfile.exists(context.manifest_path):
    manifest = workspace.read_json(context.manifest_path)
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
