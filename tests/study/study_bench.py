"""The tiny study in processes of its own, which tests stop and kill."""

import collections
import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONGEST = 600
"""Seconds that a tiny study may take."""


@dataclasses.dataclass
class Bench:
  """The tiny study in processes of its own.

  Attributes:
    flags: those of the study.
    root: its workspace.
    artefacts: function from a workspace to {path: content}.
    expected: {path: content} of the undisturbed workspace.
  """

  flags: list[str]
  root: pathlib.Path
  artefacts: object
  expected: dict[str, bytes]

  def start(self, *flags, prefix=()) -> subprocess.Popen:
    """Starts the study with more flags."""
    tool = ROOT / 'tools' / 'roar_study.py'
    return subprocess.Popen(
      [*prefix, sys.executable, str(tool), *self.flags, *flags],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )

  def finish(self, *commands) -> None:
    """Runs commands side by side, each of which must end well."""
    processes = [self.start(*flags) for flags in commands]
    for process in processes:
      _, err = process.communicate(timeout=LONGEST)
      assert process.returncode == 0, err

  def there(self) -> dict[str, bytes]:
    """Returns the artefacts that are there.

    Without what is Ray's own, and without the checkpoints that a process leaves
    that is killed right after it has written a marker.
    """
    found = self.artefacts(self.root)
    found.pop('.identity', None)
    return {
      name: data
      for name, data in found.items()
      if f'{name.partition("/checkpoints/")[0]}/DONE' not in found
    }

  def markers(self) -> set[str]:
    """Returns the markers that are there."""
    return {path for path in self.there() if path.endswith('DONE')}

  def check_whole(self) -> None:
    """Asserts that what is committed is as in the undisturbed workspace."""
    found = self.there()
    committed = {
      name
      for name in found
      if f'{name}.DONE' in found or f'{os.path.dirname(name)}/DONE' in found
    }
    different = [n for n in committed if found[n] != self.expected.get(n)]
    assert not different, different

  def check_equal(self) -> None:
    """Asserts that all is there, and as in the undisturbed workspace."""
    found = self.there()
    strange = sorted(found.keys() ^ self.expected.keys())
    assert not strange, strange
    different = [n for n in found if found[n] != self.expected[n]]
    assert not different, different

  def kill(self, times: int, remove) -> collections.Counter:
    """Kills the study again and again, and then lets it end.

    After every kill, whatever is committed must be as in the undisturbed
    workspace. When the study ends before, some folders are removed, so that
    there is work to kill.

    Args:
      times: how often.
      remove: function that removes a folder, named as in the workspace.

    Returns:
      How many kills came after work of each stage.
    """
    rng, kills, stages = random.Random(5), 0, collections.Counter()
    while kills < times:
      process, before = self.start(), self.markers()
      goal = len(before) + rng.randint(1, 12)
      end = time.monotonic() + 3 * LONGEST
      while process.poll() is None and len(self.markers()) < goal:
        assert time.monotonic() < end
        time.sleep(0.01)
      time.sleep(rng.uniform(0, 0.3))
      process.kill()
      _, err = process.communicate()
      status = process.returncode
      assert status in (-signal.SIGKILL, 0), (status, err, kills)
      self.check_whole()
      if status == 0:
        self.check_equal()
        # Masked images are made again for runs that are unfinished only.
        folders = {_folder(name) for name in self.there()} - {'reports', 'runs'}
        for folder in ('runs', *rng.sample(sorted(folders), 3)):
          remove(folder)
      else:
        kills += 1
        stages.update({_stage(m) for m in self.markers() - before})
    self.finish(())
    self.check_equal()
    return stages


def _folder(name: str) -> str:
  """Returns the folder of an artefact that is removed as a whole."""
  top, *parts = name.split('/')
  return '/'.join([top, *parts[:2]]) if top == 'tfds' else top


def _stage(name: str) -> str:
  """Returns the stage that made what a marker commits."""
  top, *parts = name.split('/')
  if top != 'tfds':
    return {'models': 'model', 'runs': 'train', 'reports': 'report'}[top]
  if parts[1] == 'original':
    return 'source'
  return 'rank' if parts[1].startswith('ranking_') else 'shards'
