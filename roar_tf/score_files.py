"""Scores made elsewhere: a directory of npz files, read row by row.

Every `*.npz` holds two arrays: `ids` [n], strings or integers, and `scores`,
floating point [n, H, W, C], [n, H, W, 1] or [n, H, W]; higher is more
important. Files hold any number of examples in any order. Nothing is unpickled.
`roar_tf.save_scores` writes them, see docs/guides/external_attributions.md.
"""

import collections
import contextlib
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from roar_tf import errors
from roar_tf.engine import files, locations, markers


class ScoreFiles:
  """The scores of a directory; only ids are held in memory.

  Attributes:
    directory: where the files lie.
    paths: the files, by name.
  """

  def __init__(self, directory: str, image_shape: tuple[int, int, int]):
    """Reads the ids and the kind of scores of every file.

    Args:
      directory: path or URL.
      image_shape: (H, W, C) of the images that were explained.

    Raises:
      UsageError: there are no such files, one of them is something else, or an
        id stands twice.
    """
    self.directory = locations.located(directory, '--scores').rstrip('/')
    locations.check_reachable(self.directory, '--scores')
    self.paths = [
      f'{self.directory}/{name}'
      for name in files.names_in(self.directory)
      if name.endswith('.npz')
    ]
    if not self.paths:
      raise errors.UsageError(
        f'--scores={directory} holds no *.npz files; roar_tf.save_scores '
        'writes them, and docs/guides/external_attributions.md describes them.'
      )
    self._places: dict[bytes, tuple[int, int]] = {}
    self._heads = []
    twice = []
    for number, path in enumerate(self.paths):
      ids, head = _checked(path, tuple(image_shape))
      self._heads.append(head)
      for row, id_ in enumerate(ids):
        if self._places.setdefault(id_, (number, row)) != (number, row):
          twice.append(id_)
    if twice:
      raise errors.UsageError(
        f'--scores={directory}: ids that stand twice: {_counted(twice)}; an id '
        'has one row.'
      )
    depth = max(head.shape[3] for head in self._heads)
    self._shape = (*image_shape[:2], depth)
    self._dtype = np.result_type(*(head.dtype for head in self._heads))

  def digest(self) -> str:
    """Returns what identifies the scores: the files' contents in their order.

    The order of the files counts, and not what they are called.
    """
    hashes = self.sha256()
    return markers.digest({'files': [hashes[name] for name in sorted(hashes)]})

  def __len__(self):
    """Returns the number of ids."""
    return len(self._places)

  def check_all(self, ids: Iterable[bytes]) -> int:
    """Returns how many ids of the files are not among these.

    Raises:
      UsageError: some of these have no scores, or are those of several images.
    """
    counts = collections.Counter(ids)
    ids = set(counts)
    if twins := sorted(id_ for id_, count in counts.items() if count > 1):
      raise errors.UsageError(
        f'--scores={self.directory}: ids that several images have: '
        f'{_counted(twins)}; each image needs scores of its own: make the '
        'dataset again with other ids, see gin parameter Source.id_key.'
      )
    missing = sorted(ids - self._places.keys())
    if missing:
      raise errors.UsageError(
        f'--scores={self.directory}: ids without scores: {_counted(missing)} '
        f'of {len(ids)}; every example of both splits needs a row.'
      )
    return len(self._places) - len(ids)

  def sha256(self) -> dict[str, str]:
    """Returns the SHA-256 of every file, by its name in the directory."""
    return {os.path.basename(p): files.sha256(p) for p in self.paths}

  def rows(self, ids: Iterable[bytes]) -> np.ndarray:
    """Returns the scores of some ids, floating point [B, H, W, 1 or C].

    Memory is that of the outcome, however large the files are.
    """
    places = [(*self._places[id_], i) for i, id_ in enumerate(ids)]
    found = np.empty([len(places), *self._shape], self._dtype)
    wanted: dict[int, list[tuple[int, int]]] = {}
    for number, row, i in sorted(places):
      wanted.setdefault(number, []).append((row, i))
    for number, rows in wanted.items():
      head = self._heads[number]
      size = int(np.prod(head.shape[1:])) * head.dtype.itemsize
      with _member(self.paths[number]) as stream:
        _read_header(stream)
        start = stream.tell()
        for row, i in rows:
          stream.seek(start + row * size)
          data = stream.read(size)
          if len(data) < size:
            raise errors.DataError(
              f'{self.paths[number]} has become shorter while it was read; '
              'write it again and run the same command again.'
            )
          found[i] = np.frombuffer(data, head.dtype).reshape(head.shape[1:])
    return found


class _Head:
  """Shape [n, H, W, 1 or C] and dtype of a file's scores."""

  def __init__(self, shape, dtype):
    self.shape = shape if len(shape) == 4 else (*shape, 1)
    self.dtype = dtype


def _counted(ids: Sequence[bytes]) -> str:
  """Returns how many ids there are and the first three of them."""
  first = ', '.join(f'"{i.decode(errors="replace")}"' for i in ids[:3])
  return f'{len(ids)} ({first}{", ..." if len(ids) > 3 else ""})'


def _checked(path: str, image_shape) -> tuple[list[bytes], _Head]:
  """Returns ids and head of a file; raises UsageError if it is no such file.

  Every byte is read, since rows are read later without their checksum.
  """
  try:
    with files.opened(path) as file:
      with zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():
          raise ValueError(f'{damaged} is damaged: its checksum is another')
      file.seek(0)
      ids = np.load(file, allow_pickle=False)['ids']
    with _member(path) as stream:
      shape, fortran_order, dtype = _read_header(stream)
  except Exception as e:  # zipfile, zlib and numpy raise many types.
    text = str(e) or type(e).__name__
    raise errors.UsageError(
      f'{path} is no npz file with arrays ids and scores '
      f'({text.splitlines()[0]}); object arrays are not read.'
    ) from e
  if ids.ndim != 1 or ids.dtype.kind not in 'USiu':
    raise errors.UsageError(
      f'{path}: ids must be strings or integers [n], found {ids.dtype} '
      f'{ids.shape}.'
    )
  height, width, channels = image_shape
  known = [(len(ids), height, width, *last) for last in [(channels,), (1,), ()]]
  if dtype.kind != 'f' or dtype.itemsize > 8 or shape not in known:
    shapes = ', '.join(map(str, known))
    raise errors.UsageError(
      f'{path}: scores must be floating point of shape {shapes}, channels '
      f'last, for its {len(ids)} ids, found {dtype} {shape}.'
    )
  if fortran_order:
    raise errors.UsageError(
      f'{path}: scores lie in Fortran order, which is not read row by row; '
      'save numpy.ascontiguousarray(scores).'
    )
  return _as_bytes(path, ids), _Head(shape, dtype)


def _as_bytes(path: str, ids: np.ndarray) -> list[bytes]:
  if ids.dtype.kind == 'S':
    return ids.tolist()
  try:
    return [str(id_).encode() for id_ in ids.tolist()]
  except UnicodeEncodeError as e:
    raise errors.UsageError(
      f'{path}: the id {e.object!r} is no text; save ids as bytes.'
    ) from e


@contextlib.contextmanager
def _member(path: str) -> Iterator:
  """Yields the stream of the array `scores` of an npz file.

  What `numpy.savez` stores as it is can be read at any place; what
  `numpy.savez_compressed` writes is decompressed up to that place.
  """
  with files.opened(path) as file, zipfile.ZipFile(file) as archive:
    info = archive.getinfo('scores.npy')
    if info.compress_type != zipfile.ZIP_STORED:
      with archive.open(info) as stream:
        yield stream
      return
    # A member's local header ends with its name and an extra field.
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack('<HH', file.read(4))
    file.seek(info.header_offset + 30 + name + extra)
    yield file


def _read_header(stream):
  """Returns (shape, fortran_order, dtype); the stream is at the values then."""
  version = np.lib.format.read_magic(stream)
  if version == (1, 0):
    return np.lib.format.read_array_header_1_0(stream)
  return np.lib.format.read_array_header_2_0(stream)
