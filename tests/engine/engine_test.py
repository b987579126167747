"""Tests of the engine as a whole: its example and its imports."""

import doctest
import pathlib
import re
import subprocess
import sys

from roar_tf import engine

SOURCES = sorted(pathlib.Path(engine.__file__).parent.glob('*.py'))


def test_the_example_of_the_docstring_runs():
  result = doctest.testmod(engine)
  assert result.attempted > 5 and not result.failed


def test_importing_it_imports_no_numerical_library():
  names = [path.stem for path in SOURCES if path.stem != '__init__']
  program = (
    'import importlib, sys\n'
    f'for name in {names}:\n'
    "  importlib.import_module(f'roar_tf.engine.{name}')\n"
    "print(*{'tensorflow', 'numpy', 'ray', 'gin'} & sys.modules.keys())\n"
  )
  run = [sys.executable, '-c', program]
  assert subprocess.check_output(run, text=True).split() == []


def test_it_imports_nothing_else_of_the_project():
  allowed = re.compile(
    r'from roar_tf import (errors|engine)|.* roar_tf\.engine'
  )
  for path in SOURCES:
    for line in path.read_text().splitlines():
      if re.match(r'\s*(from|import) roar_tf', line):
        assert allowed.match(line), f'{path.name}: {line}'
