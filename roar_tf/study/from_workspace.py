"""A cell made from what a workspace holds, without any configuration.

The markers of `original` and of a ranking record every setting that they were
made with, so the stage `shards` can be run from them alone: on sources of
gin files that are not at hand, and without the explained model.
"""

import dataclasses
import os
import shlex

from roar_tf import errors, gin_files, workspace
from roar_tf.cells import ORIGINAL, Cell, parse_cell
from roar_tf.datasets.source import Source
from roar_tf.ranking import Ranking
from roar_tf.study import executor, experiment, external, pipeline, rank_stage
from roar_tf.study.context import Context


def cell_of(
  place: workspace.Workspace | None, source: str, name: str
) -> Cell | None:
  """Returns the cell of a name; None for `original`.

  Args:
    place: the workspace, which may have estimators of its own.
    source: name of the source, for messages.
    name: name of the cell.

  Raises:
    UsageError: no cell has such a name.
  """
  what = f'roar_{source}/'
  try:
    return parse_cell(name, what)
  except errors.UsageError as e:
    if place and place.external_estimators():
      external.announce(place)
      return parse_cell(name, what)
    if str(e).startswith('Unknown estimator'):
      raise errors.UsageError(
        f'{str(e).rstrip(".")}; an estimator of your own is known once its '
        'module is imported too, as in --imports=roar_tf.datasets,my_estimator.'
      ) from e
    raise


def make(
  place: workspace.Workspace, source: str, name: str, overwrite: bool = False
) -> None:
  """Writes the masked shards of a cell: what `roar_shards` would write.

  Args:
    place: the workspace, which holds `original` and the ranking.
    source: name of the source.
    name: name of the cell.
    overwrite: whether a cell that is there is deleted and made anew; otherwise
      what is finished of it is kept.

  Raises:
    MissingInputsError: there is no `original`, or no such ranking; the command
      that makes it is named.
    UsageError: no cell has such a name; the ranking or the images cannot give
      that cell; or it was made from another ranking.
    UnitsFailedError: data is damaged; each file is named.
  """
  cell = cell_of(place, source, name)
  ranking = rank_stage.config_name(cell.estimator, cell.granularity)
  for config in (ORIGINAL, ranking):
    require(place, source, config, cell)
  settings = _settings(place, source, ORIGINAL)
  ranked = _settings(place, source, ranking)
  chosen = dataclasses.replace(
    experiment.of_source(
      Source.from_settings(settings), Ranking(cuts=ranked['Ranking.cuts'])
    ),
    seed=ranked['seed'],  # Fills may draw.
  )
  work = pipeline.Work(Context(place, chosen), [cell])
  if overwrite:
    workspace.remove(place.dataset(source, name))
  tally = executor.execute(
    'shards', work.units('shards'), parallel=os.cpu_count() or 1
  )
  if tally.failures:
    lines = '\n  '.join(tally.failures)
    verify = ['roar_shards', '--verify', f'--workspace={place.root}']
    raise errors.UnitsFailedError(
      f'roar_{source}/{name} cannot be finished; "{shlex.join(verify)}" names '
      f'all that is damaged:\n  {lines}'
    )


def _settings(place: workspace.Workspace, source: str, config: str) -> dict:
  done = workspace.require(f'{place.dataset(source, config)}/{workspace.DONE}')
  return done['fingerprint']['settings']


def require(
  place: workspace.Workspace, source: str, config: str, cell: Cell | None = None
) -> None:
  """Checks that `original` or a ranking is finished.

  Args:
    place: the workspace.
    source: name of the source.
    config: name of the dataset.
    cell: what is to be made from it, if it is a cell.

  Raises:
    MissingInputsError: it is not; the command that makes it is named.
  """
  directory = place.dataset(source, config)
  if workspace.read_done(f'{directory}/{workspace.DONE}') is not None:
    return
  if cell is None and config != ORIGINAL:
    # Any cell of a ranking names it.
    ranked = config.removeprefix('ranking_')
    cell = cell_of(place, source, f'{ranked}_remove_50')
  known = source in gin_files.available('datasets')
  command = [
    'roar_rank' if cell else 'roar_study',
    f'--workspace={place.root}',
    f'--dataset={source}' if known else f'--dataset={source}.gin',
  ]
  if cell:
    command += [f'--estimators={cell.estimator}']
    command += [f'--granularity={cell.granularity}']
  else:
    command += ['--study=NAME', '--stage=source']
  raise errors.MissingInputsError(
    f'{directory} is not there, or not finished: "{shlex.join(command)}" makes '
    'it, with the gin flags and --seed of your study.'
  )
