"""An explained model that was trained elsewhere, made part of a workspace."""

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.estimators import gradient
from roar_tf.study import progress, trainings
from roar_tf.study.context import Context
from roar_tf.training import loop, order, preprocessing

MODEL = 'model.keras'
"""The copy of a model that was given as a file."""

BATCH = 256
"""Test images per call; the last batch is padded."""


def settings(context: Context) -> dict:
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


def adopt(context: Context, directory: str, fingerprint) -> str:
  """Evaluates and copies a model, and returns the name of its file."""
  del fingerprint  # Nothing of it can be resumed.
  start = time.monotonic()
  source, given = context.experiment.source, context.experiment.given
  model = given.load(source.image_shape, source.num_classes)
  _check_classes(context, model)
  test = trainings.examples_of(context, None, 'shards')['test']
  outcome = evaluated(context, classifier(context, model), test)
  timing = {'seconds': time.monotonic() - start, 'step_seconds': 0.0}
  trainings.write_outcome(context, directory, outcome, test, 0, timing)
  if given.file:
    workspace.write_atomic(
      f'{directory}/{MODEL}', workspace.read_bytes(given.file)
    )
    return MODEL
  trainings.save_weights(
    directory,
    {
      'trainable': model.trainable_variables,
      'moving': model.non_trainable_variables,
    },
  )
  return trainings.WEIGHTS


def _check_classes(context: Context, model) -> None:
  """Raises UsageError for a model without the logits of all classes."""
  source, given = context.experiment.source, context.experiment.given
  scaled = given.scaled(*context.statistics)
  black = scaled(tf.zeros([1, *source.image_shape]))
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


def classifier(context: Context, model) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns the compiled function from test images, 0..255, to logits."""
  crop = preprocessing.EVAL_PREPROCESS[
    context.experiment.explained.eval_preprocess
  ]
  prepare = context.experiment.given.scaled(*context.statistics)
  return tf.function(
    lambda images: gradient.logits_of(model, prepare(crop(images))),
    autograph=False,
  )


def evaluated(context: Context, classify, test) -> loop.Evaluation:
  """Classifies every test image.

  Raises:
    UsageError: a label is none of the model's classes.
  """
  source, given = context.experiment.source, context.experiment.given
  what = f'{source.name} explained model'
  logits = []
  batches = -(-len(test) // BATCH)
  with progress.bar(batches, what, 'batches', inner=True) as bar:
    advance = progress.logged(bar, what)
    for batch in test.test_batches(order.Share(BATCH)):
      logits.append(classify(batch['image']))
      advance(1)
  logits = tf.cast(tf.concat(logits, 0), tf.float32)[: len(test)]
  labels = np.asarray(test.labels)
  if labels.max() >= source.num_classes:
    raise errors.UsageError(
      f'{source.name} has images of class {labels.max()}, and gin parameter '
      f'{given} has {source.num_classes} classes, which count from 0.'
    )
  predictions = np.argmax(logits, -1).astype(np.int32)
  top = min(5, source.num_classes)
  return loop.Evaluation(
    predictions=predictions,
    correct=predictions == labels,
    in_top5=tf.math.in_top_k(labels, logits, top).numpy(),
  )
