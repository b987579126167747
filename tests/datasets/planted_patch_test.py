"""Tests that planted_patch holds its evidence where it says, and only there."""

import itertools

import numpy as np
import pytest
from scipy import stats

from roar_tf.datasets import planted, planted_patch

TRAIN = planted_patch.SPLIT_SIZES['train']
TEST = planted_patch.SPLIT_SIZES['test']


@pytest.fixture(scope='module', params=[False, True], ids=['fair', 'leaky'])
def leaky(request):
  return request.param


@pytest.fixture(scope='module')
def train(leaky):
  return planted_patch.make_examples('train', 0, TRAIN, leaky)


@pytest.fixture(scope='module')
def test(leaky):
  return planted_patch.make_examples('test', 0, TEST, leaky)


@pytest.fixture(scope='module')
def scenes(leaky):
  return planted_patch.draw_scenes('train', 0, TRAIN, leaky)


def _probe_accuracy(train_features, train_labels, test_features, test_labels):
  """Accuracy on test of the nearest class centroid of train."""
  centroids = np.stack(
    [train_features[train_labels == c].mean(axis=0) for c in range(10)]
  )
  distances = np.stack(
    [np.square(test_features - c).sum(axis=1) for c in centroids], axis=1
  )
  return np.mean(distances.argmin(axis=1) == test_labels)


def _position_p_values(scenes):
  """P-values: positions uniform; positions independent of the class."""
  top, left = scenes.boxes[:, 0, 0], scenes.boxes[:, 0, 1]
  counts = np.bincount(top * 16 + left, minlength=256)
  uniform = stats.chisquare(counts).pvalue
  # Quarters of each axis, so that every cell of the table is well filled.
  table = np.zeros((10, 16))
  np.add.at(table, (scenes.labels, top // 4 * 4 + left // 4), 1)
  table = table[:, table.any(axis=0)]
  return uniform, stats.chi2_contingency(table).pvalue


def _grating_fits(pixels):
  """Share of the variance of pixels [h, w] each class texture explains."""
  rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
  values = pixels.astype(np.float64).ravel()
  total = np.square(values - values.mean()).sum()
  fits = []
  for angle in np.pi * np.arange(10) / 10:
    phase = np.cos(angle) * columns + np.sin(angle) * rows
    phase = 2 * np.pi * planted_patch.PATCH_FREQUENCY * phase.ravel()
    basis = np.stack([np.sin(phase), np.cos(phase), np.ones_like(phase)], 1)
    weights = np.linalg.lstsq(basis, values, rcond=None)[0]
    fits.append(1 - np.square(values - basis @ weights).sum() / total)
  return np.array(fits)


def _crop(image, box):
  """What a box shows, also where it wraps around."""
  top, left, height, width = box
  return np.roll(image, (-top, -left), (0, 1))[:height, :width]


def test_features_have_the_promised_shapes_and_types(train, test):
  for split, size in ((train, TRAIN), (test, TEST)):
    assert split['image'].shape == (size, 16, 16, 3)
    assert split['image'].dtype == np.uint8
    assert split['truth'].shape == (size, 16, 16, 1)
    assert split['truth'].dtype == np.uint8
    assert split['label'].shape == (size,)
  assert TEST >= 1000
  assert train['id'][12] == 'train_00012'
  assert len({*train['id'], *test['id']}) == TRAIN + TEST


def test_every_ten_examples_hold_each_class_once(train, test):
  for split in (train, test):
    tens = np.sort(split['label'].reshape(-1, 10), axis=1)
    np.testing.assert_array_equal(tens, np.tile(np.arange(10), (len(tens), 1)))
  # A strided shard must not hold a single class.
  assert len(set(train['label'][::10])) == 10


def test_truth_is_one_square_of_a_quarter_of_the_pixels(train, scenes):
  expected = np.zeros_like(train['truth'])
  for mask, (top, left, height, width) in zip(
    expected, scenes.boxes[:, 0], strict=True
  ):
    assert (height, width) == (8, 8)
    assert 0 <= top < 16 and 0 <= left < 16
    rows, columns = np.arange(top, top + 8) % 16, np.arange(left, left + 8) % 16
    mask[np.ix_(rows, columns)] = 1
  np.testing.assert_array_equal(train['truth'], expected)
  assert set(train['truth'].sum(axis=(1, 2, 3))) == {64}


def test_distractors_overlap_nothing(scenes):
  # Painting one over another would cost the lower one pixels.
  regions = planted_patch.region_map(scenes)
  areas = [(regions == r).sum(axis=(1, 2)) for r in range(4)]
  for area, expected in zip(areas, (128, 64, 32, 32), strict=True):
    assert set(area) == {expected}


def test_distractors_find_room_beside_every_patch():
  draws = [0.0, 0.25, 0.5, 0.75, 1 - 2**-53]
  corners = list(itertools.product(range(16), range(16)))
  cases = list(itertools.product(corners, draws, draws))
  boxes = planted_patch._place_distractors(
    np.array([corner for corner, _, _ in cases]),
    np.array([pair for _, *pair in cases]),
  )
  painted = np.zeros((len(cases), 16, 16), np.int64)
  for region in boxes.swapaxes(0, 1):
    rows, columns = planted.local(region)
    height, width = region.T[2:, :, np.newaxis, np.newaxis]
    painted += (rows < height) & (columns < width)
  assert painted.max() == 1
  assert set(painted.sum(axis=(1, 2))) == {128}


def test_patch_position_is_uniform_and_independent_of_the_class(leaky, scenes):
  p_uniform, p_independent = _position_p_values(scenes)
  if leaky:
    assert p_uniform < 1e-12 and p_independent < 1e-12
  else:
    assert p_uniform > 0.01 and p_independent > 0.01


def test_mask_tells_the_class_only_where_it_should(leaky, train, test):
  accuracy = _probe_accuracy(
    train['truth'].reshape(TRAIN, -1).astype(np.float64),
    train['label'],
    test['truth'].reshape(TEST, -1),
    test['label'],
  )
  # Chance is 0.1, with a standard error of 0.007.
  assert accuracy == 1 if leaky else accuracy < 0.13


def test_background_and_distractors_do_not_tell_the_class(leaky, train, test):
  # Distance from the mean, which shows structure where plain values cancel.
  rest = [
    np.abs(np.where(split['truth'] == 1, 128.0, split['image']) - 128)
    for split in (train, test)
  ]
  rest = [split.reshape(len(split), -1) for split in rest]
  accuracy = _probe_accuracy(rest[0], train['label'], rest[1], test['label'])
  # Hiding the patch shows its place, which in the leaky variant is the class.
  assert accuracy > 0.5 if leaky else accuracy < 0.13


def test_colours_of_the_patch_do_not_tell_the_class(train, test, scenes):
  def colours(split):
    pixels = split['image'][split['truth'][..., 0] == 1].reshape(-1, 64, 3)
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)

  features = colours(train)
  accuracy = _probe_accuracy(
    features, train['label'], colours(test), test['label']
  )
  assert accuracy < 0.13
  groups = [features[train['label'] == c] for c in range(10)]
  assert stats.f_oneway(*groups, axis=0).pvalue.min() > 0.001


def test_regions_share_their_colour_statistics(train, scenes):
  regions = planted_patch.region_map(scenes)
  pixels = [train['image'][regions == r].astype(np.float64) for r in range(4)]
  means = np.array([region.mean(axis=0) for region in pixels])
  deviations = np.array([region.std(axis=0) for region in pixels])
  np.testing.assert_allclose(means, 128, atol=1.5)
  np.testing.assert_allclose(deviations, deviations.mean(), rtol=0.02)
  # Nor may a single value: it must not stand out at the dark or bright end.
  tails = [(np.abs(region - 128) > 75).mean() for region in pixels]
  np.testing.assert_allclose(tails, np.mean(tails), rtol=0.05)


def test_only_the_patch_shows_a_class_texture(train, scenes):
  assert planted_patch.PATCH_FREQUENCY not in scenes.frequencies[:, 1:]
  for image, label, boxes in zip(
    train['image'][:200], train['label'], scenes.boxes, strict=False
  ):
    patch, *distractors = (
      _grating_fits(_crop(image[..., 0], box)) for box in boxes
    )
    assert patch.argmax() == label
    assert patch.max() > 0.999
    assert np.sort(patch)[-2] < 0.5
    # Three free parameters come close to anything only 4 pixels wide.
    assert max(fit.max() for fit in distractors) < 0.995
