"""Test-time preprocessing of Goyal et al. (2017): short side 256, centre crop.

Encoded images of any size become uint8 RGB images of one size, once, when the
source is read; everything downstream sees the crop. The image is resized
first and cropped after, bicubic (a = -0.5, half-pixel centres) with
antialiasing, then clipped to 0..255 and rounded: what PIL's `BICUBIC` gives,
but for PIL's clipping and rounding between its two passes.

* The short side becomes `short_side`; the long one keeps the aspect ratio and
  is rounded down, as in torchvision's `Resize`. Small images are enlarged.
* The crop begins at half the difference, rounded down.
* The orientation in a JPEG's EXIF header is ignored, as TFDS, the released
  code and torchvision's ImageFolder do: pixels stay as they are stored.
"""

from __future__ import annotations

from roar_tf.lazy import tf


def decode(
  encoded, channels: int = 3, dct_method: str = 'INTEGER_ACCURATE'
) -> tf.Tensor:
  """Decodes a JPEG, PNG, WebP or GIF of one frame, by its content.

  TensorFlow's default inverse DCT trades accuracy for speed and was up to 15
  grey levels off libjpeg's own, which PIL uses; the accurate one equals it.

  Args:
    encoded: scalar string.
    channels: 3; or 1 for grey images, which WebP and GIF cannot give.
    dct_method: inverse DCT of JPEGs; '' for TensorFlow's default.

  Returns:
    uint8 [H, W, channels]. Grey becomes RGB, CMYK is converted without a colour
    profile, transparency is dropped, 16 bits become the upper 8.

  Raises:
    tf.errors.InvalidArgumentError: the bytes are no such image, or cut short.
  """

  def by_content():
    image = tf.io.decode_jpeg(encoded, channels=channels, dct_method=dct_method)
    return tf.ensure_shape(image, [None, None, channels])

  if channels != 3 or not hasattr(tf.io, 'decode_webp'):
    return by_content()
  return tf.cond(
    _is_still_webp(encoded),
    lambda: tf.io.decode_webp(encoded)[0, ..., :3],
    by_content,
  )


def _is_still_webp(encoded) -> tf.Tensor:
  """Whether bytes begin as a WebP of one frame does.

  TensorFlow 2.21 writes beyond its buffer, and may end the process, where it is
  asked for whatever channels an animation has.
  """
  head = tf.strings.substr(encoded, 0, 21)
  head = tf.io.decode_raw(head, tf.uint8, fixed_length=21)
  riff, kind, chunk = head[:4], head[8:12], head[12:16]
  animated = _equal(chunk, b'VP8X') & (head[20] & 2 != 0)
  return _equal(riff, b'RIFF') & _equal(kind, b'WEBP') & ~animated


def _equal(values: tf.Tensor, text: bytes) -> tf.Tensor:
  return tf.reduce_all(values == tf.constant(list(text), tf.uint8))


def resize_crop(image, short_side: int, height: int, width: int) -> tf.Tensor:
  """Resizes an image and returns its centre.

  Args:
    image: uint8 [H, W, C] of any size.
    short_side: length that the shorter of H and W is brought to.
    height: of the crop, at most `short_side`.
    width: likewise.

  Returns:
    uint8 [height, width, C].
  """
  size = tf.cast(tf.shape(image)[:2], tf.int64)
  # Whole numbers: a quotient of floats could fall below the exact one.
  size = tf.cast(size * short_side // tf.reduce_min(size), tf.int32)
  image = tf.image.resize(image, size, 'bicubic', antialias=True)
  top, left = tf.unstack((size - [height, width]) // 2)
  image = image[top : top + height, left : left + width]
  image = tf.round(tf.clip_by_value(image, 0, 255))
  return tf.ensure_shape(tf.cast(image, tf.uint8), [height, width, None])
