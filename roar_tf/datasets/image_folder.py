"""A folder of images, one folder per split and class, read through TFDS."""

from __future__ import annotations

import os

import numpy as np

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.lazy import tf, tfds


def open_folder(folder: str, what: str):
  """Returns the `tfds.ImageFolder` of a folder.

  Args:
    folder: directory that holds `<split>/<class>/<name>.jpg` (jpeg, png).
    what: what a message calls the setting that named it.

  Raises:
    UsageError: there is no such folder, or no such file in it.
  """
  folder = files.located(folder, 'gin parameter Source.folder')
  if not files.is_directory(folder):
    raise errors.UsageError(f'{what}: there is no folder "{folder}".')
  builder = tfds.ImageFolder(folder)
  if not any(split.num_examples for split in builder.info.splits.values()):
    raise errors.UsageError(
      f'{what}: folder "{folder}" holds no images where they belong, as in '
      'train/cat/1.jpg (split, class, name).'
    )
  return builder


def examples(builder, split: str, start: int, stop: int) -> tf.data.Dataset:
  """Returns examples start..stop-1 of a split, images as they are stored.

  TFDS lists the files and shuffles them, always alike; but `as_dataset` of an
  ImageFolder knows no ranges and would read every file before `start`.

  Returns:
    Dataset of `image`, the file's content, `label` int64 and `id`, the file's
    path below the folder.
  """
  files = builder._split_examples[split][start:stop]
  root = os.path.join(str(builder.data_dir), '')
  label = builder.info.features['label'].str2int
  columns = {
    'image': [file.image_path for file in files],
    'label': np.array([label(file.label) for file in files], np.int64),
    'id': [file.image_path.removeprefix(root) for file in files],
  }
  return tf.data.Dataset.from_tensor_slices(columns).map(
    lambda example: {**example, 'image': tf.io.read_file(example['image'])}
  )
