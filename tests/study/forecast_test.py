"""Tests of dry runs: counts are exact, times are those of finished units."""

import re

import pytest

from roar_tf.engine import heartbeat
from roar_tf.study import costs, forecast, rates, stages


def _left(pipeline, stage=None):
  goals = pipeline.goals(stage)
  within = (stage,) if stage else None
  return {left.stage: left for left in forecast.left(pipeline, goals, within)}


def _counts(stages):
  return {name: (left.units, left.left) for name, left in stages.items()}


def test_all_is_left_of_a_study_that_nobody_ran(tiny, tmp_path):
  stages = _left(tiny.pipeline(tmp_path))
  assert _counts(stages) == {
    'source': (6, 6),
    'model': (1, 1),
    'rank': (7, 7),
    'shards': (14, 14),
    'train': (10, 10),
    'report': (1, 1),
  }
  images, steps = 180, 80  # Ten epochs of 120 images in batches of 16: 7.5.
  ranked = stages['rank'].costs['tiny']
  assert ranked.images_explained == images
  assert ranked.gradient_evaluations == images  # One for `grad`.
  trained = stages['train'].costs['tiny']
  assert (trained.trainings, trained.steps) == (10, 10 * 75)
  assert (trained.models_tested, trained.images_tested) == (10, 10 * 60)
  assert stages['model'].costs['tiny'].explained_steps == 75 < steps


def test_memory_of_trainings_is_told(tiny, tmp_path):
  def told(*bindings, parallel=1, bound=None):
    pipeline = tiny.pipeline(tmp_path, *bindings, memory_bound=bound)
    text = forecast.report(
      pipeline, pipeline.goals(), parallel=lambda: parallel
    )
    (line,) = [x for x in text.splitlines() if x.startswith('Images in memory')]
    size = float(line.split('about ')[1].split(' GB')[0].replace(',', ''))
    assert ('4 side by side' in line) == (parallel == 4)
    return size

  # 180 images of 8 x 8 x 3 bytes, of two cells.
  assert told(parallel=4) == pytest.approx(2 * 180 * 192 / 1e9, rel=0.05)
  whole, third, ranked = (
    told(*bindings, bound=0)
    for bindings in (
      (),
      ('Training.shuffle_shards = 1',),
      ("Study.masking = 'ranking'",),
    )
  )
  assert third == pytest.approx(whole / 3, rel=0.06)
  assert ranked > 1.1 * whole


def test_nothing_is_left_of_a_finished_study(tiny, finished):
  stages = _left(tiny.pipeline(finished))
  assert not any(left.left for left in stages.values())
  assert not any(left.costs for left in stages.values())


def test_bytes_are_as_large_as_those_that_are_there(tiny, finished, damaged):
  folder = damaged / 'tfds/roar_tiny/ranking_grad_pixel/1.0.0'
  size = 0
  for path in folder.glob('*-00001-of-*'):
    size += path.stat().st_size if path.suffix != '.DONE' else 0
    path.unlink()
  (left,) = [
    left
    for name, left in _left(tiny.pipeline(damaged)).items()
    if name == 'rank'
  ]
  assert left.left == 3  # Two shards, and the dataset that they complete.
  assert left.cost.bytes == pytest.approx(size, rel=0.2)


def test_steps_in_a_checkpoint_are_done(tiny, damaged):
  pipeline = tiny.pipeline(damaged)
  run = damaged / 'runs/small/tiny/grad_pixel_remove_70/seed_1'
  (run / 'DONE').unlink()
  (run / 'checkpoints').mkdir()
  (run / 'checkpoints/step_00000060.npz').write_bytes(b'')
  train = _left(pipeline)['train']
  assert (train.left, train.cost.steps) == (1, 75 - 60)


# --- times ------------------------------------------------------------------


def _stages(**left):
  return [
    forecast.Left(name, units, units, {'x': costs.Cost(steps=100 * units)})
    for name, units in left.items()
  ]


def test_units_take_as_long_as_those_that_were_made():
  record = heartbeat.Record('host', 1, '', 0.0, 9.0, devices=4)
  record.stages['train'] = heartbeat.Counts(made=2, seconds=30.0)
  pace = forecast.pace_of_heartbeats(_stages(rank=3, train=10), [record], 2)
  assert pace.seconds == {'train': 10 * 15.0 / 2}
  assert pace.devices == 4
  assert forecast.pace_of_heartbeats(_stages(rank=3), [record], 2) is None


def test_rates_of_a_file_are_multiplied_and_called_a_bound():
  machine = rates.Machine('a chip', 1, True)
  rate = rates.Rates(0.5, 0.25, 0.0, 0.0)
  pace = forecast.pace_of_rates(_stages(train=2), machine, {'x': rate}, 4)
  assert pace.seconds == {'train': 200 * 0.5 / 4}
  assert pace.is_bound and 'lower bound' in pace.basis


def test_a_dry_run_has_as_many_units_side_by_side_as_the_run(
  tool, tiny, tmp_path, monkeypatch
):
  from roar_tf import engine

  monkeypatch.setattr(engine, 'cores', lambda: 5)
  flags = [f'--study={tiny.study}', *tiny.flags(tmp_path), '--dry_run']

  def beside(*more):
    out = tool('roar_study', *flags, '--rates=none', *more).out
    found = re.search(r'(\d+) side by side', out)
    return int(found[1]) if found else 1

  assert (beside(), beside('--parallel=3')) == (5, 3)
  assert beside('--executor=ray') == 5
  gpu = {'device': 'GPU'}
  monkeypatch.setattr(stages, 'environment', lambda: gpu)
  assert (beside(), beside('--parallel=3')) == (1, 3)


def test_a_first_unit_of_every_stage_tells_how_long_the_rest_takes(
  tool, tiny, tmp_path
):
  flags = [f'--study={tiny.study}', *tiny.flags(tmp_path)]
  before = tool('roar_study', *flags, '--dry_run')
  assert before.status == 0 and '--first' in before.out
  assert not list(tmp_path.iterdir())
  first = tool('roar_study', *flags, '--first')
  assert first.status == 0, first.err
  counts = first.counts()
  assert {n: counts[n][0] for n in ('model', 'rank', 'train')} == {
    'model': 1,
    'rank': 1,
    'train': 1,
  }
  after = tool('roar_study', *flags, '--dry_run', '--price_per_hour=2')
  assert re.search(r'About .* wall time; .* device-hours, cost', after.out)
  counted = tool('roar_study', *flags, '--dry_run', '--rates=none')
  assert 'wall time' not in counted.out and 'gradient' in counted.out


@pytest.mark.parametrize(
  'cuts, shape, kilobytes',
  [
    (None, (224, 224, 1), 43.8),
    ((10, 30, 50, 70, 90), (224, 224, 1), 16.7),
    (None, (224, 224, 3), 131.3),
  ],
)
def test_estimates_are_the_documented_ones(cuts, shape, kilobytes, tiny):
  from roar_tf import shards

  bindings = [f'Ranking.cuts = {cuts}', 'Study.thresholds = (30, 70)']
  experiment = tiny.pipeline('/w', *bindings).context.experiment
  layout = shards.Layout(levels=shape)
  size = costs.record_bytes(experiment, layout, [], lambda path: None)
  assert size / 1000 == pytest.approx(kilobytes, rel=0.02)
