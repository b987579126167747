"""What datasets with planted evidence share: draws, orders, and the builder.

Their images are tori of 16x16 pixels: what leaves one side enters at the
opposite one, so that an 8x8 patch has 256 places, each pixel lies in 64 of
them, and no place is favoured. Every byte is a function of (split, index).
"""

import abc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

IMAGE_SIZE = 16
PATCH_SIZE = 8

_STREAMS = {'train': 0, 'test': 1}


def check_range(
  sizes: Mapping[str, int], split: str, start: int, stop: int
) -> None:
  """Raises ValueError unless a split has examples [start, stop).

  Args:
    sizes: examples of every split.
    split: name of one.
    start: first index.
    stop: index after the last.
  """
  if split not in sizes:
    raise ValueError(f'No split {split!r}: choose one of {list(sizes)}.')
  if not 0 <= start <= stop <= sizes[split]:
    raise ValueError(
      f'Range [{start}, {stop}) is not within the {sizes[split]} examples of '
      f'{split!r}.'
    )


def ids(split: str, start: int, stop: int) -> np.ndarray:
  """Returns ids [stop - start] such as 'train_00012'."""
  return np.array([f'{split}_{i:05d}' for i in range(start, stop)], dtype=str)


def uniforms(
  seed: int, split: str, start: int, stop: int, width: int, part: int = 0
) -> np.ndarray:
  """Rows [start, stop) of an endless [*, width] table of uniforms in [0, 1).

  Args:
    seed: of the dataset.
    split: 'train' or 'test'.
    start: first row.
    stop: row after the last.
    width: columns.
    part: 0 or 1, which of the two tables of the split.
  """
  # Philox counts in blocks of four draws: with whole blocks per row, any row
  # is reached by setting the counter.
  blocks = -(-width // 4)
  key = np.array([seed, 2 * _STREAMS[split] + part], np.uint64)
  bits = np.random.Philox(key=key)
  bits.advance(start * blocks)
  table = np.random.Generator(bits).random((stop - start, 4 * blocks))
  return table[:, :width]


def orders(
  seed: int, split: str, start: int, stop: int, classes: int
) -> np.ndarray:
  """Classes [stop - start]: a random order of all in every `classes` examples.

  Not index % classes: a strided shard of that would hold a single class.
  """
  first, last = start // classes, -(-stop // classes)
  draws = uniforms(seed, split, first, last, classes, part=1)
  skipped = start - first * classes
  return draws.argsort(axis=1).ravel()[skipped : skipped + stop - start]


def corners(draw: np.ndarray) -> np.ndarray:
  """Maps draws [n] in [0, 1) to the 256 places (top, left) [n, 2]."""
  place = np.floor(draw * IMAGE_SIZE**2).astype(np.int64)
  return np.stack([place // IMAGE_SIZE, place % IMAGE_SIZE], axis=1)


def local(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Rows and columns of all pixels as counted from a corner, on the torus.

  Args:
    boxes: int64 [n, 2 or more], top and left come first.

  Returns:
    Two arrays that broadcast to [n, 16, 16], of 0..15.
  """
  top, left = boxes.T[:2, :, np.newaxis, np.newaxis]
  rows, columns = np.ogrid[:IMAGE_SIZE, :IMAGE_SIZE]
  return (rows - top) % IMAGE_SIZE, (columns - left) % IMAGE_SIZE


class Builder(tfds.core.GeneratorBasedBuilder):
  """A TFDS builder of images, classes, ids and the truth about a patch.

  Attributes:
    SIZES: examples of every split.
    CLASSES: number of classes.
    DESCRIPTION: what the images are, one sentence or two.
  """

  SIZES: Mapping[str, int]
  CLASSES: int
  DESCRIPTION: str

  @abc.abstractmethod
  def examples(self, split: str) -> dict[str, np.ndarray]:
    """Returns all of a split: `image`, `label`, `id` and `truth`."""

  def _info(self) -> tfds.core.DatasetInfo:
    size = IMAGE_SIZE
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(
            shape=(size, size, 3), dtype=np.uint8, encoding_format='png'
          ),
          'label': tfds.features.ClassLabel(num_classes=self.CLASSES),
          'id': tfds.features.Text(),
          'truth': tfds.features.Tensor(
            shape=(size, size, 1), dtype=np.uint8, encoding='zlib'
          ),
        }
      ),
      supervised_keys=('image', 'label'),
      # Keeps the order of the indices, which is random already.
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # Nothing to download.
    return {split: self._generate_examples(split) for split in self.SIZES}

  def _generate_examples(
    self, split: str
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    examples = self.examples(split)
    for index in range(self.SIZES[split]):
      yield index, {name: value[index] for name, value in examples.items()}
