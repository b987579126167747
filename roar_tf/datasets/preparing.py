"""Opens a TFDS dataset, and prepares it where that was not done yet."""

import contextlib
import importlib
import io
import os

from roar_tf import errors
from roar_tf.datasets.source import Source
from roar_tf.lazy import tf, tfds


def opened(source: Source, directory: str | None):
  """Returns the TFDS builder of a source, whose splits are there.

  Args:
    source: one that TFDS has, no folder.
    directory: where TFDS looks; its default if None.

  Raises:
    UsageError: TFDS has no such dataset, or cannot prepare it.
  """
  if source.builder_module:
    _ = tfds.core  # Of which the module defines a class.
    try:
      importlib.import_module(source.builder_module)
    except Exception as e:  # Code of a user may raise anything.
      raise errors.UsageError(
        f'gin parameter Source.builder_module="{source.builder_module}" of '
        f'--dataset={source.name} cannot be imported '
        f'({str(e).splitlines()[0]}).'
      ) from e
  try:
    builder = tfds.builder(source.tfds_name, data_dir=directory)
  except (tfds.core.DatasetNotFoundError, ValueError) as e:
    raise errors.UsageError(
      f'TFDS has no dataset "{source.tfds_name}" for --dataset='
      f'{source.name} (--data_dir={directory or _default_dir()}): '
      f'{str(e).splitlines()[0]}'
    ) from e
  if not builder.info.splits:
    builder = _prepared(builder, source, directory)
  if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
    raise errors.UsageError(
      f'{source.origin} of --dataset={source.name} is prepared as array_record '
      f'in {builder.data_dir}, and TFDS reads that without TensorFlow only: '
      f'prepare it with "tfds build {source.tfds_name} --file_format=tfrecord '
      '--data_dir=DIR", and name that --data_dir.'
    )
  return builder


def _prepared(builder, source: Source, directory: str | None):
  """Makes the dataset, downloading it where that is needed; returns it."""
  quiet = contextlib.ExitStack()
  if source.generated:  # Takes a second: nothing to report.
    tfds.disable_progress_bar()
    quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
  try:
    with quiet:
      builder.download_and_prepare(file_format='tfrecord')
    return builder
  except Exception as e:
    # Another worker may have been first.
    again = tfds.builder(source.tfds_name, data_dir=directory)
    if again.info.splits:
      return again
    if isinstance(e, errors.RoarError):  # One of our builders explains it.
      raise
    if isinstance(e, OSError | tf.errors.OpError) and source.generated:
      raise
    place = directory or _default_dir()
    text = (str(e) or type(e).__name__).splitlines()[0]
    raise errors.UsageError(
      f'dataset "{source.tfds_name}" is not in --data_dir={place} and could '
      f'not be prepared there ({text.split(". Create it")[0]}); '
      f'{_advice(builder, source, place)}, or name the directory that holds it.'
    ) from e


def _advice(builder, source: Source, place: str) -> str:
  """Says what a user can do about a dataset that could not be prepared."""
  if manual := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    return (
      f'put into {place}/downloads/manual what TFDS cannot download '
      f'("{" ".join(manual.split()).rstrip(".")}") and run the same command '
      'again'
    )
  imports = source.builder_module and f' --imports={source.builder_module}'
  return (
    f'prepare it where there is a network, with "tfds build '
    f'{source.tfds_name}{imports or ""} --data_dir=DIR"'
  )


def _default_dir() -> str:
  return os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
