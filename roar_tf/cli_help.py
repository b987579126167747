"""What every command says of itself: `--help` and `--version`."""

import contextlib
import importlib.metadata
import platform
import re
import textwrap
from collections.abc import Iterable

from roar_tf import __version__, cli_flags

HELP = ('help', 'h', '?', 'helpshort', 'helpfull')
"""Flags that ask for help."""
ASKS = (*HELP, 'helpxml', 'version')
"""Flags of every command that ask for a text only."""
_TENSORFLOWS = ('tensorflow', 'tensorflow-cpu', 'tensorflow-tpu', 'tf-nightly')
_VALUES = {
  'int': 'N',
  'float': 'X',
  'comma separated list of strings': 'A,B,...',
}
_INDENT = 24


def text(name: str, about: str, names: Iterable[str], words: str = '') -> str:
  """Returns what a command does and which flags it has, in sections.

  Args:
    name: what the command is called.
    about: what it does, and examples, which are lines that begin with roar_.
    names: of the flags that mean something to it.
    words: what its words are that are no flags.
  """
  sections: dict[str, list[str]] = {}
  for flag in names:
    title = cli_flags.SECTIONS.get(flag, f'Flags of {name}')
    sections.setdefault(title, []).append(_described(flag))
  sections['Every command'] = [
    _entry('--help', 'Show this.'),
    _entry('--version', 'Show the versions of roar_tf and what it rests on.'),
    _entry('--flagfile=FILE', 'Read flags from a file, one a line.'),
    _entry('--undefok=A,B,...', 'Ignore these flags where they are unknown.'),
  ]
  usage = ' '.join(filter(None, [name, words, '[--flag=value ...]']))
  examples = re.sub(r'^(?=roar_\w+( |$))', '  ', about.strip(), flags=re.M)
  parts = [f'Usage: {usage}', examples]
  parts += ['\n'.join([f'{t}:', *lines]) for t, lines in sections.items()]
  return '\n\n'.join(filter(None, parts))


def _described(name: str) -> str:
  """Returns the lines of `--help` on a flag."""
  flag = cli_flags.FLAGS[name]
  values = '|'.join(getattr(flag.parser, 'enum_values', ()))
  title = f'--{name}={values or _VALUES.get(flag.flag_type(), "TEXT")}'
  if flag.boolean:
    title = f'--[no]{name}'
  # absl adds the values before a text, and "repeat this option" behind it.
  text = flag.help.removeprefix(f'<{values}>: ').partition(';\n')[0]
  if flag.default not in (None, False, []):
    shown = flag.default
    shown = ','.join(shown) if isinstance(shown, list) else shown
    text += f' (default: {str(shown).lower() if flag.boolean else shown})'
  return _entry(title, text)


def _entry(title: str, text: str) -> str:
  """Returns a title with a text at its right, or below it if it is long."""
  lines = textwrap.wrap(text, 80 - _INDENT)
  if len(title) > _INDENT - 4:
    lines.insert(0, '')
  first, *others = lines
  return '\n'.join(
    [
      f'  {title:<{_INDENT - 2}}{first}'.rstrip(),
      *(' ' * _INDENT + line for line in others),
    ]
  )


def versions() -> str:
  """Returns the versions of roar_tf and of what it rests on, a line each."""
  lines = [f'roar_tf {__version__}']
  for title, packages in (('TensorFlow', _TENSORFLOWS), ('Keras', ('keras',))):
    for package in packages:
      with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        lines.append(f'{title} {importlib.metadata.version(package)}')
        break
    else:
      lines.append(f'{title} is not installed')
  return '\n'.join([*lines, f'Python {platform.python_version()}'])
