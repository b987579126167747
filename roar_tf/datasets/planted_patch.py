"""Images whose evidence is known: the class is the texture of one patch.

ROAR can only be trusted if an estimator that knows the answer beats random
and one that inverts it does not. `planted_patch` is the dataset on which both
can be built: besides `image`, `label` and `id`, every example carries `truth`,
the pixels of its patch. Nothing is downloaded; every byte is a function of
(split, index).

An image is a torus of 16x16 pixels: regions that leave it at one side go on at
the opposite one, `truth` too. So every pixel is as often in a patch as any
other, and a constant mask covers as much of it as a random one. It holds, with
hard edges:

* the patch, 8x8 (25 % of the pixels): a grating of 1/4 cycle per pixel whose
  orientation, one of ten, is the class; its position is uniform over all 256
  and independent of the class;
* two distractors, 4x8 or 8x4, together as large as the patch, which overlap
  neither it nor each other: gratings of 1/8 or 7/16 cycle per pixel, any
  orientation, so their textures belong to no class;
* a background of clutter: the same sinusoid with a random field for a phase.

Every region draws its offset, mean and contrast from the same distributions,
so the value of a single pixel tells neither region nor class.

Measured with a ResNet (width 8, 3 stages of 1 block) after 5 epochs at batch
64, Nesterov, rate 0.2; percent correct, mean of seeds 0-2, retrained on the
mean fill: unmasked 99.7; `random` 30/50/70/90 % 95.9, 74.9, 31.1, 10.1;
`oracle` 10.6, 10.5, 10.0, 10.2; `inverse_oracle` 30/50 % 100.0, 100.0.

Filters without a model cover of the patch, among the first 30 % of the pixels:
a Gabor filter of the classes' frequency 91 %, a bank of three frequencies 73,
Sobel 47, local variance 36, saturation 30, "centre first" 29. So this dataset
tests the benchmark; `planted_colour` judges estimators.

`planted_patch_leaky` is the same except that the class fixes the position. It
exists to test that alarms about class-revealing masks ring.
"""

from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from roar_tf.datasets import planted

NUM_CLASSES = 10
SPLIT_SIZES = {'train': 4000, 'test': 2000}

# Cycles per pixel. A factor of 1.75 or more keeps the distractors' textures
# apart from every class, whatever their orientation.
PATCH_FREQUENCY = 1 / 4
DISTRACTOR_FREQUENCIES = (1 / 8, 7 / 16)

_SEED = 20190628
_SIZE = planted.IMAGE_SIZE
_DISTRACTOR_SHAPES = ((4, 8), (8, 4))
_NUM_DISTRACTORS = 2
_NUM_REGIONS = 2 + _NUM_DISTRACTORS

# Values stay within 128 +- (16 + 90): nothing is ever clipped. All channels
# of a region swing together; signs of their own would make a small network
# learn every colour pair separately and need several times the images.
_MEAN_RANGE = (112.0, 144.0)
_CONTRAST_RANGE = (50.0, 90.0)
# Standard deviation, in radians, of the clutter's phase about its offset.
_CLUTTER_PHASE = 0.75 * np.pi

# Every rectangle (top, left, height, width) that a distractor may occupy.
_DISTRACTOR_BOXES = np.array(
  [
    (top, left, height, width)
    for height, width in _DISTRACTOR_SHAPES
    for top in range(_SIZE)
    for left in range(_SIZE)
  ]
)


class Scenes(NamedTuple):
  """What n images show, before rendering.

  Regions are numbered 0 background, 1 patch, 2 and 3 distractors.

  Attributes:
    labels: int64 [n], the class, 0..9.
    boxes: int64 [n, 3, 4], (top, left, height, width) of regions 1 to 3, which
      may wrap around: top and left are 0..15.
    frequencies: float64 [n, 3], cycles per pixel of regions 1 to 3.
    orientations: float64 [n, 3], direction in which the grating of regions 1
      to 3 varies, in [0, pi) from the horizontal axis downwards.
    offsets: float64 [n, 4], phase at the corner of each region, in [0, 2 pi).
    means: float64 [n, 4, 3], mean colour of each region.
    contrasts: float64 [n, 4, 3], amplitude of each region and channel.
    clutter: float64 [n, 16, 16], phase field of the background, in radians.
  """

  labels: np.ndarray
  boxes: np.ndarray
  frequencies: np.ndarray
  orientations: np.ndarray
  offsets: np.ndarray
  means: np.ndarray
  contrasts: np.ndarray
  clutter: np.ndarray


def make_examples(
  split: str, start: int, stop: int, leaky: bool = False
) -> dict[str, np.ndarray]:
  """Renders examples [start, stop) of a split, n = stop - start.

  Example i has the same bytes whatever range it is made in, and any ten
  examples from a multiple of ten on hold each class once.

  Args:
    split: 'train' or 'test'.
    start: first index, at least 0.
    stop: index after the last, at most `SPLIT_SIZES[split]`.
    leaky: whether the class fixes the patch's position.

  Returns:
    `image` uint8 [n, 16, 16, 3]; `label` int64 [n], 0..9; `id` str [n], such
    as 'train_00012'; `truth` uint8 [n, 16, 16, 1], 1 inside the patch, else 0.
  """
  scenes = draw_scenes(split, start, stop, leaky)
  regions = region_map(scenes)
  return {
    'image': _render(scenes, regions),
    'label': scenes.labels,
    'id': planted.ids(split, start, stop),
    'truth': (regions == 1).astype(np.uint8)[..., np.newaxis],
  }


def draw_scenes(
  split: str, start: int, stop: int, leaky: bool = False
) -> Scenes:
  """Draws what examples [start, stop) show; arguments as `make_examples`."""
  planted.check_range(SPLIT_SIZES, split, start, stop)
  regions, area = _NUM_REGIONS, _SIZE**2
  widths = (1, *[_NUM_DISTRACTORS] * 3, regions, regions * 3, regions * 3, area)
  draws = planted.uniforms(_SEED, split, start, stop, sum(widths))
  position, choice, frequency, orientation, offset, mean, contrast, field = (
    np.split(draws, np.cumsum(widths)[:-1], axis=1)
  )
  labels = planted.orders(_SEED, split, start, stop, NUM_CLASSES)
  patch = _leaky_corners(labels) if leaky else planted.corners(position[:, 0])
  low, high = DISTRACTOR_FREQUENCIES
  return Scenes(
    labels=labels,
    boxes=_place_distractors(patch, choice),
    frequencies=_prepend(
      np.full(len(labels), PATCH_FREQUENCY),
      np.where(frequency < 0.5, low, high),
    ),
    orientations=_prepend(np.pi * labels / NUM_CLASSES, np.pi * orientation),
    offsets=2 * np.pi * offset,
    means=_scale(mean, *_MEAN_RANGE).reshape(-1, regions, 3),
    contrasts=_scale(contrast, *_CONTRAST_RANGE).reshape(-1, regions, 3),
    clutter=_smooth(field.reshape(-1, _SIZE, _SIZE)),
  )


def region_map(scenes: Scenes) -> np.ndarray:
  """Numbers every pixel by its region: int64 [n, 16, 16], 0..3."""
  regions = np.zeros((len(scenes.labels), _SIZE, _SIZE), np.int64)
  for number, boxes in enumerate(scenes.boxes.swapaxes(0, 1), start=1):
    height, width = boxes.T[2:, :, np.newaxis, np.newaxis]
    rows, columns = planted.local(boxes)
    inside = (rows < height) & (columns < width)
    regions[inside] = number
  return regions


def _leaky_corners(labels: np.ndarray) -> np.ndarray:
  """Maps classes [n] to one (top, left) [n, 2] each: two rows of five."""
  return np.stack([labels // 5 * 8, labels % 5 * 2], axis=1)


def _place_distractors(patch: np.ndarray, draws: np.ndarray) -> np.ndarray:
  """Boxes [n, 3, 4] of patch and distractors, given corners [n, 2].

  Each distractor is uniform over the boxes still free. Some always are: beside
  an 8x8 patch a strip at least 4 wide runs through the image in both
  directions.
  """
  size = np.full((len(patch), 2), planted.PATCH_SIZE)
  boxes = [np.concatenate([patch, size], axis=1)]
  free = ~_overlap(boxes[0])
  for draw in draws.T:
    order = np.floor(draw * free.sum(axis=1)).astype(np.int64)
    chosen = np.argmax(free.cumsum(axis=1) > order[:, np.newaxis], axis=1)
    boxes.append(_DISTRACTOR_BOXES[chosen])
    free &= ~_overlap(boxes[-1])
  return np.stack(boxes, axis=1)


def _overlap(boxes: np.ndarray) -> np.ndarray:
  """Whether boxes [n, 4] meet each distractor box: bool [n, candidates]."""
  top, left, height, width = boxes.T[..., np.newaxis]
  tops, lefts, heights, widths = _DISTRACTOR_BOXES.T
  return _meet(top, height, tops, heights) & _meet(left, width, lefts, widths)


def _meet(start, length, starts, lengths) -> np.ndarray:
  """Whether stretches of a circle of 16 pixels have one in common."""
  return ((starts - start) % _SIZE < length) | (
    (start - starts) % _SIZE < lengths
  )


def _smooth(field: np.ndarray) -> np.ndarray:
  """Turns uniforms [n, h, w] into a phase field with a grain of 3 pixels."""
  unit = (field - 0.5) * np.sqrt(12)
  for axis in (1, 2):
    unit = sum(np.roll(unit, shift, axis) for shift in (-1, 0, 1))
  # Each value is now a sum of nine of variance 1.
  return _CLUTTER_PHASE * unit / 3


def _scale(draws: np.ndarray, low: float, high: float) -> np.ndarray:
  return low + (high - low) * draws


def _prepend(first: np.ndarray, rest: np.ndarray) -> np.ndarray:
  return np.concatenate([first[:, np.newaxis], rest], axis=1)


def _render(scenes: Scenes, regions: np.ndarray) -> np.ndarray:
  """Paints scenes, given their region map: uint8 [n, 16, 16, 3]."""
  # The background is a grating of frequency 0 with the clutter for a phase.
  zero = np.zeros(len(regions))
  turns = 2 * np.pi * _prepend(zero, scenes.frequencies)
  angle = _prepend(zero, scenes.orientations)
  pixel = (np.arange(len(regions))[:, np.newaxis, np.newaxis], regions)
  phase = scenes.offsets[pixel] + np.where(regions == 0, scenes.clutter, 0)
  # Pixels are counted from the corner of their region, across the seam too.
  corners = np.zeros((len(regions), _NUM_REGIONS, 2), np.int64)
  corners[:, 1:] = scenes.boxes[..., :2]
  places = np.stack(np.mgrid[:_SIZE, :_SIZE], axis=-1)
  rows, columns = np.moveaxis((places - corners[pixel]) % _SIZE, -1, 0)
  phase += (turns * np.cos(angle))[pixel] * columns
  phase += (turns * np.sin(angle))[pixel] * rows
  wave = np.sin(phase)[..., np.newaxis]
  values = scenes.means[pixel] + scenes.contrasts[pixel] * wave
  return np.rint(values).astype(np.uint8)


_DESCRIPTION = (
  'Synthetic 16x16 images in ten classes. The class is the texture of one 8x8 '
  'patch, whose position is {}; `truth` is 1 inside it.'
)


class PlantedPatch(planted.Builder):
  """TFDS builder `planted_patch`: the class is the texture of one patch."""

  VERSION = tfds.core.Version('2.0.0')
  RELEASE_NOTES = {
    '1.0.0': 'Initial release.',
    '2.0.0': 'Regions wrap around the edges, so that none is favoured.',
  }
  SIZES = SPLIT_SIZES
  CLASSES = NUM_CLASSES
  DESCRIPTION = _DESCRIPTION.format('random')
  LEAKY = False

  def examples(self, split: str) -> dict[str, np.ndarray]:
    """See `planted.Builder`."""
    return make_examples(split, 0, self.SIZES[split], self.LEAKY)


class PlantedPatchLeaky(PlantedPatch):
  """TFDS builder `planted_patch_leaky`: the position tells the class too."""

  DESCRIPTION = _DESCRIPTION.format('the same for all of a class')
  LEAKY = True
