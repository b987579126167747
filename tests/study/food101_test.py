"""The paper's own path at its own size: Food-101, 224 x 224, a ResNet-50."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from roar_tf.analysis import results
from roar_tf.study import experiment

COUNTS = {'train': 75750, 'validation': 25250}
SMALL = (
  "Source.train_split = 'train[:8]'",
  "Source.test_split = 'validation[:4]'",
  'Source.train_images = 8',
  'Source.test_images = 4',
  'Source.images_per_shard = 4',
  'Training.train_steps = 2',
  'Training.batch_size = 4',
  "Study.estimators = ('random', 'sobel', 'grad')",
  'Study.thresholds = (90,)',
  "Study.modes = ('remove',)",
  "Study.masking = 'shards'",
  'Study.seeds = 1',
  'Study.original_seeds = 1',
)


def _photograph(split, number) -> bytes:
  """Returns a JPEG of noise, one of its own for every place of a split."""
  rng = np.random.default_rng([len(split), number])
  pixels = rng.integers(0, 256, (20, 16, 3), np.uint8)
  file = io.BytesIO()
  size = (400 + number, 512 - number)
  Image.fromarray(pixels).resize(size).save(file, 'JPEG')
  return file.getvalue()


def _as_dataset(builder, split, decoders=None, read_config=None, **_):
  """Serves a range of Food-101 as TFDS's reader does: the files, and ids.

  The generator of `mock_data` itself cannot stand for a dataset that is read
  shard by shard: it gives the same examples for any range of any split, from
  number 0, so that ids repeat, and images as PNG of 5 to 50 pixels a side.
  """
  assert read_config.add_tfds_id and set(decoders) == {'image'}
  instructions = tfds.core.ReadInstruction.from_spec(split)
  (part,) = instructions.to_absolute(builder.info.splits)
  numbers = range(part.from_ or 0, part.to or COUNTS[part.splitname])
  assert len(numbers) <= 8
  file = f'food101-{part.splitname}.tfrecord-00000-of-00001'
  return tf.data.Dataset.from_tensor_slices(
    {
      'image': [_photograph(part.splitname, n) for n in numbers],
      'label': np.array([n % 101 for n in numbers], np.int64),
      'tfds_id': [f'{file}__{n}' for n in numbers],
    }
  )


@pytest.fixture
def food101(tmp_path):
  """The folder of a Food-101 of the true size, of which noise is read."""
  builder = tfds.builder('food101:2.0.0', data_dir=tmp_path)
  builder.info.set_splits(
    tfds.core.SplitDict(
      tfds.core.SplitInfo(name=name, shard_lengths=[count], num_bytes=1)
      for name, count in COUNTS.items()
    )
  )
  builder.data_path.mkdir(parents=True)
  builder.info.write_to_directory(builder.data_path)
  with tfds.testing.mock_data(
    policy=tfds.testing.MockPolicy.USE_FILES,
    as_dataset_fn=_as_dataset,
    data_dir=str(tmp_path),
  ):
    yield tmp_path


@pytest.mark.slow
def test_food101_goes_from_photographs_to_a_report(food101, tool):
  (paper,) = experiment.load(study='paper_food101')
  training = paper.retrained
  assert paper.retrained_model.name == 'resnet50'
  assert (training.base_learning_rate, training.batch_size) == (0.7, 256)
  assert (training.train_steps, training.epochs) == (20000, None)
  assert (paper.source.train_images, paper.source.test_images) == (75750, 25250)
  outcome = tool(
    'roar_study',
    '--study=paper_food101',
    f'--workspace={food101}/w',
    f'--data_dir={food101}',
    '--parallel=1',  # `mock_data` replaces functions while a dataset is opened.
    *(f'--gin_bindings={binding}' for binding in SMALL),
  )
  assert outcome.status == 0, outcome.err
  counts = outcome.counts()
  # Three shards, and the dataset that they complete.
  assert counts['source'] == (4, 0, 0)
  assert counts['shards'] == (3 * 4, 0, 0)
  assert (counts['model'], counts['train']) == ((1, 0, 0), (4, 0, 0))
  frame = results.read_csv(f'{food101}/w/reports/paper_food101/results.csv')
  # The paper's random is Bernoulli: profiles/paper.gin.
  expected = ['grad', 'original', 'random_bernoulli', 'sobel']
  assert sorted(frame['estimator']) == expected
  assert set(frame['steps']) == {2} and set(frame['test_images']) == {4}
