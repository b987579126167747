"""What the stages model and train share: trainers, one training, its files."""

import contextlib
import dataclasses
import io
import logging
from collections.abc import Mapping

import numpy as np

from roar_tf.engine import files, markers, progress
from roar_tf.study.context import Cache, Context
from roar_tf.training import order
from roar_tf.training.clock import Clock, Timing

WEIGHTS = 'weights.npz'
"""The weights of an explained model."""
CHECKED = ('result.json', 'test_predictions.npz')
"""Files of a training that are a function of its settings and inputs alone."""

_SAMPLE = 16
"""Labels of a shard that tell whether images are sorted by class."""
_log = logging.getLogger('roar_tf')


class Training:
  """Trains and tests the models of one experiment.

  `explained` and `retrained` are the roles of a model; each has a configuration
  of its own, and one trainer serves both where these agree.
  """

  def __init__(self, context: Context):
    self._context = context
    self._trainers, self._warned = Cache(), Cache()
    self._checked = Cache()

  def trainer(self, role: str):
    """Returns the trainer of a role (`training.loop.Trainer`).

    Compiled functions live in it, so it is made once per process.
    """
    from roar_tf.training import loop

    context = self._context
    factory, training = self._configured(role)
    return self._trainers.get(
      markers.digest(training.settings(factory)),
      lambda: loop.Trainer(
        factory,
        context.source.image_shape,
        context.source.num_classes,
        training,
        *context.statistics,
        context.devices,
      ),
    )

  def check(self, role: str) -> None:
    """Refuses a model that cannot be built for the images, or not trained.

    Raises:
      UsageError: as `factories.build` and `factories.check`.
    """
    from roar_tf.models import factories

    factory, training = self._configured(role)
    source = self._context.source

    def look() -> None:
      model = factories.build(
        factory, source.image_shape, source.num_classes, training.precision
      )
      factories.check(factory, model)

    self._checked.get(markers.digest(training.settings(factory)), look)

  def _configured(self, role: str):
    """Returns the factory and the settings of a role."""
    experiment = self._context.experiment
    return {
      'explained': (experiment.explained_model, experiment.explained),
      'retrained': (experiment.retrained_model, experiment.retrained),
    }[role]

  def run(
    self,
    role: str,
    examples: Mapping,
    seed_words: tuple,
    directory: str,
    fingerprint: Mapping,
  ):
    """Trains and tests once, and writes everything but the DONE marker.

    Writes the files of `write_outcome`, and `events` for TensorBoard.
    Checkpoints lie beside them until `clean` deletes them.

    Args:
      role: `explained` or `retrained`.
      examples: both splits, see `Data.examples`.
      seed_words: what identifies the training; they decide all randomness.
      directory: where its files go.
      fingerprint: of the artefact, which checkpoints must agree with.

    Returns:
      The last state, and what `write_outcome` tells.
    """
    from roar_tf.training import checkpoint, events

    context = self._context
    trainer = self.trainer(role)
    self._warn_of_order(examples['train'], trainer.training.shuffle_shards)
    title = context.workspace.relative(directory)
    steps = trainer.training.steps(len(examples['train']))
    with contextlib.ExitStack() as stack:
      clock = stack.enter_context(Clock())
      bar = stack.enter_context(progress.bar(steps, title, 'steps', inner=True))
      log = {}
      if context.devices.is_chief:
        log['log'] = stack.enter_context(
          events.writing(
            f'{directory}/events', context.experiment.operative_config
          )
        )
      state, steps = trainer.train(
        examples['train'],
        *seed_words,
        resumption=checkpoint.Resumption(
          _checkpoints(directory),
          fingerprint,
          self._configured(role)[1].checkpoint_seconds,
          context.stop,
        ),
        clock=clock,
        progress=progress.logged(bar, title),
        **log,
      )
      evaluation = trainer.evaluate(state, examples['test'])
    measured = self.write_outcome(
      directory, evaluation, examples['test'], steps, clock.timing
    )
    return state, measured

  def _warn_of_order(self, train, window: int) -> None:
    """Warns, once, of images sorted by class in more shards than a window."""

    def look() -> None:
      shards = len(train.counts)
      if shards <= window:
        return
      some = np.linspace(0, shards - 1, min(shards, 4 * window)).astype(int)
      labels = [train.first_labels(shard, _SAMPLE) for shard in some]
      together, mixed = order.classes_together(labels, window)
      if together < 0.75 * mixed:
        _log.warning(
          'the train images of %s lie sorted by class in %d shards, of which '
          'gin parameter Training.shuffle_shards = %d are shuffled together: '
          'a training sees few classes at a time; raise it to %d, which takes '
          'memory, or sort the dataset otherwise.',
          self._context.source.name,
          shards,
          window,
          shards,
        )

    self._warned.get(window, look)

  def write_outcome(
    self, directory: str, evaluation, test, steps: int, timing: Timing
  ) -> dict[str, float]:
    """Writes the files of a finished training.

    `result.json` (accuracy, top5, steps, test_images), `test_predictions.npz`
    (ids, labels, predictions, correct), `config.gin`, `timing.json`. Of several
    hosts only the first writes.

    Args:
      directory: where they go.
      evaluation: what became of every test image (`evaluation.Evaluation`).
      test: the test images.
      steps: training steps.
      timing: how long it took.

    Returns:
      The numbers for whoever watches; see `engine.Made`.
    """
    accuracy = float(evaluation.correct.mean())
    measured = {'step_seconds': timing.step_seconds, 'accuracy': accuracy}
    if not self._context.devices.is_chief:
      return measured
    files.publish_json(
      f'{directory}/result.json',
      {
        'accuracy': accuracy,
        'top5': float(evaluation.in_top5.mean()),
        'steps': steps,
        'test_images': len(test),
      },
    )
    publish_arrays(
      f'{directory}/test_predictions.npz',
      ids=test.ids.astype('S'),
      labels=np.asarray(test.labels),
      predictions=evaluation.predictions,
      correct=evaluation.correct,
    )
    config = self._context.experiment.operative_config
    files.publish(f'{directory}/config.gin', config.encode())
    files.publish_json(f'{directory}/timing.json', dataclasses.asdict(timing))
    return measured

  def clean(self, directory: str) -> None:
    """Deletes the checkpoints of a training whose marker is written.

    Before, a process that is killed would lose what it has trained.
    """
    from roar_tf.training import checkpoint

    if self._context.devices.is_chief:
      checkpoint.delete(_checkpoints(directory))

  def facts(self, directory: str, names) -> dict:
    """Returns what the marker of a training records.

    Args:
      directory: where its files lie.
      names: those of its files that are a function of settings and inputs.
    """
    devices = self._context.devices
    if not devices.is_chief:
      return {}
    return {
      'files': files.checksums(directory, names),
      'replicas': devices.replicas,
    }


def _checkpoints(directory: str) -> str:
  """Returns where the checkpoints of a training lie."""
  return f'{directory}/checkpoints'


def publish_arrays(path: str, **arrays) -> None:
  """Publishes arrays as a compressed npz file."""
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  files.publish(path, buffer.getvalue())


def save_weights(directory: str, state: Mapping) -> None:
  """Publishes the weights of a state as npz, in the model's order."""
  publish_arrays(
    f'{directory}/{WEIGHTS}',
    **{
      f'{part}_{index:05d}': np.asarray(value)
      for part in ('trainable', 'moving')
      for index, value in enumerate(state[part])
    },
  )


def load_weights(path: str) -> dict:
  """Returns what `save_weights` saved; raises DataError if it is damaged."""
  import tensorflow as tf

  with np.load(io.BytesIO(markers.content(path)), allow_pickle=False) as data:
    return {
      part: [
        tf.constant(data[name])
        for name in sorted(data.files)
        if name.startswith(part)
      ]
      for part in ('trainable', 'moving')
    }
