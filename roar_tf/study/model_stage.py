"""Stage model: trains the explained model of a source on `original`."""

from roar_tf import workspace
from roar_tf.cells import ORIGINAL
from roar_tf.study import trainings
from roar_tf.study.context import Context
from roar_tf.study.units import Target, Unit

VERSION = 2


def units(context: Context) -> list[Unit]:
  """Returns one unit."""
  experiment = context.experiment
  source = experiment.source
  directory = context.workspace.model(source.name)
  target = Target(
    context.model_done(),
    'model',
    VERSION,
    {
      **experiment.explained.settings(experiment.explained_model),
      'seed': experiment.seed,
    },
    {'original': context.dataset_done(ORIGINAL)},
  )

  def work(pending):
    ((_, fingerprint),) = pending
    state = trainings.train_one(
      context,
      'explained',
      trainings.examples_of(context, None, 'shards'),
      ('explained', source.name, experiment.seed),
      directory,
      fingerprint,
    )
    if context.devices.is_chief:
      trainings.save_weights(f'{directory}/weights.npz', state)
    files = (*trainings.CHECKED, 'weights.npz')
    trainings.commit(context, target, fingerprint, directory, files)

  return [Unit(f'{source.name} explained model', (target,), work)]


def explained_model(context: Context):
  """Returns the explained model as a Keras model with its trained weights.

  Raises:
    MissingInputsError: it was not trained yet.
  """
  source = context.experiment.source.name
  workspace.require(context.model_done())
  state = trainings.load_weights(
    f'{context.workspace.model(source)}/weights.npz'
  )
  return trainings.trainer(context, 'explained').load(state)
