"""Tests that no fault changes a byte: kills, races, full disks, lost rights.

After every fault the same command is given again, and all datasets must hold
the bytes of an undisturbed workspace, DONE markers included. Whatever stands
under its final name must hold them at any time.
"""

import dataclasses
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

import pytest

from roar_tf import workspace
from roar_tf.study import executor, pipeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
KILLS = 10
"""Of each stage."""

STUDY = """
Study.sources = ('planted_patch',)
Study.estimators = ('random', 'grad', 'sg_sq_grad')
Study.thresholds = (50, 90)
Study.modes = ('remove', 'keep')
Source.train_subset = 600
Source.images_per_shard = 250
Attribution.samples = 4
Training.epochs = 1
Training.warmup_epochs = 0.5
Training.drops = ()
"""


@dataclasses.dataclass
class Undisturbed:
  """A study whose stages source to shards nothing has disturbed.

  Attributes:
    study: its gin file.
    roots: workspaces {stage: before that stage}, and {'end': after shards}.
    seconds: {stage: time from its first write to its end}.
    artefacts: function from a workspace to {path: content}.
  """

  study: str
  roots: dict[str, pathlib.Path]
  seconds: dict[str, float]
  artefacts: object

  def command(self, root, stage) -> list[str]:
    tool = ROOT / 'tools' / 'roar_study.py'
    return [
      *(sys.executable, str(tool), f'--study={self.study}'),
      *(f'--workspace={root}', f'--stage={stage}'),
    ]

  def start(self, root, stage, prefix=()) -> subprocess.Popen:
    return subprocess.Popen(
      [*prefix, *self.command(root, stage)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=_environment(),
    )

  def finish(self, root, stage, prefix=()) -> str:
    """Runs a stage, which must end well; returns its last line."""
    process = self.start(root, stage, prefix)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.splitlines()[-1]

  def copy(self, stage, place) -> pathlib.Path:
    """Returns a copy of the workspace before a stage."""
    workspace.remove(str(place))
    return shutil.copytree(self.roots[stage], place)

  def datasets(self, root) -> dict[str, bytes]:
    return {
      name: data
      for name, data in self.artefacts(root).items()
      if name.startswith('tfds/roar_')
    }

  def check_whole(self, root) -> None:
    """Asserts that what is there is as in the undisturbed workspace."""
    expected = self.datasets(self.roots['end'])
    found = self.datasets(root)
    assert [n for n in found if found[n] != expected.get(n)] == []

  def check_equal(self, root, stage) -> None:
    """Asserts that all is there, and as in the undisturbed workspace."""
    after = {'rank': 'shards', 'shards': 'end'}[stage]
    expected = self.datasets(self.roots[after])
    assert sorted(self.datasets(root)) == sorted(expected)
    self.check_whole(root)


def _environment() -> dict[str, str]:
  return {**os.environ, 'PYTHONPATH': str(ROOT)}


def _aside(root) -> set[pathlib.Path]:
  return set(pathlib.Path(root).rglob('*.tmp-*'))


def _markers(root) -> int:
  return sum('.tmp-' not in p.name for p in root.rglob('*DONE'))


def _wait_for_first_write(process, root) -> None:
  """Waits until a process writes its first file, or ends."""
  before = _aside(root)
  end = time.monotonic() + 120
  while not _aside(root) - before and process.poll() is None:
    assert time.monotonic() < end
    time.sleep(0.005)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, artefacts) -> Undisturbed:
  place = tmp_path_factory.mktemp('undisturbed')
  (place / 'faults.gin').write_text(STUDY)
  made = Undisturbed(str(place / 'faults.gin'), {}, {}, artefacts)
  root = place / 'workspace'
  for stage in ('source', 'model'):
    made.finish(root, stage)
  for stage in ('rank', 'shards'):
    made.roots[stage] = shutil.copytree(root, place / f'before_{stage}')
    process = made.start(root, stage)
    _wait_for_first_write(process, root)
    start = time.monotonic()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    made.seconds[stage] = time.monotonic() - start
  made.roots['end'] = root
  return made


# --- killed processes and races ---------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['rank', 'shards'])
def test_kills_at_random_moments_change_no_byte(stage, undisturbed, tmp_path):
  rng = random.Random(stage)
  root = undisturbed.copy(stage, tmp_path / 'workspace')
  total = _markers(undisturbed.roots['shards' if stage == 'rank' else 'end'])
  total -= _markers(root)
  made, half_written = [], 0
  while len(made) < KILLS:
    left = undisturbed.seconds[stage]
    if made:
      left *= max(0.5, 1 - made[-1] / total)
    before = _aside(root)
    process = undisturbed.start(root, stage)
    _wait_for_first_write(process, root)
    time.sleep(rng.uniform(0, left))
    process.kill()
    _, err = process.communicate()
    undisturbed.check_whole(root)
    if process.returncode == 0:  # It came to its end before.
      undisturbed.check_equal(root, stage)
      root = undisturbed.copy(stage, tmp_path / 'workspace')
      continue
    assert process.returncode == -9, err
    before_stage = _markers(undisturbed.roots[stage])
    made.append(_markers(root) - before_stage)
    half_written += bool(_aside(root) - before)
  print(stage, 'markers of', total, 'at each kill:', made, half_written)
  assert len(set(made)) > 2 and half_written > 2  # Amid the stage.
  undisturbed.finish(root, stage)
  undisturbed.check_equal(root, stage)


@pytest.mark.slow
def test_two_processes_on_the_same_units_end_with_the_bytes_of_one(
  undisturbed, tmp_path
):
  root = undisturbed.copy('rank', tmp_path / 'workspace')
  for stage in ('rank', 'shards'):
    processes = [undisturbed.start(root, stage) for _ in range(2)]
    for process in processes:
      out, err = process.communicate(timeout=300)
      assert process.returncode == 0, err
      assert int(re.search(r'(\d+) made', out)[1]) > 0  # Both took part.
    undisturbed.check_equal(root, stage)
  assert not _aside(root)


# --- disks ------------------------------------------------------------------


def _need_mounts() -> None:
  probe = 'mount -t tmpfs tmpfs "$0"'
  command = ['unshare', '-rm', 'sh', '-ec', probe, str(ROOT)]
  try:
    done = subprocess.run(command, capture_output=True, text=True)
  except FileNotFoundError:
    pytest.skip('there is no `unshare` to mount a small disk in')
  if done.returncode:
    pytest.skip(f'this user may not mount a small disk: {done.stderr.strip()}')


FULL = """
mount -t tmpfs -o size="$SMALL" tmpfs "$PLACE/disk"
cp -r "$PLACE/before" "$PLACE/disk/workspace"
status=0
"$@" >"$PLACE/out" 2>"$PLACE/err" || status=$?
echo $status >"$PLACE/status"
cp -r "$PLACE/disk/workspace" "$PLACE/full"
mount -o remount,size=1g "$PLACE/disk"
"$@" >"$PLACE/out" 2>"$PLACE/more" || exit 3
cp -r "$PLACE/disk/workspace" "$PLACE/after"
"""


def _pages(root) -> int:
  """Returns the bytes that a tree takes where files are made of pages."""
  page = os.sysconf('SC_PAGE_SIZE')
  files = (p for p in root.rglob('*') if p.is_file())
  return sum(-(-p.stat().st_size // page) * page for p in files)


@pytest.mark.slow
@pytest.mark.parametrize('stage, room', [('rank', 0.3), ('shards', 0.8)])
def test_a_disk_that_fills_leaves_nothing_half_made(
  stage, room, undisturbed, tmp_path
):
  _need_mounts()
  undisturbed.copy(stage, tmp_path / 'before')
  (tmp_path / 'disk').mkdir()
  after = undisturbed.roots['shards' if stage == 'rank' else 'end']
  small = _pages(tmp_path / 'before')
  small += int(room * (_pages(after) - small))
  root = tmp_path / 'disk' / 'workspace'
  done = subprocess.run(
    [
      *('unshare', '-rm', 'sh', '-euc', FULL, 'sh'),
      *undisturbed.command(root, stage),
    ],
    env={**_environment(), 'PLACE': str(tmp_path), 'SMALL': str(small)},
    capture_output=True,
    text=True,
  )
  err = (tmp_path / 'err').read_text()
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'status').read_text().strip() == '1'
  assert f'the disk is full: no room for {root}/tfds' in err
  assert 'Traceback' not in err
  # Some of it was made, not all, and nothing by halves.
  made = _markers(tmp_path / 'full') - _markers(tmp_path / 'before')
  assert made < _markers(after) - _markers(tmp_path / 'before')
  undisturbed.check_whole(tmp_path / 'full')
  undisturbed.check_equal(tmp_path / 'after', stage)


def _bound_by_permissions(directory) -> list[str]:
  """Returns what a command begins with, lest root write where none may."""
  for prefix in ([], ['setpriv', '--bounding-set=-dac_override']):
    write = ['sh', '-c', 'echo > "$0/probe"', str(directory)]
    if prefix and not shutil.which(prefix[0]):
      continue
    done = subprocess.run([*prefix, *write], capture_output=True, text=True)
    (directory / 'probe').unlink(missing_ok=True)
    if 'Permission denied' in done.stderr:
      return prefix
  pytest.skip('this user writes whatever permissions say; `setpriv` is no help')


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['rank', 'shards'])
def test_a_directory_that_loses_write_permission_is_named(
  stage, undisturbed, tmp_path
):
  after = {'rank': 'shards', 'shards': 'end'}[stage]
  root = undisturbed.copy(after, tmp_path / 'workspace')
  config = 'ranking_grad_pixel' if stage == 'rank' else 'grad_pixel_keep_50'
  directory = root / f'tfds/roar_planted_patch/{config}/1.0.0'
  for path in directory.iterdir():
    if not re.search(r'train.*-0000[01]-of', path.name):
      path.unlink()
  directory.chmod(0o555)
  try:
    prefix = _bound_by_permissions(directory)
    process = undisturbed.start(root, stage, prefix)
    out, err = process.communicate(timeout=300)
  finally:
    directory.chmod(0o755)
  assert process.returncode == 1, err
  assert 'Traceback' not in err
  failures = [line for line in err.splitlines() if 'ermission' in line]
  assert failures and all(str(directory) in line for line in failures)
  undisturbed.check_whole(root)
  undisturbed.finish(root, stage)
  undisturbed.check_equal(root, stage)


# --- workers and order ------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [2, 5])
def test_any_number_of_workers_writes_the_bytes_of_one(
  num_workers, tiny, undisturbed, tmp_path
):
  root = undisturbed.copy('rank', tmp_path / 'workspace')
  for stage in ('rank', 'shards'):
    for worker in reversed(range(num_workers)):
      # Workers are processes: they share nothing but the disk.
      works = tiny.works(root, study=undisturbed.study)
      pipeline.run(works, [stage], worker=worker, num_workers=num_workers)
    undisturbed.check_equal(root, stage)


@pytest.mark.slow
def test_any_order_of_shards_writes_the_same_bytes(tiny, undisturbed, tmp_path):
  root = undisturbed.copy('rank', tmp_path / 'workspace')
  works = tiny.works(root, study=undisturbed.study)
  for stage in ('rank', 'shards'):
    units = pipeline.units(works, stage)
    random.Random(3).shuffle(units)
    tally = executor.execute(stage, units)
    assert (tally.made, tally.failures) == (len(units), [])
    undisturbed.check_equal(root, stage)


# --- damaged records --------------------------------------------------------


CELL = 'grad_pixel_remove_70'
READERS = [
  ('roar_rank', ['--estimators=grad'], 'original', 'ranking_grad_pixel'),
  (
    'roar_shards',
    ['--estimator=grad', '--threshold=70'],
    'original',
    CELL,
  ),
  (
    'roar_shards',
    ['--estimator=grad', '--threshold=70'],
    'ranking_grad_pixel',
    CELL,
  ),
  ('roar_train', [f'--cell={CELL}'], CELL, None),
]


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('program, flags, damaged_config, made', READERS)
def test_what_reads_a_damaged_record_stops_and_names_the_file(
  program, flags, damaged_config, made, split, tool, tiny, finished, damaged
):
  rng = random.Random(f'{program} {damaged_config} {split}')
  datasets = damaged / 'tfds/roar_tiny'
  (shard,) = datasets.glob(f'{damaged_config}/*/*-{split}*-00001-of-0000?')
  content = shard.read_bytes()
  for _ in range(3):
    data = bytearray(content)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    shard.write_bytes(data)
    shutil.rmtree(damaged / 'runs', ignore_errors=True)
    if made:
      shutil.rmtree(datasets / made)
    outcome = tool(
      program, f'--dataset={tiny.dataset}', *flags, *tiny.flags(damaged)
    )
    assert outcome.status == 1, outcome
    assert str(shard) in outcome.err
    assert 'Traceback' not in outcome.err
    # Of what was read, nothing is made; of the other shards, the same bytes.
    assert not list(damaged.glob('runs/**/*.json'))
    if made:
      assert not list(datasets.glob(f'{made}/*/DONE'))
      shards = [p for p in (datasets / made).rglob('*-of-0000?')]
      assert len(shards) == 4 and all('.tmp-' not in p.name for p in shards)
      for path in shards:
        twin = finished / path.relative_to(damaged)
        assert path.read_bytes() == twin.read_bytes()
