"""A program of toy units, which worker processes rebuild.

Each unit makes one text file of its own name in a folder.
"""

import _thread
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

from roar_tf import engine, errors

INPUTS = {
  'both': ('first', 'second'),
  'reader': ('flaky',),
  'after_wrong': ('wrong',),
}
LARGE = ('chip_1', 'chip_2', 'light')


def rebuild(folder: str, stop: Callable[[], bool]) -> 'Program':
  """Rebuilds the program in a worker process; see `ray_pool.Rebuild`."""
  print('rebuilt')
  return Program(folder, stop)


def refuse(reason: str, stop: Callable[[], bool]) -> 'Program':
  """Refuses, as on a node that sees another workspace."""
  raise errors.UsageError(reason)


def break_down(reason: str, stop: Callable[[], bool]) -> 'Program':
  """Fails, as on a node that lacks a library."""
  raise ImportError(reason)


class Toys(engine.Stage):
  """Units that differ in what happens on their way."""

  def __init__(self, name: str, program: 'Program'):
    self.name, self.program = name, program

  def units(self, artefacts: Sequence[engine.Artefact]) -> list[engine.Unit]:
    return [
      engine.Unit(name, (artefact,), self.run, light=name == 'light')
      for artefact in artefacts
      for name in [artefact.settings['name']]
    ]

  def run(self, artefacts: Sequence[engine.Artefact]) -> Iterator[engine.Made]:
    for artefact in artefacts:
      name = artefact.settings['name']
      happens = getattr(self.program, name.rstrip('_0123456789'), None)
      text = happens() if happens else name
      for source in artefact.inputs.values():
        path = source.marker.removesuffix('.DONE')
        text += pathlib.Path(path).read_text()
      path = artefact.marker.removesuffix('.DONE')
      engine.files.publish(path, text.encode())
      yield engine.Made(artefact, measured={'letters': len(text)})


class Program:
  """See `ray_pool.Program`; the method of a unit's name happens in the unit."""

  def __init__(self, folder, stop: Callable[[], bool] = lambda: False):
    self.folder, self.stop = pathlib.Path(folder), stop
    self.stages = {name: Toys(name, self) for name in ('small', 'large')}

  def artefact(self, name: str) -> engine.Artefact:
    """Returns what the unit of a name makes."""
    return engine.Artefact(
      f'{self.folder}/{name}.DONE',
      self.stages['large' if name in LARGE else 'small'],
      {'name': name},
      inputs={n: self.artefact(n) for n in INPUTS.get(name, ())},
    )

  def unit(self, stage: str, name: str) -> engine.Unit | None:
    if name.startswith('unknown'):
      return None
    (unit,) = self.stages[stage].units([self.artefact(name)])
    return unit

  def facts(self) -> dict:
    return {'made_by': 'a toy'}

  def happened(self, name: str) -> list[int]:
    """Notes that something begins in this process; returns all of `pids`."""
    with open(self.folder / f'{name}.log', 'a') as log:
      log.write(f'{os.getpid()}\n')
    return self.pids(name)

  def pids(self, name: str) -> list[int]:
    """Returns the processes in which something has begun."""
    path = self.folder / f'{name}.log'
    lines = path.read_text().split() if path.exists() else []
    return [int(line) for line in lines]

  def flaky(self) -> str:
    if len(self.happened('flaky')) <= 2:
      raise OSError('a bad moment of the disk')
    return 'flaky'

  def mortal(self) -> str:
    if len(self.happened('mortal')) == 1:
      os._exit(1)
    return 'mortal'

  def deadly(self) -> str:
    self.happened('deadly')
    os._exit(1)

  def interrupted(self) -> str:
    if len(self.happened('interrupted')) == 1:
      _thread.interrupt_main()  # This is how Ray cancels a task.
      self.save_when_stopped('interrupted')
    return 'interrupted'

  def endless(self) -> str:
    self.happened('endless')
    self.save_when_stopped('endless')

  def save_when_stopped(self, name: str) -> None:
    while not self.stop():
      time.sleep(0.05)
    (self.folder / f'{name}.saved').touch()
    raise errors.PreemptedError('saved.')

  def wrong(self) -> str:
    while not self.pids('endless'):
      time.sleep(0.05)
    raise errors.UsageError('this cannot be.')

  def chip(self) -> str:
    self.happened('chip')
    return 'chip'

  def light(self) -> str:
    self.happened('light')
    return 'light'

  def talkative(self) -> str:
    self.happened('talkative')
    print('a warning')
    return 'talkative'
