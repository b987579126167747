"""What images go through before they are evaluated.

Each function takes images [B, H, W, C] of 0..255 and returns images of the same
shape, not yet normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from roar_tf.lazy import tf
from roar_tf.training import resampling

_CROP, _RESIZED = 224, 256
"""The released code's sizes: IMAGE_SIZE, and that plus CROP_PADDING = 32."""


def none(images):
  """Returns the images as they are: evaluation resizes nothing."""
  return images


def center_crop(images) -> tf.Tensor:
  """Crops images that were cropped before, as the released code evaluates.

  Its `preprocess_for_eval` (interpretability_benchmark/utils/
  preprocessing_helper.py) resizes to `image_size + 32` by `resize_bicubic` and
  takes the central `image_size`. Images that are 224 already are enlarged to
  256, and their middle 196 is what remains. Masked values are smeared into
  their neighbours on the way. Here a side of S is enlarged to
  int(256 S / 224), which is the same at 224 and means something below.

  Args:
    images: [B, H, W, C], a number type; H and W may differ.

  Returns:
    float32 [B, H, W, C], not rounded; bicubic weights may overshoot 0..255.
  """
  images = tf.cast(images, tf.float32)
  for axis in (1, 2):
    indices, weights = _taps(images.shape[axis])
    shape = [-1, 1, 1] if axis == 1 else [-1, 1]
    # Sums of four, not a matrix product, which a TPU would round to bfloat16;
    # XLA knows no `ResizeBicubic`.
    images = tf.add_n(
      [
        tf.gather(images, i, axis=axis) * tf.reshape(w, shape)
        for i, w in zip(indices, weights, strict=True)
      ]
    )
  return images


def _taps(size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns which four values make each value of a cropped side, and how much.

  See `resampling`.

  Args:
    size: S, pixels of a side.

  Returns:
    int32 indices [4, S] and float32 weights [4, S], which sum to 1.
  """
  enlarged = size * _RESIZED // _CROP
  offset = (enlarged - size + 1) // 2
  place = (np.arange(size) + offset) * size / enlarged
  first = np.floor(place)
  weights = resampling.weights(place - first)
  indices = np.clip(first + np.arange(-1, 3)[:, None], 0, size - 1)
  return indices.astype(np.int32), np.array(weights, np.float32)


EVAL_PREPROCESS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
  f.__name__: f for f in (none, center_crop)
}
