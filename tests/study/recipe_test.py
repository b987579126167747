"""Tests that a study can be rebuilt elsewhere from text."""

import json
import os
import pickle
import sys
import threading

import pytest

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.estimators import registry
from roar_tf.study import experiment, recipe
from roar_tf.study.paths import Workspace
from roar_tf.study.stages import Pipeline
from roar_tf.training import distribution


def _recipe(tiny, root, *, seed=0, gin_files=(), gin_bindings=(), **more):
  configuration = experiment.Configuration(
    tiny.study, gin_files=gin_files, gin_bindings=gin_bindings, seed=seed
  )
  return recipe.Recipe(str(root), configuration, tiny.data_dir, **more)


def test_a_recipe_sent_elsewhere_gives_the_same_experiment(tiny, tmp_path):
  made = _recipe(
    tiny, tmp_path / 'w', gin_bindings=('Study.seeds = 3',), seed=5
  )
  again = pickle.loads(pickle.dumps(made))
  assert again == made and hash(again) == hash(made)
  configuration = made.configuration
  json.dumps([vars(configuration), {**vars(made), 'configuration': 0}])
  (one,), (other,) = made.contexts(), again.contexts()
  assert one.experiment == other.experiment
  assert one.experiment.study.seeds == 3 and one.experiment.seed == 5
  assert other.data_dir == tiny.data_dir
  assert not (tmp_path / 'w').exists()


def test_devices_are_asked_for_when_they_are_wanted(
  tiny, tmp_path, monkeypatch
):
  asked = []
  monkeypatch.setattr(distribution, 'connect', lambda *args: asked.append(args))
  (context,) = _recipe(tiny, tmp_path, strategy='tpu', tpu='local').contexts()
  Pipeline([context])
  assert not asked
  for _ in range(2):
    assert context.devices is None
  context.connect()
  assert asked == [('tpu', 'local')]


def _rebuilt(made, identity, code=()):
  remote = recipe.RemoteRecipe(made, os.getcwd(), identity, code)
  return recipe.rebuild(remote, lambda: False)


@pytest.fixture
def alone(monkeypatch):
  """A process that is no worker of a cluster, and keeps its devices."""
  monkeypatch.setattr(recipe, '_has_accelerators', lambda: True)
  monkeypatch.setattr(sys, 'path', ['', *sys.path])


def test_a_worker_finds_the_units_of_the_driver(tiny, damaged, alone):
  made = _recipe(tiny, damaged)
  word = recipe.share_identity(Workspace(str(damaged)))
  assert word == recipe.share_identity(Workspace(str(damaged)))
  study = _rebuilt(made, word)
  # Whatever is finished: the driver says what is not.
  names = [('source', 'tiny original train 0'), ('rank', 'tiny rank test 1')]
  names += [('train', 'tiny/grad_pixel_remove_70/seed_1')]
  for stage, name in names:
    unit = study.unit(stage, name)
    assert (unit.stage, unit.name) == (stage, name)
  assert len(study.unit(*names[1]).makes) == 2  # Both rankings.
  assert study.unit('train', 'tiny/other/seed_1') is None
  assert study.facts().keys() == {'environment'}


def test_a_worker_that_sees_another_workspace_refuses(tiny, tmp_path, alone):
  made = _recipe(tiny, tmp_path / 'w')
  with pytest.raises(errors.UsageError, match='is not there, seen from a w'):
    _rebuilt(made, 'word')
  recipe.share_identity(Workspace(str(tmp_path / 'w')))
  with pytest.raises(errors.UsageError, match='another one, seen from a w'):
    _rebuilt(made, 'word')


def test_a_worker_that_sees_other_code_than_the_command_refuses(
  tiny, damaged, alone, tmp_path, monkeypatch
):
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  (tmp_path / 'own_worker.py').write_text(
    'from roar_tf.estimators import register\n\n\n'
    "@register('own_blue', needs_model=False)\n"
    'def score(model, images, targets, keys):\n  return images\n'
  )
  made = _recipe(tiny, damaged, gin_bindings=('import own_worker',))
  word = recipe.share_identity(Workspace(str(damaged)))
  code = made.contexts()[0].experiment.code
  assert [name for name, _ in code] == ['source code of estimator "own_blue"']
  assert _rebuilt(made, word, code)
  other = ((code[0][0], code[0][1][::-1]),)
  with pytest.raises(errors.UsageError, match='own_blue" is not what it is'):
    _rebuilt(made, word, other)


def test_processes_that_begin_at_once_share_one_word(tmp_path):
  workspace = Workspace(str(tmp_path / 'w'))
  barrier = threading.Barrier(8)

  def share(_):
    barrier.wait()
    return recipe.share_identity(workspace)

  assert len(set(files.in_parallel(share, range(8)))) == 1
  assert [path.name for path in (tmp_path / 'w').iterdir()] == ['.identity']
