"""The mask contract, read back by TFDS alone.

Levels of the N values of a ranking: `level <= t` selects exactly floor(t N /
100) for every whole t. `remove` replaces these by the rounded mean of the train
split, `keep` all others; nothing else changes, in train and in test.
"""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from roar_tf import cells

PAIRS = (
  ('random', 'pixel', 1),
  ('random', 'pixel', 30),
  ('grad', 'pixel', 100),
  ('grad', 'element', 37),
  ('oracle', 'pixel', 14),
)
RANKINGS = sorted({(estimator, depth) for estimator, depth, _ in PAIRS})

# What a user of the artefacts has: TFDS and a folder.
READER = """
import sys
import numpy as np
import tensorflow_datasets as tfds

data_dir, out, *names = sys.argv[1:]
arrays = {}
for name in names:
  for split in ('train', 'test'):
    values = tfds.as_numpy(tfds.load(
      f'roar_tiny/{name}', split=split, data_dir=data_dir, batch_size=-1))
    order = np.argsort(values['id'])
    for feature, value in values.items():
      value = value.astype('S') if feature == 'id' else value
      arrays[f'{name}/{split}/{feature}'] = value[order]
assert not any(m.split('.')[0] == 'roar_tf' for m in sys.modules)
np.savez(out, **arrays)
"""


@pytest.fixture(scope='module')
def read_back(tiny, finished, tmp_path_factory, make):
  """Function (dataset, split) -> {feature: values}, sorted by id."""
  folder = tmp_path_factory.mktemp('contract')
  root = shutil.copytree(finished, folder / 'workspace')
  pipeline = tiny.pipeline(root)
  wanted = [
    cells.Cell(estimator, granularity, mode, threshold)
    for estimator, granularity, threshold in PAIRS
    for mode in ('remove', 'keep')
  ]
  masked = pipeline.stages[0].shards.masked
  make(pipeline, goals=[masked(cell) for cell in wanted])
  # A process that was killed may have left something half written.
  for cell in wanted:
    (shard,) = root.glob(f'tfds/*/{cell.name}/*/*test*00000-of-*2')
    shard.with_name(f'{shard.name}.tmp-0123').write_bytes(b'half')
  names = ['original', *(c.name for c in wanted)]
  names += [f'ranking_{e}_{granularity}' for e, granularity in RANKINGS]
  # -I: neither this checkout nor the environment leads to roar_tf.
  done = subprocess.run(
    [sys.executable, '-I', '-c', READER, root / 'tfds', folder / 'out.npz']
    + names,
    cwd=folder,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  with np.load(folder / 'out.npz') as data:
    arrays = dict(data)

  def get(name, split):
    prefix = f'{name}/{split}/'
    return {
      key.removeprefix(prefix): value
      for key, value in arrays.items()
      if key.startswith(prefix)
    }

  return get


SPLITS = pytest.mark.parametrize('split', ['train', 'test'])
CELLS = pytest.mark.parametrize('estimator, granularity, threshold', PAIRS)


@SPLITS
@pytest.mark.parametrize('estimator, granularity', RANKINGS)
def test_levels_select_exact_counts_for_every_threshold(
  estimator, granularity, split, read_back, raw
):
  ranking = read_back(f'ranking_{estimator}_{granularity}', split)
  assert set(ranking) == {'levels', 'id'}
  levels = ranking['levels']
  depth = 1 if granularity == 'pixel' else 3
  count = len(raw[split]['id'])
  assert levels.shape == (count, 8, 8, depth) and levels.dtype == np.uint8
  flat = levels.reshape(count, -1)
  for t in range(1, 101):
    expected = t * flat.shape[1] // 100
    assert set((flat <= t).sum(axis=1).tolist()) == {expected}
  assert flat.min() >= 1


@SPLITS
@CELLS
def test_cells_hold_the_fill_where_the_ranking_says_and_the_image_elsewhere(
  estimator, granularity, threshold, split, read_back, raw
):
  images, labels = raw[split]['image'], raw[split]['label']
  # Of train, in test too: 8-bit images hold whole numbers.
  fill = np.rint(raw['train']['image'].mean((0, 1, 2))).astype(np.uint8)
  fill = np.broadcast_to(fill, images.shape)
  levels = read_back(f'ranking_{estimator}_{granularity}', split)['levels']
  selected = np.broadcast_to(levels <= threshold, images.shape)
  name = f'{estimator}_{granularity}'
  remove = read_back(f'{name}_remove_{threshold}', split)
  keep = read_back(f'{name}_keep_{threshold}', split)
  for cell in (remove, keep):
    assert set(cell) == {'image', 'label', 'id'}
    assert cell['image'].dtype == np.uint8
    assert [i.decode() for i in cell['id']] == raw[split]['id'].tolist()
    np.testing.assert_array_equal(cell['label'], labels)
  np.testing.assert_array_equal(
    remove['image'], np.where(selected, fill, images)
  )
  np.testing.assert_array_equal(keep['image'], np.where(selected, images, fill))
  np.testing.assert_array_equal(
    remove['image'].astype(int) + keep['image'], images.astype(int) + fill
  )


@SPLITS
def test_original_goes_the_same_way_unchanged(split, read_back, raw):
  found = read_back('original', split)
  for name in ('image', 'label', 'truth'):
    np.testing.assert_array_equal(found[name], raw[split][name])


@SPLITS
def test_an_oracle_removes_the_evidence_first(split, read_back, raw):
  # 9 of 64 pixels are evidence; 14 % are 8 pixels.
  levels = read_back('ranking_oracle_pixel', split)['levels']
  removed = levels <= 14
  assert (raw[split]['truth'][removed] == 1).all()
