"""Tests of what datasets with planted evidence have in common.

Above all that their patches are where no constant mask favours them, and which
filters, blind to any model, find them.
"""

import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy import stats

import roar_tf
from roar_tf.datasets import planted, planted_colour, planted_patch
from roar_tf.estimators import controls
from roar_tf.study import experiment

MAKERS = {
  'planted_patch': planted_patch.make_examples,
  'planted_patch_leaky': lambda split, start, stop: planted_patch.make_examples(
    split, start, stop, leaky=True
  ),
  'planted_colour': planted_colour.make_examples,
}
MODULES = {
  'planted_patch': planted_patch,
  'planted_patch_leaky': planted_patch,
  'planted_colour': planted_colour,
}
VERSIONS = {
  'planted_patch': '2.0.0',
  'planted_patch_leaky': '2.0.0',
  'planted_colour': '1.0.0',
}
FAIR = ('planted_patch', 'planted_colour')
IMAGES = 600


@pytest.fixture(scope='module', params=MAKERS)
def name(request):
  return request.param


# --- filters ------------------------------------------------------------------


def _centre(images):
  """How near a pixel is to the middle, the same for every image."""
  rows, columns = np.mgrid[:16, :16] - 7.5
  nearness = -np.hypot(rows, columns)[np.newaxis, ..., np.newaxis]
  return np.broadcast_to(nearness, (len(images), 16, 16, 1))


def _sobel(images):
  return controls.magnitude_sobel(images.astype(np.float32)).numpy()


def _spectrum(values):
  return np.fft.fft2(values, axes=(1, 2))


def _convolved(spectrum, kernel):
  """Circular convolution of [n, 16, 16, c] with [16, 16] about (0, 0)."""
  product = spectrum * np.fft.fft2(kernel)[..., np.newaxis]
  return np.fft.ifft2(product, axes=(1, 2))


def _mean_around(values, size):
  """Mean over size x size pixels around each pixel."""
  kernel = np.zeros((16, 16))
  reach = np.arange(size) - size // 2
  kernel[np.ix_(reach, reach)] = 1 / size**2
  return _convolved(_spectrum(values), kernel).real


def _gabor(images, frequencies=(1 / 8, 1 / 4, 7 / 16)):
  """The largest energy of ten orientations, channels together, smoothed."""
  rows, columns = (np.mgrid[:16, :16] + 8) % 16 - 8
  window = np.exp(-(rows**2 + columns**2) / (2 * 2.0**2))
  spectrum = _spectrum(images.astype(np.float32) - 128)
  best = np.zeros(images.shape[:3])
  for frequency in frequencies:
    for angle in np.pi * np.arange(10) / 10:
      phase = np.cos(angle) * columns + np.sin(angle) * rows
      kernel = window * np.exp(2j * np.pi * frequency * phase)
      energy = np.square(np.abs(_convolved(spectrum, kernel))).sum(axis=-1)
      best = np.maximum(best, energy)
  return _mean_around(best[..., np.newaxis], 3)


def _gabor_of_the_classes(images):
  return _gabor(images, [planted_patch.PATCH_FREQUENCY])


def _local_variance(images):
  values = images.astype(np.float64) - 128
  variance = _mean_around(values**2, 5) - _mean_around(values, 5) ** 2
  return variance.sum(axis=-1, keepdims=True)


def _saturation(images, size=1):
  """Range of the channels of the mean colour around a pixel."""
  colour = _mean_around(images.astype(np.float64), size)
  return np.ptp(colour, axis=-1, keepdims=True)


def _smooth_saturation(images):
  return _saturation(images, 5)


FILTERS = {
  'centre': _centre,
  'Sobel': _sobel,
  'Gabor': _gabor,
  'Gabor of the classes': _gabor_of_the_classes,
  'local variance': _local_variance,
  'saturation': _saturation,
  'smooth saturation': _smooth_saturation,
}


def _covered(name, filter_name):
  """Share of the patch, in %, among the 30 % that a filter ranks first."""
  # The turns of a scene would count it three times.
  turns = 3 if name == 'planted_colour' else 1
  examples = {
    feature: values[::turns]
    for feature, values in MAKERS[name]('train', 0, turns * IMAGES).items()
  }
  scores = FILTERS[filter_name](examples['image']).astype(np.float32)
  levels = roar_tf.rank(scores, ids=examples['id'])
  return 100 * np.mean(levels[examples['truth'] == 1] <= 30)


@pytest.mark.parametrize('filter_name', FILTERS)
def test_no_filter_finds_the_patch_of_planted_colour(filter_name):
  assert _covered('planted_colour', filter_name) == pytest.approx(30, abs=2.5)


@pytest.mark.parametrize(
  ('filter_name', 'low', 'high'),
  [
    ('centre', 27.5, 32.5),
    ('saturation', 27.5, 32.5),
    ('smooth saturation', 27.5, 35),
    ('local variance', 32.5, 40),
    ('Sobel', 40, 55),
    # Why planted_patch cannot judge its contestants.
    ('Gabor', 65, 80),
    ('Gabor of the classes', 85, 95),
  ],
)
def test_filters_that_find_the_patch_of_planted_patch(filter_name, low, high):
  assert low < _covered('planted_patch', filter_name) < high


# --- places -------------------------------------------------------------------


def test_every_pixel_lies_in_as_many_places_of_a_patch():
  corners = planted.corners(np.arange(256) / 256)
  assert len(set(map(tuple, corners))) == 256
  rows, columns = planted.local(corners)
  inside = (rows < planted.PATCH_SIZE) & (columns < planted.PATCH_SIZE)
  np.testing.assert_array_equal(inside.sum(axis=0), 64)


@pytest.mark.parametrize('fair', FAIR)
def test_places_of_patches_are_uniform_and_wrap(fair):
  truth = MAKERS[fair]('train', 0, 3000)['truth'][..., 0]
  assert set(truth.sum(axis=(1, 2))) == {64}
  # The circular mean of its rows lies 3.5 below the top of a patch.
  turns = np.exp(2j * np.pi * np.arange(16) / 16)
  means = [np.angle(truth.sum(axis=axis) @ turns) for axis in (2, 1)]
  places = np.rint(np.stack(means, 1) * 8 / np.pi - 3.5) % 16
  counts = np.bincount(np.int64(places @ [16, 1]), minlength=256)
  scenes = 3000 if fair == 'planted_patch' else 1000
  assert stats.chisquare(counts * scenes / 3000).pvalue > 0.01


# --- examples -----------------------------------------------------------------


def test_any_range_gives_the_bytes_of_the_whole(name):
  whole = MAKERS[name]('train', 0, 2100)
  for start, stop in ((0, 1), (7, 23), (1990, 2003), (2098, 2100)):
    part = MAKERS[name]('train', start, stop)
    for feature, value in part.items():
      np.testing.assert_array_equal(value, whole[feature][start:stop])
  assert len(MAKERS[name]('train', 5, 5)['image']) == 0


def test_the_end_of_a_split_is_reached(name):
  size = MODULES[name].SPLIT_SIZES['test']
  last = MAKERS[name]('test', size - 1, size)
  assert last['id'] == [f'test_{size - 1:05d}']


def test_a_strided_shard_holds_every_class(name):
  labels = MAKERS[name]('train', 0, 1200)['label']
  classes = MODULES[name].NUM_CLASSES
  assert len(set(labels[::classes])) == classes


def test_bad_ranges_and_splits_are_named(name):
  with pytest.raises(ValueError, match="'validation'"):
    MAKERS[name]('validation', 0, 1)
  size = MODULES[name].SPLIT_SIZES['test']
  for start, stop in ((-1, 3), (3, 2), (0, size + 1)):
    with pytest.raises(ValueError, match='not within'):
      MAKERS[name]('test', start, stop)


def test_builder_prepares_offline_what_make_examples_makes(
  name, tmp_path, monkeypatch
):
  def refuse(*args, **kwargs):
    raise AssertionError(f'{name} must not use the network')

  monkeypatch.setattr(socket.socket, 'connect', refuse)
  monkeypatch.setattr(socket, 'getaddrinfo', refuse)
  builder = tfds.builder(name, data_dir=tmp_path)
  sizes = {'train': 60, 'test': 30}
  monkeypatch.setattr(type(builder), 'SIZES', sizes)
  builder.download_and_prepare()
  assert str(builder.version) == VERSIONS[name]
  for split, count in sizes.items():
    expected = MAKERS[name](split, 0, count)
    batch = builder.as_dataset(split=split, batch_size=-1)
    for feature in ('image', 'label', 'truth'):
      np.testing.assert_array_equal(batch[feature], expected[feature])
    ids = np.char.decode(batch['id'].numpy().astype(bytes))
    np.testing.assert_array_equal(ids, expected['id'])


@pytest.mark.parametrize('name', VERSIONS)
def test_fingerprints_name_the_version_that_is_made(name):
  """So workspaces of another one are refused."""
  (loaded,) = experiment.load(dataset=name)
  assert loaded.source.tfds_name == f'{name}:{VERSIONS[name]}'
  assert loaded.source.settings()['Source.tfds_name'].endswith(VERSIONS[name])
