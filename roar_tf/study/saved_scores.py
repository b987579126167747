"""`roar_tf.save_scores`: score files of a whole dataset, from any function.

`roar_rank --scores` ranks them, see `score_files`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from roar_tf import errors, own_code
from roar_tf.cells import ORIGINAL
from roar_tf.datasets.source import SPLITS
from roar_tf.engine import files, locations, markers, progress
from roar_tf.estimators import functions, registry
from roar_tf.estimators.habits import as_array
from roar_tf.study.paths import Workspace

_ABOUT = 'about.json'
_VALUES_PER_FILE = 1 << 24
"""Scores of one file, at most: 64 MiB in float32."""
_IMAGES_PER_FILE = 1000


def save_scores(
  workspace: str | os.PathLike,
  source: str,
  name: str,
  function: Callable,
  *,
  labels: bool = False,
  batch_size: int = 50,
  splits: Sequence[str] = SPLITS,
  directory: str | os.PathLike | None = None,
  version: str | None = None,
) -> str:
  """Scores every image of a dataset by a function, in files for roar_rank.

      def attribute(images):  # uint8 [B, H, W, C]
        return my_explainer(images / 255)

      folder = roar_tf.save_scores(
        'workspace', 'planted_patch', 'mine', attribute
      )

  and then, in a shell,

      roar_rank --dataset=planted_patch --scores=FOLDER --estimators=mine

  Files appear when they are complete. After an interruption the same call goes
  on where it was; another function, or other images, are refused. Processes
  that share the work take one split each.

  Args:
    workspace: where the dataset is, made by `roar_study --stage=source`.
    source: name of the dataset, or its gin file.
    name: a new name, that of the estimator.
    function: takes uint8 images [B, H, W, C] of 0..255, in batches of different
      sizes, and returns real numbers [B, H, W, C], [B, H, W, 1] or [B, H, W],
      channels last, of NumPy, TensorFlow or PyTorch; higher is more important.
    labels: whether it is called with the images and their labels, int64 [B].
    batch_size: most images per call.
    splits: of `train` and `test`.
    directory: where the files go; `scores/<source>/<name>` of the workspace if
      None.
    version: your own word for the version of the function. Without one its
      source code tells it from another one.

  Returns:
    The directory.

  Raises:
    UsageError: the name is taken; there is no such dataset; or the directory
      has scores of another function, or of other images.
    ValueError: the function returns something else than scores.
  """
  place = Workspace(os.fspath(workspace))
  dataset, source = source, os.path.basename(source).removesuffix('.gin')
  registry.check_new_for_scores(name)
  splits = [splits] if isinstance(splits, str) else list(splits)
  for split in splits:
    if split not in SPLITS:
      raise errors.UsageError(
        f'splits must be of {", ".join(SPLITS)}, found {split!r}.'
      )
  if batch_size < 1:
    raise errors.UsageError(
      f'batch_size must be 1 or more, found {batch_size}.'
    )
  if not callable(function):
    raise errors.UsageError(
      f'function must be called with images, found {function!r}.'
    )
  images = _Images(place, source)
  folder = place.scores(source, name)
  if directory is not None:
    folder = locations.located(os.fspath(directory), 'directory').rstrip('/')
  _begin(folder, images, _code(function, version))
  for split in splits:
    images.score(split, folder, function, labels, batch_size)
  progress.say(
    f'{folder} has the scores of {" and ".join(splits)}. Next: roar_rank '
    f'--dataset={dataset} --scores={folder} --estimators={name} '
    f'--workspace={place.root}'
  )
  return folder


def _code(function: Callable, version: str | None) -> dict:
  """Returns what tells a function from another version of it."""
  code = own_code.behind(function, 'function', version)
  if code.fault:
    raise errors.UsageError(
      'The source code of the function cannot be read, by which its scores are '
      'told from those of another version of it: define it in a file, or give '
      'version="1", and another word when it changes.'
    )
  _, name = functions.origin(function)
  return {'function': name, **code.settings({})}


def _begin(folder: str, images: _Images, code: dict) -> None:
  """Records what the scores of a directory are of, or compares it.

  Raises:
    UsageError: it has scores of something else.
  """
  path = f'{folder}/{_ABOUT}'
  about = {'original': images.seal, 'images per file': images.per_file, **code}
  if any(name.endswith('.npz') for name in files.names_in(folder)):
    if not files.exists(path):
      raise errors.UsageError(
        f'{folder} has npz files that save_scores did not write: give another '
        'directory.'
      )
    was = files.read_json(path)
    if changed := sorted(
      key for key in {**was, **about} if was.get(key) != about.get(key)
    ):
      raise errors.UsageError(
        f'{folder} has scores that were made with another '
        f'{errors.few(changed)}: delete it, or give another name or directory.'
      )
  files.publish_json(path, about)


class _Images:
  """The images of a dataset `original`, in parts of which each has a file.

  Attributes:
    seal: what tells them from other images.
    per_file: how many scores a file has, at most.
  """

  def __init__(self, place: Workspace, source: str):
    """Opens the dataset; raises UsageError if it is not there."""
    import tensorflow_datasets as tfds

    place.check_reachable()
    directory = place.dataset(source, ORIGINAL)
    marker = markers.read(f'{directory}/{markers.DONE}')
    if marker is None:
      names = [
        folder.removeprefix('roar_') for folder in files.names_in(place.tfds)
      ]
      there = [
        name
        for name in names
        if files.exists(f'{place.dataset(name, ORIGINAL)}/{markers.DONE}')
      ]
      raise errors.UsageError(
        f'{place.root} has no dataset "{source}".'
        f'{errors.nearest(source, there)} It has: '
        f'{", ".join(there) or "none"}; "roar_study --stage=source", with the '
        'flags of your study, makes those of a study.'
      )
    self.seal = marker['seal']
    self._source = source
    self._builder = tfds.builder_from_directory(directory)
    shape = self._builder.info.features['image'].shape
    values = int(np.prod(shape))
    self.per_file = max(1, min(_IMAGES_PER_FILE, _VALUES_PER_FILE // values))

  def score(
    self,
    split: str,
    folder: str,
    function: Callable,
    labels: bool,
    batch_size: int,
  ) -> None:
    """Writes the files of a split that are not there yet."""
    total = self._builder.info.splits[split].num_examples
    there = set(files.names_in(folder))
    title = f'scores of {self._source} {split}'
    with progress.bar(total, title, 'images') as bar:
      advance = progress.logged(bar, title)
      for start in range(0, total, self.per_file):
        stop = min(start + self.per_file, total)
        name = f'{split}-{start:08d}-{stop:08d}.npz'
        if name in there:
          advance(stop - start)
          continue
        ids, scores = [], []
        for batch in self._batches(f'{split}[{start}:{stop}]', batch_size):
          given = [batch['image'], batch['label']][: 1 + labels]
          scores.append(_checked(function(*given), batch))
          ids.append(batch['id'].astype('S'))
          advance(len(ids[-1]))
        with (
          files.publishing(f'{folder}/{name}') as path,
          open(path, 'wb') as file,
        ):
          np.savez(file, ids=np.concatenate(ids), scores=np.concatenate(scores))

  def _batches(self, part: str, size: int) -> Iterator[dict]:
    """Yields the images of a part of a split, in the order of the dataset."""
    import tensorflow_datasets as tfds

    # One file after the other; and TFDS would cache parts, and warn of it.
    how = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    data = self._builder.as_dataset(split=part, read_config=how)
    yield from tfds.as_numpy(data.batch(size))


def _checked(scores, batch: dict) -> np.ndarray:
  """Returns the scores of a batch, floating point [B, H, W, 1 or C].

  Raises:
    ValueError: they are none.
  """
  shape = batch['image'].shape
  scores = np.asarray(as_array(scores))
  if scores.dtype.kind not in 'fiub' and scores.dtype.name != 'bfloat16':
    raise ValueError(
      f'function must return real numbers, found {scores.dtype}.'
    )
  if scores.dtype.name not in ('float16', 'float32', 'float64'):
    scores = scores.astype(np.float32)
  if scores.shape == shape[:3]:
    scores = scores[..., None]
  if scores.shape not in (shape, (*shape[:3], 1)):
    raise ValueError(
      f'function must return scores of shape {shape}, {(*shape[:3], 1)} or '
      f'{shape[:3]}, channels last, of images {shape}, found {scores.shape}.'
    )
  finite = np.isfinite(scores).all((1, 2, 3))
  if not finite.all():
    id_ = batch['id'][np.argmin(finite)].decode(errors='replace')
    raise ValueError(
      f'function must return finite scores, found NaN or infinity for the '
      f'image "{id_}".'
    )
  return np.ascontiguousarray(scores)
