"""An index of the gin parameters: `roar_tf params`, and the reference pages."""

import dataclasses
import inspect
import textwrap

import docstring_parser
import gin

from roar_tf import config, errors
from roar_tf.study import experiment

# Importing it registers what gin configures.
_REGISTERED = experiment


@dataclasses.dataclass(frozen=True)
class Parameter:
  """A gin parameter.

  Attributes:
    name: as gin files have it, such as `Study.seeds`. Those of `Training` may
      stand in the scope of the explained model, `explained/Training.epochs`.
    default: as gin files would write it, or `required`.
    type: as Python annotates it, such as `tuple[int, ...]`.
    doc: what it means, from the docstring, on one line.
  """

  name: str
  default: str
  type: str
  doc: str

  def text(self, whole: bool) -> str:
    """Returns a line, and below it the meaning: the whole, or a line of it."""
    value = 'required' if self.default == 'required' else f'= {self.default}'
    lines = textwrap.wrap(self.doc, 76)
    if not whole:
      lines = [textwrap.shorten(self.doc, 76, placeholder=' ...')]
    return '\n    '.join([f'{self.name}: {self.type} {value}', *lines])


def parameters() -> list[Parameter]:
  """Returns all gin parameters of roar_tf, in the order of their names.

  It is read from the code: the signatures and docstrings of everything of ours
  under `@gin.configurable`. TensorFlow is not imported.

  Returns:
    A list of `Parameter` (name, default, type, doc), all of them texts. The
    parameters of one configurable are together, in the order of its signature.
  """
  known = config.configurables()
  return [
    parameter
    for label in sorted(known, key=str.casefold)
    if known[label].__module__.startswith('roar_tf.')
    for parameter in _of(label, known[label])
  ]


def _of(label: str, configurable) -> list[Parameter]:
  """Returns the parameters of a configurable."""
  parsed = docstring_parser.parse(
    inspect.getdoc(configurable) or '', docstring_parser.DocstringStyle.GOOGLE
  )
  docs = {each.arg_name: each.description or '' for each in parsed.params}
  return [
    Parameter(
      f'{label}.{name}',
      'required' if parameter.default is gin.REQUIRED else _written(parameter),
      _type(parameter),
      ' '.join(docs.get(name, '').split()),
    )
    for name, parameter in config.parameters(configurable).items()
  ]


def _written(parameter: inspect.Parameter) -> str:
  """Returns a default as a gin file would have it."""
  default = parameter.default
  return f'@{default.__name__}' if callable(default) else repr(default)


def _type(parameter: inspect.Parameter) -> str:
  """Returns the annotated type; that of the default where there is none."""
  if parameter.annotation is parameter.empty:
    return type(parameter.default).__name__
  annotation = parameter.annotation
  if isinstance(annotation, str):
    return annotation
  return inspect.formatannotation(annotation)


def find(names: tuple[str, ...]) -> list[Parameter]:
  """Returns the parameters that some names mean, all of them without a name.

  Args:
    names: of parameters, `Study.seeds` or `seeds`, or of what has them, such as
      `Study`.

  Raises:
    UsageError: a name is unknown; the nearest one is suggested.
  """
  found = {} if names else dict.fromkeys(parameters())
  for name in names:
    matches = [
      each
      for each in parameters()
      if name.casefold()
      in (each.name.casefold(), *each.name.casefold().split('.'))
    ]
    if not matches:
      full = [each.name for each in parameters()]
      short = [part for each in full for part in each.split('.')]
      raise errors.UsageError(
        f'There is no gin parameter {name}.{errors.nearest(name, full + short)}'
        ' Without a name, all are listed.'
      )
    found |= dict.fromkeys(matches)
  return list(found)
