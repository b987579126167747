"""Batch norm of widening 1x1 convolutions in training, without their outputs.

The last convolution of a bottleneck, 1x1, has four times as many outputs y = aW
as inputs a, and a batch norm right after it. Written plainly, y is stored, and
read by what follows and three times more by the gradient. But all that batch
norm needs to know of y follows from the mean m and covariance S of a:

  mean(y) = m W,  variance(y) = diag(W' S W),

so that y can be scaled inside the convolution, as in evaluation mode. In the
gradient y occurs only as yW', which is a(WW'), and as a'y, which is SW but for
constants: the narrow a is read in place of the wide y. Nothing is approximated,
only the order of sums differs. docs/guides/cloud_tpu.md tells what it saves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from roar_tf.lazy import keras, tf
from roar_tf.models import graphs

COMPUTED_IN = ('bfloat16',)
"""What layers that take part compute in: TPUs wait for memory then. On a CPU,
which models in float32 are for, the fused operation is faster."""


@contextlib.contextmanager
def training(model: keras.Model) -> Iterator[None]:
  """Makes a model run so, while it is called or traced in training mode.

  Pairs of a 1x1 convolution that widens and our batch norm take part if they
  compute in bfloat16. Everything else is called as it is, so is a model nested
  in this one, which may be in evaluation mode.

  Args:
    model: any Keras model; it is left as it was.
  """
  graph = graphs.graph_of(model)
  replaced = {} if graph is None else _replacements(graph)
  if not replaced:
    yield
    return
  with graphs.substituted(graph, replaced):
    yield


def _replacements(graph) -> dict[int, graphs.Call]:
  """Returns what is called in place of operations, by the operations' ids."""
  replaced = {}
  for convolution, norm in graphs.normalised_convolutions(graph):
    if _suits(convolution, norm):
      replaced[id(convolution)] = _call(convolution, norm)
      replaced[id(norm)] = lambda inputs, **_: inputs
  return replaced


def _suits(convolution, norm) -> bool:
  from roar_tf.models import batch_norm  # It defines a class of Keras'.

  return (
    type(norm) is batch_norm.BatchNormalization
    and norm.trainable  # A frozen one is in evaluation mode.
    and norm.scale
    and norm.center
    and norm.compute_dtype in COMPUTED_IN
    and type(convolution) is keras.layers.Conv2D
    and convolution.kernel_size == (1, 1)
    and convolution.groups == 1
    and not convolution.use_bias
    and convolution.kernel.shape[-2] < convolution.filters
  )


def _call(convolution, norm) -> graphs.Call:
  """Returns the function of images that stands for both layers."""
  down, right = convolution.strides

  def call(inputs):
    inputs = tf.cast(inputs, convolution.compute_dtype)
    kernel = tf.convert_to_tensor(convolution.kernel)
    outputs, mean, variance = normalised(
      inputs[:, ::down, ::right],
      # Keras may hand out a rounded kernel; statistics are not.
      tf.cast(kernel, convolution.variable_dtype),
      tf.convert_to_tensor(norm.gamma),
      tf.convert_to_tensor(norm.beta),
      norm.epsilon,
    )
    norm.move(mean, variance)
    return outputs

  return call


def normalised(inputs, kernel, gamma, beta, epsilon: float):
  """Returns a 1x1 convolution's outputs, normalised over the batch.

  Args:
    inputs: [B, H, W, I], bfloat16, or of the kernel's type.
    kernel: [1, 1, I, J], float32 or float64.
    gamma: [J], likewise.
    beta: [J], likewise.
    epsilon: what is added to variances.

  Returns:
    Outputs [B, H, W, J] of the inputs' type, and mean [J] and unbiased variance
    [J] of what was normalised, through which no gradient flows.
  """

  @tf.custom_gradient
  def function(inputs, kernel, gamma, beta):
    dtype = kernel.dtype
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], dtype)
    matrix = _rounded(kernel[0, 0], inputs.dtype)
    means = _sums(inputs, dtype) / count
    covariance = _products(inputs, inputs, dtype) / count
    covariance -= means[:, None] * means
    spread = _exact_matmul(covariance, matrix)
    mean = tf.reduce_sum(means[:, None] * matrix, 0)
    # A variance near 0 may come out below it.
    variance = tf.nn.relu(tf.reduce_sum(matrix * spread, 0))
    deviation = tf.sqrt(variance + tf.constant(epsilon, dtype))
    scale = gamma / deviation
    scaled = _rounded(matrix * scale, inputs.dtype)
    # Of the kernel as it is multiplied: outputs have the mean beta.
    shift = beta - tf.reduce_sum(means[:, None] * scaled, 0)
    outputs = _convolved(inputs, scaled, dtype) + shift
    outputs = tf.cast(outputs, inputs.dtype)

    def gradient(upstream, *_):
      dbeta = _sums(upstream, dtype)
      products = _products(inputs, upstream, dtype)
      dgamma = tf.reduce_sum(matrix * products, 0) - mean * dbeta
      dgamma /= deviation
      dkernel = scale * (
        products - means[:, None] * dbeta - spread * (dgamma / deviation)
      )
      # As for any batch norm: less what changes the mean, and the deviation.
      weights = scale * dgamma / (deviation * count)
      square = tf.linalg.matmul(matrix * weights, matrix, transpose_b=True)
      square = _rounded(square, inputs.dtype)
      constant = tf.reduce_sum(means[:, None] * square, 0)
      constant -= tf.reduce_sum(matrix * (scale * dbeta / count), 1)
      dinputs = _convolved(upstream, tf.transpose(scaled), dtype)
      dinputs += constant - _convolved(inputs, square, dtype)
      dinputs = tf.cast(dinputs, inputs.dtype)
      return dinputs, dkernel[None, None], dgamma, dbeta

    unbiased = variance * (count / tf.maximum(count - 1, 1))
    return (outputs, mean, unbiased), gradient

  return function(inputs, kernel, gamma, beta)


def _products(a, b, dtype) -> tf.Tensor:
  """Returns sums over examples and places of a[.., i] b[.., j], [I, J].

  Written as the gradient of a kernel, which suits the layout that a TPU gives
  to images. What it multiplies there is bfloat16, what it adds is not.
  """
  channels = a.shape[-1], b.shape[-1]
  products = tf.raw_ops.Conv2DBackpropFilter(
    input=tf.cast(a, dtype),
    filter_sizes=[1, 1, *channels],
    out_backprop=tf.cast(b, dtype),
    strides=[1, 1, 1, 1],
    padding='VALID',
  )
  return tf.reshape(products, channels)


def _sums(values, dtype) -> tf.Tensor:
  """Returns sums [C] over examples and places of [B, H, W, C]."""
  return tf.reduce_sum(tf.cast(values, dtype), [0, 1, 2])


def _convolved(images, matrix, dtype) -> tf.Tensor:
  """Returns a 1x1 convolution in the images' type, to be added to in another.

  XLA makes one operation of both: what is wider is never stored.
  """
  kernel = tf.cast(matrix, images.dtype)[None, None]
  return tf.cast(tf.nn.conv2d(images, kernel, 1, 'VALID'), dtype)


def _rounded(values, dtype) -> tf.Tensor:
  """Returns float32 values that bfloat16 holds, if that is the type.

  By their bits, to nearest even: XLA may leave out casts to and fro.
  """
  if dtype != tf.bfloat16:
    return values
  bits = tf.bitcast(values, tf.uint32)
  odd = tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)) & 1
  bits = (bits + (odd + 0x7FFF)) & 0xFFFF0000
  return tf.bitcast(bits, tf.float32)


def _exact_matmul(a, b) -> tf.Tensor:
  """Returns the product of a and rounded b, as precise as a is.

  A TPU rounds what it multiplies to bfloat16, so that a is given in two parts.
  """
  if a.dtype != tf.float32:
    return tf.linalg.matmul(a, b)
  bits = tf.bitcast(a, tf.uint32) & 0xFFFF0000
  high = tf.bitcast(bits, tf.float32)
  return tf.linalg.matmul(high, b) + tf.linalg.matmul(a - high, b)
