"""Birdsnap: 500 species of North American birds (Berg et al., CVPR 2014).

TFDS has no builder for it, and nobody may hand on the photographs: the archive
holds lists of links to them and a script, `get_birdsnap.py`, that fetches what
is still there. So everybody's Birdsnap is another subset. This builder leaves
out what is missing and records it: `info.metadata['completeness']` is, per
split,

    expected     images of the split in the ROAR paper
    listed       images in the archive's lists
    present      images in the prepared dataset
    missing      ids of the images that are listed but not there
    undecodable  ids of the images that are there but cannot be decoded

The archive, version 1.1, unpacks into a folder `birdsnap` with tables whose
columns are separated by tabs and named in the first line:

    species.txt      id (1..500), common, scientific, dir
    images.txt       url, md5, path, species_id, a bounding box, 17 parts
    test_images.txt  path

A path such as `Coopers_Hawk/0561.jpg` is below the folder of images: the script
writes `download/images`, or `images` with `--output_dir=.`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from roar_tf import errors
from roar_tf.lazy import tf

NUM_CLASSES = 500
# The paper, Table 1; together the 49,829 images of the archive.
EXPECTED = {'train': 47386, 'test': 2443}

ARCHIVE = 'https://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz'

_TABLES = ('images.txt', 'species.txt', 'test_images.txt')
_IMAGE_FOLDERS = ('images', 'download/images')


class Lists(NamedTuple):
  """What the archive's tables say.

  Attributes:
    names: the common names of the species, by label.
    labels: per split, the label of every listed image by its path.
  """

  names: list[str]
  labels: dict[str, dict[str, int]]


def read_lists(folder: tfds.core.Path) -> Lists:
  """Reads the three tables.

  Raises:
    DataError: a table is not what the archive holds.
  """
  path = folder / 'species.txt'
  species = {row['id']: row['common'] for row in _rows(path, 'id', 'common')}
  numbers = [str(number) for number in range(1, NUM_CLASSES + 1)]
  if set(species) != set(numbers):
    raise _damaged(path, f'does not list the species 1 to {NUM_CLASSES}')

  path = folder / 'images.txt'
  labels: dict[str, int] = {}
  for row in _rows(path, 'path', 'species_id'):
    if row['path'] in labels:
      raise _damaged(path, f'lists {row["path"]} twice')
    if row['species_id'] not in species:
      raise _damaged(
        path, f'gives {row["path"]} the unknown species {row["species_id"]!r}'
      )
    labels[row['path']] = int(row['species_id']) - 1

  path = folder / 'test_images.txt'
  test: dict[str, int] = {}
  for row in _rows(path, 'path'):
    if row['path'] not in labels:
      raise _damaged(
        path,
        f'lists {row["path"]}, which images.txt lacks or which it lists twice',
      )
    test[row['path']] = labels.pop(row['path'])
  return Lists([species[n] for n in numbers], {'train': labels, 'test': test})


def _rows(path: tfds.core.Path, *columns: str) -> Iterator[dict[str, str]]:
  """Yields the rows of a table, which must have these columns."""
  header, *lines = path.read_text().splitlines() or ['']
  names = header.split('\t')
  if not set(columns) <= set(names):
    raise _damaged(path, f'has no columns {", ".join(columns)}')
  for number, line in enumerate(lines, start=2):
    values = line.split('\t')
    if len(values) != len(names):
      raise _damaged(
        path,
        f'has {len(values)} instead of {len(names)} columns in line {number}',
      )
    yield dict(zip(names, values, strict=True))


def _damaged(path: tfds.core.Path, found: str) -> errors.DataError:
  return errors.DataError(
    f'{path} {found}: unpack it again from {ARCHIVE} and run the same command.'
  )


class Birdsnap(tfds.core.GeneratorBasedBuilder):
  """TFDS builder `birdsnap`: `image`, `label` and `id`, the image's path."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Initial release.'}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'Unpack {ARCHIVE} there, which makes a folder birdsnap, and run the '
    'get_birdsnap.py in it (Python 2), which fetches the images.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        'Photographs of 500 species of North American birds, as far as their '
        'links still work; `metadata.json` lists what is missing.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(
            shape=(None, None, 3), dtype=np.uint8, encoding_format='jpeg'
          ),
          # Their names are in the archive.
          'label': tfds.features.ClassLabel(num_classes=NUM_CLASSES),
          'id': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://thomasberg.org',
      citation=(
        '@inproceedings{berg2014birdsnap, title={Birdsnap: Large-scale '
        'Fine-grained Visual Categorization of Birds}, author={Berg, Thomas '
        'and Liu, Jiongxin and Lee, Seung Woo and Alexander, Michelle L. and '
        'Jacobs, David W. and Belhumeur, Peter N.}, booktitle={CVPR}, '
        'year={2014}}'
      ),
      metadata=tfds.core.MetadataDict(completeness={}),
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    folder, images = _find_files(dl_manager)
    lists = read_lists(folder)
    label = self.info.features['label']
    label.names = lists.names
    return {
      split: self._generate_examples(split, images, labels)
      for split, labels in lists.labels.items()
    }

  def _generate_examples(
    self, split: str, images: tfds.core.Path, labels: Mapping[str, int]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    missing, undecodable = [], []
    for path, label in labels.items():
      file = images / path
      if not file.exists():
        missing.append(path)
        continue
      data = file.read_bytes()
      if not self._is_decodable(data):
        undecodable.append(path)
        continue
      yield path, {'image': data, 'label': label, 'id': path}
    self.info.metadata['completeness'][split] = {
      'expected': EXPECTED[split],
      'listed': len(labels),
      'present': len(labels) - len(missing) - len(undecodable),
      'missing': missing,
      'undecodable': undecodable,
    }

  def _is_decodable(self, data: bytes) -> bool:
    """Whether TFDS will be able to read a file's content as an image."""
    try:
      self.info.features['image'].decode_example(data)
    except (ValueError, tf.errors.InvalidArgumentError):
      return False
    return True


def _find_files(
  dl_manager: tfds.download.DownloadManager,
) -> tuple[tfds.core.Path, tfds.core.Path]:
  """Returns the folder of the tables and that of the images.

  Raises:
    UsageError: files are missing; they are named, and where they belong.
  """
  needed = [*_TABLES, 'the folder images']
  try:
    manual = dl_manager.manual_dir
  except AssertionError as e:
    # TFDS names an empty directory in this message only.
    raise _lacking(needed, str(e).split('. Create')[0], 'there') from e
  folder = manual / 'birdsnap'
  if not folder.exists():
    folder = manual
  images = [folder / name for name in _IMAGE_FOLDERS]
  there = [(folder / name).exists() for name in _TABLES]
  there.append(any(path.exists() for path in images))
  missing = [n for n, found in zip(needed, there, strict=True) if not found]
  if missing:
    raise _lacking(missing, f'looked in {folder}', f'in {manual}')
  return folder, next(path for path in images if path.exists())


def _lacking(missing: list[str], found: str, place: str) -> errors.UsageError:
  return errors.UsageError(
    f'Birdsnap lacks {", ".join(missing)} ({found}): unpack {ARCHIVE} {place} '
    'and run get_birdsnap.py (Python 2) in the folder birdsnap that this makes.'
  )
