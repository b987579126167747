"""A toy program for the tests of the engine: folders of short texts."""

import collections
import hashlib
import os
import threading

import pytest

from roar_tf import engine
from roar_tf.engine import files, markers


class Texts(engine.Stage):
  """Writes for each artefact a text that tells what it was made from."""

  def __init__(self, bench, name, light=False):
    self.name, self._bench, self._light = name, bench, light

  def units(self, artefacts):
    return [
      engine.Unit(
        self._bench.name_of(artefact),
        (artefact,),
        self.run,
        number,
        self._light,
      )
      for number, artefact in enumerate(artefacts)
    ]

  def run(self, artefacts):
    for artefact in artefacts:
      yield self._bench.write(artefact)


class Bench:
  """Describes artefacts by short names, makes them and remembers the work.

  'a' lies in the folder a, with the marker a/DONE, which names its text; 'a/1'
  is a part of it, the file a/1 with the marker a/1.DONE.

  Attributes:
    root: the directory below which all lies.
    artefacts: {name: artefact}.
    worked: names of what was begun, in that order.
    errors: {name: what its work raises}.
    salt: what the next texts hold besides; another one gives other bytes.
  """

  def __init__(self, root):
    self.root = str(root)
    self.artefacts, self.errors = {}, {}
    self.worked, self.salt = [], ''
    self._stages = {}

  def stage(self, name, light=False):
    if name not in self._stages:
      self._stages[name] = Texts(self, name, light)
    return self._stages[name]

  def add(
    self, name, stage='toy', inputs=(), parts=(), soft=(), light=False, **more
  ):
    """Describes an artefact made from others, which are named.

    Args:
      name: its name.
      stage: name of its stage, or the stage.
      inputs: names of its inputs, like parts and soft inputs.
      light: whether its stage is light.
      more: `intermediate`, `varies`, `discovered` and settings.
    """
    fields = {
      field: more.pop(field)
      for field in ('intermediate', 'varies', 'discovered')
      if field in more
    }
    parts = self.some(parts)
    self.artefacts[name] = engine.Artefact(
      self.marker(name),
      self.stage(stage, light) if isinstance(stage, str) else stage,
      more,
      self.some(inputs),
      lambda: parts,
      self.some(soft),
      **fields,
    )
    return self.artefacts[name]

  def some(self, names):
    """Returns {name: artefact} of some names."""
    return {name: self.artefacts[name] for name in names}

  def marker(self, name):
    between = '.' if '/' in name else '/'
    return f'{self.root}/{name}{between}DONE'

  def text(self, name):
    return f'{self.root}/{name}' + ('' if '/' in name else '/text')

  def name_of(self, artefact):
    return artefact.marker[len(self.root) + 1 : -len('/DONE')]

  def write(self, artefact):
    name = self.name_of(artefact)
    self.worked.append(name)
    if name in self.errors:
      raise self.errors[name]
    sources = {**artefact.inputs, **artefact.parts()}
    lines = [f'{name} {artefact.settings} {self.salt}']
    for source in sources:
      lines.append(files.sha256(self.text(source)))
    data = '\n'.join(lines).encode()
    files.publish(self.text(name), data)
    digest = hashlib.sha256(data).hexdigest()
    if '/' in name:
      return engine.Made(artefact, {'contents': {'sha256': digest}})
    folder = f'{self.root}/{name}'
    names = ['text', *(os.path.basename(part) for part in artefact.parts())]
    return engine.Made(artefact, {'files': files.checksums(folder, names)})

  def make(self, *goals, pool=None, **more):
    """Makes goals, all if none are named; returns what observers were told.

    It is a Log, also where `more` has one. The error of units that failed is
    its `error`.
    """
    from roar_tf import errors

    log = Log()
    try:
      engine.make(
        self.some(goals or self.artefacts).values(),
        self.snapshot(),
        (lambda: pool) if pool else engine.ThreadPool,
        observers=[log, *more.pop('observers', ())],
        **more,
      )
    except errors.UnitsFailedError as e:
      log.error = str(e)
    return log

  def snapshot(self):
    return engine.Snapshot(self.root)

  def graph(self, *goals, **more):
    """Returns the graph of some goals, all if none are named."""
    goals = self.some(goals or self.artefacts).values()
    return engine.Graph(goals, self.snapshot(), **more)

  def pending(self, *goals, **more):
    """Returns the names of the units that are pending for some goals."""
    nodes = self.graph(*goals, **more).nodes
    return sorted(node.unit.name for node in nodes if node.pending)

  def delete(self, *names):
    """Deletes artefacts, and all their parts."""
    for name in names:
      if '/' in name:
        files.remove(self.text(name))
        files.remove(self.marker(name))
      else:
        files.remove(f'{self.root}/{name}')

  def there(self):
    return {name for name in self.artefacts if markers.read(self.marker(name))}

  def contents(self):
    return {path: files.read(path) for path in files.walk(self.root)}


class Log:
  """An observer that remembers what it was told.

  Attributes:
    plans: {stage: number of units}.
    begun: names of units in the order in which they began.
    states: {unit: the state in which it ended}.
    outcomes: {unit: its outcome}.
    error: what `make` raised of failed units, if it did.
  """

  def __init__(self):
    self.plans, self.begun, self.outcomes, self.error = {}, [], {}, ''
    self.used = set()
    self._lock = threading.Lock()

  @property
  def states(self):
    return {name: outcome.state for name, outcome in self.outcomes.items()}

  def counts(self):
    """Returns {state: how many units ended in it}."""
    return dict(collections.Counter(self.states.values()))

  def plan(self, stage, units):
    self.plans[stage] = units

  def uses(self, devices):
    self.used.add(devices)

  def begin(self, stage, unit):
    self.begun.append(unit)

  def end(self, stage, unit, outcome):
    with self._lock:
      assert unit not in self.outcomes, f'{unit} has ended twice'
      self.outcomes[unit] = outcome


@pytest.fixture
def bench(tmp_path):
  return Bench(tmp_path / 'w')
