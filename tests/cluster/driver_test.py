"""Tests of studies on a real Ray cluster of two nodes, on this machine."""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import threading

import pytest

# Before Ray is imported: it listens on the loopback device, and tells nobody.
os.environ.setdefault('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
ray = pytest.importorskip('ray')

from roar_tf import errors, workspace  # noqa: E402
from roar_tf.cluster import connection, driver, worker  # noqa: E402
from roar_tf.study import (  # noqa: E402
  pipeline,
)
from roar_tf.study.recipe import Recipe  # noqa: E402

NODE = {'include_dashboard': False, 'node_ip_address': '127.0.0.1'}


@pytest.fixture(scope='module')
def nodes():
  """A connection to two nodes of one core each; one has a `chip`."""
  from ray import cluster_utils

  cluster = cluster_utils.Cluster()
  cluster.add_node(num_cpus=0, **NODE)
  cluster.add_node(num_cpus=1, **NODE)
  cluster.add_node(num_cpus=1, resources={'chip': 1}, **NODE)
  try:
    with connection.connected(None, cluster.address, {}):
      yield cluster
  finally:
    cluster.remove_node(cluster.head_node, allow_graceful=False)
    cluster.shutdown()


@dataclasses.dataclass
class Study:
  """A study on the cluster, as the tool makes it from flags.

  Attributes:
    place: what tasks rebuild.
    resources: see `connection.parse_resources`.
    tallies: what became of the stages of the last run, by name.
    told: what it is told as a heartbeat.
  """

  place: worker.Place
  resources: tuple = ()
  retries: int = 1
  tallies: dict = dataclasses.field(default_factory=dict)
  told: list = dataclasses.field(default_factory=list)

  def uses(self, devices):
    self.told.append(('uses', devices))

  def begin(self, stage, name):
    self.told.append(('begin', stage, name))

  def end(self, stage, name, kind, failure):
    self.told.append(('end', stage, name, kind, failure))

  def run(self, *stages, stop=lambda: False):
    works = pipeline.study_work(self.place.recipe.contexts())
    cluster = connection.Cluster(
      self.place, connection.parse_resources(self.resources), self.retries
    )

    def execute(units, finished, stop, heartbeat):
      def both(stage, tally):
        self.tallies[stage] = tally
        finished(stage, tally)

      driver.execute(cluster, units, both, stop, heartbeat)

    pipeline.run_on(
      execute, works, stages or pipeline.STAGES, stop=stop, heartbeat=self
    )

  def counts(self):
    return {
      stage: (t.made, t.kept, len(t.failures))
      for stage, t in self.tallies.items()
    }


@pytest.fixture
def study(nodes, tiny):
  """Function from a workspace, gin bindings and attributes to a Study."""
  return functools.partial(_study, tiny)


def _study(tiny, root, *bindings, directory='', **attributes):
  recipe = Recipe(
    str(root),
    study=tiny.study,
    gin_bindings=bindings,
    data_dir=tiny.data_dir,
  )
  identity = workspace.Workspace(str(root)).identity(make=True)
  directory = str(directory or os.getcwd())
  return Study(worker.Place(recipe, directory, identity), **attributes)


@pytest.fixture(scope='module')
def made(nodes, tiny, tmp_path_factory):
  """Some of the runs of `finished`, made by the cluster; do not touch."""
  root = tmp_path_factory.mktemp('made') / 'workspace'
  study = _study(tiny, root, 'Study.thresholds = (30,)', 'Study.seeds = 1')
  study.run()
  return study


def _root(study):
  return pathlib.Path(study.place.recipe.workspace)


def _run(root, cell, seed):
  return root / f'runs/small/tiny/{cell}/seed_{seed}'


def test_a_cluster_writes_the_bytes_of_one_process(made, finished, artefacts):
  found, expected = artefacts(_root(made)), artefacts(finished)
  # What says how many runs the whole study has differs.
  names = [
    name
    for name in found
    if name != '.identity'
    and not name.startswith('reports/')
    and not name.endswith('config.gin')
  ]
  assert len(names) > 70
  assert [n for n in names if found[n] != expected.get(n)] == []
  assert made.counts() == {
    'source': (6, 0, 0),
    'model': (1, 0, 0),
    'rank': (7, 0, 0),
    'shards': (12, 0, 0),
    'train': (3, 0, 0),
    'report': (1, 0, 0),
  }
  train = made.tallies['train']
  assert 0 < train.step_seconds < train.unit_seconds


def test_a_heartbeat_hears_of_every_unit(made):
  ends = {told[1:3]: told for told in made.told if told[0] == 'end'}
  assert len(ends) == sum(sum(counts) for counts in made.counts().values())
  assert {told[3:] for told in ends.values()} == {('made', '')}
  begun = [told[1:] for told in made.told if told[0] == 'begin']
  assert ('train', 'tiny/original/seed_0') in begun
  # What ends at once may be heard of too late to be said to begin.
  assert set(begun) <= set(ends)
  for unit in begun:
    assert made.told.index(('begin', *unit)) < made.told.index(ends[unit])
  assert ('uses', 2) in made.told  # Cores, since no unit takes another device.


def test_trainings_do_not_wait_for_the_stages_before_them(made):
  def ends(pattern):
    return [p.stat().st_mtime for p in _root(made).glob(pattern)]

  rankings = ends('tfds/roar_tiny/ranking_*/*/DONE')
  trainings = ends('runs/small/tiny/original/*/DONE')
  assert min(trainings) < max(rankings)


def test_running_again_keeps_all(made, study):
  again = study(_root(made))
  again.place = made.place
  again.run()
  assert again.counts() == {
    stage: (0, made, 0) for stage, (made, _, _) in made.counts().items()
  }


def test_units_with_devices_take_them_only_for_work(study, damaged):
  run = _run(damaged, 'grad_pixel_remove_30', 1)
  before = (run / 'test_predictions.npz').read_bytes()
  shutil.rmtree(run)
  some = study(damaged, resources=('train:chip=1',))
  some.run('train')
  assert some.counts() == {'train': (1, 9, 0)}
  assert (run / 'test_predictions.npz').read_bytes() == before


MINE = """
import os
import signal

from roar_tf import estimators


@estimators.register('mine')
def mine(model, images, targets, keys):
  if not os.path.exists('tried'):  # Where the command was called.
    open('tried', 'w').close()
    os.kill(os.getpid(), signal.SIGKILL)
  print('mine is asked')
  return images


@estimators.register('faulty')
def faulty(model, images, targets, keys):
  raise ValueError('what a user may raise')
"""


def test_a_failure_is_named_with_what_waits_for_it_and_the_rest_done(
  study, damaged, tmp_path, monkeypatch, capsys
):
  (tmp_path / 'my_estimators.py').write_text(MINE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend('')
  some = study(
    damaged,
    'import my_estimators',
    "Study.estimators = ('random', 'faulty', 'mine')",
    'Study.thresholds = (30,)',
    'Study.seeds = 1',
    directory=tmp_path,
  )
  with pytest.raises(errors.UnitsFailedError) as caught:
    some.run()
  # A worker that died on its way was replaced; all shards have one that fails.
  assert (tmp_path / 'tried').exists()
  assert some.counts() == {
    'source': (0, 6, 0),
    'model': (0, 1, 0),
    'rank': (1, 1, 5 + 1),
    'shards': (5 + 1, 5 + 1, 5 + 1),
    'train': (1, 2, 1),
    'report': (1, 0, 0),
  }
  lines = str(caught.value).splitlines()
  assert lines[0].startswith('13 of the units failed, the rest is done')
  assert sum('what a user may raise' in line for line in lines) == 5
  waiting = [line.strip() for line in lines if 'not begun, since' in line]
  assert len(waiting) == 8
  assert 'tiny/faulty_pixel_remove_30/seed_0' in waiting[-1]
  assert re.search(r'since tiny rank \w+ \d failed\.$', waiting[-1])
  assert _run(damaged, 'mine_pixel_remove_30', 0).joinpath('DONE').exists()
  # What units print is shown, once.
  assert capsys.readouterr().out.count('mine is asked') == 1


def test_a_stop_saves_what_runs_and_begins_nothing_more(study, damaged):
  shutil.rmtree(damaged / 'runs')
  long = ('Training.epochs = 100000', 'explained/Training.epochs = 10')
  some = study(damaged, *long)

  def begun():
    return len(list(damaged.glob('runs/**/events/*')))

  with pytest.raises(errors.PreemptedError, match='same command') as caught:
    some.run('train', stop=lambda: begun() == 2)
  assert caught.value.exit_status == 75
  saved = list(damaged.glob('runs/**/checkpoints/step_*.npz'))
  assert len({path.parent for path in saved}) == 2 == begun()
  assert all(path.stat().st_size for path in saved)


def test_a_file_that_comes_late_is_waited_for(
  study, damaged, finished, monkeypatch, artefacts
):
  monkeypatch.setattr(driver, 'PAUSES', (0.5,))
  shutil.rmtree(_run(damaged, 'random_pixel_remove_70', 0))
  (marker,) = damaged.glob('tfds/roar_tiny/ranking_random_pixel/*/DONE')
  aside = marker.rename(f'{marker}.aside')
  some = study(damaged, retries=0)
  with pytest.raises(errors.UnitsFailedError) as caught:
    some.run('train')
  assert some.counts() == {'train': (0, 6, 4)}
  assert str(marker) in str(caught.value)
  timer = threading.Timer(2.0, aside.rename, [marker])
  timer.start()
  some = study(damaged, retries=20)
  some.run('train')
  timer.join()
  assert some.counts() == {'train': (1, 9, 0)}
  found, expected = artefacts(damaged), artefacts(finished)
  del found['.identity']
  assert found == expected


def test_a_workspace_that_is_not_shared_is_refused(study, damaged):
  some = study(damaged)
  some.place = dataclasses.replace(some.place, identity='that of another')
  with pytest.raises(errors.UsageError, match='another one') as caught:
    some.run('source')
  assert f'--workspace={damaged}' in str(caught.value)
  assert '127.0.0.1' in str(caught.value)  # Which node that was.


def test_a_configuration_that_a_node_lacks_is_refused(study, damaged):
  some = study(damaged)
  recipe = some.place.recipe
  works = pipeline.study_work(recipe.contexts())
  lacking = dataclasses.replace(recipe, gin_files=('not_there.gin',))
  some.place = dataclasses.replace(some.place, recipe=lacking)
  cluster = connection.Cluster(some.place, connection.parse_resources([]), 0)
  execute = functools.partial(driver.execute, cluster)
  with pytest.raises(errors.UsageError, match='not_there.gin.*on node'):
    pipeline.run_on(execute, works, ['source'])
