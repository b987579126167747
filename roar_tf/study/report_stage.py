"""Stage report: the runs of a study to tables, figures and one page."""

import shlex

import numpy as np
import pandas as pd
import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.analysis import figures, report, results
from roar_tf.cells import ORIGINAL
from roar_tf.datasets.source import SPLITS
from roar_tf.study import rank_stage, train_stage, trainings
from roar_tf.study.context import Context
from roar_tf.study.grid import Run
from roar_tf.study.units import Target, Unit, environment

VERSION = 1


def units(works) -> list[Unit]:
  """Returns the unit that makes the report of one study over its sources.

  Args:
    works: the study's `pipeline.Work`, one per source.

  A report is made from the runs that are there and says which are missing; it
  is made anew whenever more have finished.
  """
  contexts = [work.context for work in works]
  runs = [run for work in works for run in work.runs]
  first = contexts[0]
  study = first.experiment.study.name
  folder = first.workspace.report(study)
  places = {run: train_stage.directory(first, run) for run in runs}
  markers = {run: train_stage.done(first, run) for run in runs}
  finished = [run for run in runs if tf.io.gfile.exists(markers[run])]
  target = Target(
    f'{folder}/DONE',
    'report',
    VERSION,
    {'runs': [str(run) for run in runs]},
    {str(run): markers[run] for run in finished},
    derived=True,
  )

  def work(pending):
    frame, damaged = _frame(finished, places)
    report.write(
      folder,
      frame,
      study=study,
      chances={
        c.experiment.source.name: 1 / c.experiment.source.num_classes
        for c in contexts
      },
      problems=damaged,
      expected=[_columns(run) for run in runs],
      explained=_explained(contexts),
      mosaics={c.experiment.source.name: _mosaic(c) for c in contexts},
      facts=_facts(contexts),
      commands={
        'The whole study': study_command(first),
        'One of its runs': command(first, runs[-1]),
      },
      operative_config='\n'.join(
        c.experiment.operative_config for c in contexts
      ),
    )
    ((_, fingerprint),) = pending
    if not damaged:  # What is damaged will be mended, and then reported.
      target.commit(fingerprint)

  return [Unit(f'report of {study}', (target,), work, shared=True)]


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
    f'\n{source}, {mode}\n{report.table(summary, source, mode)}'
    for source in sorted(set(summary['source']))
    for mode in study.modes
  ]
  return '\n'.join([*parts, f'Report: {folder}/index.html'])


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


def _columns(run: Run) -> dict:
  """Returns what results.csv says of a run's identity."""
  cell = run.cell
  return {
    'study': run.study,
    'source': run.source,
    'estimator': cell.estimator if cell else ORIGINAL,
    'granularity': cell.granularity if cell else '',
    'mode': cell.mode if cell else '',
    'threshold': cell.threshold if cell else 0,
    'fill': cell.fill if cell else 'mean',
    'input': run.input,
    'seed': run.seed,
  }


def _frame(runs, places) -> tuple[pd.DataFrame, list[str]]:
  """Returns the rows of finished runs, and a sentence per damaged result."""
  rows, damaged = [], []
  for run in runs:
    try:
      result = workspace.read_json(f'{places[run]}/result.json')
      seconds = workspace.read_json(f'{places[run]}/timing.json')['seconds']
    except (errors.DataError, OSError, tf.errors.OpError) as e:
      damaged.append(f'{run}: {str(e).splitlines()[0]}')
      continue
    rows.append({**_columns(run), **result, 'seconds': seconds})
  return pd.DataFrame(rows, columns=list(results.COLUMNS)), damaged


def _mosaic(context: Context):
  """Returns the figure of the first test image under every cell, or None."""
  experiment = context.experiment
  study, source = experiment.study, experiment.source
  granularity, mode = study.granularities[0], study.modes[0]
  try:
    batch = _first_test_image(
      context, ORIGINAL, trainings.plain_layout(context.experiment.source)
    )
    images = {}
    for cell in study.cells():
      if (cell.granularity, cell.mode) == (granularity, mode):
        ranking = _first_test_image(
          context,
          rank_stage.config_name(cell.estimator, granularity),
          trainings.ranking_layout(source, granularity),
        )
        masked = trainings.masked(
          context, cell, batch['image'], ranking['levels']
        )
        images[cell.estimator, cell.threshold] = masked[0].numpy()
  except errors.RoarError:
    return None  # A report on runs alone: source or rankings are gone.
  return figures.mosaic(
    np.asarray(batch['image'][0]), images, study.estimators, study.thresholds
  )


def _first_test_image(context, config, layout):
  parts = context.all_shards('test')
  part = next(part for part in parts if context.records(*part))
  return next(context.batches(config, layout, *part, 1))


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
