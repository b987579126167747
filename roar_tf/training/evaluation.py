"""What a model makes of test images."""

import dataclasses
from collections.abc import Callable

import numpy as np

from roar_tf.lazy import tf
from roar_tf.training import feed
from roar_tf.training import step as pure
from roar_tf.training.distribution import Devices
from roar_tf.training.settings import Training

MOST_IMAGES = 256
"""Most test images per call and replica; the last batch is padded."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Outcome on every test image.

  Attributes:
    predictions: int32 [N], the predicted classes.
    correct: bool [N].
    in_top5: bool [N], whether the label is among the five largest logits.
  """

  predictions: np.ndarray
  correct: np.ndarray
  in_top5: np.ndarray


def batch(training: Training, replicas: int) -> int:
  """Returns the test images per call and replica: as training has at once."""
  trained = training.batch_size // replicas // training.microbatches
  return min(MOST_IMAGES, trained)


def classifying(step: pure.Step, devices: Devices) -> Callable:
  """Returns a function that classifies several batches on all replicas.

  Args:
    step: gives the forward pass.
    devices: the replicas.

  Returns:
    Function of variables (`trainable`, `moving`), a source (see `feed`) and a
    number of batches; it returns `predictions` int32 [N] and `in_top5` bool [N]
    of all replicas, in the order of the examples.
  """

  def one(variables, batch):
    state = tf.nest.map_structure(tf.convert_to_tensor, variables)
    batch = feed.gathered(batch)
    logits = step.predict(state, batch['image'])
    label = batch['label']
    own = tf.gather(logits, label, batch_dims=1)
    better = tf.reduce_sum(tf.cast(logits > own[:, None], tf.int32), axis=1)
    # As tf.math.in_top_k, which a TPU lacks: ties at the border count.
    in_top5 = (better < 5) & tf.math.is_finite(own)
    return tf.argmax(logits, -1, tf.int32), tf.cast(in_top5, tf.int32)

  def classify(variables, source, count):
    def body(i, arrays):
      batch = feed.batch(source, i)
      outcome = devices.strategy.run(one, (variables, batch))
      found = map(devices.gathered, outcome)
      return i + 1, [
        array.write(i, value)
        for array, value in zip(arrays, found, strict=True)
      ]

    arrays = [
      tf.TensorArray(tf.int32, count, infer_shape=False) for _ in range(2)
    ]
    predictions, in_top5 = feed.repeated(count, body, arrays)
    return {
      'predictions': predictions.concat(),
      'in_top5': in_top5.concat() > 0,
    }

  return classify
