"""What a model makes of test images."""

import dataclasses

import numpy as np

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
