"""Tests of roar_tf.planning.prediction: arithmetic on rates that are given."""

import pytest

from roar_tf.planning import prediction
from roar_tf.planning.amounts import Amount, Records, Tally
from roar_tf.planning.rates import Machine, Rates

AMOUNT = Amount(
  runs=6,
  steps=600,
  explained_steps=100,
  explained_models=1,
  evaluations=8,
  test_images=50,
  train_images=200,
  images_loaded=1000,
  explained_images=250,
  gradient_evaluations=2500,
  padded_evaluations=3000,
  units={'source': 5, 'rank': 4, 'shards': 10},
  datasets={'source': 1, 'rank': 2, 'shards': 20},
  records={
    ('source', 'original'): Records(left=250),
    ('rank', 'pixel'): Records(left=500),
    ('rank', 'element'): Records(left=100),
    ('shards', 'cell'): Records(left=5000),
  },
)
STAGES = ('source', 'model', 'rank', 'shards', 'train', 'report')
LEFT = [Tally(stage, left=1) for stage in STAGES]
RATES = Rates(
  step=0.1,
  explained_step=0.2,
  test_image=0.01,
  gradient=0.001,
  run=2.0,
  read=0.04,
  ranked=0.005,
  masked=0.002,
  loaded=0.003,
  dataset=0.5,
  once={'model': 3.0, 'train': 1.0},
)


def seconds(machine, workers=1, amounts=None, rates=None, tallies=LEFT):
  amounts = amounts or {'birds': AMOUNT}
  rates = rates or dict.fromkeys(amounts, RATES)
  return prediction.seconds(tallies, amounts, rates, machine, workers)


def test_one_unit_at_a_time_takes_the_sum():
  assert seconds(Machine('toy', start=4.0, report=7.0)) == pytest.approx(
    {
      'start': 4.0,
      'source': 250 * 0.04 + 0.5,
      'model': 3.0 + 100 * 0.2 + 50 * 0.01,
      'rank': 600 * 0.005 + 3000 * 0.001 + 2 * 0.5,
      'shards': 5000 * 0.002 + 20 * 0.5,
      # Six retrained models and one test without retraining.
      'train': 1.0 + 1000 * 0.003 + 600 * 0.1 + 6 * 2.0 + 7 * 50 * 0.01,
      'report': 7.0,
    }
  )


@pytest.mark.parametrize('parallel, workers', [(2, 1), (1, 2), (2, 2), (3, 5)])
def test_units_are_dealt_out_and_the_last_round_may_not_be_full(
  parallel, workers
):
  found = seconds(Machine('toy', parallel=parallel), workers)
  rounds = -(-10 // (parallel * workers))
  completing = -(-20 // (parallel * workers))
  assert found['shards'] == pytest.approx(rounds * 1.0 + completing * 0.5)
  # What only one can do takes as long as before.
  assert found['model'] == pytest.approx(23.5)


def test_sources_add_up():
  both = {'birds': AMOUNT, 'dogs': AMOUNT}
  twice = seconds(Machine('toy', report=7.0), amounts=both)
  once = seconds(Machine('toy', report=7.0))
  assert twice['train'] == pytest.approx(2 * once['train'])
  assert twice['report'] == once['report']


def test_nothing_left_takes_no_time():
  done = [Tally(stage, done=1) for stage in STAGES]
  assert seconds(Machine('toy', start=4.0), tallies=done) == {}


def test_a_source_without_work_takes_no_time():
  idle = {'birds': AMOUNT, 'dogs': Amount(test_images=50)}
  assert seconds(Machine('toy'), amounts=idle) == pytest.approx(
    seconds(Machine('toy'))
  )


def test_device_hours_are_of_all_devices_and_workers():
  wall = {'rank': 1800.0, 'train': 5400.0}
  machine = Machine('toy', devices=4)
  assert prediction.device_hours(wall, machine, 3) == pytest.approx(24.0)
