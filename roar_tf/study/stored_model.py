"""`roar_tf.load_model`: the model that a workspace's rankings explain.

What built it is read from its DONE marker: the name of a factory, which must be
known to gin here, and the values of its arguments. Nothing is evaluated,
unpickled or imported because a file says so.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from roar_tf import config, errors
from roar_tf.cells import ORIGINAL, split_model
from roar_tf.datasets.source import Source
from roar_tf.engine import files, markers
from roar_tf.lazy import tf
from roar_tf.models import resnet  # noqa: F401  gin then knows its factories.
from roar_tf.models.given import ExplainedModel
from roar_tf.study.model import GIVEN
from roar_tf.study.paths import Workspace

if TYPE_CHECKING:
  import keras


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedModel:
  """An explained model, and what it takes.

  Attributes:
    model: the Keras model with its weights.
    preprocess: the function from images of 0..255, uint8 or floating point
      [B, H, W, C], to what the model takes, floating point of the same shape.
    baseline: a black image, preprocessed, [H, W, C]: where the path of `ig`
      begins.
    classes: their names, or their numbers where they have none.
    accuracy: of the model on the test images, a fraction.
  """

  model: keras.Model
  preprocess: Callable[..., tf.Tensor]
  baseline: np.ndarray
  classes: tuple[str, ...]
  accuracy: float


def load_model(
  workspace: str | os.PathLike, source: str, model: int = 0
) -> LoadedModel:
  """Returns the explained model of a source, as a workspace holds it.

      loaded = roar_tf.load_model('workspace', 'planted_patch')
      images = loaded.preprocess(uint8_images)
      scores = roar_tf.explain(
        loaded.model, images, 'ig', baseline=loaded.baseline, ids=ids
      )

  With the ids of the dataset, the seed of the study (0 unless it has another
  one) and `Attribution`'s settings these are the scores that its rankings were
  made from.

  Args:
    workspace: the directory or URL that a study was run in.
    source: name of the dataset.
    model: which one, if the study has several explained models, from 0.

  Raises:
    UsageError: there is no such model; or gin does not know its factory here,
      or knows another version of it.
    MissingInputsError: the dataset `original` is gone.
    DataError: a file is damaged.
  """
  place = Workspace(os.fspath(workspace))
  if type(model) is not int:
    raise errors.UsageError(
      f'model must be the number of an explained model, found {model!r}.'
    )
  source = os.path.basename(source).removesuffix('.gin')
  settings = _settings(place, source, model)
  original = place.dataset(source, ORIGINAL)
  made = markers.require(f'{original}/{markers.DONE}')['fingerprint']
  described = Source.from_settings(made['settings'])
  manifest = markers.content_json(f'{original}/manifest.json')
  statistics = np.array(manifest['mean']), np.array(manifest['std'])
  directory = place.model(source, model)
  if 'ExplainedModel.input' in settings:
    loaded, scaled = _given(settings, directory, described, statistics)
  else:
    loaded = _trained(settings, directory, described)
    scaled = functools.partial(_normalised, loaded.inputs[0].dtype, statistics)
  preprocess = functools.partial(_preprocessed, scaled, described.image_shape)
  count = described.shard_count('train')
  first = place.shard(source, ORIGINAL, 'train', 0, count)
  shard = markers.require(f'{first}.{markers.DONE}')
  classes = shard.get('classes') or range(described.num_classes)
  return LoadedModel(
    loaded,
    preprocess,
    preprocess(np.zeros([1, *described.image_shape], np.uint8))[0].numpy(),
    tuple(map(str, classes)),
    markers.content_json(f'{directory}/result.json')['accuracy'],
  )


def _settings(place: Workspace, source: str, model: int) -> Mapping:
  """Returns what an explained model was made with.

  Raises:
    UsageError: there is no such model.
  """
  place.check_reachable()
  marker = markers.read(f'{place.model(source, model)}/{markers.DONE}')
  if marker is not None:
    return marker['fingerprint']['settings']
  if not files.is_directory(place.root):
    raise errors.UsageError(
      f'there is no workspace {place.root}: give the directory that the study '
      'was run in (--workspace).'
    )
  there: dict[str, list[int]] = {}
  for name in files.names_in(f'{place.root}/models'):
    if files.exists(f'{place.root}/models/{name}/{markers.DONE}'):
      stem, number = split_model(name)
      there.setdefault(stem, []).append(number)
  if source in there:
    numbers = ', '.join(map(str, sorted(there[source])))
    raise errors.UsageError(
      f'{place.root} has no explained model {model} of {source}: it has '
      f'{numbers}.'
    )
  known = ', '.join(there) or 'none of any source'
  raise errors.UsageError(
    f'{place.root} has no explained model of "{source}".'
    f'{errors.nearest(source, there)} It has: {known}; "roar_study '
    '--stage=model", with the flags of your study, makes those of a study.'
  )


def _given(
  settings: Mapping, directory: str, source: Source, statistics: tuple
) -> tuple[keras.Model, Callable]:
  """Returns a model that was not trained here, and what scales its images."""
  application = settings['ExplainedModel.application']
  copy = None if application else f'{directory}/{GIVEN}'
  described = ExplainedModel(
    file=copy,
    application=application,
    # Those in the workspace are loaded.
    weights='imagenet' if application else None,
    input=settings['ExplainedModel.input'],
  )
  if copy:
    markers.content(copy)  # It is intact.
  model = described.load(
    source.image_shape, source.num_classes, copy, with_weights=False
  )
  if application:
    _assign(model, directory)
  return model, described.scaled(*statistics)


def _trained(settings: Mapping, directory: str, source: Source) -> keras.Model:
  """Returns a model that was trained here, from its factory.

  Raises:
    UsageError: gin does not know the factory, or what it now builds is not what
      it built.
  """
  from roar_tf.models import factories

  name = settings['Training.model']
  factory = _factory(name)
  own = {
    key: value
    for key, value in settings.items()
    if not key.startswith(('Training.', f'{name}.')) and key != 'seed'
  }
  if changes := [
    key
    for key in {**own, **factory.code}
    if own.get(key) != factory.code.get(key)
  ]:
    raise errors.UsageError(
      f'{directory} was trained with another {errors.few(sorted(changes))} '
      'than there is now: bring back what it was trained with, or train it '
      'anew by roar_study --remake=model.'
    )
  arguments = {
    key.removeprefix(f'{name}.'): _as_bound(value)
    for key, value in settings.items()
    if key.startswith(f'{name}.')
  }
  model = factories.build(
    dataclasses.replace(factory, arguments=arguments),
    source.image_shape,
    source.num_classes,
    settings['Training.precision'],
  )
  return _assign(model, directory)


def _factory(name: str) -> config.Factory:
  """Returns the factory of a name that gin knows."""
  import gin

  try:
    configurable = gin.get_configurable(name)
  except (KeyError, ValueError) as e:
    raise errors.UsageError(
      f'the explained model was built by a factory "{name}", which gin does '
      'not know here: import the module that defines it under '
      '@gin.configurable, and load the model again.'
    ) from e
  return config.factory(configurable)


def _as_bound(value):
  """Returns an argument as gin has it: JSON has lists for tuples."""
  return tuple(map(_as_bound, value)) if isinstance(value, list) else value


def _assign(model: keras.Model, directory: str) -> keras.Model:
  """Puts the weights in a directory into a model; returns it."""
  from roar_tf.models import stateless
  from roar_tf.study import training

  weights = training.load_weights(f'{directory}/{training.WEIGHTS}')
  return stateless.assign(model, weights)


def _normalised(dtype: str, statistics: tuple, images) -> tf.Tensor:
  """Returns (images - mean) / std, as the training of the model did."""
  mean, std = (tf.constant(value, dtype) for value in statistics)
  return (tf.cast(images, dtype) - mean) / std


def _preprocessed(scaled: Callable, shape: tuple, images) -> tf.Tensor:
  """Returns images as a model takes them, of images of 0..255.

  Raises:
    ValueError: they have another shape, or look like images of 0..1.
  """
  images = tf.convert_to_tensor(images)
  if images.shape.rank != 4 or images.shape[1:] != shape:
    raise ValueError(
      f'images must be of shape {(None, *shape)}, found {images.shape}.'
    )
  if images.dtype.is_floating and tf.executing_eagerly():
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if low < 0 or 0 < high <= 1:
      raise ValueError(
        'images must be in 0..255, as the dataset has them, found '
        f'{low:.3g}..{high:.3g}: give them as they were before scaling.'
      )
  return scaled(images)
