"""The engine: work made of units, resumable, shared by workers, verifiable.

It knows nothing of what is made. A program describes its artefacts, what each
is made from and by which stage; the engine finds what is missing for some
goals, runs the units that make it, and commits each artefact by a marker.

>>> import os, tempfile
>>> from roar_tf import engine
>>> folder = tempfile.mkdtemp()
>>> class Copies(engine.Stage):
...   name = 'copies'
...   def run(self, artefacts):
...     for artefact in artefacts:
...       text = artefact.settings['word'] * artefact.settings['times']
...       engine.files.publish(artefact.marker + '.txt', text.encode())
...       yield engine.Made(artefact)
>>> settings = {'word': 'a', 'times': 3}
>>> goal = engine.Artefact(f'{folder}/DONE', Copies(), settings)
>>> engine.make([goal], engine.Snapshot(folder), engine.ThreadPool)
>>> sorted(os.listdir(folder))
['DONE', 'DONE.txt']
>>> engine.Graph([goal], engine.Snapshot(folder)).ready()  # Nothing is left.
[]
"""

from roar_tf.engine import files, markers
from roar_tf.engine.graph import Graph, Node, behind
from roar_tf.engine.pools import LockstepPool, Pool, ThreadPool, cores
from roar_tf.engine.scheduler import Observer, Share, make
from roar_tf.engine.storage import Snapshot
from roar_tf.engine.unit import (
  Artefact,
  Made,
  Outcome,
  Stage,
  Unit,
  attempt,
)

__all__ = [
  'Artefact',
  'Graph',
  'LockstepPool',
  'Made',
  'Node',
  'Observer',
  'Outcome',
  'Pool',
  'Share',
  'Snapshot',
  'Stage',
  'ThreadPool',
  'Unit',
  'attempt',
  'behind',
  'cores',
  'files',
  'make',
  'markers',
]
