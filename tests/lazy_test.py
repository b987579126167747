"""Tests of libraries that are imported when they are first used."""

import contextlib
import importlib
import importlib.util
import sys

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import lazy


@pytest.fixture
def library(tmp_path, monkeypatch):
  """Name of a module that writes `events`, and that list."""
  path = tmp_path / 'a_library.py'
  path.write_text("import builtins\nbuiltins.events.append('executed')\n")
  events = []
  monkeypatch.setattr('builtins.events', events, raising=False)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path])
  yield path.stem, events
  sys.modules.pop(path.stem, None)


def _context(events):
  @contextlib.contextmanager
  def context():
    events.append('entered')
    yield
    events.append('left')

  return context


def test_a_context_surrounds_the_first_import(library):
  name, events = library
  before = [*sys.meta_path]
  lazy.around_import(name, _context(events))
  assert importlib.util.find_spec(name)  # Looking is not importing.
  assert events == []
  module = importlib.import_module(name)
  assert events == ['entered', 'executed', 'left']
  assert module.__file__.endswith('a_library.py')
  assert sys.meta_path == before


def test_a_module_that_is_there_is_not_waited_for(library):
  name, events = library
  importlib.import_module(name)
  before = [*sys.meta_path]
  lazy.around_import(name, _context(events))
  assert events == ['executed', 'entered', 'left']
  assert sys.meta_path == before


def test_several_contexts_surround_one_import(library):
  name, events = library
  for _ in range(2):
    lazy.around_import(name, _context(events))
  importlib.import_module(name)
  assert events == ['entered'] * 2 + ['executed'] + ['left'] * 2


def test_an_import_that_fails_is_surrounded_again(library, tmp_path):
  name, events = library
  lazy.around_import(name, _context(events))
  path = tmp_path / 'a_library.py'
  content = path.read_text()
  path.write_text('raise ImportError')
  with pytest.raises(ImportError):
    importlib.import_module(name)
  path.write_text(content + '# Of another size.\n')
  importlib.import_module(name)
  assert events == ['entered', 'entered', 'executed', 'left']


def test_a_library_is_what_it_stands_for():
  assert lazy.tf.Tensor is tf.Tensor
  assert lazy.tf.__version__ == tf.__version__
  assert lazy.keras.Model is importlib.import_module('keras').Model
  with pytest.raises(AttributeError, match='nothing_like_this'):
    _ = lazy.tf.nothing_like_this


def test_a_function_is_compiled_once_and_also_inside_of_others():
  traces = []

  @lazy.function(autograph=False)
  def doubled(x):
    """Returns 2 x."""
    traces.append(x)
    return 2 * x

  assert doubled.__doc__ == 'Returns 2 x.' and not traces
  for _ in range(2):
    np.testing.assert_array_equal(doubled(tf.constant([1, 2])), [2, 4])
  assert len(traces) == 1 and not hasattr(traces[0], 'numpy')
  outer = tf.function(lambda x: doubled(x) + 1)
  np.testing.assert_array_equal(outer(tf.constant([1, 2])), [3, 5])
  np.testing.assert_array_equal(doubled.python_function(3), 6)
