"""The user's own code behind an object, as what fingerprints record of it.

An estimator or a model factory of a user changes results as a setting does. Its
code is known by the syntax trees of the user's own modules behind it: that in
which it is defined, and all that this one imports, without comments, docstrings
and layout. Installed packages, the standard library and roar_tf are not the
user's own. Of what was defined in a notebook it is the object's source, with
that of everything else of the notebook that it names.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping

import gin
import numpy as np

from roar_tf import errors

_INSTALLED = tuple(
  os.path.realpath(sysconfig.get_path(name)) + os.sep
  for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')
)
_OURS = os.path.dirname(os.path.realpath(__file__)) + os.sep
_SITES = ('site-packages', 'dist-packages')
_CODE = (types.FunctionType, type)
VERSION = 'roar_version'
"""Attribute of a model's factory: the user's own word for its version."""
_LAYOUT = ('kind', 'type_comment', 'type_ignores')
"""Fields of syntax trees that mean nothing, or not in every Python."""


@dataclasses.dataclass(frozen=True)
class Code:
  """The user's own code behind an object, at the moment it was looked at.

  Attributes:
    name: what messages call the object.
    digest: of its code; empty if none of it is the user's own.
    version: the user's own word for it, instead of the digest.
    files: the files of the user's own that it lies in.
    fault: why it cannot be told from another version of it; empty if it can.
  """

  name: str
  digest: str = ''
  version: str | None = None
  files: frozenset[str] = frozenset()
  fault: str = ''

  def settings(self, bindings: Mapping[str, Mapping]) -> dict:
    """Returns what fingerprints record: nothing of what is not the user's own.

    Args:
      bindings: what gin binds to code of the user's own, by file.

    Raises:
      UsageError: the source of the object cannot be read.
    """
    if self.fault:
      raise errors.UsageError(self.fault)
    settings = {}
    for path in sorted(self.files):
      settings.update(bindings.get(path, {}))
    if self.version is not None:
      settings[f'version of {self.name}'] = self.version
    elif self.digest:
      settings[f'source code of {self.name}'] = {'sha256': self.digest}
    return settings


def behind(
  target: Callable, name: str, version: str | None = None, named_in: str = ''
) -> Code:
  """Returns the code behind an object, as its files are now.

  Whoever defines the object calls this at once: files may be edited later.

  Args:
    target: a function, class, partial or callable object.
    name: what messages call it.
    version: the user's own word for it, which takes the place of its code.
    named_in: a module that names the object, and may have given it values.
  """
  walk = _Walk()
  try:
    walk.add(target)
    walk.add_module(named_in)
  except OSError:
    fault = (
      ''
      if version is not None
      else (
        f'The source code of {name} cannot be read, by which its results are '
        'told from those of another version of it: define it in a file, or '
        'register it with version="1", or give a model the attribute '
        f'{VERSION} = "1", and another word when it changes.'
      )
    )
    return Code(name, version=version, fault=fault)
  text = ''.join(sorted(walk.digests))
  return Code(
    name,
    hashlib.sha256(text.encode()).hexdigest() if text else '',
    version,
    frozenset(walk.files),
  )


def bindings() -> dict[str, dict[str, str]]:
  """Returns what gin binds now to code of the user's own, by its file.

  {file: {name: value}}; such code may read a parameter whenever it is called.
  """
  bound: dict[str, dict[str, str]] = {}
  for (scope, selector), parameters in gin.config._CONFIG.items():
    configurable = gin.config._REGISTRY.get(selector)
    walk = _Walk()
    with contextlib.suppress(OSError):
      walk.add(configurable.wrapped if configurable else None)
    title = f'{scope}/{selector}' if scope else selector
    for path in walk.files:
      bound.setdefault(path, {}).update(
        {f'{title}.{name}': repr(value) for name, value in parameters.items()}
      )
  return bound


def builder(dataset: str, named_in: str = '') -> Code:
  """Returns the code of a dataset's TFDS builder, if a user has written it.

  Args:
    dataset: as `tfds.load` takes it, with configuration and version.
    named_in: a module that brings it, which may not be loaded yet.
  """
  base = dataset.partition(':')[0].partition('/')[0]
  title = f'dataset builder "{base}"'
  if named_in:
    return behind(None, title, named_in=named_in)
  for module in list(sys.modules.values()):
    if is_own(getattr(module, '__file__', None)):
      for value in list(vars(module).values()):
        # Any other class of TFDS lacks one of these.
        if isinstance(value, type) and hasattr(value, 'builder_configs'):
          if getattr(value, 'name', None) == base:
            return behind(value, title)
  return Code(title)


def is_own(path: str | None) -> bool:
  """Whether a file is code of the user's own."""
  if not path or not os.path.isfile(path):
    return False
  path = os.path.realpath(path)
  return not (
    path.startswith((*_INSTALLED, _OURS))
    or any(folder in path.split(os.sep) for folder in _SITES)
  )


class _Walk:
  """What is behind an object: visited once each, digested in any order.

  Attributes:
    digests: of syntax trees and values.
    files: what lies in files.
  """

  def __init__(self):
    self.digests: set[str] = set()
    self.files: set[str] = set()
    self._seen: list = []  # Objects themselves: a number may come again.
    self._numbers: set[int] = set()

  def _is_new(self, value) -> bool:
    """Whether a value was not met before; notes that it is met now."""
    if id(value) in self._numbers:
      return False
    self._numbers.add(id(value))
    self._seen.append(value)
    return True

  def add(self, value) -> None:
    """Adds the code behind something, or its value.

    Raises:
      OSError: there is no source of it.
    """
    if isinstance(value, str | bytes | int | float | complex | None):
      self._add_bytes(repr(value).encode())
    elif isinstance(value, np.ndarray):
      self._add_bytes(f'{value.dtype}{value.shape}'.encode() + value.tobytes())
    elif isinstance(value, types.ModuleType):
      self.add_module(value.__name__)
    elif not self._is_new(value):
      return
    elif isinstance(value, functools.partial):
      self._add_all((value.func, *value.args, *value.keywords.items()))
    elif isinstance(value, types.MethodType):
      self._add_all((value.__func__, value.__self__))
    elif isinstance(value, types.FunctionType):
      self._add_function(value)
    elif hasattr(value, 'python_function'):  # A `tf.function`.
      self.add(value.python_function)
    elif hasattr(value, '__wrapped__'):  # A cache of functools.
      self.add(value.__wrapped__)
    elif isinstance(value, type):
      self._add_class(value)
    elif isinstance(value, tuple | list | set | frozenset):
      self._add_all(value)
    elif isinstance(value, dict):
      self._add_all(value.items())
    else:
      self.add(type(value))
      if callable(value):  # An object that is called has a state.
        self.add(getattr(value, '__dict__', {}))

  def _add_all(self, values: Iterable) -> None:
    for value in values:
      self.add(value)

  def _add_bytes(self, data: bytes) -> None:
    self.digests.add(hashlib.sha256(data).hexdigest())

  def _add_function(self, function: types.FunctionType) -> None:
    path = function.__code__.co_filename
    cells = []
    for cell in function.__closure__ or ():
      with contextlib.suppress(ValueError):  # It is empty as yet.
        cells.append(cell.cell_contents)
    if is_own(path):
      self._add_file(path, sys.modules.get(function.__module__))
    elif os.path.isfile(path) or path.startswith('<frozen'):
      # What is installed may wrap a function of the user's own.
      self._add_all(v for v in cells if isinstance(v, _CODE))
      return
    else:
      self._add_typed(function, function.__globals__)
    self._add_all(cells)
    self._add_all(function.__defaults__ or ())
    self._add_all((function.__kwdefaults__ or {}).items())

  def _add_class(self, cls: type) -> None:
    module = sys.modules.get(cls.__module__)
    path = getattr(module, '__file__', None)
    if is_own(path):
      self._add_file(path, module)
    elif cls.__module__ == '__main__' and path is None:
      self._add_typed(cls, vars(module))
    self._add_all(cls.__bases__)

  def _add_typed(self, target, names: Mapping) -> None:
    """Adds what was typed into a notebook or at a prompt.

    Args:
      target: a function or a class.
      names: the values of the names that its source may use.

    Raises:
      OSError: there is no source.
    """
    try:
      tree = ast.parse(textwrap.dedent(inspect.getsource(target)))
    except (TypeError, SyntaxError) as e:
      raise OSError('no source') from e
    self._add_bytes(_meaning(tree).encode())
    for node in ast.walk(tree):
      if isinstance(node, ast.Name) and node.id in names:
        self.add(names[node.id])

  def add_module(self, name: str) -> None:
    """Adds a module by name, if it is the user's own."""
    module, path = sys.modules.get(name), None
    if module is None:
      # A package above that does not import, or no such module.
      with contextlib.suppress(Exception):
        path = importlib.util.find_spec(name).origin
    else:
      path = getattr(module, '__file__', None)
    if is_own(path):
      self._add_file(path, module)

  def _add_file(self, path: str, module: types.ModuleType | None) -> None:
    """Adds a file of the user's own, and the modules that it names."""
    path = os.path.realpath(path)
    if path in self.files:
      return
    self.files.add(path)
    with open(path, 'rb') as file:
      data = file.read()
    try:
      tree = ast.parse(data)
    except (SyntaxError, ValueError):  # It is compiled.
      self._add_bytes(data)
      return
    self._add_bytes(_meaning(tree).encode())
    package = getattr(module, '__package__', None) or ''
    for name in _imported(tree, package):
      self.add_module(name)
    # What `importlib` has brought, too.
    for value in list(vars(module).values()) if module else ():
      if isinstance(value, types.ModuleType):
        self.add_module(value.__name__)
      elif isinstance(value, _CODE):
        self.add_module(value.__module__)


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
  """Yields the names of modules that import statements may name."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        parts = alias.name.split('.')
        yield from ('.'.join(parts[: i + 1]) for i in range(len(parts)))
    elif isinstance(node, ast.ImportFrom):
      above = package.split('.')[: len(package.split('.')) - node.level + 1]
      start = above if node.level else []
      parts = [*start, *(node.module or '').split('.')]
      name = '.'.join(filter(None, parts))
      if name:
        yield name
        yield from (f'{name}.{alias.name}' for alias in node.names)


def _meaning(node) -> str:
  """Returns a syntax tree as text, the same in every Python.

  Without docstrings, and what only concerns layout.
  """
  if isinstance(node, ast.AST):
    fields = dict(ast.iter_fields(node))
    if (
      isinstance(
        node,
        ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
      )
      and ast.get_docstring(node, clean=False) is not None
    ):
      fields['body'] = node.body[1:]
    parts = [
      f'{name}={_meaning(value)}'
      for name, value in sorted(fields.items())
      if name not in _LAYOUT and value is not None and value != []
    ]
    return f'{type(node).__name__}({",".join(parts)})'
  if isinstance(node, list):
    return f'[{",".join(map(_meaning, node))}]'
  return repr(node)
