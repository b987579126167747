"""Storage is asked little: a listing a directory, and at most a read a marker.

On an object store each request takes tens of milliseconds, and the study of the
paper has some twenty thousand artefacts.
"""

import os
import pathlib
import random
import subprocess
import sys

import pytest

from roar_tf import engine
from roar_tf.engine import files, markers

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def requests(monkeypatch):
  """{name of a function: the paths that it was asked for}."""
  asked = {}

  def watch(module, name):
    function = getattr(module, name)

    def watched(path, *more, **how):
      asked[name].append(str(path))
      return function(path, *more, **how)

    asked[name] = []
    monkeypatch.setattr(module, name, watched)

  for name in ('listdir', 'scandir'):
    watch(os, name)
  for name in ('opened', 'exists', 'is_directory', 'size', 'modified', 'walk'):
    watch(files, name)
  return asked


def _check_few(requests, root) -> tuple[int, int]:
  """Checks requests below a workspace; returns listings and reads."""
  asked = {
    name: [path for path in paths if path.startswith(str(root))]
    for name, paths in requests.items()
  }
  listed, read = asked.pop('listdir'), asked.pop('opened')
  assert not any(asked.values()), asked
  for paths in (listed, read):
    assert len(set(paths)) == len(paths)
  assert all(path.endswith(markers.DONE) for path in read)
  return len(listed), len(read)


def test_a_finished_study_is_seen_by_a_listing_a_directory(
  tiny, finished, make, requests
):
  assert make(tiny.pipeline(finished)).made == {}
  listings, reads = _check_few(requests, finished)
  # Of the model, the report, ten runs, seven datasets, and of shards of
  # `original` alone, which say what images they lack.
  assert reads == 1 + 1 + 10 + 7 + 5
  folders = {finished}
  for marker in finished.rglob('DONE'):
    folders |= {path for path in marker.parents if finished in path.parents}
  assert listings == len(folders)


def _commit(artefact) -> None:
  """Writes the marker of an artefact, and those of what it is made from."""
  if os.path.exists(artefact.marker):
    return
  inputs = dict.fromkeys(artefact.parts(), '')
  for name, source in artefact.inputs.items():
    _commit(source)
    inputs[name] = markers.read(source.marker)['seal']
  stage = artefact.stage
  markers.write(
    artefact.marker,
    markers.fingerprint(stage.name, stage.version, artefact.settings, inputs),
  )


@pytest.mark.parametrize('there', [0, 300])
def test_the_study_of_the_paper_begins_to_train_at_once(
  there, tiny, tmp_path, requests
):
  pipeline = tiny.pipeline(tmp_path, study='paper')
  assert len(pipeline.runs) == 2730
  for run in random.Random(1).sample(pipeline.runs, there):
    _commit(pipeline.of(run).train.artefact(run))
  for paths in requests.values():
    paths.clear()
  pipeline = tiny.pipeline(tmp_path, study='paper')
  snapshot = engine.Snapshot(str(tmp_path))
  graph = engine.Graph(pipeline.goals('train'), snapshot, within=('train',))
  pending = sum(bool(node.pending) for node in graph.nodes)
  assert (len(graph.nodes), pending) == (2730, 2730 - there)
  listings, reads = _check_few(requests, tmp_path)
  folders = sum(1 for _ in os.walk(tmp_path))
  assert listings <= folders and reads == len(list(tmp_path.rglob('DONE')))
  if not there:
    assert (listings, reads) == (1, 0)


NO_TENSORFLOW = """
import runpy
import sys

try:
  runpy.run_path(sys.argv[0])['run']()
except SystemExit as e:
  assert not e.code
heavy = {'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize('more', [[], ['--list'], ['--dry_run'], ['--status']])
def test_what_computes_nothing_needs_no_tensorflow(more, tiny, damaged):
  tool = str(ROOT / 'tools' / 'roar_study.py')
  flags = [f'--study={tiny.study}', *tiny.flags(damaged), *more]
  code = f'import sys; sys.argv = {[tool, *flags]!r}\n{NO_TENSORFLOW}'
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout
