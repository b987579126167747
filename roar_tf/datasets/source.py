"""A source: a TFDS dataset or a folder of images, with fixed preprocessing.

One gin file under `gin/datasets/` describes one source. Images are uint8
[H, W, C], labels int64 in [0, num_classes), ids unique strings; the splits are
always called `train` and `test`.
"""

import dataclasses
import functools
from collections.abc import Mapping

import gin
import numpy as np

from roar_tf import errors, shards

SPLITS = ('train', 'test')
PREPROCESSING = ('none', 'resize_crop')
UNREADABLE = ('stop', 'skip')


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Source:
  """Where a source's images come from and what they are.

  Attributes:
    name: the source's name, the stem of its gin file; not a gin parameter.
    tfds_name: name of the TFDS dataset, with config and version if it has them,
      e.g. `fashion_mnist:3.*.*`; or else
    folder: directory of images, `<split>/<class>/<name>.jpg` (or png), whose
      ids are the paths below it. Exactly one of the two is set.
    image_shape: (H, W, C), after preprocessing.
    num_classes: number of classes.
    train_images: size of the train split.
    test_images: size of the test split.
    train_split: its TFDS name, or that of its folder.
    test_split: likewise.
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
    if bool(self.tfds_name) == bool(self.folder):
      raise errors.UsageError(
        'exactly one of the gin parameters Source.tfds_name and Source.folder '
        f'says where {self.name} comes from, found {self.tfds_name!r} and '
        f'{self.folder!r}.'
      )
    for field in (
      'num_classes',
      'train_images',
      'test_images',
      'images_per_shard',
      'resize_short_side',
    ):
      value = getattr(self, field)
      if not (isinstance(value, int) and value >= 1):
        raise errors.UsageError(
          f'gin parameter Source.{field} must be 1 or more for {self.name}, '
          f'found {value!r}.'
        )
    shape = self.image_shape
    if not isinstance(shape, tuple | list) or len(shape) != 3:
      raise errors.UsageError(
        'gin parameter Source.image_shape must be (height, width, channels) '
        f'for {self.name}, found {shape!r}.'
      )
    subset = self.train_subset
    if subset is not None and not 1 <= subset <= self.train_images:
      raise errors.UsageError(
        f'gin parameter Source.train_subset must be 1..{self.train_images} for '
        f'{self.name}, found {subset}.'
      )
    share = self.min_completeness
    if not (isinstance(share, int | float) and 0 <= share <= 1):
      raise errors.UsageError(
        f'gin parameter Source.min_completeness must be 0..1 for {self.name}, '
        f'found {share!r}.'
      )
    if self.unreadable not in UNREADABLE:
      raise errors.UsageError(
        f'gin parameter Source.unreadable must be one of '
        f'{", ".join(UNREADABLE)} for {self.name}, found {self.unreadable!r}.'
      )
    self._check_preprocessing()

  def _check_preprocessing(self) -> None:
    if self.preprocessing not in PREPROCESSING:
      raise errors.UsageError(
        'gin parameter Source.preprocessing must be one of '
        f'{", ".join(PREPROCESSING)} for {self.name}, found '
        f'{self.preprocessing!r}.'
      )
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
    """Returns what a fingerprint records, by the names of gin parameters."""
    values = dataclasses.asdict(self)
    name = values.pop('name')
    del values['min_completeness']  # Decides whether, not what is made.
    del values['unreadable']  # A shard records it where it made a difference.
    return {'source': name, **{f'Source.{k}': v for k, v in values.items()}}

  @classmethod
  def from_settings(cls, settings: Mapping) -> 'Source':
    """Returns the source that a fingerprint records, as JSON or not.

    It is the inverse of `settings`, up to `min_completeness`.
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


@functools.cache  # Every path of a shard asks how many there are.
def _bounds(images: int, shards: int) -> tuple[tuple[int, int], ...]:
  edges = np.linspace(0, images, shards + 1).astype(int).tolist()
  return tuple(zip(edges[:-1], edges[1:], strict=True))
