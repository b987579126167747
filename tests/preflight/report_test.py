"""Tests of roar_tf.preflight.report."""

import dataclasses
import json

import pytest

from roar_tf import errors
from roar_tf.preflight import chips, compiling, report
from roar_tf.preflight.results import Outcome, Result
from roar_tf.preflight.work import Work
from roar_tf.study import rates

TOPOLOGY = chips.topology('v5e:2x2')
PROGRAM = compiling.Program(
  flops=197e9,
  bytes_accessed=819e7,
  arguments=1 << 30,
  outputs=1 << 29,
  temporaries=1 << 31,
  code=0,
)
STEP = Outcome(
  'training step (retrained)',
  'training',
  batch=64,
  program=PROGRAM,
  roofline=TOPOLOGY.chip.roofline(PROGRAM.flops, PROGRAM.bytes_accessed),
  fits=True,
  needed=PROGRAM.memory,
)
EVALUATION = dataclasses.replace(STEP, name='evaluation (retrained)')
PLAN = dataclasses.replace(STEP, name='attribution', roofline=None)
LARGE = dataclasses.replace(
  STEP, program=None, roofline=None, fits=False, needed=20 << 30
)
BROKEN = Outcome('ranking', 'others', 8, error='operation AsString: none')
VERSIONS = {'libtpu': '0.0.21'}
WORK = Work(
  runs=92,
  steps=36_000,
  explained_steps=0,
  tested_images=0,
  explained_images=6000,
  gradient_evaluations=0,
)


def result(*outcomes, **fields):
  return Result('birds', TOPOLOGY, 'bfloat16', outcomes, **fields)


def text(*outcomes, **fields):
  return report.text(result(*outcomes, **fields), VERSIONS)


def row(page: str, name: str) -> list[str]:
  [line] = [x for x in page.splitlines() if x.startswith(name)]
  return line.removeprefix(name).split()


def test_it_says_what_it_is_and_by_which_compiler():
  page = text(STEP)
  assert 'compiled for, never run on, TPU' in page
  assert 'libtpu 0.0.21' in page
  assert '197 TFLOP/s' in page and '819 GB/s' in page and '16 GiB' in page


def test_a_row_holds_memory_and_roofline():
  # 8.19 GB at 819 GB/s are 10 ms; 64 images in 10 ms are 6,400 a second.
  page = text(STEP, PLAN)
  assert row(page, 'training step (retrained)') == [
    *('64', '3.50G', '1.00G', '2.00G', 'yes', '197.0', '8.19', '24.1'),
    *('10.000', 'memory', '6,400'),
  ]
  assert row(page, 'attribution')[5:] == ['-'] * 4


def test_what_does_not_fit_says_how_much_it_needs():
  assert 'does not fit: 20.00G needed' in text(LARGE)


def test_functions_without_a_model_are_listed_by_name():
  fitting, large = (
    dataclasses.replace(outcome, name=name, group='others')
    for name, outcome in (('flip', STEP), ('sort', LARGE))
  )
  page = text(fitting, large)
  assert 'Also compile: flip.' in page
  assert 'sort does not fit: 20.00G needed' in page
  assert 'GFLOP' not in page  # No table without rows.


def test_host_cores_are_told_from_a_rate():
  assert 'from 2000 images/s per core: 3.2.' in text(STEP, images_per_core=2000)
  assert 'Host' not in text(STEP)


def test_device_hours_are_of_a_study():
  assert 'give --study' in text(STEP)
  page = text(STEP, EVALUATION, work=WORK)
  assert '92 trainings, 36,000 steps in all' in page
  assert '0 gradient evaluations of 6,000 images' in page
  # 10 ms a step on four chips.
  assert 'At least 0.4 hours of one v5e chip' in page
  assert 'Device-hours: not told' in text(STEP, work=WORK)


def test_failures_are_named_with_their_operations():
  assert 'FAILED ranking: operation AsString' in text(STEP, BROKEN)
  sentence = report.failures([result(STEP, BROKEN)])
  assert 'ranking on v5e:2x2' in sentence and 'AsString' in sentence
  assert report.failures([result(STEP)]) == ''


def test_json_holds_the_same():
  values = report.as_json(
    [result(STEP, EVALUATION, BROKEN, work=WORK)], VERSIONS
  )
  values = json.loads(json.dumps(values))
  assert values['status'] == report.NEVER_RUN
  [birds] = values['results']
  assert birds['topology']['name'] == 'v5e:2x2'
  assert birds['hours']['all'] == pytest.approx(0.4)
  step, _, broken = birds['outcomes']
  assert step['program']['bytes_accessed'] == 819e7
  assert step['per_second'] == pytest.approx(6400)
  assert broken['error'].startswith('operation AsString')


def test_a_dry_run_reads_the_rates(tmp_path):
  birds = result(STEP, EVALUATION, work=WORK)
  path = tmp_path / 'rates.json'
  path.write_text(json.dumps(report.as_rates([birds])))
  machine, by_source = rates.read(str(path), ['birds'])
  assert (machine.devices, machine.lower_bound) == (4, True)
  assert 'roofline' in machine.text and report.NEVER_RUN in machine.text
  assert by_source['birds'] == birds.rates


def test_rates_need_every_step():
  with pytest.raises(errors.UsageError, match='birds'):
    report.as_rates([result(STEP, work=WORK)])
