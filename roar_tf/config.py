"""gin: how configurations are found and parsed, what really ran.

A configuration is one `datasets/<source>.gin`, then one `studies/<study>.gin`,
then the user's files, then the user's bindings; later ones win. The workspace,
where TFDS looks and seeds are flags, never gin.
"""

import collections.abc
import dataclasses
import functools
import importlib.util  # noqa: F401  gin 0.5.0 uses it without importing it.
import inspect
import io
import math
import os
import re
import sys
import tokenize
import types
import typing
from collections.abc import Callable, Mapping, Sequence

import gin
from gin import resource_reader

from roar_tf import errors, own_code
from roar_tf.engine import files, locations
from roar_tf.gin_files import available, root


def _open(path: str) -> typing.TextIO:
  """Opens a local file for gin, and has it import what lies beside it."""
  folder = os.path.dirname(os.path.abspath(path))
  ours = folder.startswith(os.path.join(root(), ''))
  if not ours and folder not in sys.path:
    sys.path.insert(0, folder)
  return open(path)


def _open_other(path: str) -> typing.TextIO:
  """Opens a configuration for gin, whose path is a URL or begins with `~`."""
  if files.is_remote(path):
    return io.StringIO(files.read(path).decode())
  return _open(os.path.expanduser(path))


def _is_readable(path: str) -> bool:
  """Whether a path is that of a configuration which `_open_other` opens."""
  if path.startswith('~'):
    return files.exists(os.path.expanduser(path))
  return files.is_remote(path) and files.exists(path)


def _is_in_package(path: str) -> bool:
  """Whether gin finds a path in a Python package; a mere folder is none."""
  try:
    return resource_reader.system_path_file_exists(path)
  except TypeError:  # gin 0.5.0, where a user has a folder `train`, say.
    return False


def _is_file(path: str) -> bool:
  """Whether a path is a local file.

  Raises:
    UsageError: an `include` may mean a file of the user's or one of ours.
  """
  there = os.path.isfile(path)
  # An absolute path remains what it is, unless gin has made it so.
  name = path.removeprefix(gin.config._LOCATION_PREFIXES[0])
  ours = os.path.join(root(), name)
  if there and os.path.isfile(ours) and not os.path.samefile(path, ours):
    raise errors.UsageError(
      f'include "{path}" names a file of yours and one that comes along with '
      'roar_tf: rename or move yours.'
    )
  return there


# gin itself opens local files. `import gin.tf` would register a reader of URLs,
# but imports TensorFlow, and fails with 2.20.
gin.config._FILE_READERS = [
  (_open, _is_file),
  (_open_other, _is_readable),
  (resource_reader.system_path_reader, _is_in_package),
]


def find(kind: str, name: str) -> str:
  """Returns the file of a configuration.

  Args:
    kind: `datasets` or `studies`.
    name: the name of one that comes with roar_tf, or the path of a .gin file.

  Raises:
    UsageError: there is none; the nearest name is suggested.
  """
  what, flag = {
    'datasets': ('dataset', '--dataset'),
    'studies': ('study', '--study'),
  }[kind]
  if name.endswith('.gin'):
    path = locations.located(name, flag)
    locations.check_reachable(path, flag)
    if files.exists(path):
      return path
    place = '' if os.path.isabs(path) else f' in {os.getcwd()}'
    raise errors.UsageError(f'There is no gin file {name}{place}.')
  known = available(kind)
  if name in known:
    return os.path.join(root(), kind, f'{name}.gin')
  raise errors.UsageError(
    f'Unknown {what} {flag}={name}.{errors.nearest(name, known)} Known: '
    f'{", ".join(known)}; or give the path of a .gin file.'
  )


def stem(name: str) -> str:
  """Returns the name that a configuration file gives: its stem."""
  return os.path.basename(name).removesuffix('.gin')


def parse(paths: Sequence[str], bindings: Sequence[str]) -> None:
  """Replaces the current gin configuration by these files and bindings.

  Args:
    paths: of files; one that does not exist is looked for below `root()`,
      e.g. `profiles/paper.gin`.
    bindings: parsed last.

  Raises:
    UsageError: a file is missing or does not parse, or a name is unknown.
  """
  gin.clear_config()
  gin.config._CONFIG_IS_LOCKED = False
  mistakes = errors.Mistakes()
  for file in paths:
    with mistakes.noted():
      path = _existing(file)
      whole = path if files.is_remote(path) else os.path.abspath(path)
      # What a file includes lies beside it, else where the command was called.
      folder = os.path.join(os.path.dirname(whole), '')
      gin.config._LOCATION_PREFIXES[:] = [folder, '', root()]
      _guarded(path, functools.partial(gin.parse_config_file, whole))
  gin.config._LOCATION_PREFIXES[:] = ['', root()]
  for binding in bindings:
    with mistakes.noted():
      _guarded(
        f'--gin_bindings={binding}',
        functools.partial(gin.parse_config, binding),
      )
  mistakes.check()


def beside(
  gin_files: Sequence[str], bindings: Sequence[str], parameter: str, path: str
) -> str:
  """Returns a path that a gin parameter holds, as the file that sets it means.

  Args:
    gin_files: those that may set it, the likeliest first; see `parse`.
    bindings: what `--gin_bindings` sets means the directory of the command.
    parameter: its name.
    path: what it holds.

  Returns:
    The path of what lies beside one of the files; the path itself where that
    is absolute, a URL, or nothing lies there.
  """
  is_whole = os.path.isabs(path) or path.startswith('~')
  if is_whole or files.URL.match(path) or any(parameter in b for b in bindings):
    return path
  for file in gin_files:
    found = os.path.join(os.path.dirname(_existing(file)), path)
    if files.exists(found):
      return found
  return path


def _existing(file: str) -> str:
  """Returns the path of a file: the user's own, else one of `root()`.

  Raises:
    UsageError: there is no such file.
  """
  own = locations.located(file, '--gin_file')
  locations.check_reachable(own, '--gin_file')
  for path in (own, os.path.join(root(), file)):
    if files.exists(path):
      return path
  raise errors.UsageError(f'--gin_file={file}: there is no such file.')


def _guarded(where: str, action: Callable[[], object]) -> None:
  """Runs a gin call; turns what it raises into one sentence."""
  try:
    action()
  except errors.RoarError:
    raise
  except Exception as e:  # gin raises many types; imports may raise any.
    text = str(e) or type(e).__name__
    if isinstance(e, tokenize.TokenError):
      text = 'a bracket or a quotation mark is not closed.'
    place = re.search(r'In file "(.+?)", line (\d+)', text)
    if place and os.path.abspath(where) == place[1]:
      where = f'{where}, line {place[2]}'
    elif place:
      where = f'{place[1]}, line {place[2]}, which {where} includes'
    lines = [
      line.strip()
      for line in text.splitlines()
      if line.strip() and not line.strip().startswith('^')
    ]
    text = ' '.join(lines)
    # gin repeats file and line in words of its own.
    text = re.sub(r'\s*In (bindings string|file).*$', '', text)
    raise errors.UsageError(f'{where}: {text}{_hint(text)}') from e


def configurables() -> dict[str, Callable]:
  """Returns the classes and functions that gin configures, by name."""
  registry = gin.config._REGISTRY
  return {
    registry.minimal_selector(selector): configurable.wrapped
    for selector, configurable in registry.items()
    if not selector.startswith('gin.')
  }


def parameters(configurable: Callable) -> dict[str, inspect.Parameter]:
  """Returns what gin may set of a class or function, by name.

  What has no default is given by the caller, such as the name of a study.
  """
  return {
    name: parameter
    for name, parameter in inspect.signature(configurable).parameters.items()
    if parameter.default is not parameter.empty
  }


_UNKNOWN = re.compile(
  r"No configurable matching (?:reference )?'@?(.+?)(\(\))?'"
)
_UNKNOWN_PARAMETER = re.compile(
  r"Configurable '(?:.*\.)?(.+)' doesn't have a parameter named '(.+)'"
)


def _hint(text: str) -> str:
  """Returns ' Did you mean ...?' where gin does not know a name."""
  known = configurables()
  if match := _UNKNOWN.search(text):
    return errors.nearest(match[1], known)
  match = _UNKNOWN_PARAMETER.search(text)
  if not match or match[1] not in known:
    return ''
  label, name = match.groups()
  of_others = (key for key in known if name in parameters(known[key]))
  if other := next(of_others, ''):
    return f' Did you mean "{other}.{name}"?'
  close = errors.closest(name, parameters(known[label]))
  return f' Did you mean "{label}.{close}"?' if close else ''


def configured(cls: Callable, *args, scope: str = '', **kwargs):
  """Calls a gin configurable; turns what it raises into one sentence.

  Raises:
    UsageError: a parameter of a dataclass is not of the type of its field, or
      has an impossible value.
  """
  try:
    with gin.config_scope(scope or None):
      _check_types(cls, args)
      return cls(*args, **kwargs)
  except errors.SeveralUsageErrors as e:
    raise errors.SeveralUsageErrors(e.messages) from e
  except errors.RoarError as e:
    # gin appends its own call chain to whatever passes through it.
    raise errors.UsageError(str(e).split('\n')[0]) from e
  except (TypeError, ValueError, RuntimeError) as e:
    text = ' '.join(
      line.strip() for line in str(e).splitlines() if line.strip()
    )
    text = re.sub(r'\s*In call to configurable .*$', '', text)
    raise errors.UsageError(
      f'gin configuration of {cls.__name__}: {text}'
    ) from e


def _check_types(cls: Callable, given: Sequence) -> None:
  """Raises UsageError where gin binds a value that is not of a field's type."""
  label = _LABELS.get(cls.__name__, cls.__name__)
  bound, mistakes = gin.get_bindings(label), errors.Mistakes()
  hints = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
  for name in list(hints)[: len(given)]:
    if name in bound:
      raise errors.UsageError(
        f'{label}.{name} is no gin parameter: it is the name of the gin file.'
      )
  for name in hints:
    words = _mismatch(bound[name], hints[name]) if name in bound else ''
    if words:
      mistakes.note(
        f'gin parameter {label}.{name} must be {words}, found {bound[name]!r}.'
      )
  mistakes.check()


_LABELS = {'Settings': 'Attribution'}
"""Names that gin has for classes, where these have another one."""
_WORDS = {
  bool: 'True or False',
  float: 'a number',
  int: 'a whole number',
  str: 'a text',
  type(None): 'None',
}


def _mismatch(value, hint) -> str:
  """Returns what a value should be instead; empty if it fits a type hint."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if collections.abc.Callable in (hint, origin):
    fits = callable(value) and hasattr(value, '__name__')
    return '' if fits else 'a reference such as @resnet50, without brackets'
  if origin in (types.UnionType, typing.Union):
    words = [_mismatch(value, argument) for argument in arguments]
    return ' or '.join(words) if all(words) else ''
  if origin is tuple:
    if not isinstance(value, tuple | list):
      return 'a tuple, such as (1,)'
    items = arguments[:1] * len(value) if ... in arguments else arguments
    if len(items) != len(value):
      return f'a tuple of {len(items)}'
    words = filter(None, map(_mismatch, value, items))
    return next((f'a tuple in which every value is {w}' for w in words), '')
  if hint is float:
    fits = type(value) in (int, float) and math.isfinite(value)
  else:
    fits = type(value) is hint
  return '' if fits else _WORDS.get(hint, hint.__name__)


@dataclasses.dataclass(frozen=True)
class Factory:
  """A function with the arguments that gin bound to it, free of gin's state.

  Attributes:
    name: name of the configurable.
    function: the function itself.
    arguments: all its keyword arguments, defaults included.
    scope: gin scope that they were bound in.
    code: what fingerprints record of the code of a factory of the user's own,
      and of the gin parameters that it may read.
  """

  name: str
  function: Callable
  arguments: Mapping
  scope: str = ''
  code: Mapping = dataclasses.field(default_factory=dict)

  def __call__(self, *args):
    """Calls the function with the bound arguments."""
    return self.function(*args, **self.arguments)

  def operative_config(self) -> str:
    """Returns the arguments as gin shows the parameters of a configurable."""
    name = f'{self.scope}/{self.name}' if self.scope else self.name
    lines = [f'# Parameters for {name}:', '# ' + '=' * 78]
    lines += [f'{name}.{k} = {v!r}' for k, v in self.arguments.items()]
    return '\n'.join(lines) + '\n'


def factory(configurable: Callable, scope: str = '') -> Factory:
  """Freezes a gin configurable under the current configuration.

  Args:
    configurable: a factory of models, `(image_shape, num_classes) -> model`.
    scope: gin scope of its arguments, and of `Training.model`.

  Raises:
    UsageError: it cannot be called so.
  """
  function = inspect.unwrap(configurable)
  arguments = {n: each.default for n, each in parameters(function).items()}
  name = function.__name__
  try:
    with gin.config_scope(scope or None):
      arguments.update(gin.get_bindings(configurable))
    inspect.signature(function).bind('image_shape', 'num_classes', **arguments)
  except (TypeError, ValueError) as e:
    parameter = f'{scope}/Training.model' if scope else 'Training.model'
    reason = e if isinstance(e, TypeError) else 'gin knows no such function'
    raise errors.UsageError(
      f'gin parameter {parameter} must be a reference to a function '
      '(image_shape, num_classes) -> keras.Model under @gin.configurable, '
      f'without a scope, such as @resnet50; found @{name}: {reason}.'
    ) from e
  bound = {
    path: {key: v for key, v in values.items() if not _is_of(key, name)}
    for path, values in own_code.bindings().items()
  }
  version = getattr(configurable, own_code.VERSION, None)
  title = f'model "{name}"'
  code = own_code.behind(function, title, version).settings(bound)
  return Factory(name, function, arguments, scope, code)


def _is_of(parameter: str, configurable: str) -> bool:
  """Whether a parameter, `scope/module.name.parameter`, is a configurable's."""
  names = parameter.rpartition('/')[2].split('.')
  return names[-2] == configurable


def operative_config() -> str:
  """Returns the parameters that the calls so far really used, as gin."""
  return gin.operative_config_str()
