"""An explained model that was trained elsewhere: what it is, how it tests."""

from collections.abc import Callable

import numpy as np

from roar_tf import errors
from roar_tf.engine import files, locations, markers, progress
from roar_tf.study.context import Context

BATCH = 256
"""Test images per call; the last batch is padded."""
SHA256 = 'SHA-256 of the explained model'


def settings(context: Context, marker: str) -> dict:
  """Returns what its fingerprint records: what it is, not where it lay.

  Args:
    context: the experiment.
    marker: its DONE marker.
  """
  given = context.experiment.given
  return {
    'ExplainedModel.application': given.application,
    'ExplainedModel.weights': 'imagenet' if not given.path else None,
    'ExplainedModel.input': given.takes,
    SHA256: _sha256(context, marker),
    'explained/Training.eval_preprocess': (
      context.experiment.explained.eval_preprocess
    ),
  }


def _sha256(context: Context, marker: str) -> str | None:
  """Returns the digest of a file that is needed until the stage is done."""
  given = context.experiment.given
  if given.path is None:
    return None
  name = 'file' if given.file else 'weights'
  locations.check_reachable(given.path, f'gin parameter ExplainedModel.{name}')
  if files.exists(given.path):
    return files.sha256(given.path)
  done = markers.read(marker)
  if done is None:
    raise errors.UsageError(
      f'gin parameter {given}: there is no file {given.path}.'
    )
  return done['fingerprint']['settings'].get(SHA256)


def tested(context: Context, model, test):
  """Classifies every test image (`evaluation.Evaluation`).

  Raises:
    UsageError: the model has other classes than the source.
  """
  _check_classes(context, model)
  return evaluation(context, classifier(context, model), test)


def _check_classes(context: Context, model) -> None:
  """Raises UsageError for a model without the logits of all classes."""
  import tensorflow as tf

  from roar_tf.models import heads

  source, given = context.source, context.experiment.given
  scaled = given.scaled(*context.statistics)
  black = scaled(tf.zeros([1, *source.image_shape]))
  try:
    classes = heads.check(model, black)
  except (ValueError, TypeError, tf.errors.OpError) as e:
    text = ' '.join(str(e).split())
    raise errors.UsageError(f'gin parameter {given}: {text}') from e
  if classes != source.num_classes:
    raise errors.UsageError(
      f'gin parameter {given} has {classes} classes, and {source.name} has '
      f'{source.num_classes} classes.'
    )


def classifier(context: Context, model) -> Callable:
  """Returns the compiled function from test images, 0..255, to logits."""
  import tensorflow as tf

  from roar_tf.estimators import gradient
  from roar_tf.training import preprocessing

  crop = preprocessing.EVAL_PREPROCESS[
    context.experiment.explained.eval_preprocess
  ]
  prepare = context.experiment.given.scaled(*context.statistics)
  return tf.function(
    lambda images: gradient.logits_of(model, prepare(crop(images))),
    autograph=False,
  )


def evaluation(context: Context, classify: Callable, test):
  """Returns what a classifier makes of test images (`evaluation.Evaluation`).

  Raises:
    UsageError: a label is none of the model's classes.
  """
  import tensorflow as tf

  from roar_tf.training import evaluation as evaluation_
  from roar_tf.training import order

  source, given = context.source, context.experiment.given
  title = f'{source.name} explained model'
  logits = []
  batches = -(-len(test) // BATCH)
  with progress.bar(batches, title, 'batches', inner=True) as bar:
    advance = progress.logged(bar, title)
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
  return evaluation_.Evaluation(
    predictions=predictions,
    correct=predictions == labels,
    in_top5=tf.math.in_top_k(labels, logits, top).numpy(),
  )
