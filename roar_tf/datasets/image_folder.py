"""A folder of images, one folder per split and class.

The order of examples and the numbers of classes are those of `tfds.ImageFolder`
over the same files: files are sorted by class and name, and then shuffled,
always alike.
"""

from __future__ import annotations

import collections
import fnmatch
import hashlib
import os
import random
from collections.abc import Iterator

import numpy as np

from roar_tf import errors
from roar_tf.engine import files, locations
from roar_tf.lazy import tf

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')
"""Of the names of images, in lower case."""

_OTHER_IMAGES = (
  *('.avif', '.bmp', '.gif', '.heic', '.heif', '.jp2', '.jxl', '.npy'),
  *('.pgm', '.ppm', '.svg', '.tga', '.tif', '.tiff'),
)
_LITTER = (
  # What desktops, notebooks, cameras, servers and versioning leave behind.
  *('._*', '.ds_store', '.appledouble', '.localized', '__macosx', '.trash*'),
  *('.spotlight-v100', '.fseventsd', 'thumbs.db', 'ehthumbs.db', 'desktop.ini'),
  *('$recycle.bin', 'system volume information', '.directory', '.thumbnails'),
  *('.ipynb_checkpoints', '.cache', '.picasa.ini', '@eadir', '.nfs*'),
  *('lost+found', '.git*', '.svn', '.hg', '.dvc*', '.keep'),
)
_LOST = -1
"""Size of what a link names that is not there."""


class Folder:
  """The images of a folder, `<split>/<class>/<name>.jpg` (jpeg, png, webp).

  Attributes:
    root: its path or URL.
    classes: names of the classes of all splits, sorted.
    ids: {split: ids of its images, which are their paths below the folder}.
    ignored: a phrase that tells what else lies in it, and is not read; empty if
      there is nothing but well-known litter, such as `.DS_Store`.
  """

  def __init__(self, folder: str, what: str):
    """Lists a folder.

    Args:
      folder: path or URL.
      what: what a message calls the setting that named it.

    Raises:
      UsageError: there is no such folder, or no such file in it, or a name that
        is no text.
    """
    parameter = 'gin parameter Source.folder'
    self.root = locations.located(folder, parameter).rstrip('/')
    locations.check_reachable(self.root, parameter)
    self._what = what
    self._sizes: dict[str, int | None] = {}
    self._others: dict[str, list[str]] = collections.defaultdict(list)
    if not files.is_directory(self.root):
      raise errors.UsageError(f'{what}: there is no folder "{folder}".')
    self.ids, classes = {}, set()
    for split in self._folders(''):
      ids = []
      for name in self._folders(split):
        classes.add(name)
        ids += self._images(f'{split}/{name}')
      random.Random(split).shuffle(ids)
      self.ids[split] = ids
    self.classes = sorted(classes)
    self.ignored = ', '.join(
      f'{kind} ({errors.few(paths)})' for kind, paths in self._others.items()
    )
    if not any(self.ids.values()):
      raise errors.UsageError(
        f'{what}: folder "{folder}" holds no images where they belong, as in '
        'train/cat/1.jpg (split, class, name)'
        f'{self.ignored and f"; it holds {self.ignored}"}.'
      )

  def _folders(self, path: str) -> list[str]:
    """Returns the names of the folders of splits, or of classes."""
    folders = []
    for name, is_folder, _ in self._entries(path):
      place = f'{path}/{name}'.lstrip('/')
      if is_folder and name.startswith('.'):
        self._others['hidden folders'].append(f'{place}/')
      elif is_folder:
        folders.append(name)
      elif name.lower().endswith((*ENDINGS, *_OTHER_IMAGES)):
        self._others['images in no folder of a class'].append(place)
    return folders

  def _images(self, path: str) -> list[str]:
    """Returns the ids of the images of a class, in the order of their names."""
    ids = []
    for name, is_folder, size in self._entries(path):
      place = f'{path}/{name}'
      if is_folder:
        self._others['nested folders'].append(f'{place}/')
      elif name.startswith('.'):
        self._others['hidden files'].append(place)
      elif size == _LOST:
        self._others['links that lead nowhere'].append(place)
      elif name.lower().endswith(ENDINGS):
        self._sizes[place] = size
        ids.append(place)
      else:
        kind = 'files that are no JPEG, PNG or WebP by their names'
        self._others[kind].append(place)
    return ids

  def _entries(self, path: str) -> Iterator[tuple[str, bool, int | None]]:
    """Yields (name, whether it is a folder, bytes), litter left out.

    An object store would have to be asked for the size of every file: there it
    is None.
    """
    place = f'{self.root}/{path}'.rstrip('/')
    if files.is_remote(place):
      found = [
        (n, not n.lower().endswith(ENDINGS) and _is_folder(place, n), None)
        for n in files.names_in(place)
      ]
    else:
      try:
        with os.scandir(place or '/') as entries:
          found = sorted((e.name, e.is_dir(), _size(e)) for e in entries)
      except OSError as e:
        raise errors.UsageError(
          f'{self._what}: "{e.filename}" cannot be read ({e.strerror}).'
        ) from e
    for name, is_folder, size in found:
      if any(fnmatch.fnmatchcase(name.lower(), each) for each in _LITTER):
        continue
      try:
        name.encode()
      except UnicodeEncodeError as e:
        raise errors.UsageError(
          f'{self._what}: the name {os.fsencode(name)!r} in "{place}" is not '
          'UTF-8, and ids are made of names; rename it.'
        ) from e
      yield name, is_folder, size

  def examples(self, split: str, start: int, stop: int) -> tf.data.Dataset:
    """Returns examples start..stop-1 of a split, images as they are stored.

    Returns:
      Dataset of `image`, the file's content, `label` int64 and `id`.
    """
    ids = self.ids[split][start:stop]
    number = {name: i for i, name in enumerate(self.classes)}
    columns = {
      'image': [f'{self.root}/{id_}' for id_ in ids],
      'label': np.array([number[id_.split('/')[1]] for id_ in ids], np.int64),
      'id': ids,
    }
    return tf.data.Dataset.from_tensor_slices(columns).map(
      lambda example: {**example, 'image': tf.io.read_file(example['image'])}
    )

  def digest(self, split: str, start: int, stop: int) -> str:
    """Returns what names and sizes of examples start..stop-1 and classes are.

    It does not change when the folder moves.
    """
    digest = hashlib.sha256(repr(self.classes).encode())
    for id_ in self.ids[split][start:stop]:
      digest.update(f'{id_}\n{self._sizes[id_]}\n'.encode())
    return digest.hexdigest()


def _is_folder(place: str, name: str) -> bool:
  return files.is_directory(f'{place}/{name}')


def _size(entry: os.DirEntry) -> int:
  """Returns the bytes of a file, or `_LOST`."""
  try:
    return entry.stat().st_size
  except FileNotFoundError:
    return _LOST
