"""What is verified and repaired of a workspace, and by which command."""

import dataclasses
import os
import re
import shlex
from collections.abc import Sequence

from roar_tf import errors
from roar_tf.cells import ORIGINAL, of_model, parse_cell, split_model
from roar_tf.engine import verify
from roar_tf.study.paths import Workspace

LAYOUT = verify.Layout(re.compile(r'.+\.tfrecord-\d{5}-of-\d{5}'))
"""What the names of files in a dataset tell."""


def folders(workspace: Workspace, source: str | None = None) -> list[str]:
  """Returns the directories of all artefacts, or of one source's.

  Raises:
    UsageError: there are none, so that no typing error passes for intact data.
  """
  workspace.check_there()
  every = list(workspace.artefacts())
  chosen = every
  if source is not None:
    known = {workspace.source_of(folder) for folder in every} - {None}
    chosen = [f for f in every if workspace.source_of(f) == source]
    if not chosen:
      raise errors.UsageError(
        f'--workspace={workspace.root} holds nothing of dataset "{source}".'
        f'{errors.nearest(source, known)}'
      )
  if not chosen:
    raise errors.UsageError(
      f'--workspace={workspace.root} holds no artefacts; name one that a study '
      'made.'
    )
  return chosen


def command(workspace: Workspace, damages: Sequence[verify.Damage]) -> str:
  """Returns the command that repairs, as far as the paths tell."""
  flags = {_flags(workspace, os.path.dirname(d.marker)) for d in damages}
  which = flags.pop() if len(flags) == 1 else ('--study=NAME',)
  return shlex.join(
    ['roar_shards', '--repair', f'--workspace={workspace.root}', *which]
  )


def _flags(workspace: Workspace, folder: str) -> tuple[str, ...]:
  """Returns the flags that name the artefact in a directory."""
  top, *parts = workspace.relative(folder).split('/')
  if top in ('runs', 'reports'):
    return (f'--study={parts[0]}',)
  dataset = f'--dataset={workspace.source_of(folder)}'
  if top == 'models':
    _, model = split_model(parts[0])
    return (dataset, *_of_model(model))
  if parts[1] == ORIGINAL:
    return (dataset,)
  name = parts[1].removeprefix('ranking_')
  is_ranking = name != parts[1]
  if is_ranking:
    ranking, model = split_model(name)
    name = of_model(f'{ranking}_remove_50', model)
  try:
    cell = parse_cell(name)
  except errors.UsageError:  # No name of a cell or ranking.
    return ('--study=NAME',)
  axes = dataclasses.asdict(cell)
  model = axes.pop('model')
  if is_ranking:
    axes = {n: axes[n] for n in ('estimator', 'granularity')}
  flags = (f'--{name}={value}' for name, value in axes.items())
  return (dataset, *flags, *_of_model(model))


def _of_model(number: int) -> tuple[str, ...]:
  return (f'--model={number}',) if number else ()
