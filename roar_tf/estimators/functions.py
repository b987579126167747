"""Functions that are registered: what they take, and where they come from."""

import functools
import inspect
from collections.abc import Callable, Sequence

from roar_tf import errors


def check_signature(
  name: str, function: Callable, keywords: Sequence[str]
) -> None:
  """Raises UsageError for a function that cannot be called as estimators are.

  Args:
    name: of the estimator.
    function: it.
    keywords: arguments that it is given by name.
  """
  try:
    signature = inspect.signature(function)
  except (TypeError, ValueError):  # Python does not know it.
    return
  try:
    signature.bind(None, None, None, None, **dict.fromkeys(keywords))
  except TypeError as e:
    given = ['model', 'images', 'targets', 'keys', *(f'{k}=' for k in keywords)]
    raise errors.UsageError(
      f'Estimator "{name}" is called with ({", ".join(given)}), and takes '
      f'{signature} ({e}): give it these arguments.'
    ) from e


def origin(function: Callable) -> tuple[str, str]:
  """Returns module and name of a function, a partial one's or an object's."""
  while isinstance(function, functools.partial):
    function = function.func
  named = function if hasattr(function, '__qualname__') else type(function)
  return named.__module__, named.__qualname__
