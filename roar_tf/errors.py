"""The ways in which roar_tf refuses, and the exit status of each.

Every message is one sentence for a person: it names the file, flag or gin
parameter, says what was found and what to do about it.
"""

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Sequence

MALFORMED = (
  AttributeError,
  KeyError,
  RecursionError,
  TypeError,
  ValueError,
)
"""What it raises to take a file for JSON of some structure if it is not."""


class RoarError(Exception):
  """Base of all errors that are reported without a traceback."""

  exit_status = 1


class UsageError(RoarError, ValueError):
  """The user asked for something that cannot be: exit status 2."""

  exit_status = 2


class SeveralUsageErrors(UsageError):
  """Several mistakes, which are told at once.

  Attributes:
    messages: a sentence each.
  """

  def __init__(self, messages: Sequence[str]):
    super().__init__('\n  '.join([f'{len(messages)} mistakes:', *messages]))
    self.messages = list(messages)


class OtherSettingsError(UsageError):
  """An artefact was made with other settings.

  Attributes:
    differences: in words, without the artefact's name.
  """

  def __init__(self, message: str, differences: str):
    super().__init__(message)
    self.differences = differences


class MissingTensorFlowError(UsageError, ImportError):
  """TensorFlow is needed and is not installed: exit status 2."""


class DataError(RoarError):
  """Data on disk is damaged or incomplete: exit status 1."""


class MissingInputsError(RoarError):
  """A unit's inputs were not made yet, e.g. by another worker: status 1."""


class UnitsFailedError(RoarError):
  """Some unit of work failed; the rest was done: exit status 1."""


class PartsFailedError(RoarError):
  """Parts of one unit failed, a line each; the rest of it was committed."""


class PreemptedError(RoarError):
  """A signal arrived and the work was saved: exit status 75."""

  exit_status = 75


def describe(error: Exception) -> str:
  """Returns what to say of an exception from code that is not ours.

  Its type, the last line of its message and the place that raised it.
  """
  place = traceback.extract_tb(error.__traceback__)[-1]
  lines = [line.strip() for line in str(error).splitlines()]
  # TensorFlow ends with the name of a node, '[[{{node x}}]]'.
  lines = [line for line in lines if line and not line.startswith('[[')]
  return (
    f'{type(error).__name__}: {lines[-1] if lines else ""} '
    f'({place.filename}:{place.lineno})'
  )


def check_choice(name: str, value, known: tuple[str, ...]) -> None:
  """Raises ValueError if a value is none of those known."""
  if value not in known:
    raise ValueError(f'{name} must be one of {known}, found {value!r}.')


def few(names: Sequence[str]) -> str:
  """Returns the first three of some names, and how many more there are."""
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return ', '.join(names[:3]) + more


class Mistakes:
  """Notes a user's mistakes while it can go on, to tell all of them at once."""

  def __init__(self):
    self._messages: dict[str, None] = {}

  @contextlib.contextmanager
  def noted(self) -> Iterator[None]:
    """Notes the UsageError that ends what is done inside."""
    try:
      yield
    except MissingTensorFlowError:
      raise
    except SeveralUsageErrors as e:
      self._messages |= dict.fromkeys(e.messages)
    except UsageError as e:
      self.note(str(e))

  def note(self, message: str) -> None:
    """Notes a mistake."""
    self._messages[message] = None

  def check(self) -> None:
    """Raises UsageError if anything was noted."""
    if len(self._messages) == 1:
      raise UsageError(*self._messages)
    if self._messages:
      raise SeveralUsageErrors(list(self._messages))


def closest(name: str, known: Iterable[str], likeness: float = 0.5) -> str:
  """Returns the known name that resembles `name` most.

  Args:
    name: what was found.
    known: what there is.
    likeness: the least similarity, from 0 to 1; '' is returned below it.
  """
  import difflib

  folded = {each.casefold(): each for each in known}
  close = difflib.get_close_matches(
    name.casefold(), folded, n=1, cutoff=likeness
  )
  return folded[close[0]] if close else ''


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns ' Did you mean ...?' when a known name resembles `name`."""
  close = closest(name, known)
  return f' Did you mean "{close}"?' if close else ''
