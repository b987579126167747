"""Whatever damage a file has, it is found, or told, or changes no answer.

Seeded draws stand for what nobody thought of. Every kind of file of a finished
workspace is cut short, flipped, emptied, made longer, and replaced by garbage
and by JSON of all shapes; then all that read it are asked.
"""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest

from roar_tf import errors
from roar_tf.cells import parse_cell
from roar_tf.engine import heartbeat, status, verify
from roar_tf.study import finished as finished_runs
from roar_tf.study import rates, repairs
from roar_tf.study.data import plain_layout
from roar_tf.training import checkpoint, clock

COVERED = {
  'shard of original': 'tfds/roar_tiny/original/*/*train*-00000-of-00003',
  'its marker': 'tfds/roar_tiny/original/*/*train*-00000-of-00003.DONE',
  'marker of original': 'tfds/roar_tiny/original/*/DONE',
  'manifest': 'tfds/roar_tiny/original/*/manifest.json',
  'metadata': 'tfds/roar_tiny/original/*/dataset_info.json',
  'shard of a ranking': 'tfds/roar_tiny/ranking_random_*/*/*-00000-of-00003',
  'marker of a ranking': 'tfds/roar_tiny/ranking_random_*/*/DONE',
  'weights': 'models/tiny/weights.npz',
  'result of the model': 'models/tiny/result.json',
  'marker of the model': 'models/tiny/DONE',
  'result of a run': 'runs/small/tiny/original/seed_0/result.json',
  'predictions': 'runs/small/tiny/original/seed_0/test_predictions.npz',
  'marker of a run': 'runs/small/tiny/original/seed_0/DONE',
  'marker of the report': 'reports/small/DONE',
}
"""What `roar_shards --verify` looks at, a file of each kind."""
OTHERS = {
  'times of a run': 'runs/small/tiny/original/seed_0/timing.json',
  'configuration': 'runs/small/tiny/original/seed_0/config.gin',
  'results': 'reports/small/results.csv',
  'page': 'reports/small/index.html',
}
VALUES = (
  *(b'', b'\n', b'null', b'true', b'3', b'-1', b'1e999', b'NaN', b'"x"', b'[]'),
  *(b'{}', b'[{}]', b'{"": {}}', b'[' * 100_000, b'{"a":' * 100_000, b'\xff'),
  *(b'1' * 5000, b'{"files": 3}', b'{"version": 2}', b'<html>404</html>'),
)
ODD = (None, True, -1, 10**400, 1e300, float('nan'), 'x', [], {}, [[3]], '')


def _json_damages(data, generator):
  """Yields a JSON object with keys lost and values of other types."""
  try:
    value = json.loads(data)
  except ValueError:
    return
  if not isinstance(value, dict):
    return
  for key in generator.choice(sorted(value), 3):
    yield json.dumps({k: v for k, v in value.items() if k != key}).encode()
    odd = ODD[generator.integers(len(ODD))]
    yield json.dumps({**value, str(key): odd}).encode()


def _damages(data, generator, few):
  """Yields contents that a file may have instead of its own."""
  size = len(data)
  cuts = generator.integers(0, size, 4)
  flips = generator.integers(0, 8 * size, 4)
  found = [data[:cut] for cut in cuts]
  for bit in flips:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    found.append(bytes(flipped))
  found += [data + b'\0', data + data, data[1:], generator.bytes(200)]
  found += [generator.bytes(size), data[::-1], *VALUES]
  found += _json_damages(data, generator)
  if few:
    found = [found[i] for i in generator.permutation(len(found))[:few]]
  return [damaged for damaged in found if damaged != data]


def _cases(root, patterns, few):
  """Yields (kind, path), the file being damaged meanwhile."""
  for kind, pattern in patterns.items():
    generator = np.random.default_rng(list(kind.encode()))
    (path,) = root.glob(pattern)
    data = path.read_bytes()
    for damaged in _damages(data, generator, few):
      path.write_bytes(damaged)
      yield kind, path
    path.write_bytes(data)


def _told(error, path) -> None:
  """Asserts that an error is a sentence, which names a file."""
  assert isinstance(error, errors.RoarError), error
  assert 'Traceback' not in str(error) and str(path) in str(error), error


FEW = pytest.mark.parametrize(
  'few', [4, pytest.param(0, marks=pytest.mark.slow)], ids=['few', 'all']
)


@FEW
def test_verification_finds_all_damage(few, damaged):
  for _, path in _cases(damaged, COVERED, few):
    if path.parent.name == 'small':  # The marker of a report names no files.
      continue
    findings = verify.verify([str(path.parent)], layout=repairs.LAYOUT)
    assert str(path) in [d.path for d in findings.damages], path.read_bytes()


@FEW
def test_a_report_leaves_damaged_runs_out_and_says_so(few, tiny, damaged):
  report = tiny.pipeline(damaged).report
  runs = report._artefacts
  expected = finished_runs.read(runs)
  patterns = {k: p for k, p in {**COVERED, **OTHERS}.items() if 'runs/' in p}
  for kind, _ in _cases(damaged, patterns, few):
    found = finished_runs.read(runs)
    if found.excluded:
      assert len(found.frame) == len(expected.frame) - 1
      assert len(found.excluded) == 1 and 'seed_0' in found.excluded[0]
      continue
    columns = expected.frame.columns
    if kind == 'times of a run':  # Nobody knows how long it took.
      columns = columns.drop('seconds')
    assert found.frame[columns].equals(expected.frame[columns]), kind


@FEW
def test_status_and_a_second_run_tell_of_damage_or_change_nothing(
  few, tiny, damaged, artefacts, work
):
  before = artefacts(damaged)
  pipeline = tiny.pipeline(damaged)
  table = pipeline.report.summary()
  heartbeats = str(damaged / 'status/small')
  for kind, path in _cases(damaged, {**COVERED, **OTHERS}, few and 1 or 12):
    changed = path.read_bytes()
    again = tiny.pipeline(damaged)
    shown = status.show('s', str(damaged), heartbeats, again.goals())
    assert 'train' in shown
    try:
      work(again, again.goals())
      found = again.report.summary()
    except errors.RoarError as e:
      if kind != 'results' or 'results.csv' not in str(e):
        _told(e, path.parent if 'report' in kind else path)
      continue
    # Only a report is made anew; its folder is whole again then.
    if path.parent.name != 'small':
      assert path.read_bytes() == changed
    seconds = re.compile(r'[\d.]+ s')
    assert seconds.sub('', found) == seconds.sub('', table), kind
    after = artefacts(damaged)
    names = before.keys() - {str(path.relative_to(damaged))}
    assert [n for n in names if after[n] != before[n]] == [], kind


@FEW
def test_what_later_work_reads_is_right_or_refused(
  few, tiny, damaged, shard_of
):
  def read():
    """Returns all that later stages read of the first ones."""
    each = tiny.pipeline(damaged).stages[0]
    context, model = each.context, each.model
    original = context.batches(
      'original', plain_layout(context.source), 'train', 0, 64
    )
    ranking = each.rank.ranking('random', 'pixel')
    ranked = context.batches(ranking.config, ranking.layout, 'train', 0, 64)
    return [
      *context.statistics,
      *[value for part in model._weights().values() for value in part],
      *[batch[name] for batch in original for name in sorted(batch)],
      *[batch[name] for batch in ranked for name in sorted(batch)],
    ]

  expected = [np.asarray(value) for value in read()]
  for kind, path in _cases(damaged, COVERED, few and 1 or 15):
    try:
      found = read()
    except errors.RoarError as e:
      _told(e, path)
      continue
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_array_equal(one, other, err_msg=kind)


@FEW
def test_heartbeats_are_shown_or_named(few, tmp_path):
  folder = tmp_path / 'status'
  folder.mkdir()
  path = folder / 'a.json'
  event = heartbeat.Event('train', 'x', 1.0)
  record = heartbeat.Record('host', 1, '', 0.0, 9.0, current=[event])
  record.stages['train'] = heartbeat.Counts(3, 4.0)
  value = {'version': heartbeat.VERSION, **dataclasses.asdict(record)}
  path.write_text(json.dumps(value))
  for _ in _cases(folder, {'heartbeat': 'a.json'}, few and 20):
    records, told = status.read(str(folder))
    assert len(records) + len(told) == 1
    text = status.text({'train': {'x': False}}, records, 10.0, told, 2.0)
    assert not told or str(path) in ''.join(text.split()).replace('\n', '')


@FEW
def test_files_of_rates_are_read_or_refused(few, tmp_path):
  machine = rates.Machine('a chip', 2, True)
  value = rates.as_json(machine, {'tiny': rates.Rates(0.5, 0.25, 0.1, 0.2)})
  path = tmp_path / 'rates.json'
  path.write_text(json.dumps(value))
  for part in ('machine', 'sources'):
    generator = np.random.default_rng(0)
    inner = json.dumps(value[part]).encode()
    for damaged in _json_damages(inner, generator):
      path.write_text(json.dumps({**value, part: json.loads(damaged)}))
      _read_rates(path)
  path.write_text(json.dumps(value))
  for _ in _cases(tmp_path, {'rates': 'rates.json'}, few and 20):
    _read_rates(path)


def _read_rates(path) -> None:
  try:
    machine, found = rates.read(str(path), ['tiny'])
  except errors.UsageError as e:
    _told(e, path)
  else:
    assert machine.devices * found['tiny'].step >= 0


@FEW
def test_checkpoints_are_right_or_passed_over(few, tmp_path):
  state = {
    **{part: [np.arange(6, dtype=np.float32)] for part in checkpoint.PARTS},
    'step': np.int64(7),
    'seed': np.int32(1),
  }
  checkpoint.save(str(tmp_path), state, {}, clock.Timing())
  for name in ('step_x.npz', 'step_.npz', 'step_00000009.npz.tmp', 'step_8'):
    (tmp_path / name).write_bytes(b'')
  assert checkpoint.newest_step(str(tmp_path)) == 7
  for _ in _cases(tmp_path, {'checkpoint': 'step_*7.npz'}, few):
    assert checkpoint.restore(str(tmp_path), {}, state) is None
  assert checkpoint.restore(str(tmp_path), {}, state).step == 7


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['shard of original', 'shard of a ranking'])
def test_nothing_is_made_of_damaged_shards(
  kind, tiny, damaged, artefacts, work, shard_of
):
  config = 'random_pixel_remove_70'
  made = shard_of(damaged, config)
  marker = pathlib.Path(f'{made}.DONE')
  expected, committed = made.read_bytes(), marker.read_bytes()
  whole = made.parent / 'DONE'
  whole_data = whole.read_bytes()
  for _, path in _cases(damaged, {kind: COVERED[kind]}, 0):
    for each in (made, marker, whole):
      each.unlink(missing_ok=True)
    pipeline = tiny.pipeline(damaged)
    goal = pipeline.stages[0].shards.masked(parse_cell(config))
    try:
      work(pipeline, [goal], ('shards',))
    except errors.RoarError as e:
      _told(e, path)
      assert not marker.exists()
    else:
      assert made.read_bytes() == expected
      assert marker.read_bytes() == committed
    whole.write_bytes(whole_data)
