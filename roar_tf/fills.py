"""Fills: what replaces the values that a mask removes, by name.

| name | what it is | looks at `removed` |
| --- | --- | --- |
| `mean` | mean colour of the source's train split | no |
| `imagenet_mean` | ImageNet's, of images with three channels | no |
| `zero` | black | no |
| `blurred` | the image itself, blurred | no |
| `noisy_linear` | weighted means of what is left, and noise (ROAD) | yes |

A fill that ignores `removed` is one image for every mask: only then remove +
keep = original + fill, element by element.

`blurred` and `noisy_linear` compute one image at a time, by a program compiled
for that: an image has the same bytes in a batch of any size, eagerly, in a
graph and in a `tf.data` pipeline.
"""

import functools
from collections.abc import Callable

from roar_tf import filters, inpainting, masking, randomness
from roar_tf.lazy import tf

NAMES = ('mean', *masking.CONSTANT_FILLS, 'blurred', 'noisy_linear')
"""What may replace removed values; `mean` is that of the source."""

BLUR = 10 / 224
"""Standard deviation of `blurred`, in the shorter side of the image.

10 pixels at 224 (Fong and Vedaldi 2017), 1.25 at 28.
"""

NOISE = 0.01 * 255
"""Standard deviation of the noise of `noisy_linear` for images in 0..255.

0.01 of the range from black to white, as in ROAD's released code, which adds it
to the solution.
"""


def named(name: str, mean) -> masking.Fill:
  """Returns the fill of a name in `NAMES`, for images in 0..255.

  Equal arguments get one fill, which a process compiles once per shape.

  Args:
    name: the name.
    mean: [C] mean colour of the source.
  """
  return _named(name, tuple(float(value) for value in mean))


@functools.lru_cache(maxsize=16)
def _named(name: str, mean: tuple[float, ...]) -> masking.Fill:
  if name == 'blurred':
    return blurred()
  if name == 'noisy_linear':
    return noisy_linear(mean)
  return masking.constant_fill({'mean': mean, **masking.CONSTANT_FILLS}[name])


def settings(name: str) -> dict[str, float]:
  """Returns the numbers behind a name, by their own, for fingerprints."""
  return {
    'blurred': {'fills.BLUR': BLUR},
    'noisy_linear': {
      'fills.NOISE': NOISE,
      'inpainting.ITERATIONS': inpainting.ITERATIONS,
    },
  }.get(name, {})


def blurred(blur: float = BLUR) -> masking.Fill:
  """Returns the fill that is the original image under a Gaussian blur.

  Args:
    blur: standard deviation in units of the image's shorter side. The Gaussian
      ends after 4 standard deviations; at borders the image is mirrored.
  """

  def one(image, removed, key):
    del removed, key
    sigma = blur * min(image.shape[:2])
    return filters.gaussian(image[None], sigma)[0]

  return _by_image(one)


def noisy_linear(
  empty,
  *,
  noise: float = NOISE,
  iterations: int = inpainting.ITERATIONS,
) -> masking.Fill:
  """Returns ROAD's noisy linear imputation (Rong et al. 2022).

  A removed value is the weighted mean of its eight neighbours, removed or not
  (see `roar_tf.inpainting`), plus Gaussian noise that depends on the key. Each
  channel is solved by itself. Integers are rounded and clipped.

  Args:
    empty: [C] or one value: what fills a channel of which nothing is left, and
      gets noise too.
    noise: standard deviation in the units of the images.
    iterations: of the solver.
  """

  def one(image, removed, key):
    centre = tf.constant(empty, image.dtype)
    rest = tf.transpose(image - centre, [2, 0, 1])
    rest = inpainting.solve(rest, tf.transpose(removed, [2, 0, 1]), iterations)
    seeds = randomness.fold(key[None], randomness.Purpose.FILL)
    draws = randomness.normal(seeds, image.shape)[0, 0]
    solution = tf.transpose(rest, [1, 2, 0]) + centre
    return solution + noise * tf.cast(draws, image.dtype)

  return _by_image(one)


def _by_image(one: Callable) -> masking.Fill:
  """Returns a fill that calls a function for every image.

  Args:
    one: from a float image [H, W, C], removed bool [H, W, 1 or C] and a key
      int32 [2] to [H, W, C]. It is compiled once per shape: neither the size of
      a batch nor an optimiser of graphs can then change the last bits.
  """

  @tf.function(jit_compile=True, autograph=False)
  def compiled(image, removed, key):
    dtype = image.dtype
    floating = dtype if dtype in (tf.float32, tf.float64) else tf.float32
    filled = one(tf.cast(image, floating), removed, key)
    if dtype.is_integer:
      return tf.saturate_cast(tf.round(filled), dtype)
    return tf.cast(filled, dtype)

  @tf.function(autograph=False)
  def loop(images, removed, keys):
    return tf.map_fn(
      lambda some: compiled(*some),
      (images, removed, keys),
      fn_output_signature=tf.TensorSpec(images.shape[1:], images.dtype),
    )

  def fill(images, removed, keys):
    given = (images, removed, keys)
    # One trace for batches of any size.
    specs = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in given]
    return loop.get_concrete_function(*specs)(*given)

  return fill
