"""Stage model: explained models of a source, trained on `original` or given.

A given one (`models.given`) is tested and copied into the workspace. Several
are trained with seeds of their own: model k of a study is that with which a
study begins whose first seed is higher by k.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from roar_tf import cells, engine, errors
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
  """Makes the classifiers whose decisions are explained.

  Each has a number, from 0.
  """

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
    self._cache = Cache()
    self._explained: dict[int, engine.Artefact] = {}
    self._numbers: dict[str, int] = {}

  def _directory(self, number: int) -> str:
    context = self._context
    return context.workspace.model(context.source.name, number)

  def explained(self, number: int = 0) -> engine.Artefact:
    """Returns an explained model.

    Raises:
      UsageError: one but the first is asked for, and that is given.
    """
    if number not in self._explained:
      self._explained[number] = self._describe(number)
    return self._explained[number]

  def _describe(self, number: int) -> engine.Artefact:
    experiment = self._context.experiment
    if number and experiment.given:
      raise errors.UsageError(
        f'gin parameter {experiment.given} is the only explained model: there '
        f'is no model {number}.'
      )
    marker = f'{self._directory(number)}/{markers.DONE}'
    self._numbers[marker] = number
    settings: Mapping = {}  # An experiment of a source alone only names it.
    if experiment.given:
      settings = given.settings(self._context, marker)
    elif experiment.explained:
      settings = {
        **experiment.explained.settings(experiment.explained_model),
        'seed': self._seed(number),
      }
    inputs = {'original': self._source.original}
    return engine.Artefact(marker, self, settings, inputs)

  def check(self) -> None:
    """See `engine.Stage`: builds the model, unless it is given."""
    if not self._context.experiment.given:
      self._training.check('explained')

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    """Returns one unit a model."""
    units = []
    for artefact in artefacts:
      number = self._numbers[artefact.marker]
      name = cells.of_model(self._context.source.name, number)
      units.append(
        engine.Unit(f'{name} explained model', (artefact,), self.run, number)
      )
    return units

  def cost(self, pending, finished, snapshot) -> costs.Cost:
    """Returns what unfinished explained models take."""
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
    each = tested + costs.Cost(weights, trainings=1, explained_steps=steps)
    return costs.total([each] * len(pending))

  def run(self, artefacts: Sequence[engine.Artefact]) -> Iterator[engine.Made]:
    """Trains the model, or tests and copies the one that is given."""
    (artefact,) = artefacts
    number = self._numbers[artefact.marker]
    directory = self._directory(number)
    examples = self._data.examples(None)
    if self._context.experiment.given:
      file, measured = self._adopt(examples['test'], directory)
    else:
      fingerprint = artefact.fingerprint(markers.read)
      file, measured = self._train(number, examples, fingerprint)
    names = (*training.CHECKED, file)
    yield engine.Made(
      artefact,
      self._training.facts(directory, names),
      measured,
    )
    self._training.clean(directory)

  def _train(self, number: int, examples: Mapping, fingerprint: Mapping):
    """Trains; returns the name of the file of weights, and what it measured."""
    directory = self._directory(number)
    state, measured = self._training.run(
      'explained', examples, self._seed_words(number), directory, fingerprint
    )
    if self._context.devices.is_chief:
      training.save_weights(directory, state)
    return training.WEIGHTS, measured

  def _seed(self, number: int) -> int:
    return self._context.experiment.seed + number

  def _seed_words(self, number: int) -> tuple:
    """What decides all randomness of a training, initial weights too."""
    return 'explained', self._context.source.name, self._seed(number)

  def _adopt(self, test, directory: str):
    """Tests and copies a model; returns the name of its file and numbers."""
    context, config = self._context, self._context.experiment.given
    source = context.source
    with Clock() as clock:
      model = config.load(source.image_shape, source.num_classes)
      evaluation = given.tested(context, model, test)
    measured = self._training.write_outcome(
      directory, evaluation, test, 0, clock.timing
    )
    if config.file:
      files.publish(f'{directory}/{GIVEN}', files.read(config.path))
      return GIVEN, measured
    training.save_weights(
      directory,
      {
        'trainable': model.trainable_variables,
        'moving': model.non_trainable_variables,
      },
    )
    return training.WEIGHTS, measured

  # --- for the stages that read it -------------------------------------------

  def load(self, number: int = 0):
    """Returns an explained model as a Keras model with its weights.

    Raises:
      MissingInputsError: the stage has not run yet.
      DataError: what it wrote is damaged.
    """
    return self._cache.get(('model', number), lambda: self._load(number))

  def _load(self, number: int):
    from roar_tf.models import stateless

    markers.require(self.explained(number).marker)
    source, config = self._context.source, self._context.experiment.given
    if config.file:
      path = f'{self._directory(number)}/{GIVEN}'
      markers.content(path)
      return config.load(source.image_shape, source.num_classes, path)
    if config:
      model = config.load(
        source.image_shape, source.num_classes, with_weights=False
      )
    else:  # Not the trainer's own, which all of them have in common.
      model = self._training.trainer('explained').build()
    return stateless.assign(model, self._weights(number))

  def untrained_settings(self, number: int = 0) -> dict:
    """Returns what decides the model of `load_untrained`, and its inputs."""
    experiment = self._context.experiment
    if not experiment.explained:  # An experiment of a source alone.
      return {}
    settings = experiment.explained.settings_of_model(
      experiment.explained_model
    )
    # The seed of the first one is that of the ranking.
    return settings | ({'explained seed': self._seed(number)} if number else {})

  def load_untrained(self, number: int = 0):
    """Returns a model with the weights that a training starts from.

    No training is needed for it, but the statistics of the source's images.
    """
    return self._cache.get(
      ('untrained', number), lambda: self._load_untrained(number)
    )

  def _load_untrained(self, number: int):
    from roar_tf.models import stateless

    trainer = self._training.trainer('explained')
    state = trainer.initial_state(*self._seed_words(number))
    # The trainer's own model has the weights that were trained.
    return stateless.assign(trainer.build(), state)

  def _weights(self, number: int = 0) -> dict:
    path = f'{self._directory(number)}/{training.WEIGHTS}'
    return self._cache.get(
      ('weights', number), lambda: training.load_weights(path)
    )

  def scaling(self) -> Callable:
    """Returns the function from images of 0..255 to what the model takes."""
    config = self._context.experiment.given
    if config:
      return config.scaled(*self._context.statistics)
    return self._training.trainer('explained').normalise

  def evaluate(self, test):
    """Classifies test images by the first explained model.

    Returns:
      What becomes of them (`evaluation.Evaluation`).
    """
    if not self._context.experiment.given:
      trainer = self._training.trainer('explained')
      return trainer.evaluate(self._weights(), test)
    classify = self._cache.get(
      'classifier', lambda: given.classifier(self._context, self.load())
    )
    return given.evaluation(self._context, classify, test)

  def result_path(self, number: int = 0) -> str:
    """Returns the file with the accuracy of an explained model."""
    return os.path.join(self._directory(number), 'result.json')
