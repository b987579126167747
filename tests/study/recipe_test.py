"""Tests that an experiment can be rebuilt elsewhere from text."""

import json

import pytest

from roar_tf import errors
from roar_tf.study.recipe import Recipe
from roar_tf.training import distribution


def _recipe(tiny, root, **asked) -> Recipe:
  return Recipe(str(root), study=tiny.study, data_dir=tiny.data_dir, **asked)


def test_a_recipe_sent_as_text_gives_the_same_experiment(tiny, tmp_path):
  recipe = _recipe(
    tiny, tmp_path / 'w', gin_bindings=('Study.seeds = 3',), seed=5
  )
  sent = json.loads(json.dumps(vars(recipe)))
  lists = {k: tuple(v) for k, v in sent.items() if isinstance(v, list)}
  again = Recipe(**{**sent, **lists})
  assert again == recipe and hash(again) == hash(recipe)
  (one,), (other,) = recipe.contexts(), again.contexts()
  assert one.experiment == other.experiment
  assert one.experiment.study.seeds == 3 and one.experiment.seed == 5
  assert other.data_dir == tiny.data_dir
  assert not (tmp_path / 'w').exists()


def test_devices_are_asked_for_when_they_are_wanted(
  tiny, tmp_path, monkeypatch
):
  asked = []
  monkeypatch.setattr(distribution, 'connect', lambda *args: asked.append(args))
  recipe = _recipe(tiny, tmp_path, strategy='tpu', tpu='local')
  (context,) = recipe.contexts()
  assert not asked
  context.connect(), context.connect()
  assert asked == [('tpu', 'local')]


def test_what_a_user_gets_wrong_is_named(tiny, tmp_path):
  with pytest.raises(errors.UsageError, match='no.gin'):
    _recipe(tiny, tmp_path, gin_files=('no.gin',)).contexts()
