"""Stage model: the explained model of a source, trained on `original` or given.

A given one (`models.given`) is evaluated on the test set and copied into the
workspace.
"""

import io
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from roar_tf import errors, shards, workspace
from roar_tf.cells import ORIGINAL
from roar_tf.estimators import gradient
from roar_tf.study import progress, trainings
from roar_tf.study.context import Context
from roar_tf.study.units import Target, Unit
from roar_tf.training import preprocessing

VERSION = 1
_BATCH = 256
"""Test images per call of a given model; the last batch is padded."""


def units(context: Context) -> list[Unit]:
  """Returns one unit."""
  experiment = context.experiment
  source = experiment.source
  given = bool(experiment.given)
  target = Target(
    context.model_done(),
    'model',
    VERSION,
    _given_settings(context)
    if given
    else {
      **experiment.explained.settings(experiment.explained_model),
      'seed': experiment.seed,
    },
    {'original': context.dataset_done(ORIGINAL)},
  )

  def work(pending):
    ((_, fingerprint),) = pending
    directory = context.workspace.model(source.name)
    if given:
      file = _adopt(context)
    else:
      file = _train(context, workspace.digest(fingerprint))
    files = [*trainings.CHECKED, file]
    target.commit(fingerprint, files=workspace.checksums(directory, files))

  return [Unit(f'{source.name} explained model', (target,), work)]


def explained_model(context: Context):
  """Returns the explained model as a Keras model with its weights.

  Raises:
    MissingInputsError: the stage has not run yet.
    DataError: what it wrote is damaged.
  """
  done = workspace.require(context.model_done())
  source = context.experiment.source
  given = context.experiment.given
  path = _place(context, given)
  if given.file:
    if workspace.sha256(path) != done['files']['model.keras']:
      raise errors.DataError(
        f'{path} is damaged; delete its directory and run the same command '
        'again.'
      )
    return given.load(source.image_shape, source.num_classes, path)
  state = trainings.load_weights(path)
  if not given:
    return trainings.trainer(context, 'explained').load(state)
  model = given.load(source.image_shape, source.num_classes, with_weights=False)
  for variables, values in (
    (model.trainable_variables, state['trainable']),
    (model.non_trainable_variables, state['moving']),
  ):
    for variable, value in zip(variables, values, strict=True):
      variable.assign(value)
  return model


def scaling(context: Context) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns the function from images of 0..255 to what the model takes."""
  given = context.experiment.given
  if given:
    return given.scaled(*context.statistics)
  return trainings.trainer(context, 'explained').normalise


def _place(context: Context, given) -> str:
  """Returns the file of the workspace that a model is read from."""
  directory = context.workspace.model(context.experiment.source.name)
  return f'{directory}/{"model.keras" if given.file else "weights.npz"}'


def _train(context: Context, digest: str) -> str:
  """Trains, and returns the name of the file of weights."""
  experiment = context.experiment
  source = experiment.source
  state = trainings.train_one(
    context,
    'explained',
    trainings.examples_of(context, None, 'shards'),
    ('explained', source.name, experiment.seed),
    context.workspace.model(source.name),
    digest,
  )
  trainings.save_weights(_place(context, experiment.given), state)
  return 'weights.npz'


# --- a given model ------------------------------------------------------------


def _given_settings(context: Context) -> dict:
  """Returns what its fingerprint records: what it is, not where it lay."""
  given = context.experiment.given
  return {
    'ExplainedModel.application': given.application,
    'ExplainedModel.weights': 'imagenet' if not given.path else None,
    'ExplainedModel.input': given.takes,
    'SHA-256 of the explained model': _sha256(context, given.path),
    'explained/Training.eval_preprocess': (
      context.experiment.explained.eval_preprocess
    ),
  }


def _sha256(context: Context, path: str | None) -> str | None:
  """Returns the digest of a file that is needed until the stage is done."""
  if path is None:
    return None
  if tf.io.gfile.exists(path):
    return context.cached(('sha256', path), lambda: workspace.sha256(path))
  done = workspace.read_done(context.model_done())
  if done is None:
    raise errors.UsageError(
      f'gin parameter {context.experiment.given}: there is no file {path}.'
    )
  settings = done['fingerprint']['settings']
  return settings.get('SHA-256 of the explained model')


def _adopt(context: Context) -> str:
  """Evaluates and copies a model, and returns the name of its file."""
  start = time.monotonic()
  source, given = context.experiment.source, context.experiment.given
  directory = context.workspace.model(source.name)
  model = given.load(source.image_shape, source.num_classes)
  _check_classes(context, model)
  outcome = _predictions(context, model)
  workspace.write_json(
    f'{directory}/result.json',
    {
      'accuracy': float(outcome['correct'].mean()),
      'top5': float(outcome.pop('in_top5').mean()),
      'steps': 0,
      'test_images': len(outcome['ids']),
    },
  )
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **outcome)
  workspace.write_atomic(f'{directory}/test_predictions.npz', buffer.getvalue())
  workspace.write_atomic(
    f'{directory}/config.gin', context.experiment.operative_config.encode()
  )
  workspace.write_json(
    f'{directory}/timing.json',
    {'seconds': time.monotonic() - start, 'step_seconds': 0.0},
  )
  if given.file:
    workspace.write_atomic(
      _place(context, given), workspace.read_bytes(given.file)
    )
    return 'model.keras'
  trainings.save_weights(
    _place(context, given),
    {
      'trainable': model.trainable_variables,
      'moving': model.non_trainable_variables,
    },
  )
  return 'weights.npz'


def _check_classes(context: Context, model) -> None:
  """Raises UsageError for a model without the logits of all classes."""
  source, given = context.experiment.source, context.experiment.given
  black = scaling(context)(tf.zeros([1, *source.image_shape]))
  try:
    classes = gradient.check_model(model, black)
  except (ValueError, TypeError, tf.errors.OpError) as e:
    text = ' '.join(str(e).split())
    raise errors.UsageError(f'gin parameter {given}: {text}') from e
  if classes != source.num_classes:
    raise errors.UsageError(
      f'gin parameter {given} has {classes} classes, and {source.name} has '
      f'{source.num_classes} classes.'
    )


def _predictions(context: Context, model) -> dict[str, np.ndarray]:
  """Classifies every test image.

  Returns:
    Arrays [N]: ids, labels, predictions, correct, in_top5.

  Raises:
    UsageError: a label is none of the model's classes.
  """
  source, given = context.experiment.source, context.experiment.given
  crop = preprocessing.EVAL_PREPROCESS[
    context.experiment.explained.eval_preprocess
  ]
  prepare = scaling(context)
  classify = tf.function(
    lambda images: gradient.logits_of(model, prepare(crop(images))),
    autograph=False,
  )
  layout = shards.Layout(image=source.image_shape, classes=source.num_classes)
  what = f'{source.name} explained model'
  ids, labels, logits = [], [], []
  with progress.bar(source.count('test'), what, 'images', inner=True) as bar:
    advance = progress.logged(bar, what)
    for split, index in context.all_shards():
      if split != 'test':
        continue
      for batch in context.batches(ORIGINAL, layout, split, index, _BATCH):
        count = len(batch['id'])
        # Repeating the last image keeps every batch at one shape.
        rows = np.minimum(np.arange(_BATCH), count - 1)
        logits.append(classify(tf.gather(batch['image'], rows))[:count])
        ids.append(batch['id'].numpy())
        labels.append(batch['label'].numpy())
        advance(count)
  logits = tf.cast(tf.concat(logits, 0), tf.float32)
  labels = np.concatenate(labels).astype(np.int32)
  if labels.max() >= source.num_classes:
    raise errors.UsageError(
      f'{source.name} has images of class {labels.max()}, and gin parameter '
      f'{given} has {source.num_classes} classes, which count from 0.'
    )
  predictions = np.argmax(logits, -1).astype(np.int32)
  top = min(5, source.num_classes)
  return {
    'ids': np.concatenate(ids).astype('S'),
    'labels': labels,
    'predictions': predictions,
    'correct': predictions == labels,
    'in_top5': tf.math.in_top_k(labels, logits, top).numpy(),
  }
