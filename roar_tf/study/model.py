"""Stage model: the explained model of a source, trained on `original` or given.

A given one (`models.given`) is tested and copied into the workspace.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from roar_tf import engine
from roar_tf.engine import files, markers
from roar_tf.study import costs, given, training
from roar_tf.study.context import Cache, Context
from roar_tf.study.data import Data
from roar_tf.study.dataset import StudyStage
from roar_tf.study.source import Source
from roar_tf.training.clock import Clock

GIVEN = 'model.keras'
"""The copy of a model that was given as a file."""


class Model(StudyStage):
  """Makes the classifier whose decisions are explained."""

  name = 'model'
  version = 2

  def __init__(
    self,
    context: Context,
    source: Source,
    data: Data,
    training_: training.Training,
  ):
    self._context, self._source = context, source
    self._data, self._training = data, training_
    self._directory = context.workspace.model(context.source.name)
    self._cache = Cache()

  @functools.cached_property
  def explained(self) -> engine.Artefact:
    """The explained model."""
    experiment = self._context.experiment
    marker = f'{self._directory}/{markers.DONE}'
    settings: Mapping = {}  # An experiment of a source alone only names it.
    if experiment.given:
      settings = given.settings(self._context, marker)
    elif experiment.explained:
      settings = {
        **experiment.explained.settings(experiment.explained_model),
        'seed': experiment.seed,
      }
    inputs = {'original': self._source.original}
    return engine.Artefact(marker, self, settings, inputs)

  def check(self) -> None:
    """See `engine.Stage`: builds the model, unless it is given."""
    if not self._context.experiment.given:
      self._training.check('explained')

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    """Returns one unit."""
    name = f'{self._context.source.name} explained model'
    return [engine.Unit(name, tuple(artefacts), self.run)]

  def cost(self, pending, finished, snapshot) -> costs.Cost:
    """Returns what an unfinished explained model takes."""
    del finished, snapshot
    from roar_tf.models import factories

    experiment, source = self._context.experiment, self._context.source
    if not pending:
      return costs.Cost()
    tested = costs.of_test(source.count('test'))
    if experiment.given:
      path = experiment.given.path
      there = path and files.exists(path)
      return tested + costs.Cost(bytes=files.size(path) if there else 0)
    steps = experiment.explained.steps(source.count('train'))
    model = factories.build(
      experiment.explained_model,
      source.image_shape,
      source.num_classes,
      experiment.explained.precision,
    )
    weights = 4 * model.count_params()
    return tested + costs.Cost(weights, trainings=1, explained_steps=steps)

  def run(self, artefacts: Sequence[engine.Artefact]) -> Iterator[engine.Made]:
    """Trains the model, or tests and copies the one that is given."""
    (artefact,) = artefacts
    examples = self._data.examples(None)
    if self._context.experiment.given:
      file, timing = self._adopt(examples['test'])
    else:
      fingerprint = artefact.fingerprint(markers.read)
      file, timing = self._train(examples, fingerprint)
    names = (*training.CHECKED, file)
    yield engine.Made(
      artefact,
      self._training.facts(self._directory, names),
      {'step_seconds': timing.step_seconds},
    )
    self._training.clean(self._directory)

  def _train(self, examples: Mapping, fingerprint: Mapping):
    """Trains, and returns the name of the file of weights, and the timing."""
    state, timing = self._training.run(
      'explained', examples, self._seed_words, self._directory, fingerprint
    )
    if self._context.devices.is_chief:
      training.save_weights(self._directory, state)
    return training.WEIGHTS, timing

  @property
  def _seed_words(self) -> tuple:
    """What decides all randomness of the training, initial weights too."""
    experiment = self._context.experiment
    return 'explained', experiment.source.name, experiment.seed

  def _adopt(self, test):
    """Tests and copies a model; returns the name of its file and the timing."""
    context, config = self._context, self._context.experiment.given
    source = context.source
    with Clock() as clock:
      model = config.load(source.image_shape, source.num_classes)
      evaluation = given.tested(context, model, test)
    timing = clock.timing
    self._training.write_outcome(self._directory, evaluation, test, 0, timing)
    if config.file:
      files.publish(f'{self._directory}/{GIVEN}', files.read(config.path))
      return GIVEN, timing
    training.save_weights(
      self._directory,
      {
        'trainable': model.trainable_variables,
        'moving': model.non_trainable_variables,
      },
    )
    return training.WEIGHTS, timing

  # --- for the stages that read it -------------------------------------------

  def load(self):
    """Returns the explained model as a Keras model with its weights.

    Raises:
      MissingInputsError: the stage has not run yet.
      DataError: what it wrote is damaged.
    """
    return self._cache.get('model', self._load)

  def _load(self):
    from roar_tf.models import stateless

    markers.require(self.explained.marker)
    source, config = self._context.source, self._context.experiment.given
    if config.file:
      path = f'{self._directory}/{GIVEN}'
      markers.content(path)
      return config.load(source.image_shape, source.num_classes, path)
    if not config:
      return self._training.trainer('explained').load(self._weights())
    model = config.load(
      source.image_shape, source.num_classes, with_weights=False
    )
    return stateless.assign(model, self._weights())

  def untrained_settings(self) -> dict:
    """Returns what decides the model of `load_untrained`, and its inputs."""
    experiment = self._context.experiment
    if not experiment.explained:  # An experiment of a source alone.
      return {}
    return experiment.explained.settings_of_model(experiment.explained_model)

  def load_untrained(self):
    """Returns a model with the weights that the training starts from.

    No training is needed for it, but the statistics of the source's images.
    """
    return self._cache.get('untrained model', self._load_untrained)

  def _load_untrained(self):
    from roar_tf.models import stateless

    trainer = self._training.trainer('explained')
    state = trainer.initial_state(*self._seed_words)
    # The trainer's own model has the weights that were trained.
    return stateless.assign(trainer.build(), state)

  def _weights(self) -> dict:
    path = f'{self._directory}/{training.WEIGHTS}'
    return self._cache.get('weights', lambda: training.load_weights(path))

  def scaling(self) -> Callable:
    """Returns the function from images of 0..255 to what the model takes."""
    config = self._context.experiment.given
    if config:
      return config.scaled(*self._context.statistics)
    return self._training.trainer('explained').normalise

  def evaluate(self, test):
    """Classifies test images without training (`evaluation.Evaluation`)."""
    if not self._context.experiment.given:
      trainer = self._training.trainer('explained')
      return trainer.evaluate(self._weights(), test)
    classify = self._cache.get(
      'classifier', lambda: given.classifier(self._context, self.load())
    )
    return given.evaluation(self._context, classify, test)

  @property
  def result_path(self) -> str:
    """File with the accuracy of the explained model."""
    return os.path.join(self._directory, 'result.json')
