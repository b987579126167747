"""Tests of finished work after the user's code, or its inputs, have changed."""

import importlib
import re
import shutil
import sys

import gin
import pytest

from roar_tf import errors, ranking
from roar_tf.estimators import registry
from roar_tf.study import cleaning

OWN = """
import tensorflow as tf
from roar_tf.estimators import register

@register('own_red', needs_model=False)
def score(model, images, targets, keys):
  return 1 * images
"""
MODELS = """
import gin
from roar_tf.models import resnet

@gin.configurable
def own_model(input_shape, num_classes):
  model = resnet.small_resnet(input_shape, num_classes, width=4)
  return model
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
  """Writes a module of a user, as an editor does between two commands."""
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setattr(sys, 'dont_write_bytecode', True)
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))

  def write(name, text):
    (tmp_path / f'{name}.py').write_text(text)
    sys.modules.pop(name, None)
    registry._registry.pop('own_red', None)
    importlib.invalidate_caches()

  with gin.config.interactive_mode():
    yield write
  for name in ('own_estimator', 'own_models'):
    sys.modules.pop(name, None)


def _ranks(root, shard_of) -> bytes:
  return shard_of(root, 'ranking_own_red_pixel').read_bytes()


def test_an_estimator_edited_between_two_commands_is_refused(
  own, tiny, damaged, make, shard_of
):
  def pipeline():
    return tiny.pipeline(
      damaged,
      'import own_estimator',
      "Study.estimators = ('own_red', 'blur_own_red')",
    )

  own('own_estimator', OWN)
  make(pipeline(), 'rank')
  first = _ranks(damaged, shard_of)
  own('own_estimator', f'"""Other words."""\n# A comment.\n{OWN}')
  assert not make(pipeline(), 'rank').made
  # Killed half way: some shards are there, the whole is not.
  path = shard_of(damaged, 'ranking_own_red_pixel')
  for name in ('DONE', f'{path.name}.DONE'):
    (path.parent / name).unlink()
  own('own_estimator', OWN.replace('1 * images', '-1 * images'))
  changed = 'source code of estimator "own_red" has changed.*--remake=own_red'
  with pytest.raises(errors.UsageError, match=changed):
    make(pipeline(), 'rank')
  assert 'ranking_blur_own_red' in cleaning.remake(pipeline(), ['own_red'])
  make(pipeline(), 'rank')
  assert _ranks(damaged, shard_of) != first


def test_a_model_factory_edited_between_two_commands_is_refused(
  own, tiny, tmp_path, make
):
  def pipeline():
    return tiny.pipeline(
      tmp_path / 'w',
      'import own_models',
      'Training.model = @own_model',
      'Training.train_steps = 2',
      'Training.epochs = None',
      "Study.estimators = ('random',)",
      'Study.thresholds = (50,)',
      'Study.seeds = 1',
    )

  own('own_models', MODELS)
  make(pipeline())
  assert not make(pipeline()).made
  own('own_models', MODELS.replace('width=4', 'width=8'))
  with pytest.raises(errors.UsageError) as caught:
    make(pipeline())
  assert re.search(
    'model "own_model" has changed.*--remake=', str(caught.value)
  )
  text = cleaning.remake(pipeline(), ['train'])
  assert text.startswith('remake: 3 artefacts deleted')  # With the report.
  assert set(make(pipeline()).made) == {'train', 'report'}


def test_a_ranking_made_anew_with_other_content_feeds_nothing_of_the_old(
  tiny, damaged, make, monkeypatch
):
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_grad_pixel')
  levels = ranking.levels
  monkeypatch.setattr(ranking, 'levels', lambda *args: 101 - levels(*args))
  make(tiny.pipeline(damaged), 'rank')
  monkeypatch.undo()
  pipeline = tiny.pipeline(damaged)
  for stage in ('shards', 'train', None):
    with pytest.raises(
      errors.UsageError, match='its input ranking has changed.*--remake='
    ):
      make(pipeline, stage)
  for masking in ('shards', 'ranking'):  # Cells may be deleted; runs may not.
    shutil.rmtree(
      damaged / 'tfds/roar_tiny/grad_pixel_remove_30', ignore_errors=True
    )
    with pytest.raises(errors.UsageError, match='runs/.*has changed'):
      make(tiny.pipeline(damaged, f"Study.masking = '{masking}'"), 'train')
  text = cleaning.remake(pipeline, ['grad'])
  assert 'tfds/roar_tiny/ranking_grad_pixel' in text
  assert 'runs/small/tiny/grad_pixel_remove_30/seed_0' in text
  assert 'random' not in text
  made = make(pipeline).made
  assert made['train'] == 4 and made['report'] == 1


def test_a_name_that_is_nothing_is_refused_before_anything_goes(
  tiny, damaged, states
):
  before = states(damaged)
  with pytest.raises(errors.UsageError, match='--remake=gard.*"grad"'):
    cleaning.remake(tiny.pipeline(damaged), ['grad', 'gard'])
  assert states(damaged) == before
