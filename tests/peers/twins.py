"""One random network twice, as a Keras model and as a PyTorch module.

And what every comparison needs beside it: images, their noisy copies, and how
far two attributions differ. Images are [B, H, W, C] in Keras and [B, C, H, W]
in PyTorch. The twin is built from the Keras model's graph, one module per
layer: captum's guided backprop wants every ReLU to be a module of its own.
"""

import contextlib
import functools

import keras
import numpy as np
import torch

from roar_tf import randomness
from roar_tf.models import resnet

CLASSES = 10
IDS = ('first', 'second', 'third')
SEED = 3
NOISE = 0.15


@contextlib.contextmanager
def precision(dtype: str):
  """Makes `dtype` the default of Keras and PyTorch.

  captum takes the positions of integrated gradients in PyTorch's default type,
  whatever the type of the images.
  """
  policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
  torch_dtype = torch.get_default_dtype()
  keras.config.set_floatx(dtype)
  keras.config.set_dtype_policy(dtype)
  torch.set_default_dtype(getattr(torch, dtype))
  try:
    yield
  finally:
    torch.set_default_dtype(torch_dtype)
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx(floatx)


def small_resnet() -> keras.Model:
  """Returns the project's own small ResNet for 17x16 images."""
  # An odd height: 'same' padding with stride 2 differs between the two axes.
  return resnet.small_resnet((17, 16, 3), CLASSES, width=8, blocks=2)


def resnet50() -> keras.Model:
  """Returns Keras' ResNet-50 with logits for 40x32 images."""
  return keras.applications.ResNet50(
    weights=None,
    input_shape=(40, 32, 3),
    classes=CLASSES,
    classifier_activation=None,
  )


NETWORKS = {'small_resnet': small_resnet, 'resnet50': resnet50}
# Noisy copies per image: the paper's, and as many as PyTorch's slow float64
# convolutions allow within a minute.
SAMPLES = {'small_resnet': 15, 'resnet50': 4}


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
  """Gives every weight a random value, so that no operation is trivial.

  Factories leave gammas at 0 or 1, betas and moving means at 0: a twin that
  forgot one of them would go unnoticed.
  """
  generator = np.random.default_rng(seed)
  for weight in model.weights:
    if weight.name == 'kernel':
      fan_in = np.prod(weight.shape[:-1])
      value = generator.normal(0, np.sqrt(2 / fan_in), weight.shape)
    elif weight.name in ('gamma', 'moving_variance'):
      value = generator.uniform(0.5, 1.5, weight.shape)
    else:
      value = generator.normal(0, 0.2, weight.shape)
    weight.assign(value)
  return model


class Twin(torch.nn.Module):
  """A Keras functional model's layers and weights in PyTorch.

  Maps images [B, C, H, W] to logits [B, K].
  """

  def __init__(self, model: keras.Model):
    super().__init__()
    dtype = getattr(torch, model.dtype)
    places = {}  # Symbolic tensor -> its place in the list of values.
    self.operations = torch.nn.ModuleList()
    self.sources = []
    for layer in model.layers:
      places[id(layer.output)] = len(places)
      if not isinstance(layer, keras.layers.InputLayer):
        inputs = keras.tree.flatten(layer.input)
        self.sources.append([places[id(tensor)] for tensor in inputs])
        self.operations.append(_operation(layer).to(dtype))
    self.eval().requires_grad_(False)

  def forward(self, images):
    """Returns logits [B, K]."""
    values = [images]
    for operation, sources in zip(self.operations, self.sources, strict=True):
      values.append(operation(*(values[source] for source in sources)))
    return values[-1]


def _operation(layer: keras.layers.Layer) -> torch.nn.Module:
  """Returns a Keras layer as a PyTorch module."""
  activation = getattr(layer, 'activation', keras.activations.linear)
  if isinstance(layer, keras.layers.Activation):
    assert activation is keras.activations.relu
    return torch.nn.ReLU()
  assert activation is keras.activations.linear
  for kind, convert in _CONVERSIONS.items():
    if isinstance(layer, kind):
      return convert(layer)
  raise NotImplementedError(f'There is no twin of {type(layer).__name__}.')


class _SamePadding(torch.nn.Module):
  """Keras' 'same' padding: with a stride, one side may get more than another.

  PyTorch's own `padding=1` always pads both sides alike.
  """

  def __init__(self, size, stride):
    super().__init__()
    self.size, self.stride = size, stride

  def forward(self, images):
    widths = []
    for length, size, stride in zip(
      images.shape[:1:-1], self.size[::-1], self.stride[::-1], strict=True
    ):
      steps = -(-length // stride)
      total = max((steps - 1) * stride + size - length, 0)
      widths += [total // 2, total - total // 2]
    return torch.nn.functional.pad(images, widths)


class _Add(torch.nn.Module):
  def forward(self, *values):
    return sum(values[1:], start=values[0])


class _GlobalAverage(torch.nn.Module):
  def forward(self, images):
    return images.mean(dim=(2, 3))


def _load(module, **weights):
  """Returns the module with weights given as Keras variables or arrays."""
  module.load_state_dict(
    {
      name: torch.tensor(keras.ops.convert_to_numpy(value))
      for name, value in weights.items()
    },
    strict=False,  # Batch norm also counts batches, which matters to nobody.
  )
  return module


def _convolution(layer):
  kernel = layer.kernel.numpy().transpose(3, 2, 0, 1)
  bias = {'bias': layer.bias} if layer.use_bias else {}
  convolution = torch.nn.Conv2d(
    kernel.shape[1],
    kernel.shape[0],
    layer.kernel_size,
    stride=layer.strides,
    bias=layer.use_bias,
    dtype=getattr(torch, layer.dtype),
  )
  _load(convolution, weight=kernel, **bias)
  if layer.padding == 'valid':
    return convolution
  return torch.nn.Sequential(
    _SamePadding(layer.kernel_size, layer.strides), convolution
  )


def _batch_norm(layer):
  module = torch.nn.BatchNorm2d(
    layer.gamma.shape[0], eps=layer.epsilon, dtype=getattr(torch, layer.dtype)
  )
  return _load(
    module,
    weight=layer.gamma,
    bias=layer.beta,
    running_mean=layer.moving_mean,
    running_var=layer.moving_variance,
  )


def _dense(layer):
  kernel = layer.kernel.numpy().T
  linear = torch.nn.Linear(
    kernel.shape[1], kernel.shape[0], dtype=getattr(torch, layer.dtype)
  )
  return _load(linear, weight=kernel, bias=layer.bias)


def _zero_padding(layer):
  rows, columns = layer.padding
  return torch.nn.ZeroPad2d((*columns, *rows))


def _max_pooling(layer):
  assert layer.padding == 'valid'
  return torch.nn.MaxPool2d(layer.pool_size, layer.strides)


def _average_pooling(layer):
  # Of one pixel: a window that needs no padding.
  assert layer.pool_size == (1, 1)
  return torch.nn.AvgPool2d(layer.pool_size, layer.strides)


_CONVERSIONS = {
  keras.layers.Conv2D: _convolution,
  keras.layers.BatchNormalization: _batch_norm,
  keras.layers.Dense: _dense,
  keras.layers.ZeroPadding2D: _zero_padding,
  keras.layers.MaxPooling2D: _max_pooling,
  keras.layers.AveragePooling2D: _average_pooling,
  keras.layers.ReLU: lambda layer: torch.nn.ReLU(),
  keras.layers.Add: lambda layer: _Add(),
  keras.layers.GlobalAveragePooling2D: lambda layer: _GlobalAverage(),
}


@functools.cache
def networks(network: str, dtype: str) -> tuple[keras.Model, Twin]:
  """Returns a network of `NETWORKS` twice, random and equal."""
  with precision(dtype):
    model = randomise(NETWORKS[network]())
    return model, Twin(model)


def images(network: str, dtype: str) -> np.ndarray:
  """Returns the images [B, H, W, C] named by `IDS`."""
  model, _ = networks(network, dtype)
  generator = np.random.default_rng(7)
  values = generator.normal(size=(len(IDS), *model.input_shape[1:]))
  # Ranges that differ: the noise must follow each image's own.
  values *= np.array([1.0, 0.5, 2.0]).reshape(-1, 1, 1, 1)
  return values.astype(dtype)


@functools.cache
def targets(network: str) -> np.ndarray:
  """Returns the classes [B] predicted in float64."""
  model, _ = networks(network, 'float64')
  logits = model(images(network, 'float64'), training=False)
  return np.argmax(logits, axis=-1)


def noisy_copies(values: np.ndarray, samples: int) -> np.ndarray:
  """Returns the noisy copies [samples, B, H, W, C] that `explain` must see.

  From the definition: Gaussians of (seed, id, number of the copy), scaled by
  `NOISE` times each image's range.
  """
  keys = randomness.fold(
    randomness.keys_of_ids(IDS), randomness.Purpose.SEED, SEED
  )
  sigma = NOISE * np.ptp(values, axis=(1, 2, 3), keepdims=True)
  seeds = randomness.fold(keys, randomness.Purpose.NOISE)
  normal = randomness.normal(
    seeds, values.shape[1:], count=samples, dtype=values.dtype
  )
  return values + sigma * normal.numpy()


def difference(found, expected) -> tuple[float, float]:
  """Returns the relative norm of found - expected, [B, ...] of one type.

  Over the whole batch, and the largest of single images.
  """
  found, expected = np.asarray(found), np.asarray(expected)
  assert found.shape == expected.shape and found.dtype == expected.dtype
  single = [
    np.linalg.norm(f - e) / np.linalg.norm(e)
    for f, e in zip(found, expected, strict=True)
  ]
  whole = np.linalg.norm(found - expected) / np.linalg.norm(expected)
  return float(whole), float(max(single))


def to_torch(values) -> torch.Tensor:
  """Returns images [B, H, W, C] as a tensor [B, C, H, W]."""
  return torch.tensor(np.asarray(values).transpose(0, 3, 1, 2).copy())


def from_torch(scores: torch.Tensor) -> np.ndarray:
  """Returns a tensor [B, C, H, W] as an array [B, H, W, C]."""
  return scores.detach().numpy().transpose(0, 2, 3, 1)
