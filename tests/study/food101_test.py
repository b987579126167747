"""The paper's own path at its own size: Food-101, 224 x 224, a ResNet-50."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from roar_tf.analysis import results
from roar_tf.study import experiment

COUNTS = {'train': 8, 'validation': 4}
SMALL = (
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


@pytest.fixture
def food101(tmp_path, store_dataset):
  """The folder of a Food-101 of a few photographs of noise, as TFDS has it."""
  builder = tfds.builder('food101:2.0.0', data_dir=tmp_path)
  rng = np.random.default_rng(0)
  splits = {}
  for split, count in COUNTS.items():
    files = []
    for _ in range(count):
      pixels = rng.integers(0, 256, (20, 16, 3), np.uint8)
      file = io.BytesIO()
      Image.fromarray(pixels).resize((400, 512)).save(file, 'JPEG')
      files.append(file.getvalue())
    splits[split] = {'image': files, 'label': np.arange(count)}
  store_dataset(
    tmp_path, 'food101', '2.0.0', splits, dict(builder.info.features)
  )
  return tmp_path


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
