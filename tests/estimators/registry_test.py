"""Tests of names: what a prefix means, which names are refused and how."""

import functools

import pytest

from roar_tf import errors
from roar_tf.estimators import names, registry

pytestmark = pytest.mark.usefixtures('own_registry')


def _attribution(model, images, targets, keys):
  return images


def _another(model, images, targets, keys):
  return -images


@pytest.mark.parametrize(
  ('name', 'statistic', 'squared'),
  [
    ('grad', None, False),
    ('sq_grad', None, True),
    ('sg_sq_grad', 'mean_of_squares', False),
    ('sq_sg_grad', 'mean', True),
    ('sq_var_grad', 'variance', True),
  ],
)
def test_prefixes_compose_from_the_left(name, statistic, squared):
  found = registry.parse(name)
  assert (found.name, found.base.name) == (name, 'grad')
  assert (found.statistic, found.squared) == (statistic, squared)


@pytest.mark.parametrize(
  ('name', 'base', 'statistic', 'squared', 'kind'),
  [
    ('max_ig', 'ig', None, False, 'max'),
    ('blur_sg_sq_grad', 'grad', 'mean_of_squares', False, 'blur'),
    ('max_sq_sg_gb', 'gb', 'mean', True, 'max'),
    ('blur_random', 'random', None, False, 'blur'),
  ],
)
def test_filters_stand_before_any_name(name, base, statistic, squared, kind):
  found = registry.parse(name)
  assert (found.name, found.base.name) == (name, base)
  assert (found.statistic, found.squared) == (statistic, squared)
  assert found.filter == kind
  assert registry.parse(name.removeprefix(f'{kind}_')).filter is None


def test_filters_apply_to_scores_made_elsewhere():
  assert registry.find('captum_ig') is None
  for name in ('captum_ig', 'max_captum_ig', 'blur_captum_ig'):
    made = registry.made_elsewhere(name)
    assert made.base.name == 'captum_ig' and not made.base.needs_model
    assert (made.filter or '') == name.removesuffix('captum_ig').strip('_')


@pytest.mark.parametrize(
  ('name', 'base', 'trained'),
  [
    ('untrained_grad', 'grad', 'grad'),
    ('untrained_sg_sq_mine', 'mine', 'sg_sq_mine'),
    ('blur_untrained_ig', 'ig', 'blur_ig'),
    ('untrained_blur_ig', 'ig', 'blur_ig'),
    ('shuffle_untrained_gb', 'gb', 'gb'),
    ('blur_grad', 'grad', None),
  ],
)
def test_names_of_an_untrained_model(name, base, trained):
  registry.register('mine')(_attribution)
  found = registry.parse(name)
  assert (found.name, found.base.name) == (name, base)
  assert found.trained == trained


@pytest.mark.parametrize(
  ('name', 'kind', 'ranking', 'share'),
  [
    ('shuffle_grad', 'shuffle', 'grad', 0),
    ('shuffle_same_sg_grad', 'shuffle_same', 'sg_grad', 0),
    ('shuffle_other_mine', 'shuffle_other', 'mine', 0),
    ('shuffle_random_bernoulli', 'shuffle', 'random_bernoulli', 0),
    ('shuffle_blur_untrained_ig', 'shuffle', 'blur_untrained_ig', 0),
    ('shuffle_oracle_30', 'shuffle', 'oracle_30', 0),
    ('oracle_1', 'permute', 'oracle', 1),
    ('oracle_100', 'permute', 'oracle', 100),
  ],
)
def test_names_of_rankings_made_from_rankings(name, kind, ranking, share):
  registry.register('mine')(_attribution)
  for parse in (registry.parse, registry.made_elsewhere):
    found = parse(name)
    assert found.name == name
    assert found.derivation == names.Derivation(kind, ranking, share)
  behind = [*registry.with_those_behind(name)]
  assert behind[:2] == [name, ranking]
  assert registry.parse(behind[-1]).derivation is None


def test_a_users_own_name_that_reads_like_a_shuffle_of_another_one():
  registry.register('same_grad')(_attribution)
  assert registry.parse('shuffle_other_same_grad').derivation.ranking
  with pytest.raises(
    errors.UsageError, match='cannot be told from "same_grad"'
  ):
    registry.parse('shuffle_same_grad')


@pytest.mark.parametrize(
  ('name', 'reason'),
  [
    ('untrained_random', '"untrained_" cannot apply to "random"'),
    ('untrained_blur_sobel', '"untrained_" cannot apply to "sobel"'),
    ('untrained_untrained_grad', 'untrained twice'),
    ('sg_untrained_grad', '"sg_" cannot stand before "untrained_"'),
    ('untrained_shuffle_grad', '"untrained_" cannot apply to "shuffle_grad"'),
    ('blur_shuffle_grad', '"blur_" cannot apply to "shuffle_grad"'),
    ('sg_shuffle_grad', '"sg_" cannot apply to "shuffle_grad"'),
    ('max_oracle_30', '"max_" cannot apply to "oracle_30"'),
    ('sq_oracle_30', '"sq_" cannot apply to "oracle_30"'),
    ('shuffle_shuffle_grad', 'shuffled twice'),
    ('shuffle_same_shuffle_other_grad', 'shuffled twice'),
    ('oracle_0', 'oracle_1 to oracle_100'),
    ('oracle_030', 'oracle_1 to oracle_100'),
    ('oracle_101', 'oracle_1 to oracle_100'),
    ('inverse_oracle_30', 'oracle_1 to oracle_100'),
    ('shuffle_oracle_0', 'oracle_1 to oracle_100'),
    ('shuffle_sg_sobel', '"sg_" cannot apply to "sobel"'),
    ('sq_sq_grad', 'squared twice'),
    ('sg_var_grad', 'two ensembles'),
    ('sg_sq_sg_grad', 'two ensembles'),
    ('var_sq_grad', 'variance of squares'),
    ('sg_sq_sq_grad', 'squared twice'),
    ('sq_random', '"sq_" cannot apply to "random"'),
    ('sg_sobel', '"sg_" cannot apply to "sobel"'),
    ('sg_blur_grad', 'prefix "sg_" cannot stand before "blur_"'),
    ('blur_max_grad', 'cannot be filtered twice'),
    ('blur_sg_sobel', '"sg_" cannot apply to "sobel"'),
    ('blur_random_bernoulli', 'cannot apply to "random_bernoulli"'),
  ],
)
def test_meaningless_compositions_are_refused_with_the_reason(name, reason):
  with pytest.raises(errors.UsageError, match=f'cannot.*|{reason}') as caught:
    registry.parse(name)
  assert reason in str(caught.value)
  assert 'Unknown' not in str(caught.value)


@pytest.mark.parametrize(
  ('name', 'suggestion'),
  [
    ('gard', 'grad'),
    ('sg_sq_gradd', 'sg_sq_grad'),
    ('smooth_sobel', 'sobel'),
    ('GRAD', None),
    ('sg_', None),
    ('', None),
    ('sg_minne', 'sg_mine'),
    ('max_sobbel', 'max_sobel'),
    ('shuffle_sobbel', 'shuffle_sobel'),
    ('shuffle_same_minne', 'shuffle_same_mine'),
    ('untrained_gradd', 'untrained_grad'),
    ('shuffle_', None),
    ('shuffle_same_', None),
    ('untrained_', None),
  ],
)
def test_unknown_names_are_refused_with_the_nearest(name, suggestion):
  registry.register('mine')(_attribution)
  with pytest.raises(errors.UsageError) as caught:
    registry.parse(name)
  message = str(caught.value)
  assert message.startswith(f'Unknown estimator "{name}".')
  if suggestion:
    assert f'Did you mean "{suggestion}"?' in message
  for known in ('grad', 'random', 'sobel', 'oracle', 'mine', 'sg_sq_'):
    assert known in message


def test_a_taken_name_is_refused_and_stays():
  registry.register('mine')(_attribution)
  with pytest.raises(errors.UsageError, match="'mine' exists already"):
    registry.register('mine')(_another)
  assert registry.parse('mine').base.function is _attribution


def test_loading_the_same_function_again_replaces_it():
  def load():
    @registry.register('mine')
    def mine(model, images, targets, keys):
      return images

    return mine

  load()
  latest = load()
  assert registry.parse('mine').base.function is latest


@pytest.mark.parametrize(
  'name', ['Mine', '2nd', '', 'original', 'naïve', 'my-own', 3, None]
)
def test_names_that_are_no_identifiers_are_refused(name):
  with pytest.raises(errors.UsageError, match='lower-case identifier'):
    registry.register(name)


@pytest.mark.parametrize(
  'name',
  [
    'sq_grad',
    'sg_sq_mine',
    'var_mine',
    'blur_grad',
    'max_pooled',
    'oracle_30',
    'inverse_oracle_5',
    'oracle_0',
    'shuffle_grad',
    'shuffle_same_mine',
    'shuffle_me',
    'untrained_mine',
  ],
)
def test_registering_a_name_that_says_how_it_is_composed(name):
  # Registered or not: its base may be registered later.
  with pytest.raises(errors.UsageError, match=f"cannot be named '{name}'"):
    registry.register(name)
  assert name not in registry.registered()


@pytest.mark.parametrize(
  'name',
  [
    *('square', 'variance', 'my_sq_grad', 'oracle_x', 'shuffled', 'untrained'),
    *('same_class', 'other_method', 'centre_bias', 'shuffle'),
  ],
)
def test_names_that_only_resemble_a_prefix_are_free(name):
  registry.register(name)(_attribution)
  assert registry.parse(name).base.name == name


def test_registering_a_partial_function_and_an_object():
  class Method:
    def __call__(self, model, images, targets, keys):
      return images

  def scaled(factor, model, images, targets, keys, sign=1):
    return sign * factor * images

  partial = functools.partial(scaled, 2, sign=-1)
  for function in (partial, functools.partial(partial), Method()):
    registry.register('mine')(function)
    assert not registry.parse('sg_mine').base.is_built_in
    registry._registry.pop('mine')
  registry.register('mine')(partial)
  with pytest.raises(errors.UsageError, match="'mine' exists already"):
    registry.register('mine')(functools.partial(_another))


def test_registering_what_is_no_function():
  with pytest.raises(errors.UsageError, match="'mine' must be a function"):
    registry.register('mine')(None)
  with pytest.raises(errors.UsageError, match=r'register\("_attribution"\)'):
    registry.register(_attribution)


@pytest.mark.parametrize(
  ('function', 'settings'),
  [
    (lambda images: images, {}),
    (lambda model, images, targets: images, {}),
    (lambda model, images, targets, keys, more: images, {}),
    (lambda model, images, targets, keys: images, {'needs_truth': True}),
    (lambda model, images, targets, keys: images, {'settings': ['steps']}),
  ],
)
def test_what_cannot_be_called_as_estimators_are_is_refused(function, settings):
  words = r'"mine" is called with \(model, images, targets, keys'
  with pytest.raises(errors.UsageError, match=words):
    registry.register('mine', **settings)(function)
  assert 'mine' not in registry.registered()


def test_draws_take_no_prefix_and_know_their_counts():
  assert registry.parse('random').base.counts == 'exact'
  assert registry.parse('random_bernoulli').base.counts == 'bernoulli'
  with pytest.raises(errors.UsageError, match='cannot'):
    registry.parse('sq_random_bernoulli')
  registry.register('draws', counts='bernoulli')(_attribution)
  with pytest.raises(errors.UsageError, match='cannot'):
    registry.parse('sg_draws')


def test_unknown_counts_are_refused():
  with pytest.raises(errors.UsageError, match="mine.*'exact', 'bernoulli'"):
    registry.register('mine', counts='fixed')


@pytest.mark.parametrize(
  ('name', 'ours'),
  [
    ('integrated_gradients', 'ig'),
    ('SmoothGrad', 'sg_grad'),
    ('vargrad', 'var_grad'),
  ],
)
def test_names_of_other_libraries_are_understood_as_a_hint(name, ours):
  with pytest.raises(errors.UsageError, match=f'Did you mean "{ours}"'):
    registry.parse(name)
