"""Tests of pictures of attributions and of masked images."""

import numpy as np
import pytest

import roar_tf
from roar_tf import plot

SHAPE = (2, 6, 4, 3)


@pytest.fixture
def images():
  return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


@pytest.fixture
def scores():
  return np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


def _drawn(figure):
  """Returns the arrays that a figure shows, row by row."""
  return [axes.images[0] for axes in figure.axes]


def _texts(figure):
  return [text.get_text() for text in figure.texts]


def test_heat_maps_stand_beside_the_images(images, scores):
  figure = plot.attributions(
    images, {'grad': scores, 'sq': scores[..., 0] ** 2}, titles=['cat', 'dog']
  )
  drawn = _drawn(figure)
  assert len(drawn) == 2 * 3
  assert _texts(figure) == ['image', 'grad', 'sq', 'cat', 'dog']
  np.testing.assert_allclose(drawn[3].get_array(), images[1] / 255, atol=1e-6)
  np.testing.assert_allclose(
    drawn[4].get_array(), scores[1].sum(-1, dtype=np.float64), atol=1e-6
  )
  signed, unsigned = drawn[4], drawn[5]
  assert signed.get_clim()[0] == -signed.get_clim()[1] < 0
  assert unsigned.get_clim()[0] == 0
  assert signed.get_cmap().name != unsigned.get_cmap().name
  data, size = figure._repr_png_()
  assert data.startswith(b'\x89PNG') and size['width'] > size['height'] > 0


@pytest.mark.parametrize(
  'change',
  [
    lambda x: x / 255,
    lambda x: x.astype(np.float32),
    lambda x: x[..., :1],
    lambda x: np.concatenate([x, x], -1),
  ],
)
def test_images_of_any_range_and_channels_are_shown(change, images, scores):
  given = change(images)
  (first, *_) = _drawn(plot.attributions(given, scores[..., :1]))
  expected = images[0] / 255
  if given.shape[-1] != 3:
    expected = given[0].mean(-1, keepdims=True).repeat(3, -1) / 255
  np.testing.assert_allclose(first.get_array(), expected, atol=1e-6)


def test_what_a_model_takes_is_stretched_image_by_image(images, scores):
  normalised = (images - 100.0) * np.array([[[[1]]], [[[7]]]])
  drawn = _drawn(plot.attributions(normalised, scores))
  for shown in drawn[::2]:
    assert shown.get_array().min() == 0 and shown.get_array().max() == 1


def test_masked_images_are_those_of_mask(images, scores):
  levels = roar_tf.rank(scores).numpy()
  for mode in ('remove', 'keep'):
    figure = plot.masked(
      images, {'a': levels, 'b': levels}, thresholds=(10, 90), mode=mode
    )
    drawn = _drawn(figure)
    assert len(drawn) == 4 * 3
    mean = np.rint(images.mean((0, 1, 2)))
    expected = roar_tf.mask(
      images, levels, threshold=90, mode=mode, fill=mean
    ).numpy()
    # All images in a column, then the next column of the same estimator.
    np.testing.assert_allclose(
      drawn[5].get_array(), expected[1] / 255, atol=1e-6
    )
  assert _texts(figure)[:3] == ['image', '10 % kept', '90 % kept']
  one = plot.masked(images, levels, thresholds=50, titles=np.array([7, 0]))
  assert len(_drawn(one)) == 2 * 2 and _texts(one)[2:] == ['7', '0']


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda x, s: plot.attributions({'grad': s}, x), 'images come first'),
    (lambda x, s: plot.attributions(x[0], s[0]), r'image\[None\]'),
    (lambda x, s: plot.attributions(x, {'g': s[:, :3]}), '"g" must be'),
    (lambda x, s: plot.attributions(x, {}), 'scores are empty'),
    (lambda x, s: plot.attributions(x, s * np.nan), 'NaN'),
    (lambda x, s: plot.attributions(x, s, titles=['a']), 'titles must be one'),
    (lambda x, s: plot.attributions(x, s, titles='ab'), 'titles must be one'),
    (lambda x, s: plot.attributions(x, s, percentile=0), 'percentile'),
    (lambda x, s: plot.masked(x, s), r'give roar_tf.rank\(scores\)'),
    (lambda x, s: plot.masked(x, x, mode='removed'), 'mode must be one of'),
  ],
)
def test_mistakes_are_told_in_a_sentence(call, words, images, scores):
  with pytest.raises(ValueError, match=words) as refusal:
    call(images, scores)
  assert '\n' not in str(refusal.value)


def test_a_map_without_any_score_is_drawn(images):
  drawn = _drawn(plot.attributions(images, np.zeros(SHAPE)))
  assert drawn[1].get_clim() == (0, 1)
