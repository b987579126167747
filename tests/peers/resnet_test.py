"""ResNet-50 against a PyTorch module with torchvision's structure and names.

The module is written here from torchvision's definition, not made from the
Keras model: paddings, strides and order are its own. Weights are copied by the
names of layers, which both share.
"""

import keras
import numpy as np
import pytest
import torch
import twins

from roar_tf.models import resnet

pytestmark = pytest.mark.peers

CLASSES = 1000


class Bottleneck(torch.nn.Module):
  """1x1, 3x3 with the stride, 1x1 to four times the channels."""

  def __init__(self, inputs, channels, stride):
    super().__init__()
    outputs = 4 * channels
    self.conv1 = torch.nn.Conv2d(inputs, channels, 1, bias=False)
    self.bn1 = torch.nn.BatchNorm2d(channels)
    self.conv2 = torch.nn.Conv2d(
      channels, channels, 3, stride=stride, padding=1, bias=False
    )
    self.bn2 = torch.nn.BatchNorm2d(channels)
    self.conv3 = torch.nn.Conv2d(channels, outputs, 1, bias=False)
    self.bn3 = torch.nn.BatchNorm2d(outputs)
    self.downsample = torch.nn.Identity()
    if stride != 1 or inputs != outputs:
      self.downsample = torch.nn.Sequential(
        torch.nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
        torch.nn.BatchNorm2d(outputs),
      )

  def forward(self, x):
    """Returns relu(x + f(x))."""
    y = torch.relu(self.bn1(self.conv1(x)))
    y = torch.relu(self.bn2(self.conv2(y)))
    return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(torch.nn.Module):
  """Images [B, C, H, W] to logits [B, K]."""

  def __init__(self, classes):
    super().__init__()
    self.conv1 = torch.nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    self.bn1 = torch.nn.BatchNorm2d(64)
    self.maxpool = torch.nn.MaxPool2d(3, stride=2, padding=1)
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
      layers = []
      for block in range(blocks):
        stride = 2 if stage > 0 and block == 0 else 1
        layers.append(Bottleneck(inputs, 64 * 2**stage, stride))
        inputs = 256 * 2**stage
      setattr(self, f'layer{stage + 1}', torch.nn.Sequential(*layers))
    self.fc = torch.nn.Linear(inputs, classes)

  def forward(self, x):
    """Returns logits."""
    x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
    x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
    return self.fc(x.mean(dim=(2, 3)))


_NAMES = {
  'gamma': 'weight',
  'beta': 'bias',
  'moving_mean': 'running_mean',
  'moving_variance': 'running_var',
  'kernel': 'weight',
  'bias': 'bias',
}


def _copied(model: keras.Model) -> ResNet50:
  """Returns the module with every weight of the model, and no other."""
  weights = {}
  for variable in model.variables:
    layer, name = variable.path.rsplit('/', 1)
    value = variable.numpy()
    if name == 'kernel':
      value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
    weights[f'{layer}.{_NAMES[name]}'] = torch.tensor(value)
  module = ResNet50(CLASSES)
  counters = {
    name: value
    for name, value in module.state_dict().items()
    if name.endswith('num_batches_tracked')
  }
  module.load_state_dict({**counters, **weights})  # Strictly.
  return module.eval().requires_grad_(False)


@pytest.mark.parametrize('size', [(224, 224), (65, 97), (64, 50)])
def test_copied_weights_give_the_logits_of_pytorch(size):
  with twins.precision('float64'):
    model = twins.randomise(resnet.resnet50((*size, 3), CLASSES))
    module = _copied(model)
    images = np.random.default_rng(1).normal(size=(2, *size, 3))
    found = model(images, training=False).numpy()
    expected = module(twins.to_torch(images)).numpy()
  assert found.dtype == expected.dtype == np.float64
  scale = np.abs(expected).max()
  # The two images differ: the comparison means something.
  assert np.abs(expected[0] - expected[1]).max() > 1e-3 * scale
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)
