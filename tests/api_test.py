"""Tests of what is public: it is found, typed for editors, and exemplified."""

import ast
import inspect
import pathlib
import re

import pytest

import roar_tf
from roar_tf import plot

ROOT = pathlib.Path(__file__).resolve().parents[1]
PUBLIC = [
  *(f'roar_tf.{name}' for name in roar_tf.__all__),
  *(f'roar_tf.plot.{name}' for name in plot.__all__),
]


def _examples() -> str:
  """Returns all Python of README and docs, and the examples of docstrings."""
  pages = [ROOT / 'README.md', *(ROOT / 'docs/guides').glob('*.md')]
  blocks = [
    block
    for page in pages
    for block in re.findall(r'```python\n(.*?)```', page.read_text(), re.S)
  ]
  return '\n'.join(blocks)


@pytest.mark.parametrize('name', PUBLIC)
def test_every_public_name_has_an_example(name):
  value = eval(name, {'roar_tf': roar_tf})
  # In a docstring examples are indented.
  own = re.findall(r'^ {4,}.*', inspect.getdoc(value) or '', re.M)
  text = _examples() + '\n'.join(own)
  assert re.search(rf'\b{re.escape(name)}\b[.(]', text), f'no example of {name}'


@pytest.mark.parametrize('name', PUBLIC)
def test_every_public_name_says_what_it_is(name):
  value = eval(name, {'roar_tf': roar_tf})
  assert inspect.getdoc(value)
  if not inspect.ismodule(value):
    assert 'Args:' in value.__doc__ and 'Raises:' in value.__doc__


def test_completion_and_star_imports_find_every_name():
  listed = dir(roar_tf)
  assert set(roar_tf.__all__) <= set(listed)
  assert [n for n in listed if not n.startswith('_')] == sorted(
    {
      *roar_tf.__all__,
      *(n for n, v in vars(roar_tf).items() if inspect.ismodule(v)),
    }
    - {'importlib'}
    - {n for n in vars(roar_tf) if n.startswith('_')}
  )
  names = {}
  exec('from roar_tf import *', names)
  assert set(roar_tf.__all__) <= set(names)
  with pytest.raises(AttributeError, match='no attribute'):
    _ = roar_tf.explian


def test_editors_know_where_every_name_comes_from():
  tree = ast.parse((ROOT / 'roar_tf/__init__.py').read_text())
  (block,) = [node for node in tree.body if isinstance(node, ast.If)]
  told = {
    alias.name: node.module for node in block.body for alias in node.names
  }
  modules = dict.fromkeys(roar_tf._MODULES, 'roar_tf')
  assert told == roar_tf._FUNCTIONS | modules
  assert sorted(told) == sorted(roar_tf.__all__) == roar_tf.__all__
  assert (ROOT / 'roar_tf/py.typed').exists()
