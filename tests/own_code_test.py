"""Tests of how the user's own code is known: by its meaning, not its text."""

import functools
import importlib
import json
import linecache
import sys
import types

import gin
import numpy as np
import pytest

from roar_tf import errors, own_code

MODULE = '''"""A module of the user's own."""
import numpy as np
import own_helper


# How much.
def score(model, images, targets, keys, scale=2):
  """Scores."""
  return own_helper.signed(images) * scale
'''
HELPER = 'def signed(x):\n  return -x\n'


@pytest.fixture
def user(tmp_path, monkeypatch):
  """Writes modules of a user and returns the function `score`, just loaded."""
  monkeypatch.syspath_prepend(str(tmp_path))

  def load(module=MODULE, **others):
    for name, text in {
      'own_helper': HELPER,
      'own_score': module,
      **others,
    }.items():
      (tmp_path / f'{name}.py').write_text(text)
      sys.modules.pop(name, None)
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)
    return importlib.import_module('own_score').score

  yield load
  for path in tmp_path.glob('*.py'):
    sys.modules.pop(path.stem, None)


def _digest(target) -> str:
  return own_code.behind(target, 'it').digest


def test_comments_docstrings_and_layout_are_no_code(user):
  before = _digest(user())
  same = MODULE.replace('# How much.', '').replace('"""Scores."""\n', '')
  same = same.replace('images) * scale', 'images) * (\n    scale)')
  assert before and _digest(user(same)) == before


@pytest.mark.parametrize(
  'module, others',
  [
    (MODULE.replace(' * scale', ' * -scale'), {}),
    (MODULE.replace('scale=2', 'scale=2.0'), {}),
    (MODULE, {'own_helper': HELPER.replace('-x', 'x')}),
    (MODULE, {'own_helper': 'from own_deep import *\n', 'own_deep': HELPER}),
  ],
)
def test_an_edit_anywhere_behind_an_object_is_noticed(module, others, user):
  before = _digest(user())
  assert _digest(user(module, **others)) != before


def test_a_module_that_is_loaded_late_is_code_too(user):
  late = MODULE.replace('import own_helper\n', '').replace(
    '  return', '  import own_helper\n  return'
  )
  before = _digest(user(late))
  changed = HELPER.replace('-x', 'x')
  assert _digest(user(late, own_helper=changed)) != before
  by_name = MODULE.replace(
    'import own_helper',
    "import importlib\nown_helper = importlib.import_module('own_' + 'helper')",
  )
  before = _digest(user(by_name))
  assert _digest(user(by_name, own_helper=changed)) != before


def test_a_package_with_relative_imports_is_followed(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(tmp_path))
  folder = tmp_path / 'own_package'
  (folder / 'below').mkdir(parents=True)
  (folder / '__init__.py').write_text('')
  (folder / 'below/__init__.py').write_text('')
  (folder / 'below/main.py').write_text(
    'from ..parts import sign\n\n\ndef score(x):\n  return sign(x)\n'
  )
  digests = []
  for body in ('-x', '+x'):
    (folder / 'parts.py').write_text(f'def sign(x):\n  return {body}\n')
    main = importlib.import_module('own_package.below.main')
    digests.append(_digest(main.score))
  assert digests[0] != digests[1]


def test_what_an_object_holds_is_part_of_it(user):
  score = user()
  digests = {
    _digest(functools.partial(score, scale=scale)) for scale in (2, 3, -1)
  }

  def made(scale):
    return lambda x: score(x) * scale

  digests |= {_digest(made(scale)) for scale in (2, np.arange(3), np.arange(4))}

  class Scorer:
    def __init__(self, scale):
      self.scale = scale

    def __call__(self, x):
      return x * self.scale

  digests |= {_digest(Scorer(scale)) for scale in (2, 3)}
  digests |= {_digest(Scorer(scale).__call__) for scale in (4, 5)}
  assert len(digests) == 10
  assert _digest(Scorer(2)) == _digest(Scorer(2))


def test_decorators_hide_no_code(user):
  import tensorflow as tf

  score = user()
  plain = _digest(score)
  for decorate in (tf.function, functools.lru_cache, gin.external_configurable):
    assert _digest(decorate(score)) == plain
  gin.clear_config()


def test_installed_code_is_not_the_users():
  import keras

  from roar_tf.models import resnet

  for target in (
    np.mean,
    keras.Sequential,
    resnet.small_resnet,
    len,
    json.dumps,
  ):
    assert own_code.behind(target, 'it').settings({}) == {}


def _typed(source: str, names: dict, name: str):
  """Returns what a notebook's cell defines."""
  path = f'/tmp/ipykernel_1/{abs(hash(source))}.py'
  linecache.cache[path] = (len(source), None, source.splitlines(True), path)
  names.setdefault('__name__', '__main__')
  exec(compile(source, path, 'exec'), names)
  return names[name]


def test_a_cell_of_a_notebook_is_known_by_its_source_and_what_it_names():
  names: dict = {}
  cells = {
    'sign': 'SIGN = -1\n',
    'part': 'def part(x):\n  return SIGN * x\n',
    'score': 'def score(x):\n  return part(x)\n\nunrelated = 1\n',
  }

  def run(**changed):
    for name, source in {**cells, **changed}.items():
      exec_ = _typed(source, names, 'score' if name == 'score' else '__name__')
    return _digest(exec_)

  first = run()
  assert run(score=cells['score'].replace('= 1', '= 2  # Not of it.')) == first
  assert run(sign='SIGN = 1\n') != first
  assert run(part=cells['part'].replace('*', '+')) != first
  assert run(score=cells['score'].replace('part(x)', 'part(-x)')) != first


def test_code_without_a_source_needs_a_version():
  names = {'__name__': '__main__'}
  exec('def score(x):\n  return x\n', names)
  with pytest.raises(errors.UsageError, match='estimator "a" cannot be read'):
    own_code.behind(names['score'], 'estimator "a"').settings({})
  code = own_code.behind(names['score'], 'estimator "a"', '2')
  assert code.settings({}) == {'version of estimator "a"': '2'}


def test_gin_parameters_that_own_code_reads_are_part_of_it(user):
  score = user(
    'import gin\n'
    + MODULE
    + '\n\n@gin.configurable\ndef own_strength(value=1.0):\n  return value\n'
  )
  code = own_code.behind(score, 'it')
  recorded = []
  for value in (1, 2):
    gin.parse_config(f'own_strength.value = {value}')
    recorded.append(code.settings(own_code.bindings()))
  gin.clear_config()
  assert [r.pop('own_score.own_strength.value') for r in recorded] == ['1', '2']
  assert recorded[0] == recorded[1] and len(recorded[0]) == 1


def test_a_builder_of_the_users_own_is_found(user, monkeypatch):
  user(own_data='class Own:\n  name = "own"\n  builder_configs = ()\n')
  importlib.import_module('own_data')
  key = 'source code of dataset builder "own"'
  assert set(own_code.builder('own/small:1.0.0').settings({})) == {key}
  assert own_code.builder('mnist').settings({}) == {}


def test_compiled_code_of_the_users_own_is_known_by_its_bytes(user, tmp_path):
  path = tmp_path / 'own_compiled.so'
  path.write_bytes(b'\0ELF 1')
  module = types.ModuleType('own_compiled')
  module.__file__ = str(path)
  sys.modules['own_compiled'] = module
  score = user(MODULE.replace('numpy as np', 'own_compiled'))
  before = _digest(score)
  path.write_bytes(b'\0ELF 2')
  assert _digest(score) != before
  del sys.modules['own_compiled']
