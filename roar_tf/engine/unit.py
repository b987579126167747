"""Artefacts, the units of work that make them, and the stages they belong to.

A unit is idempotent and a pure function of its settings and inputs, so any
number of workers may take it, at any time, in any order.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from roar_tf import errors
from roar_tf.engine import files, markers

_log = logging.getLogger(__name__)


def _nothing() -> Mapping[str, 'Artefact']:
  return {}


class Stage:
  """One kind of work. A stage of a program is a subclass.

  Attributes:
    name: what commands and messages call it.
    version: raised when its code changes what it writes.
    trusts_parts: whether what a committed whole says of its settings holds for
      its parts, so that of these only the presence is looked at.
  """

  name = ''
  version = 1
  trusts_parts = True

  def units(self, artefacts: Sequence['Artefact']) -> list['Unit']:
    """Groups artefacts of this stage into units; by default one a unit.

    Args:
      artefacts: those that somebody asked for, finished or not.
    """
    return [
      Unit(artefact.marker, (artefact,), self.run, number)
      for number, artefact in enumerate(artefacts)
    ]

  def check(self) -> None:
    """Refuses what can never be made as it is asked for.

    It is called before any work, once, where units of this stage have to wait
    for others, and would refuse it late.

    Raises:
      UsageError: it cannot be made.
    """

  def remedy(self, artefact: 'Artefact') -> str:
    """Returns what makes an artefact of other settings anew.

    Messages end in it, such as "delete that directory to make it anew".
    """
    del artefact
    return 'delete that directory to make it anew'

  def run(self, artefacts: Sequence['Artefact']) -> Iterator['Made']:
    """Makes the artefacts of a default unit, and yields each when it is there.

    Args:
      artefacts: those of the unit that are unfinished.
    """
    raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Artefact:
  """Something that a DONE marker commits: a dataset, a shard of it, a run.

  Attributes:
    marker: path of its DONE marker.
    stage: the stage that makes it.
    settings: every setting that changes it, by the name the user knows.
    inputs: the artefacts that it is made from, by name. The fingerprint says
      nothing of intermediate ones: what these hold follows from the others.
    parts: returns the artefacts that this one completes, such as the shards of
      a dataset, by name. They are inputs too; once the whole is committed only
      their presence is asked for, where `Stage.trusts_parts`. Large studies
      have many, hence a function.
    soft_inputs: artefacts that are awaited and not required. What is made from
      whatever is there, such as a report, is made anew when more is there.
    intermediate: whether it is made only for a reader that is unfinished, as a
      cache is.
    varies: whether it is made anew where other inputs are asked for than it was
      made from. What those that it keeps hold must be the same.
    discovered: names of settings of which only the work finds out whether they
      make a difference. Where they did the marker has them, and where it has
      none the artefact is the same without them.
  """

  marker: str
  stage: Stage
  settings: Mapping
  inputs: Mapping[str, 'Artefact'] = dataclasses.field(default_factory=dict)
  parts: Callable[[], Mapping[str, 'Artefact']] = _nothing
  soft_inputs: Mapping[str, 'Artefact'] = dataclasses.field(
    default_factory=dict
  )
  intermediate: bool = False
  varies: bool = False
  discovered: tuple[str, ...] = ()

  def fingerprint(self, read: Callable[[str], dict | None]) -> dict:
    """Returns the fingerprint under the inputs that are there now.

    Args:
      read: returns the content of a marker, or None where there is none.

    Raises:
      MissingInputsError: an input was not made yet.
      DataError: the marker of an input is damaged.
    """
    inputs = {
      name: _required(artefact.marker, read)['seal']
      for name, artefact in {**self._lasting(), **self.parts()}.items()
    }
    for name, artefact in self.soft_inputs.items():
      if seal := _soft_seal(artefact.marker, read):
        inputs[name] = seal
    return markers.fingerprint(
      self.stage.name, self.stage.version, self._settings(read), inputs
    )

  def _lasting(self) -> dict[str, 'Artefact']:
    """Returns the inputs that are no caches."""
    return {n: a for n, a in self.inputs.items() if not a.intermediate}

  def require_caches(self, read: Callable[[str], dict | None]) -> None:
    """Looks at the intermediate inputs, of which the fingerprint says nothing.

    Args:
      read: see `fingerprint`.

    Raises:
      MissingInputsError: one is not there.
      UsageError: one was made with other settings, or from other inputs.
    """
    for artefact in self.inputs.values():
      if artefact.intermediate:
        _required(artefact.marker, read)
        artefact.check(read)

  def _settings(self, read) -> dict:
    """Returns the settings, and those that the work discovered."""
    if not self.discovered:
      return dict(self.settings)
    marker = read(self.marker)
    there = marker['fingerprint']['settings'] if marker else {}
    return {
      **self.settings,
      **{name: there[name] for name in self.discovered if name in there},
    }

  def check(self, read: Callable[[str], dict | None]) -> None:
    """Refuses what was made with other settings, or from other inputs.

    Only inputs that are there are compared: those of a finished artefact may
    have been deleted to save space. Parts are not compared one by one.

    Args:
      read: see `fingerprint`.

    Raises:
      UsageError: every difference is named.
      DataError: a marker is damaged.
    """
    marker = read(self.marker)
    if marker is None or self.soft_inputs:
      return
    was = marker['fingerprint']
    names = {**self._lasting(), **self.parts()}
    if self.varies:
      names = names.keys() & was['inputs'].keys()
      was = {**was, 'inputs': {name: was['inputs'][name] for name in names}}
    inputs = {name: was['inputs'].get(name) for name in names}
    for name, artefact in self._lasting().items():
      if name in names and (there := read(artefact.marker)):
        inputs[name] = there['seal']
    wanted = markers.fingerprint(
      self.stage.name, self.stage.version, self._settings(read), inputs
    )
    markers.check(self.marker, was, wanted, self.stage.remedy(self))

  def is_done(
    self, wanted: Mapping, read: Callable[[str], dict | None]
  ) -> bool:
    """Whether it is finished under a fingerprint.

    Raises:
      UsageError: it was made with other settings, or from other inputs.
    """
    marker = read(self.marker)
    if marker is None:
      return False
    if self.varies:
      self.check(read)
    elif not self.soft_inputs:
      was, remedy = marker['fingerprint'], self.stage.remedy(self)
      markers.check(self.marker, was, wanted, remedy)
    return marker['fingerprint'] == wanted


def _soft_seal(path: str, read) -> str:
  """Returns what stands for a soft input in a fingerprint; '' without it."""
  try:
    marker = read(path)
  except (errors.DataError, *files.storage_errors()):
    return 'damaged'
  return marker['seal'] if marker else ''


def _required(path: str, read) -> dict:
  marker = read(path)
  return markers.require(path) if marker is None else marker


@dataclasses.dataclass(frozen=True)
class Made:
  """What a unit yields: an artefact whose files are all there.

  Attributes:
    artefact: the artefact, with the settings that the work discovered.
    facts: what its marker records beside the fingerprint.
    measured: numbers for whoever watches, by name. Markers do not hold them,
      since they differ every time.
  """

  artefact: Artefact
  facts: Mapping = dataclasses.field(default_factory=dict)
  measured: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Unit:
  """A piece of work, which makes one or several artefacts from one read.

  Attributes:
    name: what a progress bar and a failure message call it.
    makes: its artefacts, all of one stage.
    run: makes the given artefacts, those of `makes` that are unfinished, and
      yields each when it is there. The engine commits them one by one; what it
      raises afterwards fails only the rest.
    number: its place among all units of its stage, finished or not. Workers
      share a stage by these numbers.
    light: whether it only completes, or copies, what others made: every worker
      tries it once its inputs are there, and it takes no accelerator.
  """

  name: str
  makes: tuple[Artefact, ...]
  run: Callable[[Sequence[Artefact]], Iterable[Made]]
  number: int = 0
  light: bool = False

  @property
  def stage(self) -> str:
    """Name of the stage."""
    return self.makes[0].stage.name

  def only(self, artefacts: Iterable[str]) -> 'Unit':
    """Returns this unit for those of its artefacts that markers name."""
    chosen = set(artefacts)
    makes = tuple(a for a in self.makes if a.marker in chosen)
    return dataclasses.replace(self, makes=makes)


MADE, KEPT, LEFT, FAILED, MISSING = 'made', 'kept', 'left', 'failed', 'missing'


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of one unit.

  Attributes:
    state: MADE; KEPT: it was finished; LEFT to another worker; FAILED; or
      MISSING: it failed only because its inputs are not there.
    failure: the unit's name and what went wrong; empty unless it failed.
    passing: whether it may go better later: files could not be reached, or are
      not seen yet.
    seconds: how long it took.
    measured: what `Made.measured` told, added up.
    node: the machine, where it was another one.
    printed: what it printed there.
  """

  state: str
  failure: str = ''
  passing: bool = False
  seconds: float = 0.0
  measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
  node: str = ''
  printed: str = ''


_PASSING = (
  'AbortedError',
  'DeadlineExceededError',
  'NotFoundError',
  'UnavailableError',
  'UnknownError',
)
"""TensorFlow's names for what an object store may answer today only."""


def attempt(
  unit: Unit,
  facts: Callable[[], Mapping] = dict,
  commits: bool = True,
) -> Outcome:
  """Makes what is unfinished of a unit, and commits it; pools call this.

  Args:
    unit: the unit.
    facts: returns what every marker records, such as the environment.
    commits: whether this process writes markers; of several that do one unit
      together only one does.

  Raises:
    UsageError: an artefact was made with other settings.
    PreemptedError: stopped by a signal after saving.
  """
  start, measured = time.monotonic(), {}
  state, passing = FAILED, False
  try:
    read = functools.cache(markers.read)
    wanted = {a.marker: a.fingerprint(read) for a in unit.makes}
    pending = [a for a in unit.makes if not a.is_done(wanted[a.marker], read)]
    for artefact in pending:
      artefact.require_caches(read)
      for part in artefact.parts().values():
        part.check(read)  # A worker of another configuration may have made it.
    left = {a.marker for a in pending}
    for made in unit.run(pending) if pending else ():
      left.discard(made.artefact.marker)
      if commits:
        _commit(made, wanted[made.artefact.marker], facts())
      for name, value in made.measured.items():
        measured[name] = measured.get(name, 0.0) + value
    if left:
      raise errors.RoarError(f'it ended without {min(left)}.')
    return Outcome(
      MADE if pending else KEPT,
      seconds=time.monotonic() - start,
      measured=measured,
    )
  except (errors.UsageError, errors.PreemptedError):
    raise
  except errors.MissingInputsError as e:
    state, reason, passing = MISSING, str(e), True
  except errors.PartsFailedError as e:
    reason = f'\n  {unit.name}: '.join(str(e).splitlines())
  except errors.RoarError as e:
    reason = str(e)
  except files.storage_errors() as e:
    reason, passing = _storage_failure(e)
  except Exception as e:  # Code of a user may raise anything.
    reason = errors.describe(e)
    _log.debug('%s failed', unit.name, exc_info=e)
  seconds = time.monotonic() - start
  return Outcome(state, f'{unit.name}: {reason}', passing, seconds, measured)


def _commit(made: Made, wanted: Mapping, facts: Mapping) -> None:
  """Writes the marker of an artefact that a unit has yielded."""
  fingerprint = markers.fingerprint(
    wanted['stage'],
    wanted['version'],
    made.artefact.settings,
    wanted['inputs'],
  )
  markers.write(made.artefact.marker, fingerprint, {**facts, **made.facts})


def _storage_failure(error: Exception) -> tuple[str, bool]:
  """Returns what to say of a failure of storage, and whether it may pass."""
  if files.is_full(error):
    return files.describe_full(error), False
  passing = (
    not isinstance(error, PermissionError)
    if isinstance(error, OSError)
    else type(error).__name__ in _PASSING
  )
  words = str(error).splitlines() or [type(error).__name__]
  return f'{words[0]}.', passing
