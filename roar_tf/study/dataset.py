"""What the stages source, rank and shards share: datasets made of shards.

A shard is an artefact, and so is the whole dataset, which is committed when all
shards are there and TFDS's metadata are written: then `tfds.load` reads it.
"""

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from roar_tf import engine, shards
from roar_tf.datasets.source import SPLITS
from roar_tf.engine import files, markers
from roar_tf.lazy import tfds
from roar_tf.study import paths
from roar_tf.study.context import Context
from roar_tf.study.costs import Cost, record_bytes, total


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Shard(engine.Artefact):
  """One shard of a dataset.

  Attributes:
    config: name of the dataset, e.g. a cell.
    split: `train` or `test`.
    index: which shard of the split.
    number: which shard of all of the dataset.
    layout: what its records hold.
  """

  config: str
  layout: shards.Layout
  split: str
  index: int
  number: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(engine.Artefact):
  """A dataset in TFDS layout; its parts are its shards.

  Attributes:
    config: its name.
    layout: what its records hold.
  """

  config: str
  layout: shards.Layout


def remaking(name: str) -> str:
  """Returns what makes a stage or an estimator anew, as a sentence ends.

  Args:
    name: of either.
  """
  return (
    f'add --remake={name} to the roar_study command, which deletes it and all '
    'that was made from it, and makes that anew'
  )


class StudyStage(engine.Stage):
  """A stage whose work `roar_study --remake` makes anew."""

  def remedy(self, artefact: engine.Artefact) -> str:
    """See `engine.Stage`."""
    del artefact
    return remaking(self.name)


class DatasetStage(StudyStage):
  """A stage that makes datasets of one source.

  A subclass says what a dataset is made from (`describe`), how shards are
  grouped (`unit_name`), and writes those of one unit from one read (`write`).
  """

  def __init__(self, context: Context):
    self.context = context

  def dataset(
    self,
    config: str,
    layout: shards.Layout,
    settings: Mapping,
    inputs: Mapping[str, engine.Artefact],
    **more,
  ) -> Dataset:
    """Returns a dataset as an artefact.

    Args:
      config: its name.
      layout: what its records hold.
      settings: what changes it, by the names users know.
      inputs: what it is made from, by name.
      **more: see `engine.Artefact`.
    """
    whole = Dataset(
      self.context.marker(config),
      self,
      settings,
      inputs,
      parts=functools.cache(lambda: self._parts(whole)),
      config=config,
      layout=layout,
      **more,
    )
    return whole

  def _parts(self, whole: Dataset) -> dict[str, Shard]:
    return {
      f'shard {split} {index}': self.shard(whole, split, index, number)
      for number, (split, index) in enumerate(self.context.all_shards())
    }

  def shard(self, whole: Dataset, split: str, index: int, number: int) -> Shard:
    """Returns a shard of a dataset; by default made as the whole is."""
    return Shard(
      self.context.shard_marker(whole.config, split, index),
      self,
      whole.settings,
      whole.inputs,
      discovered=whole.discovered,
      config=whole.config,
      layout=whole.layout,
      split=split,
      index=index,
      number=number,
    )

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    """Returns the units that write shards, and those that complete datasets."""
    groups: dict[str, list[Shard]] = {}
    completing = []
    for artefact in artefacts:
      if isinstance(artefact, Shard):
        groups.setdefault(self.unit_name(artefact), []).append(artefact)
      else:
        name = f'{self.context.source.name} {artefact.config}'
        completing.append(
          engine.Unit(name, (artefact,), self._complete, light=True)
        )
    writing = [
      engine.Unit(name, tuple(group), self.write, group[0].number)
      for name, group in groups.items()
    ]
    return [*writing, *completing]

  def unit_name(self, shard: Shard) -> str:
    """Returns the name of the unit that makes a shard, and others with it."""
    raise NotImplementedError

  def write(self, artefacts: Sequence[Shard]) -> Iterator[engine.Made]:
    """Writes the shards of one unit."""
    raise NotImplementedError

  def write_more(
    self, contents: Mapping[tuple[str, int], Mapping]
  ) -> list[str]:
    """Writes files beside the metadata of TFDS; returns their names.

    Args:
      contents: what the shards' markers say, by (split, index).
    """
    del contents
    return []

  def cost(
    self,
    pending: Sequence[engine.Artefact],
    finished: Sequence[engine.Artefact],
    snapshot: engine.Snapshot,
  ) -> Cost:
    """Returns what unfinished datasets take.

    Args:
      pending: unfinished artefacts of this stage.
      finished: finished ones.
      snapshot: the workspace.
    """
    costs, sizes = [], {}
    for shard in pending:
      if not isinstance(shard, Shard):
        continue
      if shard.layout not in sizes:
        markers_ = (a.marker for a in finished if a.layout == shard.layout)
        sizes[shard.layout] = record_bytes(
          self.context.experiment, shard.layout, markers_, snapshot.read
        )
      images = self.context.expected_records(snapshot, shard.split, shard.index)
      costs.append(Cost(bytes=images * sizes[shard.layout]))
    return total(costs)

  def _complete(self, artefacts: Sequence[Dataset]) -> Iterator[engine.Made]:
    """Turns finished shards into a TFDS dataset."""
    (whole,) = artefacts
    directory = os.path.dirname(whole.marker)
    parts = whole.parts().values()
    contents = {
      (part.split, part.index): markers.require(part.marker) for part in parts
    }
    more = self.write_more(contents)
    names = [
      os.path.basename(self.context.shard_path(whole.config, *part))
      for part in contents
    ]
    metadata = _write_metadata(directory, whole.layout, contents, names)
    checksums = files.checksums(directory, [*metadata, *more])
    for name, marker in zip(names, contents.values(), strict=True):
      checksums[name] = marker['contents']['sha256']
    yield engine.Made(whole, {'files': checksums})


def _write_metadata(
  directory: str, layout: shards.Layout, contents, names: list[str]
) -> list[str]:
  """Writes `dataset_info.json` and `features.json` as TFDS reads them.

  TFDS writes in place, where another worker may be reading: it writes aside,
  beside empty files of the shards' names, since it wants to see shards.

  Returns:
    The names of the files that were written.
  """
  with tempfile.TemporaryDirectory() as aside:
    for name in names:
      pathlib.Path(aside, name).touch()
    _call_tfds(aside, directory, layout, contents)
    written = sorted(set(os.listdir(aside)) - set(names))
    for name in written:
      data = pathlib.Path(aside, name).read_bytes()
      files.publish(f'{directory}/{name}', data)
  return written


def _call_tfds(aside: str, directory: str, layout, contents) -> None:
  """Has TFDS write its metadata of the dataset at `directory` to `aside`."""
  name = os.path.basename(os.path.dirname(os.path.dirname(directory)))
  template = tfds.core.ShardedFileTemplate(
    data_dir=aside, dataset_name=name, filetype_suffix='tfrecord'
  )
  splits = []
  for split in SPLITS:
    facts = [m['contents'] for (s, _), m in contents.items() if s == split]
    splits.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[f['records'] for f in facts],
        num_bytes=sum(f['bytes'] for f in facts),
        filename_template=template.replace(split=split),
      )
    )
  tfds.folder_dataset.write_metadata(
    data_dir=aside,
    features=layout.tfds_features(),
    split_infos=splits,
    filename_template=template,
    version=paths.VERSION,
    check_data=False,
  )
