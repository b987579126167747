"""What the stages source, rank and shards share: a dataset made of shards.

Shard units write records, and one shared unit per dataset adds the metadata
that makes it a TFDS dataset.
"""

import os
import pathlib
import tempfile

from roar_tf import shards, workspace
from roar_tf.datasets.source import SPLITS
from roar_tf.study.context import Context
from roar_tf.study.units import Target, Unit


def finalise_unit(
  context: Context,
  target: Target,
  config: str,
  layout: shards.Layout,
  before_commit=lambda dones: (),
) -> Unit:
  """Returns the unit that turns finished shards into a TFDS dataset.

  Args:
    context: the experiment.
    target: the dataset's DONE marker; this adds its shards to the inputs.
    config: name of the dataset, e.g. a cell.
    layout: what its records hold.
    before_commit: called with the shards' DONE contents, by (split, index);
      returns the names of files that it has added to the dataset.
  """
  parts = context.all_shards()
  dones = {part: context.shard_done(config, *part) for part in parts}
  inputs = {
    f'shard {split} {index}': path for (split, index), path in dones.items()
  }
  target = Target(
    target.done,
    target.stage,
    target.version,
    target.settings,
    {**target.inputs, **inputs},
  )

  def work(pending):
    contents = {part: workspace.read_done(dones[part]) for part in parts}
    extra = before_commit(contents)
    directory = context.workspace.dataset(
      context.experiment.source.name, config
    )
    names = [os.path.basename(context.shard_path(config, *p)) for p in parts]
    metadata = _write_metadata(directory, layout, contents, names)
    ((_, fingerprint),) = pending
    target.commit(
      fingerprint,
      files={
        **workspace.checksums(directory, [*metadata, *extra]),
        **{
          name: contents[part]['contents']['sha256']
          for part, name in zip(parts, names, strict=True)
        },
      },
    )

  name = f'{context.experiment.source.name} {config}'
  return Unit(name, (target,), work, shared=True)


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
      workspace.write_atomic(f'{directory}/{name}', data)
  return written


def _call_tfds(aside: str, directory: str, layout, contents) -> None:
  """Has TFDS write its metadata of the dataset at `directory` to `aside`."""
  import tensorflow_datasets as tfds

  name = os.path.basename(os.path.dirname(os.path.dirname(directory)))
  template = tfds.core.ShardedFileTemplate(
    data_dir=aside, dataset_name=name, filetype_suffix='tfrecord'
  )
  splits = []
  for split in SPLITS:
    facts = [d['contents'] for (s, _), d in contents.items() if s == split]
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
    version=workspace.VERSION,
    check_data=False,
  )
