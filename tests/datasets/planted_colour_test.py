"""Tests that planted_colour is the same for every channel, and fair."""

import numpy as np
import pytest

from roar_tf.datasets import planted_colour

SIZES = planted_colour.SPLIT_SIZES


@pytest.fixture(scope='module', params=SIZES)
def examples(request):
  return planted_colour.make_examples(request.param, 0, SIZES[request.param])


def test_features_have_the_promised_shapes_and_types(examples):
  size = len(examples['label'])
  assert examples['image'].shape == (size, 16, 16, 3)
  assert examples['image'].dtype == examples['truth'].dtype == np.uint8
  assert examples['truth'].shape == (size, 16, 16, 1)
  assert examples['label'].shape == examples['id'].shape == (size,)
  assert examples['label'].dtype == np.int64


def test_every_scene_occurs_in_its_three_turns(examples):
  order = np.argsort(examples['label'].reshape(-1, 3), axis=1)
  scenes = np.arange(len(order))[:, np.newaxis]
  np.testing.assert_array_equal(
    examples['label'].reshape(-1, 3)[scenes, order],
    np.tile([0, 1, 2], (len(order), 1)),
  )
  images = examples['image'].reshape(-1, 3, 16, 16, 3)[scenes, order]
  truth = examples['truth'].reshape(-1, 3, 16, 16, 1)[scenes, order]
  for label in (1, 2):
    np.testing.assert_array_equal(
      images[:, label], np.roll(images[:, 0], label, axis=-1)
    )
    np.testing.assert_array_equal(truth[:, label], truth[:, 0])
  # Nor does the order within a scene tell the class.
  first = np.bincount(examples['label'][::3])
  np.testing.assert_allclose(first, len(order) / 3, rtol=0.12)


def test_classes_are_balanced_and_channels_have_one_mean_and_one_std(examples):
  assert len(set(np.bincount(examples['label']))) == 1
  pixels = examples['image'].reshape(-1, 3).astype(np.int64)
  assert len(set(pixels.sum(axis=0))) == len(set((pixels**2).sum(axis=0))) == 1


def test_the_patch_has_the_colour_of_its_class_and_no_other_block_has(examples):
  patch = np.array([1, 0, -1])
  odd = [(1, -1, 0), (0, 1, -1), (-1, 0, 1)]
  for image, truth, label in zip(
    examples['image'][:300], examples['truth'], examples['label'], strict=False
  ):
    inside = truth[..., 0] == 1
    top, left = next(
      corner
      for corner in np.ndindex(16, 16)
      if np.roll(inside, np.negative(corner), (0, 1))[:8, :8].all()
    )
    image = np.roll(image.astype(float), (-top, -left), (0, 1)) - 128
    blocks = image.reshape(2, 8, 2, 8, 3).mean(axis=(1, 3)).reshape(4, 3)
    # A mean of 64 pixels of the noise has a standard deviation of 4.5.
    agree = blocks[0] @ np.roll(patch, label)
    assert agree > 8
    for block in blocks[1:]:
      assert max(block @ np.array(colour) for colour in odd) > 8


def test_nothing_is_clipped(examples):
  """Clipped values would be fewer in a patch whose gain is small."""
  values = examples['image']
  assert np.isin(values, (0, 255)).mean() < 1e-4
