"""What a report is made from: the runs of a study that can be trusted.

A run counts if its marker and its files are intact and if it was made as the
study asks now, from the inputs that are there now. Any other is named and left
out: results of two configurations are never averaged.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from roar_tf import errors
from roar_tf.engine import Artefact, files, markers
from roar_tf.study.grid import Run


@dataclasses.dataclass(frozen=True)
class FinishedRuns:
  """The runs of a study as they lie in the workspace.

  Attributes:
    frame: rows of the runs that count, as `results.COLUMNS`.
    excluded: a sentence per cell and reason for which finished runs do not
      count.
    devices: how many devices each run that counts had for itself: those that
      shared its batches, less where other runs were trained beside it.
    answers: which test images each run that counts had right.
  """

  frame: pandas.DataFrame  # noqa: F821  Imported when there is something.
  excluded: list[str]
  devices: Mapping[Run, float]
  answers: Mapping[Run, Answers]


@dataclasses.dataclass(frozen=True)
class Answers:
  """Which test images a run had right, ordered by their ids.

  Attributes:
    images: a digest of the ids.
    count: how many images there are.
    bits: bool [count], packed.
  """

  images: str
  count: int
  bits: np.ndarray

  @classmethod
  def read(cls, path: str, accuracy: float) -> Answers:
    """Reads `test_predictions.npz` of a run of this accuracy.

    Raises:
      DataError: the file is damaged, or is that of another run.
    """
    data = markers.content(path)
    try:
      with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        ids, correct = arrays['ids'], arrays['correct'].astype(bool)
      if correct.shape != ids.shape or correct.mean() != accuracy:
        raise ValueError('it does not fit the result.json beside it')
    except (*errors.MALFORMED, zipfile.BadZipFile, OSError) as e:
      raise errors.DataError(
        f'{path} is damaged ({e}); delete its directory and run the same '
        'command again.'
      ) from e
    order = np.argsort(ids, kind='stable')
    digest = hashlib.sha256(ids[order].tobytes()).hexdigest()
    return cls(digest, len(ids), np.packbits(correct[order]))

  @property
  def correct(self) -> np.ndarray:
    """Bool [count], whether each image was right."""
    return np.unpackbits(self.bits, count=self.count).astype(bool)


def correct(answers: Mapping[Run, Answers]):
  """Returns an `analysis.arms.Correct` of the answers of runs.

  Runs that were tested on other images than most of their source have none.
  """
  from roar_tf.analysis import results

  usual: dict[str, collections.Counter] = {}
  for run, own in answers.items():
    usual.setdefault(run.source, collections.Counter())[own.images] += 1
  images = {name: votes.most_common(1)[0][0] for name, votes in usual.items()}
  known = {
    results.identity(run.columns): own
    for run, own in answers.items()
    if own.images == images[run.source]
  }

  def look(identity: tuple) -> np.ndarray | None:
    own = known.get(identity)
    return None if own is None else own.correct

  return look


@dataclasses.dataclass(frozen=True)
class _Trial:
  """One run: its marker and numbers, or why it has none."""

  run: Run
  marker: Mapping | None = None
  numbers: Mapping | None = None
  answers: Answers | None = None
  fault: str = ''


def _numbers_of(path: str, marker: Mapping) -> dict:
  """Returns the numbers of a run.

  Args:
    path: the run's marker.
    marker: what it says.

  Raises:
    DataError: a file of the run is damaged.
  """
  numbers = {}
  directory = os.path.dirname(path)
  for name, wanted in (
    ('result.json', ('accuracy', 'top5', 'steps', 'test_images')),
    ('timing.json', ('seconds', 'device_seconds')),
  ):
    file = f'{directory}/{name}'
    data = files.read(file)
    checksum = marker.get('files', {}).get(name)
    try:
      if checksum and hashlib.sha256(data).hexdigest() != checksum:
        raise ValueError('its checksum is not the one in DONE')
      values = json.loads(data)
      # Earlier versions wrote no such thing.
      values.setdefault('device_seconds', values.get('seconds'))
      values = {key: values[key] for key in wanted}
      if not all(_is_number(value) for value in values.values()):
        raise ValueError('it holds what is no number')
    except errors.MALFORMED as e:
      reason = f'{e} is not in it' if isinstance(e, KeyError) else e
      raise errors.DataError(
        f'{file} is damaged ({reason}); delete its directory and run the same '
        'command again.'
      ) from e
    numbers |= values
  return numbers


def _is_number(value) -> bool:
  """Whether a value may be a count, a share or a time."""
  return type(value) in (int, float) and 0 <= value < 1 << 53


def read(runs: Mapping[Run, Artefact]) -> FinishedRuns:
  """Reads the runs of a study.

  Args:
    runs: each run, and what it should be.
  """
  import pandas as pd

  from roar_tf.analysis import results

  trials = files.in_parallel(lambda item: _read(*item), list(runs.items()))
  usable = [trial for trial in trials if trial.numbers]
  strangers = _of_other_inputs(usable, runs)
  faults = [(trial.run, trial.fault) for trial in trials if trial.fault]
  faults += list(strangers.items())
  usable = [trial for trial in usable if trial.run not in strangers]
  rows = [{**trial.run.columns, **trial.numbers} for trial in usable]
  return FinishedRuns(
    pd.DataFrame(rows, columns=list(results.COLUMNS)),
    _sentences(faults),
    {trial.run: _devices(trial) for trial in usable},
    {trial.run: trial.answers for trial in usable},
  )


def _devices(trial: _Trial) -> float:
  """Returns how many devices a run had for itself, on average."""
  seconds = trial.numbers['seconds']
  share = trial.numbers['device_seconds'] / seconds if seconds else 1
  return trial.marker.get('replicas', 1) * share


def _read(run: Run, artefact: Artefact) -> _Trial:
  """Reads one run and compares its settings with those asked for."""
  try:
    marker = markers.read(artefact.marker)
    if marker is None:
      return _Trial(run)
    was = marker['fingerprint']
    wanted = markers.fingerprint(
      artefact.stage.name,
      artefact.stage.version,
      artefact.settings,
      was['inputs'],
    )
    if changes := list(markers.differences(was, wanted)):
      return _Trial(
        run,
        marker,
        fault=f'was made with other settings ({"; ".join(changes)}): ask for '
        'those, or delete its directory and run roar_study again',
      )
    numbers = _numbers_of(artefact.marker, marker)
    path = f'{os.path.dirname(artefact.marker)}/test_predictions.npz'
    answers = Answers.read(path, numbers['accuracy'])
    return _Trial(run, marker, numbers, answers)
  except (errors.DataError, *files.storage_errors()) as e:
    return _Trial(run, fault=str(e).splitlines()[0].rstrip('.'))


def _seal(path: str) -> str:
  """Returns the seal in a marker; '' without one that is intact."""
  marker = markers.intact(path)
  return marker['seal'] if marker else ''


def _of_other_inputs(
  usable: Sequence[_Trial], runs: Mapping[Run, Artefact]
) -> dict[Run, str]:
  """Returns which runs were made from other inputs than the rest, and why.

  An input that is there says what they should have been made from. One that
  was deleted to save space says nothing; then the most runs do.
  """
  votes = collections.defaultdict(collections.Counter)

  def seals(trial: _Trial):
    """Yields (name, path, seal) of a run's inputs."""
    inputs = runs[trial.run].inputs
    for name, seal in trial.marker['fingerprint']['inputs'].items():
      yield name, inputs[name].marker if name in inputs else '', seal

  for trial in usable:
    for _, path, seal in seals(trial):
      votes[path][seal] += 1
  right = {path: _seal(path) if path else '' for path in votes}
  strangers = {}
  for trial in usable:
    for name, path, seal in seals(trial):
      wanted, than = right[path], f'than {path} says now'
      if not wanted:
        wanted = votes[path].most_common(1)[0][0]
        than = 'than most runs of it'
      if seal != wanted:
        strangers[trial.run] = (
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
    f'{name} {_predicate(fault)}.'
    for fault, concerned in runs.items()
    for name in named(concerned)
  ]


def _predicate(fault: str) -> str:
  """Returns a fault as what stands behind the name of a run."""
  return fault if fault.startswith('was ') else f'is left out: {fault}'
