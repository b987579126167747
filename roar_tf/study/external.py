"""Estimators whose scores were made elsewhere and come from files.

`roar_rank --scores=DIR --estimators=NAME` adopts them: a record in the
workspace says where the files lie and what they hold. From then on the name is
an estimator of that workspace for every tool, and the stage `rank` reads the
files where it computes the scores of others. Once rankings are made, the files
are needed no more.
"""

import os

import numpy as np
import tensorflow as tf

from roar_tf import errors, shards, workspace
from roar_tf.cells import ORIGINAL
from roar_tf.estimators import registry
from roar_tf.score_files import ScoreFiles
from roar_tf.study import progress
from roar_tf.study.context import Context

_BATCH = 1024


def announce(place: workspace.Workspace) -> None:
  """Makes the names known that a workspace has adopted, and no others."""
  registry.set_external(place.external_estimators())


def check(context: Context, name: str, directory: str) -> ScoreFiles:
  """Returns the files of scores that are to be adopted under a name.

  Raises:
    UsageError: the name is taken or no identifier, or the files are not as
      they should be.
  """
  registry.set_external({*context.workspace.external_estimators(), name})
  return ScoreFiles(directory, context.experiment.source.image_shape)


def adopt(context: Context, name: str, files: ScoreFiles) -> None:
  """Records in the workspace that an estimator's scores come from files.

  Args:
    context: the experiment; its `original` dataset is finished.
    name: name of the estimator, from `check`.
    files: its scores.

  Raises:
    UsageError: examples lack scores, or the name stands for other scores.
  """
  source = context.experiment.source.name
  extra = files.check_all(_all_ids(context))
  if extra:
    progress.say(
      f'rank {source}: {extra} of {len(files)} ids in {files.directory} are '
      'not of this dataset, and are ignored'
    )
  hashes = files.sha256()
  record = {
    'directory': files.directory,
    'files': hashes,
    # The order of the files counts, and not what they are called.
    'digest': workspace.digest({'files': [hashes[n] for n in sorted(hashes)]}),
  }
  if not workspace.is_remote(files.directory):
    record['directory'] = os.path.abspath(files.directory)
  path = context.workspace.scores(source, name)
  if tf.io.gfile.exists(path):
    before = workspace.read_json(path)
    if before['digest'] != record['digest']:
      raise errors.UsageError(
        f'estimator "{name}" stands for the scores that {before["directory"]} '
        f'held, and {files.directory} holds others: take another name, or '
        f'delete {path} and the rankings of that name.'
      )
  workspace.write_json(path, record)
  context.cached(('scores', name), lambda: files)


def digest(context: Context, name: str) -> str:
  """Returns the digest of an external estimator's files."""
  return _record(context, name)['digest']


def scores(context: Context, name: str, ids: tf.Tensor) -> tf.Tensor:
  """Returns scores [B, H, W, 1 or C] of the examples with ids [B].

  Raises:
    DataError: the files are no longer those that were adopted.
  """

  def load():
    record = _record(context, name)
    shape = context.experiment.source.image_shape
    advice = f'bring back the files that "{name}" was ranked from'
    try:
      files = ScoreFiles(record['directory'], shape)
    except errors.UsageError as e:
      raise errors.DataError(f'{str(e).rstrip(".")}: {advice}.') from e
    if files.sha256() != record['files']:
      raise errors.DataError(
        f'the files in {record["directory"]} have changed: {advice}.'
      )
    return files

  files = context.cached(('scores', name), load)
  return tf.constant(files.rows(ids.numpy().tolist()))


def _record(context: Context, name: str) -> dict:
  source = context.experiment.source.name

  def load():
    path = context.workspace.scores(source, name)
    if not tf.io.gfile.exists(path):
      raise errors.UsageError(
        f'Estimator "{name}" has scores of other datasets, and none of '
        f'{source}: run roar_rank --scores=DIR --estimators={name} for it.'
      )
    return workspace.read_json(path)

  return context.cached(('scores record', name), load)


def _all_ids(context: Context):
  """Yields the ids of both splits, bytes."""
  workspace.require(context.dataset_done(ORIGINAL))
  for part in context.all_shards():
    for batch in context.batches(ORIGINAL, shards.Layout(), *part, _BATCH):
      yield from np.asarray(batch['id']).tolist()
