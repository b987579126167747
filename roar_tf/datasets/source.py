"""A source: a TFDS dataset or a folder of images, with fixed preprocessing.

One gin file under `gin/datasets/` describes one source. Images are uint8
[H, W, C], labels int64 in [0, num_classes), ids unique strings; the splits are
always called `train` and `test`.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping

import gin
import numpy as np

from roar_tf import cells, errors, masking, ranking, shards

SPLITS = ('train', 'test')
PREPROCESSING = ('none', 'resize_crop')
UNREADABLE = ('stop', 'skip')
TFDS_ID = 'tfds_id'
"""Value of `Source.id_key` that stands for the ids that TFDS itself gives."""
MOST_SHARDS = 99_999
"""Of a split: their numbers have five digits."""

_NAME = re.compile('[a-z][a-z0-9_]*')
_RESERVED = (
  cells.ORIGINAL,
  *ranking.GRANULARITIES,
  *masking.MODES,
  *cells.FILLS,
)
_COUNTS = (
  'num_classes',
  'train_images',
  'test_images',
  'images_per_shard',
  'resize_short_side',
)
_TEXTS = ('image_key', 'label_key', 'train_split', 'test_split')
_OPTIONAL_TEXTS = ('tfds_name', 'folder', 'id_key', 'builder_module')
_SWITCHES = ('truth', 'generated')
_KEYS = ('image_key', 'label_key', 'id_key')


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Source:
  """Where a source's images come from and what they are.

  Attributes:
    name: the source's name, the stem of its gin file; not a gin parameter. It
      consists of lower-case letters, digits and `_`, and begins with a letter.
    tfds_name: name of the TFDS dataset, with config and version if it has them,
      e.g. `fashion_mnist:3.*.*`; or else
    folder: directory of images, `<split>/<class>/<name>.jpg` (or jpeg, png,
      webp), whose ids are the paths below it. Exactly one of the two is set.
    image_shape: (H, W, C), after preprocessing.
    num_classes: number of classes.
    train_images: size of the train split.
    test_images: size of the test split.
    train_split: its TFDS name, or that of its folder. A dataset with one split
      is divided by slices of TFDS: `train[:80%]`, and `train[80%:]` for
      `test_split`.
    test_split: its TFDS name, or that of its folder; no image may be in both.
    image_key: the feature of the TFDS dataset that holds the image.
    label_key: the feature that holds the class.
    id_key: the feature that holds the id, a string or whole number that no
      other image of either split has. None takes the feature `id` where there
      is one, and else the ids that TFDS gives (shard and place in it), which
      `tfds_id` always takes.
    train_subset: if set, only the first so many images of the train split.
    truth: whether examples carry a `truth` map, uint8 [H, W, 1].
    generated: whether the builder makes its data itself and downloads nothing;
      it is then prepared inside the workspace.
    builder_module: Python module to import before the dataset is looked up.
    min_completeness: share of the images, in each split, without which the
      source is refused; for datasets whose builder counts what is missing.
    unreadable: what becomes of images that cannot be decoded: `stop` fails
      their shard and names the first, `skip` leaves them out of `original`,
      which lists them.
    images_per_shard: images in one shard, the unit of parallel work.
    preprocessing: `none` takes images that all have `image_shape`;
      `resize_crop` takes any size and brings it to (H, W, 3) as Goyal et al.
      do at test time, see `roar_tf.datasets.crop`.
    resize_short_side: the short side before `resize_crop` crops; 256 in Goyal
      et al.
  """

  name: str
  tfds_name: str | None = None
  folder: str | None = None
  image_shape: tuple[int, int, int] = gin.REQUIRED
  num_classes: int = gin.REQUIRED
  train_images: int = gin.REQUIRED
  test_images: int = gin.REQUIRED
  train_split: str = 'train'
  test_split: str = 'test'
  image_key: str = 'image'
  label_key: str = 'label'
  id_key: str | None = None
  train_subset: int | None = None
  truth: bool = False
  generated: bool = False
  builder_module: str | None = None
  min_completeness: float = 1.0
  unreadable: str = 'stop'
  images_per_shard: int = gin.REQUIRED
  preprocessing: str = 'none'
  resize_short_side: int = 256

  def __post_init__(self):
    """Raises UsageError for values that mean nothing."""
    self._check_name()
    self._check_types()
    if bool(self.tfds_name) == bool(self.folder):
      raise errors.UsageError(
        'exactly one of the gin parameters Source.tfds_name and Source.folder '
        f'says where {self.name} comes from, found {self.tfds_name!r} and '
        f'{self.folder!r}.'
      )
    keys = [key for key in _KEYS if getattr(self, key) != _default(key)]
    if self.folder and keys:
      raise errors.UsageError(
        f'gin parameter Source.{keys[0]} names a feature of a TFDS dataset; '
        f'{self.name} is a folder, and has none: leave it out.'
      )
    subset = self.train_subset
    if subset is not None and not (
      type(subset) is int and 1 <= subset <= self.train_images
    ):
      self._refuse('train_subset', f'1..{self.train_images}')
    for split in SPLITS:
      if (number := self.shard_count(split)) > MOST_SHARDS:
        raise errors.UsageError(
          f'{self.name} would have {number} shards of {split} images; raise '
          f'gin parameter Source.images_per_shard={self.images_per_shard} '
          f'until they are at most {MOST_SHARDS}.'
        )
    share = self.min_completeness
    if not (isinstance(share, int | float) and 0 <= share <= 1):
      self._refuse('min_completeness', '0..1')
    if self.unreadable not in UNREADABLE:
      self._refuse('unreadable', f'one of {", ".join(UNREADABLE)}')
    self._check_preprocessing()

  def _refuse(self, field: str, wanted: str) -> None:
    raise errors.UsageError(
      f'gin parameter Source.{field} must be {wanted} for {self.name}, found '
      f'{getattr(self, field)!r}.'
    )

  def _check_name(self) -> None:
    if not _NAME.fullmatch(self.name):
      other = re.sub('[^a-z0-9]+', '_', self.name.lower()).strip('_')
      other = other if _NAME.fullmatch(other) else f'my_{other or "data"}'
      raise errors.UsageError(
        f'A source is called by its gin file, and TFDS finds only names of '
        'lower-case letters, digits and _ that begin with a letter, found '
        f'"{self.name}": rename the file, e.g. {other}.gin.'
      )
    _, model = cells.split_model(self.name)
    if self.name in _RESERVED or cells.is_cell(self.name) or model:
      raise errors.UsageError(
        f'A source cannot be called "{self.name}", which is part of the names '
        f'of cells and models: rename its gin file, e.g. my_{self.name}.gin.'
      )

  def _check_types(self) -> None:
    """Refuses values of other types; a list of three numbers is a shape."""
    for field in _COUNTS:
      value = getattr(self, field)
      if not (type(value) is int and value >= 1):
        self._refuse(field, '1 or more')
    for field in (*_TEXTS, *_OPTIONAL_TEXTS):
      value = getattr(self, field)
      if not (
        isinstance(value, str)
        and (value or field not in _TEXTS)
        or (value is None and field in _OPTIONAL_TEXTS)
      ):
        self._refuse(field, 'a text')
    for field in _SWITCHES:
      if not isinstance(getattr(self, field), bool):
        self._refuse(field, 'True or False')
    shape = self.image_shape
    if (
      not isinstance(shape, tuple | list)
      or len(shape) != 3
      or not all(type(size) is int and size >= 1 for size in shape)
      or shape[2] not in (1, 3)
    ):
      self._refuse('image_shape', '(height, width, channels), 1 or 3 channels,')
    object.__setattr__(self, 'image_shape', tuple(shape))

  def _check_preprocessing(self) -> None:
    if self.preprocessing not in PREPROCESSING:
      self._refuse('preprocessing', f'one of {", ".join(PREPROCESSING)}')
    if self.preprocessing == 'none':
      return
    height, width, channels = self.image_shape
    if channels != 3 or max(height, width) > self.resize_short_side:
      raise errors.UsageError(
        'Source.preprocessing = "resize_crop" makes images of 3 channels and '
        f'at most Source.resize_short_side={self.resize_short_side} pixels a '
        f'side; Source.image_shape of {self.name} is {self.image_shape}.'
      )
    if self.truth:
      raise errors.UsageError(
        'Source.preprocessing = "resize_crop" cannot crop the truth maps of '
        f'{self.name}; set Source.truth = False.'
      )

  def settings(self) -> dict:
    """Returns what a fingerprint records, by the names of gin parameters.

    Where a folder lies makes no difference: a shard records its files.
    """
    values = dataclasses.asdict(self)
    name = values.pop('name')
    del values['min_completeness']  # Decides whether, not what is made.
    del values['unreadable']  # A shard records it where it made a difference.
    for key in _KEYS:  # Datasets that were made before there were keys.
      if values[key] == _default(key):
        del values[key]
    if self.folder:
      values['folder'] = 'anywhere'
    return {'source': name, **{f'Source.{k}': v for k, v in values.items()}}

  @classmethod
  def from_settings(cls, settings: Mapping) -> 'Source':
    """Returns the source that a fingerprint records, as JSON or not.

    It is the inverse of `settings`, up to `min_completeness`, `unreadable` and
    the place of a folder.
    """
    values = {
      name.removeprefix('Source.'): tuple(v) if isinstance(v, list) else v
      for name, v in settings.items()
      if name.startswith('Source.')
    }
    return cls(settings['source'], **values)

  @property
  def origin(self) -> str:
    """What messages call the place that the images come from."""
    if self.folder:
      return f'folder "{self.folder}"'
    return f'dataset "{self.tfds_name}"'

  @property
  def layout(self) -> shards.Layout:
    """What a record of `original` holds."""
    height, width, _ = self.image_shape
    return shards.Layout(
      image=self.image_shape,
      classes=self.num_classes,
      truth=(height, width, 1) if self.truth else None,
    )

  def count(self, split: str) -> int:
    """Returns how many images of a split are read."""
    if split == 'test':
      return self.test_images
    return self.train_subset or self.train_images

  def split_name(self, split: str) -> str:
    """Returns what TFDS, or the folder, calls a split."""
    return self.train_split if split == 'train' else self.test_split

  def shard_count(self, split: str) -> int:
    """Returns how many shards a split has."""
    return -(-self.count(split) // self.images_per_shard)

  def shard_bounds(self, split: str) -> list[tuple[int, int]]:
    """Returns (start, stop) of every shard of a split, of nearly equal size."""
    return list(_bounds(self.count(split), self.shard_count(split)))


def _default(field: str) -> str | None:
  """Returns the default of a gin parameter."""
  return getattr(Source, field)


@functools.cache  # Every path of a shard asks how many there are.
def _bounds(images: int, shards: int) -> tuple[tuple[int, int], ...]:
  edges = np.linspace(0, images, shards + 1).astype(int).tolist()
  return tuple(zip(edges[:-1], edges[1:], strict=True))
