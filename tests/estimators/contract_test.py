"""The examples of docs/guides/estimators.md run, and do what they say."""

import importlib.util
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import roar_tf
from roar_tf.estimators import registry

PAGE = pathlib.Path(__file__).parents[2] / 'docs/guides/estimators.md'
PEERS = ('xplique', 'torch')


@pytest.fixture(scope='module')
def examples(model, images):
  """What the page defines; blocks that need other libraries are compiled."""
  names = {'__name__': '__main__', 'model': model, 'images': images}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, '_registry', dict(registry._registry))
    for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
      code = compile(block, 'estimators.md', 'exec')
      needed = [name for name in PEERS if re.search(rf'\b{name}\b', block)]
      if all(map(importlib.util.find_spec, needed)):
        exec(code, names)
    yield names


def test_grad_cam_is_what_its_paper_says(examples, model, images):
  convolution, _, dense = model.layers
  activations = convolution(images).numpy()
  targets = np.array([2, 0, 3])
  kernel = dense.kernel.numpy().reshape(*activations.shape[1:], 4)
  weights = kernel[..., targets].mean((0, 1)).T[:, None, None]
  expected = tf.image.resize(
    np.maximum((weights * activations).sum(-1, keepdims=True), 0), (4, 5)
  )
  names = ['grad_cam', 'sg_grad_cam', 'var_grad_cam']
  found = roar_tf.explain(
    model, images, names, targets, ids=list('abc'), samples=3
  )
  assert expected.numpy().any()
  np.testing.assert_allclose(
    found['grad_cam'], np.repeat(expected, 3, -1), rtol=1e-4, atol=1e-6
  )
  alone = roar_tf.explain(
    model, images[1:2], names, targets[1:2], ids=['b'], samples=3
  )
  for name in names:
    np.testing.assert_allclose(
      alone[name][0], found[name][1], rtol=1e-4, atol=1e-6
    )


def test_the_other_examples_do_what_they_say(examples, model, images):
  names = ['grad', 'grad_x_input', 'occlusion', 'sg_sq_occlusion']
  found = roar_tf.explain(model, images, names, targets=1, samples=2)
  np.testing.assert_allclose(
    found['grad_x_input'], images * found['grad'], rtol=1e-5, atol=1e-7
  )
  hidden = images.copy()
  hidden[:, :4, 4:] = 0
  fall = (model(images) - model(hidden)).numpy()[:, 1]
  np.testing.assert_allclose(
    found['occlusion'][:, 3, 4, 2], fall, rtol=1e-4, atol=1e-6
  )
  assert (found['sg_sq_occlusion'].numpy() >= 0).all()
  assert {'scores', 'grad_cam'} <= set(examples)
