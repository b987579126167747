"""Tests of the twins: what compares two libraries must be the same network."""

import numpy as np
import pytest
import torch
import twins

pytestmark = pytest.mark.peers


@pytest.mark.parametrize('network', twins.NETWORKS)
def test_twins_have_the_same_logits(network):
  model, twin = twins.networks(network, 'float64')
  images = twins.images(network, 'float64')
  logits = model(images, training=False).numpy()
  with torch.no_grad():
    found = twin(twins.to_torch(images)).numpy()
  assert found.dtype == logits.dtype == np.float64
  assert np.linalg.norm(found - logits) <= 1e-10 * np.linalg.norm(logits)
  # Every logit depends on the image: the comparison means something.
  assert logits.std(axis=0).min() > 1e-3 * np.abs(logits).max()
