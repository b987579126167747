"""The estimators that xplique has, on the same Keras models.

xplique 2.0.2 converts images to float32. Where only that conversion stands in
the way it is taken out and float64 compared; its guided backprop and its
integrated gradients hold float32 constants and are compared in float32. It has
no ensembles around either.
"""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
import twins
from xplique import attributions

import roar_tf
from roar_tf.estimators import registry

pytestmark = pytest.mark.peers

STEPS = 25
# Large enough for all noisy copies of all images to be drawn in one call.
BATCH = len(twins.IDS) * max(twins.SAMPLES.values())
STATISTICS = {
  'sg_grad': attributions.SmoothGrad,
  'sg_sq_grad': attributions.SquareGrad,
  'var_grad': attributions.VarGrad,
}


@pytest.fixture
def float64(monkeypatch):
  """Lets images keep their type."""
  monkeypatch.setattr(
    'xplique.attributions.base.tensor_sanitize',
    lambda inputs, targets: (tf.constant(inputs), tf.constant(targets)),
  )


def _explain(network, dtype, names, **arguments):
  model, _ = twins.networks(network, dtype)
  return roar_tf.explain(
    model,
    twins.images(network, dtype),
    names,
    targets=twins.targets(network),
    ids=twins.IDS,
    seed=twins.SEED,
    samples=twins.SAMPLES[network],
    noise=twins.NOISE,
    **arguments,
  )


def _xplique(explainer, network, dtype, **arguments):
  """Returns scores [B, H, W, C] of an xplique class."""
  model, _ = twins.networks(network, dtype)
  one_hot = np.eye(twins.CLASSES, dtype=dtype)[twins.targets(network)]
  method = explainer(model, reducer=None, batch_size=BATCH, **arguments)
  return method(twins.images(network, dtype), one_hot)


def _record(record_property, estimator, network, **errors):
  record_property(
    'error',
    {
      'estimator': estimator,
      'library': 'xplique',
      'network': network,
      **errors,
    },
  )


@pytest.mark.parametrize('network', twins.NETWORKS)
def test_magnitude_of_grad_equals_saliency(network, float64, record_property):
  # xplique's saliency is unsigned.
  ours = np.abs(_explain(network, 'float64', 'grad')['grad'])
  theirs = _xplique(attributions.Saliency, network, 'float64')
  error, _ = twins.difference(ours, theirs)
  _record(record_property, 'grad', network, float64=error)
  assert error <= 1e-8


@pytest.mark.parametrize('network', twins.NETWORKS)
@pytest.mark.parametrize('estimator', STATISTICS)
def test_ensembles_of_grad_equal_xplique(
  network, estimator, float64, monkeypatch, record_property
):
  samples = twins.SAMPLES[network]

  def perturbed(inputs, count, noise):
    assert len(inputs) == len(twins.IDS) and count == samples
    copies = twins.noisy_copies(inputs.numpy(), samples)
    # All copies of the first image, then all copies of the second.
    return tf.reshape(copies.swapaxes(0, 1), [-1, *inputs.shape[1:]])

  # The same noise: xplique's own has one deviation for all images.
  monkeypatch.setattr(
    attributions.gradient_statistics.gradient_statistic.GradientStatistic,
    '_perturb_samples',
    staticmethod(perturbed),
  )
  ours = _explain(network, 'float64', estimator)[estimator]
  theirs = _xplique(
    STATISTICS[estimator], network, 'float64', nb_samples=samples
  )
  if estimator == 'var_grad':  # xplique's variance is divided by J - 1.
    theirs = theirs * (samples - 1) / samples
  error, _ = twins.difference(ours, theirs)
  _record(record_property, estimator, network, float64=error)
  assert error <= 1e-8


@pytest.mark.parametrize('network', twins.NETWORKS)
def test_guided_backprop_equals_xplique(network, record_property):
  ours = _explain(network, 'float32', 'gb')['gb']
  theirs = _xplique(attributions.GuidedBackprop, network, 'float32')
  error, worst = twins.difference(ours, theirs)
  _record(record_property, 'gb', network, float32=error, worst=worst)
  assert error <= 1e-3


@pytest.mark.parametrize('network', twins.NETWORKS)
def test_integrated_gradients_equal_xplique(network, record_property):
  # xplique's trapezoidal rule over the 26 points i / 25, i = 0..25, is our sum
  # over i = 1..25 with half of the last gradient exchanged for half the first.
  baseline = 0.5
  images = twins.images(network, 'float32')
  ours = _explain(
    network, 'float32', ['ig', 'grad'], baseline=baseline, steps=STEPS
  )
  model, _ = twins.networks(network, 'float32')
  first = roar_tf.explain(
    model,
    np.full_like(images, baseline),
    'grad',
    targets=twins.targets(network),
  )['grad']
  exchanged = (first - ours['grad']) / (2 * STEPS) * (images - baseline)
  theirs = _xplique(
    attributions.IntegratedGradients,
    network,
    'float32',
    steps=STEPS + 1,
    baseline_value=baseline,
  )
  error, worst = twins.difference(ours['ig'] + exchanged, theirs)
  _record(record_property, 'ig', network, float32=error, worst=worst)
  # Batches of other sizes round otherwise, and then a ReLU near 0 may flip.
  assert error <= 0.02


def test_an_explainer_is_an_estimator_with_all_prefixes(monkeypatch):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))

  def explained(model, images, targets):
    method = attributions.Occlusion(model, patch_size=4, patch_stride=4)
    one_hot = np.eye(twins.CLASSES, dtype='float32')[targets]
    return np.asarray(method(images, one_hot))

  @roar_tf.register('occlusion', eager=True, version='1')
  def occlusion(model, images, targets, keys):
    return explained(model, images, targets)

  network = next(iter(twins.NETWORKS))
  model, _ = twins.networks(network, 'float32')
  images, targets = twins.images(network, 'float32'), twins.targets(network)
  names = ['occlusion', 'sg_sq_occlusion', 'grad']

  def explain(_=None):
    return roar_tf.explain(
      model, images, names, targets, ids=twins.IDS, samples=3
    )

  found = explain()
  # One map for all channels, as explained without us.
  maps = explained(model, images, targets).reshape(*images.shape[:3], 1)
  np.testing.assert_allclose(
    found['occlusion'], np.broadcast_to(maps, images.shape), atol=1e-5
  )
  assert (found['sg_sq_occlusion'].numpy() > 0).any()
  # As the units of a study that run side by side.
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for again in pool.map(explain, range(8)):
      for name in names:
        np.testing.assert_array_equal(again[name], found[name])
