"""Stage model: the explained model of a source, trained on `original` or given.

A given one (`models.given`) is evaluated on the test set and copied into the
workspace.
"""

from collections.abc import Callable

import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.cells import ORIGINAL
from roar_tf.study import given_model, trainings
from roar_tf.study.context import Context
from roar_tf.study.units import Target, Unit
from roar_tf.training import loop

VERSION = 2


def units(context: Context) -> list[Unit]:
  """Returns one unit."""
  experiment = context.experiment
  directory = context.workspace.model(experiment.source.name)
  if experiment.given:
    settings, make = given_model.settings(context), given_model.adopt
  else:
    settings, make = _settings(context), _train
  target = Target(
    context.model_done(),
    'model',
    VERSION,
    settings,
    {'original': context.dataset_done(ORIGINAL)},
  )

  def work(pending):
    ((_, fingerprint),) = pending
    file = make(context, directory, fingerprint)
    files = (*trainings.CHECKED, file)
    trainings.commit(context, target, fingerprint, directory, files)

  return [Unit(f'{experiment.source.name} explained model', (target,), work)]


def explained_model(context: Context):
  """Returns the explained model as a Keras model with its weights.

  Raises:
    MissingInputsError: the stage has not run yet.
    DataError: what it wrote is damaged.
  """
  done = workspace.require(context.model_done())
  source = context.experiment.source
  directory = context.workspace.model(source.name)
  given = context.experiment.given
  if given.file:
    path = f'{directory}/{given_model.MODEL}'
    if workspace.sha256(path) != done['files'][given_model.MODEL]:
      raise errors.DataError(
        f'{path} is damaged; delete its directory and run the same command '
        'again.'
      )
    return given.load(source.image_shape, source.num_classes, path)
  state = trainings.load_weights(f'{directory}/{trainings.WEIGHTS}')
  if not given:
    return trainings.trainer(context, 'explained').load(state)
  model = given.load(source.image_shape, source.num_classes, with_weights=False)
  return loop.assign(model, state)


def scaling(context: Context) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns the function from images of 0..255 to what the model takes."""
  given = context.experiment.given
  if given:
    return given.scaled(*context.statistics)
  return trainings.trainer(context, 'explained').normalise


def _settings(context: Context) -> dict:
  """Returns what the fingerprint of a trained model records."""
  experiment = context.experiment
  return {
    **experiment.explained.settings(experiment.explained_model),
    'seed': experiment.seed,
  }


def _train(context: Context, directory: str, fingerprint) -> str:
  """Trains, and returns the name of the file of weights."""
  experiment = context.experiment
  state = trainings.train_one(
    context,
    'explained',
    trainings.examples_of(context, None, 'shards'),
    ('explained', experiment.source.name, experiment.seed),
    directory,
    fingerprint,
  )
  if context.devices.is_chief:
    trainings.save_weights(directory, state)
  return trainings.WEIGHTS
