"""Every gradient estimator of the paper against captum, on equal networks.

captum computes the bases; the ensembles are NumPy's statistics of captum's
attributions of the same noisy images. captum's own NoiseTunnel draws its noise
itself, with one deviation for a whole batch.
"""

import functools

import numpy as np
import pytest
import torch
import twins
from captum import attr

import roar_tf

pytestmark = [
  pytest.mark.peers,
  pytest.mark.filterwarnings(
    'ignore:Setting backward hooks', 'ignore:Input Tensor 0 did not already'
  ),
]

STEPS = 25

STATISTICS = {
  'sg_': lambda values: values.mean(axis=0),
  'sg_sq_': lambda values: np.square(values).mean(axis=0),
  'var_': lambda values: values.var(axis=0),  # Divided by J.
  'sq_sg_': lambda values: np.square(values.mean(axis=0)),
}
BASES = ('grad', 'gb', 'ig')
# The 15 of the paper, and the squared ensemble that makes 18 with the controls.
ESTIMATORS = [
  *(
    f'{prefix}{base}'
    for base in BASES
    for prefix in ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
  ),
  'sq_sg_grad',
]
# Not zero, and another for every channel.
BASELINE = np.array([-1.5, 0.25, 0.75]).reshape(1, 1, 1, 3)


def _attribute(twin, base, images, targets, baseline=0.0):
  """Returns captum's attributions of images [B, H, W, C], of their shape."""
  inputs = twins.to_torch(images)
  arguments = {'target': torch.tensor(targets)}
  if base == 'grad':
    method = attr.Saliency(twin)
    arguments.update(abs=False)
  elif base == 'gb':
    method = attr.GuidedBackprop(twin)
  else:
    method = attr.IntegratedGradients(twin, multiply_by_inputs=True)
    baselines = np.broadcast_to(baseline, images.shape).astype(images.dtype)
    arguments.update(
      baselines=twins.to_torch(baselines),
      n_steps=STEPS,
      method='riemann_right',
      internal_batch_size=64,
    )
  scores = twins.from_torch(method.attribute(inputs, **arguments))
  if base == 'ig' and scores.dtype == np.float64:
    # captum rounds the weight of a step, 1 / 25, to float32 in any type.
    scores = scores / (STEPS * np.float64(np.float32(1 / STEPS)))
  return scores


@functools.cache
def _captum(network, dtype, base):
  """Returns every estimator over a base, {prefix: [B, H, W, C]}."""
  _, twin = twins.networks(network, dtype)
  images, targets = twins.images(network, dtype), twins.targets(network)
  with twins.precision(dtype):
    clean = _attribute(twin, base, images, targets)
    noisy = np.stack(
      [
        _attribute(twin, base, copy, targets)
        for copy in twins.noisy_copies(images, twins.SAMPLES[network])
      ]
    )
  return {
    '': clean,
    'sq_': np.square(clean),
    **{prefix: function(noisy) for prefix, function in STATISTICS.items()},
  }


@functools.cache
def _ours(network, dtype, names):
  model, _ = twins.networks(network, dtype)
  # Without targets: the predicted class is the default.
  found = roar_tf.explain(
    model,
    twins.images(network, dtype),
    names,
    targets=twins.targets(network) if dtype == 'float32' else None,
    ids=twins.IDS,
    seed=twins.SEED,
    samples=twins.SAMPLES[network],
    noise=twins.NOISE,
  )
  return {name: scores.numpy() for name, scores in found.items()}


@pytest.mark.parametrize('network', twins.NETWORKS)
@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_equals_captum(network, estimator, record_property):
  base = estimator.rsplit('_', 1)[-1]
  prefix = estimator.removesuffix(base)
  names = tuple(name for name in ESTIMATORS if name.endswith(base))
  error = {
    dtype: twins.difference(
      _ours(network, dtype, names)[estimator],
      _captum(network, dtype, base)[prefix],
    )
    for dtype in ('float64', 'float32')
  }
  record_property(
    'error',
    {
      'estimator': estimator,
      'library': 'captum',
      'network': network,
      'float64': error['float64'][0],
      'float32': error['float32'][0],
      'worst': error['float32'][1],
    },
  )
  assert error['float64'][0] <= 1e-8
  # In float32 a ReLU whose input is near 0 may open in one library only.
  assert error['float32'][0] <= 0.1


def test_all_at_once_equals_captum():
  # One pass shares the noisy images, and the last step of `ig` with `grad`.
  found = _ours('small_resnet', 'float64', tuple(ESTIMATORS))
  for base in BASES:
    for prefix, expected in _captum('small_resnet', 'float64', base).items():
      if prefix + base in found:
        assert twins.difference(found[prefix + base], expected)[0] <= 1e-8


@pytest.mark.parametrize('baseline', [0.5, BASELINE])
def test_integrated_gradients_from_another_baseline_equal_captum(baseline):
  model, twin = twins.networks('small_resnet', 'float64')
  images = twins.images('small_resnet', 'float64')
  targets = twins.targets('small_resnet')
  samples = twins.SAMPLES['small_resnet']
  found = roar_tf.explain(
    model,
    images,
    ('ig', 'sg_ig'),
    ids=twins.IDS,
    seed=twins.SEED,
    samples=samples,
    noise=twins.NOISE,
    baseline=baseline,
  )
  with twins.precision('float64'):
    clean, *noisy = (
      _attribute(twin, 'ig', copy, targets, baseline)
      for copy in (images, *twins.noisy_copies(images, samples))
    )
  assert twins.difference(found['ig'].numpy(), clean)[0] <= 1e-8
  mean = np.mean(noisy, axis=0)
  assert twins.difference(found['sg_ig'].numpy(), mean)[0] <= 1e-8


@pytest.mark.parametrize('base', BASES)
def test_other_targets_equal_captum(base):
  model, twin = twins.networks('small_resnet', 'float64')
  images = twins.images('small_resnet', 'float64')
  targets = (twins.targets('small_resnet') + [1, 2, 3]) % twins.CLASSES
  found = roar_tf.explain(model, images, base, targets=targets)[base].numpy()
  with twins.precision('float64'):
    expected = _attribute(twin, base, images, targets)
  assert twins.difference(found, expected)[0] <= 1e-8
