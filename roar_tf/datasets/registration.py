"""TFDS builders of what a workspace holds: `roar_<source>`, one config a cell.

Importing `roar_tf.datasets` registers them:

    tfds build roar_food101/sg_sq_grad_pixel_remove_90 \
      --imports=roar_tf.datasets --data_dir=WORKSPACE/tfds

masks the workspace's `original` by its ranking, in the stage `shards` itself:
the files are those that `roar_shards` writes, bit for bit, and not what TFDS's
own writer would make of the same examples. Only the `environment` that DONE
markers record may differ, since here nobody sets the number of threads.

`tfds.load` does the same where a cell is not there yet. To read one that is
there it needs no builder, and the builders read it as TFDS does without them:
all they say of it comes from its files.

The listed configs are `original` and the paper's grid: 18 estimators, 5
thresholds, 2 modes, of pixels and of elements. Every other name of a cell works
as well. Rankings can be read, not made.

This module is imported as soon as TFDS is, in every tool: TensorFlow and the
stages are left to the moment when something is made.
"""

import itertools
import re

import tensorflow_datasets as tfds

from roar_tf import errors, gin_files

_BASES = ('grad', 'gb', 'ig')
_PREFIXES = ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
PAPER_ESTIMATORS = (
  *(prefix + base for prefix in _PREFIXES for base in _BASES),
  'sq_sg_grad',  # Our guess for the one of 18 that the text does not name.
  'random',
  'sobel',
)
"""The paper's 18 estimators (sections 2 and 4.1)."""
PAPER_THRESHOLDS = (10, 30, 50, 70, 90)
"""The paper's t, but for t = 0, which is `original`."""

_ORIGINAL = 'original'
_RANKING = re.compile(r'ranking_.+_(pixel|element)(_model\d+)?')
_NAME = re.compile(r'roar_(\w+)')


def _configs() -> list[tfds.core.BuilderConfig]:
  """Returns `original`, which is the default, and the paper's grid."""
  grid = itertools.product(
    ('element', 'pixel'),
    PAPER_ESTIMATORS,
    ('remove', 'keep'),
    PAPER_THRESHOLDS,
  )
  names = (f'{e}_{granularity}_{m}_{t}' for granularity, e, m, t in grid)
  return [tfds.core.BuilderConfig(name=name) for name in (_ORIGINAL, *names)]


class CellsBuilder(
  tfds.core.dataset_builder.FileReaderBuilder, skip_registration=True
):
  """Builder of the datasets of one source; `data_dir` is WORKSPACE/tfds."""

  VERSION = tfds.core.Version('1.0.0')  # `study.paths.VERSION`; tested.
  BUILDER_CONFIGS = _configs()

  @property
  def source(self) -> str:
    """Name of the source."""
    return self.name.removeprefix('roar_')

  def _create_builder_config(self, builder_config, version):
    """Takes any name; whether it means a cell is checked by `_info`."""
    if isinstance(builder_config, str):
      name = builder_config.split(':')[0]
      if name not in self.builder_configs:
        return tfds.core.BuilderConfig(name=name)
    return super()._create_builder_config(builder_config, version)

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns what TFDS completes from the files, features included."""
    if self._makes_cell and not self._is_there:
      self._check_name()
    return tfds.core.DatasetInfo(builder=self)

  @property
  def _makes_cell(self) -> bool:
    """Whether the config is that of a cell, not of `original` or a ranking."""
    name = self.builder_config_name
    return name != _ORIGINAL and not _RANKING.fullmatch(name)

  def _check_name(self) -> None:
    """Raises UsageError if the config's name is no cell's."""
    if self.builder_config_name in self.builder_configs:
      return
    from roar_tf.study import masked_on_demand, paths

    try:
      workspace = paths.Workspace.of_tfds(str(self._data_dir_root))
    except errors.UsageError:  # `download_and_prepare` says so.
      workspace = None
    masked_on_demand.cell_of(workspace, self.source, self.builder_config_name)

  @property
  def _is_there(self) -> bool:
    """Whether TFDS can read the dataset; its own check logs a warning."""
    return (self.data_path / 'dataset_info.json').exists()

  def is_prepared(self) -> bool:
    """Whether TFDS may reuse a dataset, or delete it under `--overwrite`.

    Never one that other stages make: `original` and rankings take hours.
    """
    return self._makes_cell and self._is_there

  def download_and_prepare(
    self,
    *,
    download_dir=None,
    download_config=None,
    file_format=None,
    permissions=None,
  ) -> None:
    """Makes a cell where it is not finished; downloads nothing.

    Args:
      download_dir: without meaning here.
      download_config: `download_mode` decides whether a finished cell is made
        anew; shards are those of `original`, whatever else it says.
      file_format: `tfrecord` or None.
      permissions: without meaning here.

    Raises:
      UsageError: something else is asked for than a cell's shards; or as
        `masked_on_demand.make`.
      MissingInputsError: as `masked_on_demand.make`.
      UnitsFailedError: likewise.
    """
    del download_dir, permissions
    self._check_wishes(download_config, file_format)
    mode = download_config and download_config.download_mode
    overwrite = bool(mode and mode.overwrite_dataset)
    if not self._makes_cell and not overwrite and self._is_there:
      return
    # Upwards, and so only now: these builders are how TFDS calls a stage.
    from roar_tf.study import masked_on_demand, paths

    workspace = paths.Workspace.of_tfds(str(self._data_dir_root))
    name = self.builder_config_name
    if self._makes_cell:
      masked_on_demand.make(workspace, self.source, name, overwrite)
      self.info.read_from_directory(self.data_dir)
      return
    masked_on_demand.require(workspace, self.source, name)
    raise errors.UsageError(
      f'{self.data_dir} is made by the stages "source" and "rank" only, so it '
      'is not overwritten here; delete it and run roar_study to make it anew.'
    )

  def _check_wishes(self, download_config, file_format) -> None:
    """Raises UsageError for what a cell's shards cannot be."""
    wishes = {'file_format': file_format or self.info.file_format.value}
    for name in ('max_examples_per_split', 'num_shards'):
      wishes[name] = getattr(download_config, name, None)
    if wishes['file_format'] == 'tfrecord':
      del wishes['file_format']
    for name, value in wishes.items():
      if value:
        raise errors.UsageError(
          f'{self.name}: {name}={value} cannot be: the shards of a cell are '
          'TFRecords, as many as "original" has; leave it out.'
        )

  def _download_and_prepare(self, dl_manager, download_config=None):
    """Abstract in TFDS, and never called: see `download_and_prepare`."""
    raise NotImplementedError


def _register(source: str) -> type[CellsBuilder]:
  """Creates the builder of a source, which registers it with TFDS."""
  name = f'roar_{source}'
  class_name = ''.join(word.capitalize() for word in name.split('_'))
  members = {
    'name': name,
    '__module__': __name__,
    '__doc__': f'Modified datasets of {source}, see `CellsBuilder`.',
  }
  builder = type(class_name, (CellsBuilder,), members)
  globals()[class_name] = builder  # Where pickle looks for it.
  return builder


class _AnySource(tfds.core.DatasetBuilderProvider):
  """Gives sources of the user's own gin files a builder when asked for one."""

  def has_dataset(self, name: str) -> bool:
    return _NAME.fullmatch(name) is not None

  def get_builder_cls(self, name: str) -> type[CellsBuilder]:
    return _register(_NAME.fullmatch(name)[1])


for _source in gin_files.available('datasets'):
  _register(_source)
tfds.core.add_dataset_builder_provider(_AnySource())
