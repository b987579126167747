"""What a report is made from: the runs of a study that can be trusted.

A run counts if its marker and its files are intact and if it was made as the
study asks now, from the inputs that are there now. Any other is named and left
out: results of two configurations are never averaged.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.analysis import results
from roar_tf.cells import ORIGINAL
from roar_tf.study import train_stage
from roar_tf.study.grid import Run
from roar_tf.study.units import Target

# Files of runs are read side by side: an object store answers each in
# milliseconds, and the paper's study has 2,730 runs.
_READERS = 16


@dataclasses.dataclass(frozen=True)
class Inputs:
  """The runs of a study as they lie in the workspace.

  Attributes:
    frame: rows of the runs that count, as `results.COLUMNS`.
    excluded: a sentence per cell and reason for which finished runs do not
      count.
    missing: runs that have not finished.
    replicas: how many devices shared the batches of each run that counts.
  """

  frame: pd.DataFrame
  excluded: list[str]
  missing: list[Run]
  replicas: Mapping[Run, int]


@dataclasses.dataclass(frozen=True)
class _Found:
  """One run: its marker and row, or why it has none."""

  run: Run
  done: Mapping | None = None
  row: Mapping | None = None
  fault: str = ''


def identity(run: Run) -> dict:
  """Returns what results.csv says of a run's identity."""
  cell = run.cell
  return {
    'study': run.study,
    'source': run.source,
    'estimator': cell.estimator if cell else ORIGINAL,
    'granularity': cell.granularity if cell else '',
    'mode': cell.mode if cell else '',
    'threshold': cell.threshold if cell else 0,
    'fill': cell.fill if cell else 'mean',
    'input': run.input,
    'seed': run.seed,
  }


def targets(works) -> dict[Run, Target]:
  """Returns what each run of a study should be, from its `pipeline.Work`s."""
  found = {}
  for work in works:
    # All of them: a report covers the study, whatever was chosen to be made.
    units = train_stage.units(work.context, work.runs, work.input)
    for run, unit in zip(work.runs, units, strict=True):
      (found[run],) = unit.targets
  return found


def digest(done: str) -> str:
  """Returns what stands for a marker in a fingerprint; '' without one."""
  try:
    marker = workspace.read_done(done)
  except (errors.DataError, OSError, tf.errors.OpError):
    return 'damaged'
  return marker['digest'] if marker else ''


def digests(markers: Mapping[str, str]) -> dict[str, str]:
  """Returns what stands for each finished run in the report's fingerprint.

  Args:
    markers: DONE markers of runs, by name.
  """

  def state(done: str) -> str:
    try:
      marker = workspace.read_done(done)
      if marker is None:
        return ''
      _row(_directory(done), marker)
    except (errors.DataError, OSError, tf.errors.OpError):
      return 'damaged'
    return marker['digest']

  with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
    states = zip(markers, pool.map(state, markers.values()), strict=True)
    return {name: state for name, state in states if state}


def read(works) -> Inputs:
  """Reads the runs of a study, from its `pipeline.Work`s."""
  asked = targets(works)
  with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
    found = list(pool.map(lambda item: _read(*item), asked.items()))
  usable = [one for one in found if one.row]
  strangers = _of_other_inputs(usable, asked)
  faults = [(one.run, one.fault) for one in found if one.fault]
  faults += list(strangers.items())
  usable = [one for one in usable if one.run not in strangers]
  rows = [{**identity(one.run), **one.row} for one in usable]
  return Inputs(
    pd.DataFrame(rows, columns=list(results.COLUMNS)),
    _sentences(faults),
    [one.run for one in found if not one.done and not one.fault],
    {one.run: one.done.get('replicas', 1) for one in usable},
  )


def _read(run: Run, target: Target) -> _Found:
  """Reads one run and compares its settings with those asked for."""
  try:
    done = workspace.read_done(target.done)
    if done is None:
      return _Found(run)
    there = done['fingerprint']
    wanted = workspace.fingerprint(
      target.stage, target.version, target.settings, there['inputs']
    )
    if changes := list(workspace.differences(there, wanted)):
      return _Found(
        run,
        done,
        fault=f'was made with other settings ({"; ".join(changes)}): ask for '
        'those, or delete its directory and run roar_study again',
      )
    return _Found(run, done, _row(_directory(target.done), done))
  except (errors.DataError, OSError, tf.errors.OpError) as e:
    return _Found(run, fault=str(e).splitlines()[0].rstrip('.'))


def _directory(done: str) -> str:
  return done.removesuffix(f'/{workspace.DONE}')


def _row(directory: str, done: Mapping) -> dict:
  """Returns the numbers of a run; raises DataError if they are damaged."""
  row = {}
  for name, wanted in (
    ('result.json', ('accuracy', 'top5', 'steps', 'test_images')),
    ('timing.json', ('seconds',)),
  ):
    path = f'{directory}/{name}'
    data = workspace.read_bytes(path)
    checksum = done.get('files', {}).get(name)
    try:
      if checksum and hashlib.sha256(data).hexdigest() != checksum:
        raise ValueError('its checksum is not the one in DONE')
      values = json.loads(data)
      numbers = {key: values[key] for key in wanted}
      if not all(math.isfinite(number) for number in numbers.values()):
        raise ValueError('it holds what is no number')
    except (ValueError, KeyError, TypeError) as e:
      reason = f'{e} is not in it' if isinstance(e, KeyError) else e
      raise errors.DataError(
        f'{path} is damaged ({reason}); delete its directory and run the same '
        'command again.'
      ) from e
    row |= numbers
  return row


def _of_other_inputs(
  usable: Sequence[_Found], asked: Mapping[Run, Target]
) -> dict[Run, str]:
  """Returns which runs were made from other inputs than the rest, and why.

  An input that is there says what they should have been made from. One that
  was deleted to save space says nothing; then the most runs do.
  """
  votes = collections.defaultdict(collections.Counter)
  for one in usable:
    for name, value in one.done['fingerprint']['inputs'].items():
      votes[asked[one.run].inputs.get(name)][value] += 1
  right = {path: digest(path) if path else '' for path in votes}
  strangers = {}
  for one in usable:
    for name, value in one.done['fingerprint']['inputs'].items():
      path = asked[one.run].inputs.get(name)
      known = right[path]
      if known in ('', 'damaged'):
        known = votes[path].most_common(1)[0][0]
        than = 'than most runs of it'
      else:
        than = f'than {path} says now'
      if value != known:
        strangers[one.run] = (
          f'was made from another {name} {than}: delete these runs and run '
          'roar_study again'
        )
  return strangers


def named(runs: Iterable[Run]) -> list[str]:
  """Returns the runs as `source/cell/seed_0, 1`, one entry per cell."""
  seeds = collections.defaultdict(list)
  for run in runs:
    seeds[str(run).rpartition('/')[0]].append(run.seed)
  return [
    f'{cell}/seed_{", ".join(map(str, sorted(numbers)))}'
    for cell, numbers in seeds.items()
  ]


def _sentences(faults: Iterable[tuple[Run, str]]) -> list[str]:
  """Returns one sentence per cell and fault, with the seeds concerned."""
  runs = collections.defaultdict(list)
  for run, fault in faults:
    runs[fault].append(run)
  return [
    f'{name} {_is(fault)}.'
    for fault, concerned in runs.items()
    for name in named(concerned)
  ]


def _is(fault: str) -> str:
  """Returns a fault as what stands behind the name of a run."""
  return fault if fault.startswith('was ') else f'is left out: {fault}'
