"""A cell made from what a workspace holds, without any configuration.

The markers of `original` and of a ranking record every setting that they were
made with, so the stage `shards` can be run from them alone: on sources of
gin files that are not at hand, and without the explained model. The TFDS
builders (`datasets.registration`) call this.
"""

import dataclasses
import shlex

from roar_tf import engine, errors, gin_files
from roar_tf.cells import (
  ORIGINAL,
  Cell,
  of_model,
  parse_cell,
  split_model,
)
from roar_tf.datasets.source import Source
from roar_tf.engine import files, markers
from roar_tf.estimators import registry
from roar_tf.ranking import Ranking
from roar_tf.study import experiment, rank
from roar_tf.study.context import Context
from roar_tf.study.paths import Workspace
from roar_tf.study.stages import Stages, Workforce, local_pool


def cell_of(workspace: Workspace | None, source: str, name: str) -> Cell | None:
  """Returns the cell of a name; None for `original`.

  Args:
    workspace: where a ranking may make the name of an estimator valid; None
      where no workspace is at hand.
    source: name of the source.
    name: name of the cell.

  Raises:
    UsageError: no cell has such a name.
  """
  cell = parse_cell(name, f'roar_{source}/')
  if cell is None or registry.find(cell.estimator):
    return cell
  config = rank.config_name(cell.estimator, cell.granularity, cell.model)
  if workspace and files.exists(_marker(workspace, source, config)):
    return cell
  try:
    registry.parse(cell.estimator)
  except errors.UsageError as e:
    if not str(e).startswith('Unknown estimator'):
      raise
    raise errors.UsageError(
      f'{str(e).rstrip(".")}; an estimator of your own is known once its '
      'module is imported too, as in --imports=roar_tf.datasets,my_estimator.'
    ) from e
  return cell


def make(
  workspace: Workspace, source: str, name: str, overwrite: bool = False
) -> None:
  """Writes the masked shards of a cell: what `roar_shards` would write.

  Args:
    workspace: it holds `original` and the ranking.
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
  cell = cell_of(workspace, source, name)
  ranking = rank.config_name(cell.estimator, cell.granularity, cell.model)
  for config in (ORIGINAL, ranking):
    require(workspace, source, config, cell)
  ranked = _settings(workspace, source, ranking)
  chosen = dataclasses.replace(
    experiment.of_source(
      Source.from_settings(_settings(workspace, source, ORIGINAL)),
      Ranking(cuts=ranked['Ranking.cuts']),
    ),
    seed=ranked['seed'],  # Fills may draw.
  )
  context = Context(workspace, chosen)
  stages = Stages(context)
  stages.check([cell])
  if overwrite:
    files.remove(workspace.dataset(source, name))
  workforce = Workforce(lambda context: local_pool(context, engine.cores()))
  try:
    # Original and ranking are what they are: their settings are not known.
    workforce.make(
      context,
      [stages.shards.masked(cell)],
      within=(stages.shards.name,),
      trusts=True,
    )
  except errors.UnitsFailedError as e:
    verify = ['roar_shards', '--verify', f'--workspace={workspace.root}']
    raise errors.UnitsFailedError(
      f'roar_{source}/{name} cannot be finished; "{shlex.join(verify)}" names '
      f'all that is damaged: {e}'
    ) from e


def _marker(workspace: Workspace, source: str, config: str) -> str:
  return f'{workspace.dataset(source, config)}/{markers.DONE}'


def _settings(workspace: Workspace, source: str, config: str) -> dict:
  marker = markers.require(_marker(workspace, source, config))
  return marker['fingerprint']['settings']


def require(
  workspace: Workspace, source: str, config: str, cell: Cell | None = None
) -> None:
  """Checks that `original` or a ranking is finished.

  Args:
    workspace: the workspace.
    source: name of the source.
    config: name of the dataset.
    cell: what is to be made from it, if it is a cell.

  Raises:
    MissingInputsError: it is not; the command that makes it is named.
  """
  directory = workspace.dataset(source, config)
  if markers.read(_marker(workspace, source, config)) is not None:
    return
  if cell is None and config != ORIGINAL:
    # Any cell of a ranking names it.
    ranked, model = split_model(config.removeprefix('ranking_'))
    name = of_model(f'{ranked}_remove_50', model)
    cell = cell_of(workspace, source, name)
  known = source in gin_files.available('datasets')
  tool = 'roar_rank' if cell else 'roar_study'
  command = [
    tool,
    f'--workspace={workspace.root}',
    f'--dataset={source}' if known else f'--dataset={source}.gin',
  ]
  if cell:
    command += [f'--estimators={cell.estimator}']
    command += [f'--granularity={cell.granularity}']
    command += [f'--model={cell.model}'] if cell.model else []
  else:
    command += ['--study=NAME', '--stage=source']
  raise errors.MissingInputsError(
    f'{directory} is not there, or not finished: "{shlex.join(command)}" makes '
    'it, with the gin flags and --seed of your study.'
  )
