"""Tests of roar_tf.preflight.results and work: from rooflines to hours."""

import dataclasses

import pytest

from roar_tf.preflight import chips, work
from roar_tf.preflight.results import Outcome, Result
from roar_tf.preflight.subject import Subject
from roar_tf.study import experiment

TOPOLOGY = chips.topology('v5e:2x2')
WORK = work.Work(
  runs=10,
  steps=3600,
  explained_steps=720,
  tested_images=11_000,
  explained_images=100,
  gradient_evaluations=41_600,
)


def outcome(name, batch, seconds):
  roofline = chips.Roofline(1.0, seconds, 'memory')
  return Outcome(name, 'training', batch, roofline=roofline)


STEP = outcome('training step (retrained)', 64, 0.5)
OTHERS = (
  outcome('training step (explained)', 64, 1.0),
  outcome('evaluation (retrained)', 100, 1.0),
  outcome('gradient evaluations', 100, 9.0),
)
RESULT = Result(
  'birds', TOPOLOGY, 'bfloat16', [STEP, *OTHERS], WORK, images_per_core=40
)


def test_all_chips_share_the_work():
  rates = RESULT.rates
  # One step at a time of all four; images and gradients are dealt out.
  assert (rates.step, rates.explained_step) == (0.5, 1.0)
  assert rates.test_image == pytest.approx(0.01 / 4)
  assert rates.gradient == pytest.approx(0.09 / 4)


def test_hours_of_a_chip_add_up():
  hours = RESULT.hours
  assert hours['retraining'] == pytest.approx(3600 * 0.5 * 4 / 3600)
  assert hours['training the explained model'] == pytest.approx(0.8)
  assert hours['evaluation'] == pytest.approx(11 * 10 / 3600)
  assert hours['attribution'] == pytest.approx(1.04)
  total = sum(value for name, value in hours.items() if name != 'all')
  assert hours['all'] == pytest.approx(total)


def test_an_explained_model_like_the_others_takes_as_long():
  alike = dataclasses.replace(RESULT, outcomes=[STEP, *OTHERS[1:]])
  assert alike.rates.explained_step == 0.5


@pytest.mark.parametrize('lacking', range(3))
def test_without_a_roofline_there_are_no_hours(lacking):
  outcomes = [STEP, *OTHERS]
  outcomes[lacking] = dataclasses.replace(outcomes[lacking], roofline=None)
  result = dataclasses.replace(RESULT, outcomes=outcomes)
  assert result.rates is None and result.hours is None


def test_gradients_are_needed_where_a_study_has_some():
  without = dataclasses.replace(RESULT, outcomes=[STEP, *OTHERS[:2]])
  assert without.rates is None
  controls = dataclasses.replace(WORK, gradient_evaluations=0)
  assert dataclasses.replace(without, work=controls).rates.gradient == 0


def test_host_cores_keep_a_chip_fed():
  assert RESULT.cores == 128 / 40
  assert dataclasses.replace(RESULT, images_per_core=None).cores is None
  assert dataclasses.replace(RESULT, outcomes=OTHERS).cores is None


def test_the_work_of_a_study_follows_from_its_configuration(tiny):
  (loaded,) = experiment.load(
    study=tiny.study,
    gin_bindings=[
      "Study.estimators = ('random', 'grad', 'sg_ig')",
      'Attribution.steps = 3',
      'Attribution.samples = 5',
      'Study.deletion = True',
    ],
  )
  amount = work.whole(Subject(loaded))
  # `original` and three estimators at two thresholds, two seeds each; 120 train
  # images ten times, 16 a step.
  assert (amount.runs, amount.steps) == (14, 14 * 75)
  assert amount.explained_steps == 75
  # 14 runs, the explained model, and that on 7 cells.
  assert amount.tested_images == 22 * 60
  assert amount.explained_images == 180
  assert amount.gradient_evaluations == 180 * (1 + 5 * 3)


def test_work_counts_every_model_that_is_explained(tiny):
  (loaded,) = experiment.load(
    study=tiny.study,
    gin_bindings=[
      "Study.estimators = ('random', 'grad', 'sg_grad')",
      'Attribution.samples = 5',
      'Study.explained_models = 2',
      "Study.protocol = 'recursive'",
    ],
  )
  amount = work.whole(Subject(loaded))
  assert amount.explained_steps == 2 * 75
  assert amount.tested_images == (14 + 2) * 60
  # Two models, and at 70 % those of two seeds and two estimators at 30 %.
  assert amount.explained_images == (2 + 2 * 2) * 180
  assert amount.gradient_evaluations == (2 + 2) * 180 * (1 + 5)
