"""What the stages source, rank and shards share: a dataset made of shards.

Shard units write records, and one shared unit per dataset adds the metadata
that makes it a TFDS dataset.
"""

import os

from roar_tf import shards, workspace
from roar_tf.datasets.source import SPLITS
from roar_tf.study.context import Context
from roar_tf.study.units import Target, Unit


def finalise_unit(
  context: Context,
  target: Target,
  config: str,
  layout: shards.Layout,
  before_commit=lambda dones: None,
) -> Unit:
  """Returns the unit that turns finished shards into a TFDS dataset.

  Args:
    context: the experiment.
    target: the dataset's DONE marker; this adds its shards to the inputs.
    config: name of the dataset, e.g. a cell.
    layout: what its records hold.
    before_commit: called with the shards' DONE contents, by (split, index).
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
    before_commit(contents)
    directory = context.workspace.dataset(
      context.experiment.source.name, config
    )
    _write_metadata(directory, layout, contents)
    ((_, fingerprint),) = pending
    target.commit(fingerprint)

  name = f'{context.experiment.source.name} {config}'
  return Unit(name, (target,), work, shared=True)


def _write_metadata(directory: str, layout: shards.Layout, contents) -> None:
  """Writes `dataset_info.json` and `features.json` as TFDS reads them."""
  import tensorflow_datasets as tfds

  name = os.path.basename(os.path.dirname(os.path.dirname(directory)))
  template = tfds.core.ShardedFileTemplate(
    data_dir=directory, dataset_name=name, filetype_suffix='tfrecord'
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
    data_dir=directory,
    features=layout.tfds_features(),
    split_infos=splits,
    filename_template=template,
    version=workspace.VERSION,
    check_data=False,
  )
