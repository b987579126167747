"""Where the artefacts of a workspace lie; the only module that builds paths."""

import os
import unicodedata
from collections.abc import Iterator

from roar_tf import errors
from roar_tf.cells import of_model, split_model
from roar_tf.engine import files, locations

VERSION = '1.0.0'
"""Version of every dataset in the workspace (a TFDS version)."""

_DEPTHS = {'tfds': 3, 'models': 1, 'runs': 4, 'looks': 2, 'reports': 1}
"""How deep artefacts lie below the folders of the root."""


class Workspace:
  """The one directory, local or remote, that holds all artefacts.

  Attributes:
    root: the directory, or the URL of one on an object store.
  """

  def __init__(self, root: str):
    if not root:
      raise errors.UsageError('--workspace is empty; name a directory.')
    root = locations.located(root, '--workspace')
    self.root = root.rstrip('/') or '/'

  @classmethod
  def of_tfds(cls, directory: str) -> 'Workspace':
    """Returns the workspace whose property `tfds` is a directory.

    Raises:
      UsageError: no workspace has such a one.
    """
    root, name = os.path.split(directory.rstrip('/'))
    if name != 'tfds':
      raise errors.UsageError(
        f'data_dir={directory} is not the folder "tfds" of a workspace, where '
        'cells are made from rankings; give WORKSPACE/tfds.'
      )
    return cls(root or '.')

  def create(self) -> None:
    """Creates the root; raises UsageError when it cannot be written."""
    self.check_reachable()
    probe = f'{self.root}/.write-{os.getpid()}'
    try:
      files.make_directory(self.root)
      files.publish(probe, b'')
      files.remove(probe)
    except files.storage_errors() as e:
      if files.is_full(e):
        raise
      raise errors.UsageError(
        f'--workspace={self.root} cannot be written ({files.reason(e)}); '
        'choose another directory or fix its permissions.'
      ) from e

  def check_study(self, name: str) -> None:
    """Refuses a study that may share its folders with another one.

    Disks of macOS and Windows take names for the same that differ by case.

    Raises:
      UsageError: there are runs of a study of such a name.
    """
    if files.is_remote(self.root):
      return
    for other in files.names_in(f'{self.root}/runs'):
      if other != name and _caseless(other) == _caseless(name):
        raise errors.UsageError(
          f'--workspace={self.root} has runs of a study "{other}", and many '
          f'disks take "{name}" for the same name: rename the gin file of one, '
          'or use another --workspace.'
        )

  def check_reachable(self) -> None:
    """Raises UsageError if it is on an object store that does not answer."""
    locations.check_reachable(self.root, '--workspace')

  def check_there(self) -> None:
    """Raises UsageError if there is no such directory."""
    self.check_reachable()
    if not files.is_directory(self.root):
      raise errors.UsageError(
        f'--workspace={self.root} is no directory; name one that a study made.'
      )

  @property
  def identity(self) -> str:
    """File whose word tells processes that they share this workspace."""
    return f'{self.root}/.identity'

  @property
  def tfds(self) -> str:
    """What `tfds.load` takes as `data_dir`."""
    return f'{self.root}/tfds'

  def dataset(self, source: str, config: str) -> str:
    """Directory of one dataset: `original`, a ranking or a cell.

    One whose name begins with a folder, see `ranking_of_run`, lies below it.
    """
    folder, _, name = config.rpartition('/')
    below = f'{self.root}/{folder}' if folder else self.tfds
    return f'{below}/roar_{source}/{name}/{VERSION}'

  def ranking_of_run(self, run: str) -> str:
    """Returns the name of the ranking that only one run is made from.

    Args:
      run: the directory of the run.
    """
    return f'{self.relative(run)}/ranking'

  def shard(
    self, source: str, config: str, split: str, index: int, count: int
  ) -> str:
    """File of one shard, named as TFDS wants it."""
    return (
      f'{self.dataset(source, config)}/roar_{source}-{split}'
      f'.tfrecord-{index:05d}-of-{count:05d}'
    )

  def model(self, source: str, number: int = 0) -> str:
    """Directory of an explained model of a source; numbers count from 0."""
    return f'{self.root}/models/{of_model(source, number)}'

  def run(self, study: str, source: str, cell: str, seed: int) -> str:
    """Directory of one run."""
    return f'{self.root}/runs/{study}/{source}/{cell}/seed_{seed}'

  def look(self, study: str, number: int) -> str:
    """Directory of what was decided at one look of a sequential study."""
    return f'{self.root}/looks/{study}/{number}'

  def report(self, study: str) -> str:
    """Directory of a study's report."""
    return f'{self.root}/reports/{study}'

  def scores(self, source: str, name: str) -> str:
    """Directory of an estimator's scores that were made elsewhere."""
    return f'{self.root}/scores/{source}/{name}'

  def heartbeats(self, study: str) -> str:
    """Directory in which processes say what they do for a study."""
    return f'{self.root}/status/{study}'

  def all_heartbeats(self) -> list[str]:
    """Directories of the heartbeats of all studies."""
    return [self.heartbeats(name) for name in files.names_in(self._status)]

  @property
  def _status(self) -> str:
    return f'{self.root}/status'

  def relative(self, path: str) -> str:
    """A path as messages show it: relative to the root."""
    return path.removeprefix(self.root + '/')

  def artefacts(self) -> Iterator[str]:
    """Yields the directories that datasets, models, runs and reports have."""
    for folder, depth in _DEPTHS.items():
      for path in _folders_below(f'{self.root}/{folder}', depth):
        # Beside ours, TFDS may keep what it has prepared.
        if folder != 'tfds' or self.source_of(path):
          yield path
        if folder == 'runs':  # Its own ranking, see `ranking_of_run`.
          below = f'{path}/roar_{self.source_of(path)}'
          yield from _folders_below(below, 2)

  def source_of(self, path: str) -> str | None:
    """Returns the source whose artefact a directory is.

    None for a report or a look, which belong to all of a study.
    """
    folder, *parts = self.relative(path).split('/')
    if folder == 'tfds':
      name = parts[0].removeprefix('roar_')
      return name if name != parts[0] else None
    if folder == 'models':
      source, _ = split_model(parts[0])
      return source
    return parts[1] if folder == 'runs' else None

  def aside(self) -> Iterator[str]:
    """Yields the files that processes are writing, or were when killed.

    And the checkpoints of what is done: they are deleted after its marker is
    written, or else here.
    """
    for folder in (*_DEPTHS, 'scores', 'status'):
      for path in files.walk(f'{self.root}/{folder}'):
        above, name = os.path.split(path)
        if files.ASIDE.fullmatch(name) or (
          os.path.basename(above) == 'checkpoints'
          and files.exists(f'{os.path.dirname(above)}/DONE')
        ):
          yield path


def _caseless(name: str) -> str:
  """Returns what names have in common that some disks take for the same."""
  return unicodedata.normalize('NFC', name).casefold()


def _folders_below(path: str, depth: int) -> Iterator[str]:
  if not files.is_directory(path):
    return
  if depth == 0:
    yield path
    return
  for name in files.names_in(path):
    yield from _folders_below(f'{path}/{name}', depth - 1)
