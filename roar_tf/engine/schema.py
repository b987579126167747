"""JSON values as dataclasses: what their type hints say is what is accepted."""

import dataclasses
import functools
import math
import typing


def parse(value, hint, name: str):
  """Returns a JSON value as what a type hint asks for.

  Numbers are finite and not negative, and a dataclass is a JSON object with at
  least its fields; fields with a default may be missing.

  Args:
    value: as `json.loads` returns it.
    hint: a dataclass, str, int, float, bool, `list[X]`, `dict[str, X]`, a tuple
      of columns such as `tuple[str, float]`, or `X | None`.
    name: what messages call it.

  Raises:
    ValueError: it is something else; the message is a clause such as "it has
      'x' as pid".
  """
  if dataclasses.is_dataclass(hint):
    return hint(**_fields(value, hint, name))
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is tuple:
    if type(value) is not list or len(value) != len(arguments):
      raise ValueError(
        f'it has {value!r} in a list of {len(arguments)} columns'
      )
    pairs = zip(value, arguments, strict=True)
    return tuple(parse(item, column, name) for item, column in pairs)
  if origin in (list, dict) and type(value) is not origin:
    raise ValueError(f'it has {value!r} as {name}')
  if origin is list:
    return [parse(item, arguments[0], name) for item in value]
  if origin is dict:
    return {key: parse(item, arguments[1], key) for key, item in value.items()}
  if type(None) in arguments:
    return None if value is None else parse(value, arguments[0], name)
  return _scalar(value, hint, name)


@functools.cache
def _hints(cls: type) -> dict[str, object]:
  return typing.get_type_hints(cls)


def _fields(value, cls: type, name: str) -> dict[str, object]:
  """Returns the checked fields of a dataclass that a JSON object holds."""
  if type(value) is not dict:
    raise ValueError(f'it has {value!r} as {name}')
  fields = {}
  for field in dataclasses.fields(cls):
    if field.name in value:
      hint = _hints(cls)[field.name]
      fields[field.name] = parse(value[field.name], hint, field.name)
    elif field.default is field.default_factory is dataclasses.MISSING:
      raise ValueError(f'it lacks {field.name}')
  return fields


def _scalar(value, hint: type, name: str):
  """Returns a text, a number or a truth value of exactly that type."""
  if hint is float and type(value) is int and abs(value) < 1 << 53:
    value = float(value)
  if type(value) is not hint or (
    hint in (int, float) and not (math.isfinite(value) and value >= 0)
  ):
    raise ValueError(f'it has {value!r} as {name}')
  return value
