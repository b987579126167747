"""Tests of the mosaics of masked images."""

import io

import numpy as np
import pytest
import synthetic
from matplotlib import image as matplotlib_image

from roar_tf.analysis import figures, mosaics


def pixels(data):
  return np.round(255 * matplotlib_image.imread(io.BytesIO(data))[..., :3])


@pytest.mark.parametrize('shape', [(28, 28, 1), (9, 20, 3), (300, 200, 3)])
def test_a_figure_shows_only_colours_of_the_images(shape):
  original = np.full(shape, 200, np.uint8)
  masked = {('grad', 50): original.copy(), ('random', 90): original.copy()}
  for i, image in enumerate(masked.values()):
    image[i::2] = 40
  figure = mosaics.figure(mosaics.Example(original, masked))
  data = figures.png(figure)
  shown = pixels(data)
  # The part right of the names.
  part = shown[60:, -2 * shown.shape[1] // 5 :]
  assert set(np.unique(part)) == {40, 200, 255}
  assert {'original', '50 %', '90 %', 'grad', 'random'} <= {
    text.get_text() for text in figure.texts
  }
  assert data == figures.png(mosaics.figure(mosaics.Example(original, masked)))


def test_a_figure_is_upright():
  original = np.zeros((4, 4, 1), np.uint8)
  original[0] = 120
  example = mosaics.Example(original, {('x', 10): original})
  shown = pixels(figures.png(mosaics.figure(example)))
  height = shown.shape[0]
  column = shown[:, -40, 0]
  assert np.flatnonzero(column == 120).mean() < height / 2
  assert np.flatnonzero(column == 0).mean() > height / 2


def test_accuracies_stand_above_their_images():
  (example,) = synthetic.examples(['grad', 'random'], count=1)
  means = {('grad', 30): 0.4567, ('random', 90): 0.1}
  figure = mosaics.figure(example, means)
  texts = {text.get_text(): text.get_position()[1] for text in figure.texts}
  assert texts['grad'] < texts['45.7 %'] < texts['30 %']
  assert texts['10.0 %'] < texts['grad']


def test_small_images_are_in_the_page_as_they_are():
  examples = synthetic.examples(['grad', 'random'], size=28)
  assert mosaics.fitting([], 1000) == []
  shown = mosaics.fitting(examples, 3_000_000)
  assert len(shown) == 3
  for mosaic, example in zip(shown, examples, strict=True):
    assert mosaic.step == 1
    for cell, data in mosaic.masked.items():
      np.testing.assert_array_equal(pixels(data), example.masked[cell])


def test_large_ones_are_thinned_out_by_whole_steps_until_they_fit():
  examples = synthetic.examples(['grad', 'random'], size=224)
  (all_of, *_) = mosaics.fitting(examples, 10_000_000)
  assert all_of.step == 2
  budget = all_of.size // 2
  shown = mosaics.fitting(examples, budget)
  assert shown[0].step > 2
  assert sum(mosaic.size for mosaic in shown) <= 1.1 * budget
  data = shown[0].masked['grad', 30]
  expected = examples[0].masked['grad', 30][:: shown[0].step, :: shown[0].step]
  np.testing.assert_array_equal(pixels(data), expected)
