"""What tests of studies share: counts of units, paths, ways to do damage."""

import collections
import json
import pathlib

import numpy as np
import pytest

from roar_tf import errors


class Counts:
  """An observer that counts the units of every stage by what became of them.

  Attributes:
    made: {stage: units made}; stages of which none was made are absent.
    kept: {stage: units that were finished before}.
    failures: sentences of the units that failed.
    error: the message of the error that they led to.
  """

  def __init__(self):
    self.made, self.kept = collections.Counter(), collections.Counter()
    self.failures: list[str] = []
    self.error = ''

  def plan(self, stage, units):
    pass

  def uses(self, devices):
    pass

  def begin(self, stage, unit):
    pass

  def end(self, stage, unit, outcome):
    if outcome.state in ('made', 'kept'):
      getattr(self, outcome.state)[stage] += 1
    if outcome.failure:
      self.failures.append(outcome.failure)


@pytest.fixture(scope='session')
def make(work):
  """Function that makes goals of a pipeline and returns `Counts`.

  It takes the pipeline; a stage that works alone on what it makes of the study,
  or, with `upstream`, with those before it; other goals; words of the failures
  that must occur; and what the function `work` takes.
  """

  def run(pipeline, stage=None, *, goals=None, upstream=False, fails=(), **how):
    counts = Counts()
    goals = pipeline.goals(stage) if goals is None else goals
    within = None if stage is None or upstream else (stage,)
    if fails:
      with pytest.raises(errors.UnitsFailedError) as caught:
        work(pipeline, goals, within, observers=[counts], **how)
      counts.error = str(caught.value)
      for word in [fails] if isinstance(fails, str) else fails:
        assert word in counts.error
    else:
      work(pipeline, goals, within, observers=[counts], **how)
    return counts

  return run


@pytest.fixture
def counts():
  """A new `Counts`, for work that `make` does not do."""
  return Counts()


@pytest.fixture(scope='session')
def states():
  """Function from a folder to {path: time and content} of all files."""

  def read(root):
    return {
      path: (path.stat().st_mtime_ns, path.read_bytes())
      for path in pathlib.Path(root).rglob('*')
      if path.is_file()
    }

  return read


@pytest.fixture(scope='session')
def assert_same():
  """Function that compares {path: content}, and tells the names that differ."""

  def compare(found, expected):
    assert sorted(found) == sorted(expected)
    assert [n for n in found if found[n] != expected[n]] == []

  return compare


@pytest.fixture(scope='session')
def shard_of():
  """Function that returns the file of a shard of a dataset of `tiny`."""

  def path(root, config, split='train', index=0) -> pathlib.Path:
    (file,) = pathlib.Path(root).glob(
      f'tfds/roar_tiny/{config}/*/*-{split}.tfrecord-{index:05d}-of-0000?'
    )
    return file

  return path


@pytest.fixture(scope='session')
def run_of():
  """Function that returns the directory of a run on `tiny`."""

  def path(root, folder, seed=0, study='small') -> pathlib.Path:
    return pathlib.Path(f'{root}/runs/{study}/tiny/{folder}/seed_{seed}')

  return path


@pytest.fixture(scope='session')
def predictions():
  """Function that returns the test predictions in a directory."""

  def read(directory) -> dict[str, np.ndarray]:
    with np.load(directory / 'test_predictions.npz') as data:
      return dict(data)

  return read


@pytest.fixture(scope='session')
def flip():
  """Function that flips a bit of a file, the middle one by default."""

  def change(path, bit=None):
    data = bytearray(path.read_bytes())
    bit = 4 * len(data) if bit is None else bit
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)

  return change


@pytest.fixture(scope='session')
def check_rows(run_of):
  """Function that holds every row of results against the files of its run."""

  def check(frame, root) -> None:
    for row in frame.itertuples():
      cell = row.estimator
      if cell == 'original':
        assert (row.granularity, row.mode, row.threshold) == ('', '', 0)
      else:
        cell = f'{cell}_{row.granularity}_{row.mode}_{row.threshold}'
      assert (row.study, row.source, row.input) == ('small', 'tiny', 'image')
      directory = run_of(root, cell, row.seed)
      result = json.loads((directory / 'result.json').read_text())
      timing = json.loads((directory / 'timing.json').read_text())
      for name in ('accuracy', 'top5', 'steps', 'test_images'):
        assert getattr(row, name) == result[name]
      assert row.seconds == timing['seconds']

  return check
