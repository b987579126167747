"""Tests of the crop of the paper's datasets, against PIL.

PIL comes with matplotlib, which the library needs.
"""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from roar_tf.datasets import crop

SIZES = {
  'tall': (517, 301),
  'wide': (333, 700),
  'square': (256, 256),
  'smaller than the crop': (33, 20),
  'one pixel': (1, 1),
  'a line': (4, 90),
  'large': (1200, 1801),
}


def _scene(height, width):
  """Waves, edges and noise: what tells one way to resize from another."""
  rng = np.random.default_rng(height)
  y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
  shade = np.arange(3)
  waves = 127 + 70 * np.sin(x / (3 + 4 * shade) + y / 9)
  edges = 40 * np.sign(np.cos(x * y / 500 + shade))
  noise = rng.normal(0, 10, waves.shape)
  return np.clip(waves + edges + noise, 0, 255).astype(np.uint8)


def _encoded(image, kind='JPEG', mode='RGB', **options):
  buffer = io.BytesIO()
  Image.fromarray(image).convert(mode).save(buffer, kind, **options)
  return buffer.getvalue()


def _jpeg(image, mode='RGB', **options):
  return _encoded(image, mode=mode, quality=95, **options)


def _expected(encoded, short=256, height=224, width=224):
  """Resizes and crops by PIL; like ours it ignores EXIF orientation."""
  image = Image.open(io.BytesIO(encoded)).convert('RGB')
  size = [s * short // min(image.size) for s in image.size]
  image = image.resize(size, Image.Resampling.BICUBIC)
  left, top = (size[0] - width) // 2, (size[1] - height) // 2
  return np.asarray(image.crop((left, top, left + width, top + height)))


def _found(encoded, short=256, height=224, width=224):
  return crop.resize_crop(crop.decode(encoded), short, height, width)


def _assert_equal(found, expected):
  assert found.dtype == tf.uint8
  assert found.shape == expected.shape
  difference = np.abs(found.numpy().astype(int) - expected)
  assert (difference <= 2).mean() >= 0.99
  assert difference.max() <= 8


@pytest.mark.parametrize('size', SIZES.values(), ids=SIZES)
def test_jpegs_of_all_sizes_are_what_pil_makes_of_them(size):
  encoded = _jpeg(_scene(*size))
  _assert_equal(_found(encoded), _expected(encoded))


@pytest.mark.parametrize(
  'subsampling, progressive', [(0, False), (1, True), (2, False)]
)
def test_jpegs_of_all_kinds_are_decoded_as_pil_does(subsampling, progressive):
  encoded = _jpeg(
    _scene(300, 401), subsampling=subsampling, progressive=progressive
  )
  _assert_equal(_found(encoded), _expected(encoded))


@pytest.mark.parametrize('mode', ['L', 'CMYK'])
def test_grey_and_cmyk_jpegs_become_rgb(mode):
  encoded = _jpeg(_scene(300, 401), mode)
  assert Image.open(io.BytesIO(encoded)).mode == mode
  found = _found(encoded)
  _assert_equal(found, _expected(encoded))
  if mode == 'L':
    np.testing.assert_array_equal(found[..., :1] + tf.zeros(3, tf.uint8), found)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA', 'P', '1'])
def test_pngs_become_rgb(mode):
  encoded = _encoded(_scene(260, 300), 'PNG', mode)
  expected = Image.open(io.BytesIO(encoded)).convert('RGB')
  np.testing.assert_array_equal(crop.decode(encoded), expected)


def test_of_16_bits_the_upper_8_are_kept():
  image = np.arange(2**16, dtype=np.uint16).reshape(256, 256, 1)
  decoded = crop.decode(tf.io.encode_png(image))
  np.testing.assert_array_equal(decoded, (image >> 8) + np.zeros(3, int))


def test_the_orientation_of_exif_is_ignored():
  image = _scene(300, 401)
  rotated = Image.Exif()
  rotated[0x0112] = 6  # Orientation: to be shown turned by 90 degrees.
  encoded = _jpeg(image, exif=rotated)
  assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == 6
  np.testing.assert_array_equal(_found(encoded), _found(_jpeg(image)))
  _assert_equal(_found(encoded), _expected(encoded))


@pytest.mark.parametrize('sizes', [(64, 64, 64), (48, 32, 40), (300, 299, 1)])
def test_other_sizes_of_crop(sizes):
  encoded = _jpeg(_scene(113, 90))
  _assert_equal(_found(encoded, *sizes), _expected(encoded, *sizes))


def test_an_image_of_the_right_size_is_only_cropped():
  image = _scene(256, 301)
  found = crop.resize_crop(image, 256, 224, 224)
  np.testing.assert_array_equal(found, image[16:240, 38:262])


def test_overshoot_of_bicubic_weights_is_clipped():
  image = np.zeros([40, 40, 3], np.uint8)
  image[:, 20:] = 255
  found = crop.resize_crop(image, 256, 256, 256).numpy()
  assert found[0, 120, 0] < 20  # A wrapped value would be near 255.
  assert set(found[:, :110].ravel()) == {0}
  assert set(found[:, 150:].ravel()) == {255}
  assert (np.diff(found[0, 124:132, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize('kind', ['text', 'empty', 'cut'])
def test_what_is_no_image_is_refused(kind):
  whole = _jpeg(_scene(300, 401))
  encoded = {'text': b'no image', 'empty': b'', 'cut': whole[: len(whole) // 2]}
  with pytest.raises(tf.errors.InvalidArgumentError):
    crop.decode(encoded[kind])
