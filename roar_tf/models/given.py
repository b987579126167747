"""Explained models that were trained elsewhere: by file or keras.applications.

Wherever a model comes from, it is made into one that maps images as `scaled`
returns them, RGB, to logits, or to what a softmax makes of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

import gin
import numpy as np

from roar_tf import errors
from roar_tf.engine import files, locations
from roar_tf.lazy import keras, tf
from roar_tf.models import precision

NORMALISED = 'normalised'

SCALES = {
  '0..255': (0.0, 1.0),
  '0..1': (0.0, 255.0),
  '-1..1': (127.5, 127.5),
  # ImageNet's mean and deviation in 0..1, RGB, as PyTorch's models take them.
  'torch': (
    tuple(255 * v for v in (0.485, 0.456, 0.406)),
    tuple(255 * v for v in (0.229, 0.224, 0.225)),
  ),
  # Its mean in 0..255; the model takes BGR.
  'caffe': ((123.68, 116.779, 103.939), 1.0),
}
"""What is subtracted from images of 0..255, and what they are divided by then:
the modes of `keras.applications.imagenet_utils.preprocess_input`, and more."""


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ExplainedModel:
  """An explained model that is not trained here; by default there is none.

  Attributes:
    file: a model saved by `model.save('….keras')`, of logits or with a softmax
      as its last step. Layers of your own are found if their module is imported
      by gin and registers them.
    application: or else the name of a model of `keras.applications`.
    weights: its weights, `imagenet` or a `….weights.h5` file.
    input: what the model takes: `normalised` by mean and deviation of the
      source's train split, as models trained here; `0..255`; `0..1`; `-1..1`;
      `torch` or `caffe`, by ImageNet's. None is what Keras says of an
      application; for a file it must be set.
  """

  file: str | None = None
  application: str | None = None
  weights: str | None = None
  input: str | None = None

  def __post_init__(self):
    """Raises UsageError for values that mean nothing."""
    if self.file and self.application:
      raise errors.UsageError(
        'set one of the gin parameters ExplainedModel.file and '
        f'ExplainedModel.application, found {self.file!r} and '
        f'{self.application!r}.'
      )
    if bool(self.application) != bool(self.weights):
      raise errors.UsageError(
        'gin parameters ExplainedModel.application and ExplainedModel.weights '
        f'("imagenet" or a file) belong together, found {self.application!r} '
        f'and {self.weights!r}.'
      )
    known = (NORMALISED, *SCALES)
    if self.input not in (None, *known) or (self.file and not self.input):
      raise errors.UsageError(
        f'gin parameter ExplainedModel.input must be one of {", ".join(known)}'
        f', as the model was trained, found {self.input!r}.'
      )
    if self.application:
      _application(self.application)

  def __bool__(self):
    """Whether there is such a model."""
    return bool(self.file or self.application)

  @property
  def path(self) -> str | None:
    """The file that weights come from; None if Keras downloads them."""
    name = 'file' if self.file else 'weights'
    path = getattr(self, name)
    if path in (None, 'imagenet'):
      return None
    return locations.located(path, f'gin parameter ExplainedModel.{name}')

  @property
  def takes(self) -> str:
    """What the model takes, `normalised` or a key of `SCALES`."""
    return self.input or _input_of(self.application)

  def __str__(self):
    """Returns what messages call the model."""
    if self.file:
      return f'ExplainedModel.file = {self.file!r}'
    return f'ExplainedModel.application = {self.application!r}'

  def scaled(self, mean, std) -> Callable:
    """Returns the function from images of 0..255 to what is explained.

    Args:
      mean: [C] per-channel mean of the source's train split.
      std: [C] per-channel deviation.
    """
    if self.takes != NORMALISED:
      mean, std = SCALES[self.takes]
    mean, std = tf.constant(mean, tf.float32), tf.constant(std, tf.float32)
    return lambda images: (tf.cast(images, tf.float32) - mean) / std

  def load(
    self,
    image_shape: tuple[int, int, int],
    num_classes: int,
    path: str | None = None,
    with_weights: bool = True,
  ) -> keras.Model:
    """Returns the model of `scaled` images [B, H, W, C].

    Args:
      image_shape: (H, W, C).
      num_classes: K, for an application; a file says itself.
      path: a copy of `path`, if that shall be read.
      with_weights: whether an application gets its weights.

    Raises:
      UsageError: it cannot be loaded, or takes other images.
    """
    if self.takes in ('torch', 'caffe') and image_shape[-1] != 3:
      raise errors.UsageError(
        f'gin parameter ExplainedModel.input = {self.takes!r} is for images of '
        f'3 channels, and these have {image_shape[-1]}.'
      )
    from roar_tf.models import batch_norm  # noqa: F401  Keras then knows it.

    with self._telling(), precision.computing_in():
      if self.file:
        with _local(path or self.path) as file:
          model = keras.saving.load_model(file, compile=False, safe_mode=True)
      else:
        model = _application(self.application)(
          weights=(self.path or self.weights) if with_weights else None,
          input_shape=tuple(image_shape),
          classes=num_classes,
          classifier_activation=None,
        )
    self._check(model, tuple(image_shape))
    if self.takes == 'caffe':
      # Inside the model, so that scores are those of RGB.
      with precision.computing_in():
        images = keras.Input(image_shape)
        model = keras.Model(images, model(keras.ops.flip(images, axis=-1)))
    return model

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    try:
      with warnings.catch_warnings():
        # Keras would go on where a file of weights lacks some.
        warnings.filterwarnings('error', '(?s).*freshly-initialized')
        yield
    except Exception as e:  # Keras raises many types.
      text = ' '.join(str(e).split()) or type(e).__name__
      raise errors.UsageError(
        f'gin parameter {self}: Keras cannot load it: {text}'
      ) from e

  def _check(self, model, image_shape) -> None:
    expected = getattr(model, 'input_shape', None)
    if not isinstance(expected, tuple):  # A subclass may not know.
      return
    sides = zip(expected[1:], image_shape, strict=False)
    if len(expected) != 4 or any(a not in (None, b) for a, b in sides):
      raise errors.UsageError(
        f'gin parameter {self} takes images of {expected[1:]}, and those of '
        f'the dataset are {image_shape}.'
      )


def _application(name: str) -> Callable:
  """Returns a function of `keras.applications`; raises UsageError."""
  known = {
    key: value
    for key, value in vars(keras.applications).items()
    if inspect.isfunction(value)
  }
  if name not in known:
    raise errors.UsageError(
      f'gin parameter ExplainedModel.application cannot be {name!r}: '
      f'keras.applications has {", ".join(sorted(known))}.'
    )
  return known[name]


def _input_of(application: str) -> str:
  """Returns which of `SCALES` is a model's own `preprocess_input`."""
  module = sys.modules[_application(application).__module__]
  pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, 3, 3))
  pixels = pixels.astype(np.float32)
  wanted = module.preprocess_input(pixels.copy(), data_format='channels_last')
  for name, (mean, std) in SCALES.items():
    found = (pixels - np.float32(mean)) / np.float32(std)
    if name == 'caffe':
      found = found[..., ::-1]
    if np.allclose(found, wanted, rtol=0, atol=1e-3):
      return name
  raise errors.UsageError(
    f'roar_tf does not know what {application} takes; set gin parameter '
    'ExplainedModel.input.'
  )


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
  """Yields a local file that ends in .keras, which is what Keras reads."""
  if not files.is_remote(path):
    yield path
    return
  with tempfile.TemporaryDirectory() as folder:
    file = os.path.join(folder, 'model.keras')
    with open(file, 'wb') as f:
      f.write(files.read(path))
    yield file
