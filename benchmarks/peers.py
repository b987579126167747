"""Seconds per image that captum and xplique take for their estimators.

    python benchmarks/peers.py [--image_size=224] [--json=FILE]

Runs in the environment of `make peers`. Each library explains a ResNet-50 of
random weights as its users would, one estimator after the other: captum's
ensembles are its NoiseTunnel, xplique's its own classes. Both networks have the
architecture of `keras.applications.ResNet50`. Every library has a process of
its own, whose peak of memory is printed too.

The paper's names: `grad`, `gb`, `ig` (25 steps), and `sg_`, `sg_sq_`, `var_`
over them (15 noisy copies). captum's twelve take about two minutes an image on
two cores.
"""

import concurrent.futures
import importlib.util
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
import warnings
from unittest import mock

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import measuring
from absl import app, flags

STEPS = 25
SAMPLES = 15
NOISE = 0.15
BASES = ('grad', 'gb', 'ig')
PREFIXES = ('', 'sg_', 'sg_sq_', 'var_')
CLASSES = 1000
# An estimator whose first run takes longer, in seconds, is not run again: what
# that run compiles and allocates is lost in it.
LONG = 30.0

FLAGS = flags.FLAGS
flags.DEFINE_list('libraries', ['captum', 'xplique'], 'Libraries to run.')
flags.DEFINE_list('estimators', None, 'Estimators to run; all by default.')
flags.DEFINE_integer('image_size', 224, 'Height and width of the images.')
flags.DEFINE_integer('images', 1, 'Images explained in one call.')
flags.DEFINE_integer('batch_size', 5, 'Gradients computed at once.')
flags.DEFINE_integer('repeats', 3, 'Runs of a fast estimator; median taken.')
flags.DEFINE_integer('threads', 0, 'CPU threads of an operation; 0: all cores.')
flags.DEFINE_string('device', 'cpu', 'Of captum, as PyTorch names it.')
flags.register_validator(
  'libraries',
  lambda names: set(names) <= {'captum', 'xplique'},
  'Libraries are captum and xplique.',
)
flags.register_validator(
  'estimators',
  lambda names: set(names or ()) <= {p + b for p in PREFIXES for b in BASES},
  'Estimators are grad, gb and ig, with sg_, sg_sq_, var_ or nothing before.',
)
flags.DEFINE_float(
  'budget', None, 'Seconds per library after which no estimator is started.'
)
flags.DEFINE_string('json', None, 'File to write what was measured to.')


def captum_seconds(
  *,
  image_size=224,
  images=1,
  batch_size=5,
  estimators=None,
  repeats=3,
  budget=None,
  threads=0,
  device='cpu',
) -> dict[str, float]:
  """Times captum, in PyTorch.

  Args:
    image_size: height and width.
    images: images explained in one call.
    batch_size: gradients computed at once, where captum lets its user choose.
    estimators: names to time; all twelve if None.
    repeats: runs of an estimator that is fast.
    budget: seconds after which no further estimator is started.
    threads: CPU threads of an operation; 0 for all cores.
    device: PyTorch's name of one.

  Returns:
    Seconds per image by estimator, the median of the runs.
  """
  import torch

  _stand_in_for_drawing()
  from captum import attr

  # captum sets its hooks and asks for gradients itself, and says so.
  warnings.filterwarnings('ignore', module='captum')
  if threads:
    torch.set_num_threads(threads)
  torch.manual_seed(0)
  model = torch_resnet50().to(device)
  inputs = torch.randn(images, 3, image_size, image_size, device=device)
  # One deviation for all images: that is what NoiseTunnel takes.
  deviation = NOISE * float(inputs.max() - inputs.min())
  target = model(inputs).argmax(dim=1)
  several = max(1, batch_size // images)
  # IG makes its batches from steps, so that its noisy copies come one by one.
  bases = {
    'grad': (attr.Saliency(model), {'abs': False}, several),
    'gb': (attr.GuidedBackprop(model), {}, several),
    'ig': (
      attr.IntegratedGradients(model),
      {
        'n_steps': STEPS,
        'method': 'riemann_right',
        'internal_batch_size': several * images,
      },
      1,
    ),
  }
  kinds = {'sg_': 'smoothgrad', 'sg_sq_': 'smoothgrad_sq', 'var_': 'vargrad'}

  def action(prefix, base):
    method, arguments, copies = bases[base]
    if prefix:
      method = attr.NoiseTunnel(method)
      arguments = {
        **arguments,
        'nt_type': kinds[prefix],
        'nt_samples': SAMPLES,
        'nt_samples_batch_size': copies,
        'stdevs': deviation,
      }
    # To the host: a GPU would still be at work.
    return lambda: method.attribute(inputs, target=target, **arguments).cpu()

  actions = {
    f'{prefix}{base}': action(prefix, base)
    for prefix in PREFIXES
    for base in BASES
  }
  return _measure('captum', actions, estimators, images, repeats, budget)


_DRAWING = {
  'matplotlib': ('axes', 'collections', 'colors', 'figure', 'image', 'pyplot'),
  'mpl_toolkits': ('axes_grid1',),
  'PIL': ('Image',),
}
"""What captum imports for pictures, and none of its estimators calls."""


def _stand_in_for_drawing() -> None:
  """Lets captum be imported where there are no libraries for its pictures."""
  for package, parts in _DRAWING.items():
    if importlib.util.find_spec(package) is None:
      for name in (package, *(f'{package}.{part}' for part in parts)):
        sys.modules[name] = mock.MagicMock()


def xplique_seconds(
  *,
  image_size=224,
  images=1,
  batch_size=5,
  estimators=None,
  repeats=3,
  budget=None,
  threads=0,
) -> dict[str, float]:
  """Times xplique, in Keras; it has no ensembles around `gb` and `ig`.

  Arguments and outcome are those of `captum_seconds`.
  """
  import keras
  import tensorflow as tf
  from xplique import attributions

  if threads:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
  keras.utils.set_random_seed(0)
  shape = (image_size, image_size, 3)
  model = keras.applications.ResNet50(
    weights=None, input_shape=shape, classifier_activation=None
  )
  inputs = tf.random.normal([images, *shape])
  targets = tf.one_hot(tf.argmax(model(inputs), axis=-1), CLASSES)
  noisy = {'nb_samples': SAMPLES, 'noise': NOISE}
  classes = {
    'grad': (attributions.Saliency, {}),
    'gb': (attributions.GuidedBackprop, {}),
    'ig': (attributions.IntegratedGradients, {'steps': STEPS}),
    'sg_grad': (attributions.SmoothGrad, noisy),
    'sg_sq_grad': (attributions.SquareGrad, noisy),
    'var_grad': (attributions.VarGrad, noisy),
  }

  def action(name):
    kind, arguments = classes[name]
    explainer = kind(model, reducer=None, batch_size=batch_size, **arguments)
    return lambda: explainer(inputs, targets).numpy()

  actions = {name: action(name) for name in classes}
  return _measure('xplique', actions, estimators, images, repeats, budget)


LIBRARIES = {'captum': captum_seconds, 'xplique': xplique_seconds}


def _measure(library, actions, estimators, images, repeats, budget):
  """Times actions by name; returns seconds per image by name."""
  start = time.perf_counter()
  found = {}
  for name, action in actions.items():
    if estimators is not None and name not in estimators:
      continue
    if budget is not None and time.perf_counter() - start > budget:
      print(f'{library} {name:<11} left out: the budget is spent', flush=True)
      continue
    times = [measuring.seconds(action)]
    if times[0] < LONG:
      times = [measuring.seconds(action) for _ in range(repeats)]
    found[name] = statistics.median(times) / images
    print(f'{library} {name:<11} {found[name]:9.3f} s/image', flush=True)
  return found


def torch_resnet50():
  """Returns ResNet-50 in PyTorch, in evaluation mode, of random weights.

  As Keras has it: the stride in a block's first convolution, and biases before
  batch norm. Every ReLU is a module, which captum's guided backprop demands.
  """
  from torch import nn

  def convolution(channels, filters, size, stride=1):
    return nn.Sequential(
      nn.Conv2d(channels, filters, size, stride, padding=size // 2),
      nn.BatchNorm2d(filters, eps=1.001e-5),
    )

  class Block(nn.Module):
    def __init__(self, channels, filters, stride):
      super().__init__()
      self.shortcut = (
        nn.Identity()
        if channels == 4 * filters
        else convolution(channels, 4 * filters, 1, stride)
      )
      self.residual = nn.Sequential(
        convolution(channels, filters, 1, stride),
        nn.ReLU(),
        convolution(filters, filters, 3),
        nn.ReLU(),
        convolution(filters, 4 * filters, 1),
      )
      self.relu = nn.ReLU()

    def forward(self, images):
      return self.relu(self.shortcut(images) + self.residual(images))

  layers = [convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
  channels = 64
  for stage, blocks in enumerate((3, 4, 6, 3)):
    for block in range(blocks):
      stride = 2 if stage and not block else 1
      layers.append(Block(channels, 64 * 2**stage, stride))
      channels = 256 * 2**stage
  layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
  return nn.Sequential(*layers, nn.Linear(channels, CLASSES)).eval()


def _run(library: str, arguments: dict) -> dict:
  """Times one library; runs in a process of its own."""
  # PyTorch's threads wait for each other: on a busy machine captum's times are
  # several times those of a quiet one, and only the load tells.
  load, _, _ = os.getloadavg()
  seconds = LIBRARIES[library](**arguments)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  # Kilobytes, except on macOS.
  peak = peak / 2**20 if sys.platform == 'darwin' else peak / 2**10
  print(
    f'{library} peak memory {peak:,.0f} MiB, load at the start {load:.1f}',
    flush=True,
  )
  return {
    **arguments,
    'seconds_per_image': seconds,
    'peak_mebibytes': peak,
    'load_at_start': load,
  }


def main(argv) -> None:
  """Runs what the flags ask for."""
  del argv
  arguments = {
    name: getattr(FLAGS, name)
    for name in (
      'image_size',
      'images',
      'batch_size',
      'estimators',
      'repeats',
      'budget',
      'threads',
    )
  }
  context = multiprocessing.get_context('spawn')
  outcome = {}
  for library in FLAGS.libraries:
    if library == 'captum':
      arguments['device'] = FLAGS.device
    else:
      arguments.pop('device', None)
    with concurrent.futures.ProcessPoolExecutor(1, context) as process:
      outcome[library] = process.submit(_run, library, arguments).result()
  if FLAGS.json:
    with open(FLAGS.json, 'w') as file:
      json.dump(outcome, file, indent=2)


if __name__ == '__main__':
  app.run(main)
