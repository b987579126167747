"""Settings of the estimators; gin knows them as `Attribution`."""

import dataclasses
import math
import numbers

import numpy as np

from roar_tf import errors
from roar_tf.estimators import controls

TARGETS = ('predicted', 'label')
QUADRATURES = ('riemann_right', 'gauss_legendre')
PRECISIONS = ('model', 'bfloat16')


@dataclasses.dataclass(frozen=True)
class Settings:
  """What changes the values of estimators, and how they are computed.

  Attributes:
    samples: J, noisy copies per image (paper, section 4.1: 15).
    noise: standard deviation of the noise over (max - min) of each image, at
      most 1.
    steps: k, gradients along the path of IG (paper, section 4.1: 25).
    quadrature: the points of that path and their weights: `riemann_right`, the
      paper's sum over i / k for i = 1..k; or `gauss_legendre`, whose k points
      come far closer to the integral.
    target: the class that a pipeline explains: `predicted` on the clean image,
      or the true `label`.
    sobel: form of `sobel`, `magnitude` or `released`.
    blur_sigma: standard deviation, in pixels, of the Gaussian of `blur_x`.
    max_size: rows and columns, an odd number, over which `max_x` takes the
      largest score. Both as in the released code of "On Pitfalls of
      RemOve-And-Retrain" (arXiv 2304.13836), for images of any size.
    batch_size: most gradient evaluations per call of the model (per replica); a
      default that follows from the size of the images if None. It bounds
      memory; float32 results depend on it as they do on the device.
    precision: what the model computes in where it is evaluated for paths and
      noisy images: `bfloat16`, or in what it was made to compute (`model`).
      Predicted classes and the gradients at the images themselves come from the
      model as it is; sums, moments and scores are float32 or wider.
    jit_compile: whether XLA compiles estimators that need the model.
  """

  samples: int = 15
  noise: float = 0.15
  steps: int = 25
  target: str = 'predicted'
  sobel: str = 'magnitude'
  blur_sigma: float = 1.0
  max_size: int = 3
  batch_size: int | None = None
  quadrature: str = 'riemann_right'
  precision: str = 'model'
  jit_compile: bool = False

  def __post_init__(self):
    """Raises ValueError for values that mean nothing."""
    for name in ('samples', 'steps', 'max_size', 'batch_size'):
      value = getattr(self, name)
      if name == 'batch_size' and value is None:
        continue
      if not isinstance(value, numbers.Integral) or value < 1 or value is True:
        raise ValueError(
          f'{name} must be a whole number of at least 1, found {value!r}.'
        )
      object.__setattr__(self, name, int(value))  # It may be NumPy's.
    for name in ('noise', 'blur_sigma'):
      value = getattr(self, name)
      number = isinstance(value, numbers.Real) and not isinstance(value, bool)
      if not (number and math.isfinite(value) and value >= 0):
        raise ValueError(
          f'{name} must be a number that is not negative, found {value!r}.'
        )
      object.__setattr__(self, name, float(value))
    if self.noise > 1:
      raise ValueError(
        'noise is a standard deviation over (max - min) of each image, 0.15 in '
        f'the paper, and at most 1, found {self.noise:g}: divide one in the '
        'units of the images by their range.'
      )
    if self.max_size % 2 == 0:
      raise ValueError(
        'max_size must be odd, for a middle to be there, found '
        f'{self.max_size}.'
      )
    if not isinstance(self.jit_compile, bool | np.bool_):
      raise ValueError(
        f'jit_compile must be True or False, found {self.jit_compile!r}.'
      )
    object.__setattr__(self, 'jit_compile', bool(self.jit_compile))
    errors.check_choice('target', self.target, TARGETS)
    errors.check_choice('quadrature', self.quadrature, QUADRATURES)
    errors.check_choice('precision', self.precision, PRECISIONS)
    errors.check_choice('sobel', self.sobel, tuple(controls.SOBEL_FORMS))
