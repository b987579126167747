"""Tests of what captum and Xplique call arguments, and of what they give."""

import numpy as np
import pytest

import roar_tf
from roar_tf import errors
from roar_tf.estimators import habits

pytestmark = pytest.mark.usefixtures('own_registry')


class OfTorch:
  """What a tensor of PyTorch looks like, one that has a gradient."""

  def __init__(self, values):
    self._values = values

  def detach(self):
    return self

  def cpu(self):
    return self

  def numpy(self):
    return self._values


def test_names_of_other_libraries_mean_the_same(model, images):
  expected = roar_tf.explain(
    model, images, 'ig', [1, 2, 3], baseline=0.5, steps=3, samples=2
  )['ig']
  one_hot = np.eye(4)[[1, 2, 3]]
  for given in (
    dict(inputs=OfTorch(images), target=OfTorch(np.array([1, 2, 3])))
    | dict(baselines=0.5, n_steps=3, nt_samples=2, internal_batch_size=64),
    dict(images=images, targets=one_hot, baseline_value=0.5)
    | dict(steps=3, nb_samples=2, batch_size=64),
  ):
    found = roar_tf.explain(model=model, estimators='ig', **given)['ig']
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    ({'inputs': 1}, 'given images and inputs'),
    ({'targets': 1, 'target': 1}, 'given targets and target'),
    ({'nt_samples': 1, 'nb_samples': 1}, 'given samples and nb_samples'),
    ({'stdevs': 0.1}, 'no stdevs.*noise'),
    ({'nt_type': 'smoothgrad_sq'}, 'sg_sq_grad'),
    ({'method': 'gausslegendre'}, 'quadrature'),
    ({'step': 3}, 'no argument step.*"steps"'),
    ({'whatever_this_is': 3}, 'no argument whatever_this_is'),
  ],
)
def test_what_means_something_else_is_refused(given, words, model, images):
  with pytest.raises(errors.UsageError, match=words) as refusal:
    roar_tf.explain(model, images, 'grad', **given)
  assert str(refusal.value).count('. ') <= 1


def test_every_name_stands_for_an_argument():
  import inspect

  parameters = inspect.signature(roar_tf.explain).parameters
  assert set(habits.NAMES.values()) <= set(parameters)
  assert not {*habits.NAMES, *habits._OTHERS} & set(parameters)


def test_a_registered_function_stands_for_its_name(model, images):
  @roar_tf.register('mine')
  def mine(model, images, targets, keys):
    return -images

  found = roar_tf.explain(model, images, [mine, 'sq_mine'])
  assert [*found] == ['mine', 'sq_mine']
  assert [*roar_tf.explain(model, images, mine)] == ['mine']
  with pytest.raises(ValueError, match='has none: .*eager=True'):
    roar_tf.explain(model, images, lambda images: images)
  roar_tf.register('other')(mine)
  with pytest.raises(ValueError, match='has mine and other'):
    roar_tf.explain(model, images, mine)
  with pytest.raises(ValueError, match='names such as "grad"'):
    roar_tf.explain(model, images, 7)


def test_images_and_models_of_pytorch_are_refused_with_advice(model, images):
  with pytest.raises(ValueError, match=r'transpose\(0, 2, 3, 1\)'):
    roar_tf.explain(model, images.transpose(0, 3, 1, 2), 'grad')
  module = type('Net', (), {'__call__': len, '__module__': 'torch.nn.modules'})
  with pytest.raises(ValueError, match='Net of PyTorch.*save_scores'):
    roar_tf.explain(module(), images, 'grad')
