"""Residual networks in Keras: images float [B, H, W, C] to logits [B, K].

Convolutions have no bias, batch norm has momentum 0.9 and epsilon 1e-5, the
last gamma of each block starts at zero and the dense kernel at N(0, 0.01):
the released code's choices, for every size. Under a policy of mixed precision
variables and logits are float32; under float64 all is.
"""

from __future__ import annotations

import gin

from roar_tf import errors
from roar_tf.lazy import keras

_HE = {'scale': 2.0, 'mode': 'fan_out'}
"""He et al. 2015b, as PyTorch's ResNets start."""

_LECUN = {'scale': 1.0, 'mode': 'fan_in'}
"""`tf.variance_scaling_initializer()`, as the released code's ResNet starts."""

_BASIC, _BOTTLENECK = 1, 4
"""Filters that a block of either kind ends with, over those it begins with."""

DEPTHS = {
  18: (_BASIC, (2, 2, 2, 2)),
  34: (_BASIC, (3, 4, 6, 3)),
  50: (_BOTTLENECK, (3, 4, 6, 3)),
  101: (_BOTTLENECK, (3, 4, 23, 3)),
  152: (_BOTTLENECK, (3, 8, 36, 3)),
}
"""He et al. 2015, table 1: kind of block, and blocks per stage."""


def _head_dtype() -> str:
  """Returns the type of images and logits under the policy in force."""
  compute = keras.config.dtype_policy().compute_dtype
  return 'float64' if compute == 'float64' else 'float32'


def _batch_norm(x, last_of_block=False, name=None):
  from roar_tf.models import batch_norm  # It defines a class of Keras'.

  return batch_norm.BatchNormalization(
    momentum=batch_norm.MOMENTUM,
    epsilon=batch_norm.EPSILON,
    gamma_initializer='zeros' if last_of_block else 'ones',
    name=name,
  )(x)


def _relu(x):
  return keras.layers.ReLU()(x)


def _convolution(
  x, filters, size, stride=1, padding='same', initial=_HE, name=None
):
  return keras.layers.Conv2D(
    filters,
    size,
    strides=stride,
    padding=padding,
    use_bias=False,
    kernel_initializer=keras.initializers.VarianceScaling(
      distribution='truncated_normal', **initial
    ),
    name=name,
  )(x)


def _logits(x, num_classes, name=None):
  """Averages [B, H, W, C] over places and classifies."""
  dtype = _head_dtype()
  x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
  return keras.layers.Dense(
    num_classes,
    kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
    dtype=dtype,
    name=name,
  )(x)


# --- small images -------------------------------------------------------------


def _small_block(x, filters, stride):
  shortcut = x
  if stride != 1 or x.shape[-1] != filters:
    if stride != 1:
      # Every `stride`-th pixel, which is what a strided 1x1 convolution looks
      # at: TensorFlow 2.21 crashes in its gradient on a CPU (8 to 16 channels
      # at 224 x 224).
      shortcut = keras.layers.AveragePooling2D(1, stride, 'same')(x)
    shortcut = _batch_norm(_convolution(shortcut, filters, 1))
  x = _relu(_batch_norm(_convolution(x, filters, 3, stride)))
  x = _batch_norm(_convolution(x, filters, 3), last_of_block=True)
  return _relu(keras.layers.Add()([shortcut, x]))


@gin.configurable
def small_resnet(
  input_shape, num_classes, width=16, blocks=1, stages=3
) -> keras.Model:
  """A CIFAR-style ResNet for images of about 16 to 64 pixels.

  He et al. 2015, section 4.2: a 3x3 stem, stages of basic blocks with width,
  2 width, 4 width, ... filters, each but the first halving the resolution,
  global average pooling.

  Args:
    input_shape: (H, W, C).
    num_classes: K.
    width: filters of the stem and the first stage.
    blocks: basic blocks per stage.
    stages: number of stages.
  """
  inputs = keras.Input(input_shape, dtype=_head_dtype())
  x = _relu(_batch_norm(_convolution(inputs, width, 3)))
  for stage in range(stages):
    for block in range(blocks):
      stride = 2 if stage and not block else 1
      x = _small_block(x, width * 2**stage, stride)
  return keras.Model(inputs, _logits(x, num_classes), name='small_resnet')


@gin.configurable
def equivariant_resnet(
  input_shape, num_classes, width=16, blocks=1, stages=3
) -> keras.Model:
  """A `small_resnet` f of one output, that looks for every class in turn.

  logit_k(x) = f(x with its channels rolled by -k), with one f for all classes:
  to roll the channels of an image rolls its logits, whatever the weights are.
  For datasets whose classes differ by such a roll.

  Args:
    input_shape: (H, W, C).
    num_classes: K, at most C.
    width: filters of the stem and the first stage of f.
    blocks: basic blocks per stage of f.
    stages: number of stages of f.

  Raises:
    UsageError: there are more classes than channels.
  """
  channels = input_shape[-1]
  if num_classes > channels:
    raise errors.UsageError(
      'equivariant_resnet has a class for each roll of the channels, found '
      f'{num_classes} classes and {channels} channels: take small_resnet.'
    )
  detector = small_resnet(input_shape, 1, width, blocks, stages)
  inputs = keras.Input(input_shape, dtype=_head_dtype())
  logits = [
    detector(keras.ops.roll(inputs, -k, axis=-1)) for k in range(num_classes)
  ]
  logits = keras.layers.Concatenate(dtype=_head_dtype())(logits)
  return keras.Model(inputs, logits, name='equivariant_resnet')


# --- large images -------------------------------------------------------------


def _padded_convolution(x, filters, size, stride=1, name=None):
  """Convolves after padding both sides alike, whatever the stride.

  'same' padding would put more on one side where a stride leaves an odd rest.
  """
  if stride > 1 and size > 1:
    x = keras.layers.ZeroPadding2D((size - 1) // 2)(x)
    padding = 'valid'
  else:
    padding = 'same'
  return _convolution(x, filters, size, stride, padding, _LECUN, name)


def _block(x, filters, stride, widening, name):
  """One residual block; a bottleneck if it widens."""
  shortcut = x
  if stride != 1 or x.shape[-1] != filters * widening:
    shortcut = _batch_norm(
      _padded_convolution(
        x, filters * widening, 1, stride, f'{name}.downsample.0'
      ),
      name=f'{name}.downsample.1',
    )
  if widening == _BOTTLENECK:
    # The stride sits in the 3x3: "v1.5".
    parts = [(filters, 1, 1), (filters, 3, stride), (filters * widening, 1, 1)]
  else:
    parts = [(filters, 3, stride), (filters, 3, 1)]
  for number, part in enumerate(parts, 1):
    last = number == len(parts)
    x = _padded_convolution(x, *part, name=f'{name}.conv{number}')
    x = _batch_norm(x, last, name=f'{name}.bn{number}')
    x = x if last else _relu(x)
  return _relu(keras.layers.Add()([shortcut, x]))


@gin.configurable
def resnet(input_shape, num_classes, depth=50) -> keras.Model:
  """A ResNet for images of about 64 to 300 pixels.

  He et al. 2015, table 1, with the stride of a bottleneck in its 3x3 ("v1.5"):
  a 7x7 stem of stride 2, a 3x3 max pooling of stride 2, four stages, global
  average pooling.

  Convolutions with a stride are padded alike on both sides, by 3 around the 7x7
  and by 1 around a 3x3: what `fixed_padding` of the released code
  (interpretability_benchmark/utils/resnet_model.py) does, and PyTorch too. The
  pooling is padded by 1 on both sides as in PyTorch; the released code pools
  with 'SAME', which pads sides of even length at their end only. Layers have
  torchvision's names and, with its weights, its logits.

  Args:
    input_shape: (H, W, C).
    num_classes: K.
    depth: layers with weights, 18, 34, 50, 101 or 152; 18 and 34 have no
      bottlenecks.

  Raises:
    UsageError: there is no ResNet of that depth.
  """
  if depth not in DEPTHS:
    raise errors.UsageError(
      f'gin parameter resnet.depth cannot be {depth!r}; take one of '
      f'{", ".join(map(str, DEPTHS))}.'
    )
  widening, stages = DEPTHS[depth]
  inputs = keras.Input(input_shape, dtype=_head_dtype())
  x = _padded_convolution(inputs, 64, 7, 2, 'conv1')
  x = _relu(_batch_norm(x, name='bn1'))
  # Zeros are never above what a ReLU returns: as good as padding by -inf.
  x = keras.layers.MaxPooling2D(3, 2)(keras.layers.ZeroPadding2D(1)(x))
  for stage, blocks in enumerate(stages):
    for block in range(blocks):
      stride = 2 if stage and not block else 1
      name = f'layer{stage + 1}.{block}'
      x = _block(x, 64 * 2**stage, stride, widening, name)
  return keras.Model(
    inputs, _logits(x, num_classes, name='fc'), name=f'resnet{depth}'
  )


@gin.configurable
def resnet50(input_shape, num_classes) -> keras.Model:
  """The paper's model: `resnet` of depth 50.

  25,557,032 trained parameters and 53,120 moving statistics at 1,000 classes of
  RGB images.

  Args:
    input_shape: (H, W, C).
    num_classes: K.
  """
  return resnet(input_shape, num_classes, depth=50)
