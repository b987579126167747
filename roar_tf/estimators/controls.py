"""Controls: rankings that know nothing of the model, or everything.

`random` and `sobel` are the paper's lower bounds. `random_bernoulli` is its
random control to the letter, where the number of removed elements varies from
image to image. `centre` asks what a mask gains that is the same in every image.
`oracle` and `inverse_oracle` read a dataset's planted evidence and bracket what
any estimator can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from roar_tf import randomness
from roar_tf.estimators import registry
from roar_tf.lazy import tf


@registry.register('random', needs_model=False, gradients=0)
def random(model, images, targets, keys) -> tf.Tensor:
  """Returns independent uniform scores: every ranking is equally likely."""
  del model, targets
  return _uniforms(images, keys, randomness.Purpose.RANDOM_SCORES)


@registry.register(
  'random_bernoulli', needs_model=False, gradients=0, counts='bernoulli'
)
def random_bernoulli(model, images, targets, keys) -> tf.Tensor:
  """Returns independent uniforms that each select their own element.

  The paper's random control (section 4.1: Bernoulli, independent of model and
  image). Its released code drew anew whenever an image was read; these draws
  are made once per example, so that a test image has one accuracy.
  """
  del model, targets
  return _uniforms(images, keys, randomness.Purpose.BERNOULLI_SCORES)


def _uniforms(images, keys, purpose) -> tf.Tensor:
  scores = randomness.uniform(randomness.fold(keys, purpose), images.shape[1:])
  return tf.cast(scores, images.dtype)


@registry.register('centre', needs_model=False, gradients=0)
def centre(model, images, targets, keys) -> tf.Tensor:
  """Ranks by distance from the middle of the image, the nearest pixel first.

  Of pixels that are equally far the upper one, and then the left one, is first,
  and of the channels of a pixel the first: no two scores of an image are equal,
  nor two sums over channels, so that all images have the same ranking.
  """
  del model, targets, keys
  height, width, channels = images.shape[1:]
  down, across = np.indices([height, width])
  squares = (2 * down - height + 1) ** 2 + (2 * across - width + 1) ** 2
  order = np.argsort(squares, axis=None, kind='stable')
  scores = np.empty([height * width, channels])
  scores[order] = -np.arange(scores.size).reshape(scores.shape)
  scores = tf.constant(scores.reshape(images.shape[1:]), images.dtype)
  return tf.broadcast_to(scores, tf.shape(images))


def magnitude_sobel(images) -> tf.Tensor:
  """Returns the magnitude of the Sobel gradient of the luminance.

  Both derivatives, edge pixels by reflection; every channel gets the same
  score. Luminance weights are those of ITU-R BT.601; images with another number
  of channels than 3 use the channel mean.

  Args:
    images: float [B, H, W, C].

  Returns:
    Scores of the images' shape and dtype, never negative.
  """
  channels = images.shape[-1]
  weights = (
    (0.299, 0.587, 0.114) if channels == 3 else [1 / channels] * channels
  )
  luminance = tf.reduce_sum(
    images * tf.constant(weights, images.dtype), axis=-1, keepdims=True
  )
  padded = luminance
  for axis in (1, 2):
    # A single row has no other one to reflect.
    mode = 'REFLECT' if images.shape[axis] > 1 else 'SYMMETRIC'
    paddings = [[int(axis == i)] * 2 for i in range(4)]
    padded = tf.pad(padded, paddings, mode)
  # Differences first: a flat region must be exactly 0, or rounding errors would
  # rank one flat region before another. Then 1, 2, 1 as two sums of pairs: sums
  # of three terms are reordered by the graph optimiser.
  across = padded[:, :, 2:] - padded[:, :, :-2]
  down = padded[:, 2:] - padded[:, :-2]
  for _ in range(2):
    across = across[:, :-1] + across[:, 1:]
    down = down[:, :, :-1] + down[:, :, 1:]
  magnitude = tf.sqrt(tf.square(across) + tf.square(down))
  return tf.broadcast_to(magnitude, tf.shape(images))


def released_sobel(images) -> tf.Tensor:
  """Returns what the released code ranks: `scipy.ndimage.sobel(x, axis=0)`.

  Per image x [H, W, C]: the derivative along rows alone, signed, smoothed by
  1, 2, 1 along columns and, since scipy takes them for a third axis of space,
  along channels; edges by symmetric reflection (scipy's `reflect`).

  Args:
    images: float [B, H, W, C], any number of channels.

  Returns:
    Scores of the images' shape and dtype.
  """
  border = [1, 1]
  padded = tf.pad(images, [[0, 0], border, border, border], 'SYMMETRIC')
  # Differences and sums of pairs, for the reasons given above.
  scores = padded[:, 2:] - padded[:, :-2]
  for _ in range(2):
    scores = scores[:, :, :-1] + scores[:, :, 1:]
    scores = scores[..., :-1] + scores[..., 1:]
  return scores


SOBEL_FORMS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
  'magnitude': magnitude_sobel,
  'released': released_sobel,
}
"""What `sobel` may compute, by name: images to scores."""


@registry.register('sobel', needs_model=False, gradients=0, settings=('sobel',))
def sobel(model, images, targets, keys, *, sobel='magnitude') -> tf.Tensor:
  """Returns the edges of an image, in one of `SOBEL_FORMS`."""
  del model, targets, keys
  return SOBEL_FORMS[sobel](images)


@registry.register('oracle', needs_model=False, needs_truth=True, gradients=0)
def oracle(model, images, targets, keys, *, truth) -> tf.Tensor:
  """Ranks the planted evidence first, random order within each region."""
  del model, targets
  return _truth_then_random(tf.cast(truth, tf.float32), images, keys)


@registry.register(
  'inverse_oracle', needs_model=False, needs_truth=True, gradients=0
)
def inverse_oracle(model, images, targets, keys, *, truth) -> tf.Tensor:
  """Ranks the planted evidence last, random order within each region."""
  del model, targets
  return _truth_then_random(1.0 - tf.cast(truth, tf.float32), images, keys)


def _truth_then_random(first, images, keys) -> tf.Tensor:
  """Scores in [2, 3) where `first` float [B, H, W, 1] is 1, else in [0, 1).

  A sum over channels keeps the regions apart.
  """
  seeds = randomness.fold(keys, randomness.Purpose.ORACLE)
  scores = randomness.uniform(seeds, images.shape[1:])
  return tf.cast(2.0 * first + scores, images.dtype)
