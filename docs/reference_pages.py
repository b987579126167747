"""Writes reference pages from the program: API, commands, gin parameters.

They are parts, in reference/generated/, that pages of reference/ include.
"""

import importlib
import importlib.metadata
import inspect
import os
import pathlib
import re
import subprocess
import sys
import types
from collections.abc import Iterator

import roar_tf
from roar_tf import __main__, config, gin_files
from roar_tf.study import (
  looks,
  model,
  parameters,
  rank,
  report,
  rerank,
  shards,
  source,
  train,
)

# What the estimators of a user's own are written with, beside the public API.
FOR_ESTIMATORS = ('register', 'registered', 'grad', 'gb', 'ig')

KINDS = ('datasets', 'studies', 'profiles')
"""Folders of gin/ whose files are named by flags."""


def write(docs: pathlib.Path) -> None:
  """Writes all parts below `docs`/reference/generated."""
  folder = docs / 'reference' / 'generated'
  folder.mkdir(exist_ok=True)
  for name, lines in (
    ('api.md', api()),
    ('commands.md', commands()),
    ('gin.md', gin_parameters()),
    ('stages.md', stages()),
    *((f'{kind}.md', configurations(kind)) for kind in KINDS),
  ):
    text = '\n'.join(lines) + '\n'
    path = folder / name
    # Sphinx reads a page again when what it includes is newer.
    if not path.exists() or path.read_text(encoding='utf-8') != text:
      path.write_text(text, encoding='utf-8')


# --- the API -----------------------------------------------------------------


def api() -> Iterator[str]:
  """Yields the page of all that is public."""
  yield from ['## Functions', '']
  for name in sorted(roar_tf.__all__):
    if not isinstance(getattr(roar_tf, name), types.ModuleType):
      yield from _documented('roar_tf', name)
    elif name != 'estimators':  # Of these a part, below.
      yield from _module(f'roar_tf.{name}')
  yield from ['## For estimators of your own', '']
  for name in FOR_ESTIMATORS:
    yield from _documented('roar_tf.estimators', name)


def _module(name: str) -> Iterator[str]:
  """Yields the public functions of a module."""
  module = importlib.import_module(name)
  for public in module.__all__:
    yield from _documented(name, public)


def _documented(module: str, name: str) -> Iterator[str]:
  """Yields the documentation of a function or class."""
  value = getattr(importlib.import_module(module), name)
  kind = 'autoclass' if inspect.isclass(value) else 'autofunction'
  yield from [
    f'### {module}.{name}',
    '',
    '```{eval-rst}',
    f'.. {kind}:: {module}.{name}',
    *(['   :members:'] if kind == 'autoclass' else []),
    '```',
    '',
  ]


def mark_examples(app, what, name, obj, options, lines: list[str]) -> None:
  """Makes the indented examples of docstrings literal, for Sphinx.

  It is called with the lines of each docstring and changes them in place.
  """
  del app, what, name, obj, options
  last, marked = '', []
  for number, line in enumerate(lines):
    begins = line.startswith('    ') and number and not lines[number - 1]
    # What stands below `Args:` is indented, too.
    if begins and last and not last.startswith(' '):
      marked += ['::', '']
    marked.append(line)
    last = line or last
  lines[:] = marked


# --- commands ----------------------------------------------------------------


def commands() -> Iterator[str]:
  """Yields the `--help` of every installed command, and of all verbs."""
  names = sorted(
    point.name
    for point in importlib.metadata.distribution('roar_tf').entry_points
    if point.group == 'console_scripts'
  )
  # The other verbs are those commands.
  verbs = [verb for verb in __main__.VERBS if f'roar_{verb}' not in names]
  for name in [*names, *(f'roar_tf {verb}' for verb in verbs)]:
    yield from [f'## {name}', '', '```text', help_of(name), '```', '']


def help_of(command: str) -> str:
  """Returns what `command --help` prints, as it looks on any machine."""
  # What defaults are when no variable is set, and no width of a terminal.
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ('ROAR_WORKSPACE', 'TFDS_DATA_DIR')
  }
  name, *words = command.split()
  done = subprocess.run(
    [os.path.join(os.path.dirname(sys.executable), name), *words, '--help'],
    capture_output=True,
    text=True,
    env={**environment, 'COLUMNS': '80'},
    check=True,
  )
  return done.stdout.strip('\n')


# --- stages ------------------------------------------------------------------


def stages() -> Iterator[str]:
  """Yields the table of the stages and the versions of their code."""
  yield from ['| stage | version |', '| --- | ---: |']
  for stage in (
    source.Source,
    model.Model,
    rank.Rank,
    shards.Shards,
    train.Train,
    rerank.Rerank,
    looks.Looks,
    report.Report,
  ):
    yield f'| `{stage.name}` | {stage.version} |'


# --- configurations -----------------------------------------------------------


def configurations(kind: str) -> Iterator[str]:
  """Yields the table of the gin files of a kind, by their first sentence."""
  yield from ['| name | what it is |', '| --- | --- |']
  for name in gin_files.available(kind):
    path = pathlib.Path(gin_files.root(), kind, f'{name}.gin')
    head = path.read_text(encoding='utf-8').split('\n#\n')[0]
    _, _, text = ' '.join(head.replace('#', ' ').split()).partition(': ')
    yield f'| `{name}` | {text.removesuffix(".")} |'


# --- gin ----------------------------------------------------------------------

_TITLES = ('Study', 'Source', 'Attribution', 'Ranking', 'Training')
"""What a user sets first; the rest follows by name."""


def gin_parameters() -> Iterator[str]:
  """Yields all gin parameters, by configurable, as definition lists."""
  known = config.configurables()
  grouped: dict[str, list[parameters.Parameter]] = {}
  for parameter in parameters.parameters():
    grouped.setdefault(parameter.name.split('.')[0], []).append(parameter)
  for title in dict.fromkeys([*_TITLES, *grouped]):
    summary = inspect.getdoc(known[title]).split('\n\n')[0]
    yield from [f'## {title}', '', _marked(' '.join(summary.split())), '']
    for parameter in grouped[title]:
      default = parameter.default
      value = '' if default == 'required' else f' = {default}'
      yield from [f'`{parameter.name}{value}`', f': {_marked(parameter.doc)}']
      yield ''


def _marked(text: str) -> str:
  """Returns a sentence with its first letter large, unless that is a value."""
  return text if re.match(r'\w+[,;]', text) else text[:1].upper() + text[1:]
