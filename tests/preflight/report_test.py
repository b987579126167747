"""Tests of roar_tf.preflight.report."""

import dataclasses
import json

import pytest

from roar_tf import errors
from roar_tf.planning import rates
from roar_tf.planning.amounts import Amount
from roar_tf.preflight import chips, compiling, estimates, preflight, report

TOPOLOGY = chips.topology('v5e:2x2')
PROGRAM = compiling.Program(
  flops=197e9,
  bytes_accessed=819e7,
  arguments=1 << 30,
  outputs=1 << 29,
  temporaries=1 << 31,
  code=0,
)
STEP = preflight.Outcome(
  'training step (retrained)',
  'training',
  batch=64,
  unit='images',
  parameters=25_557_032,
  program=PROGRAM,
  roofline=estimates.roofline(PROGRAM, TOPOLOGY.chip),
  fits=True,
  needed=PROGRAM.memory,
)
PLAN = dataclasses.replace(
  STEP, name='attribution', kind='attribution', roofline=None
)
BROKEN = preflight.Outcome(
  'ranking', 'others', 8, 'images', 0, error='operation AsString: none'
)
VERSIONS = {'libtpu': '0.0.21'}


def text(*outcomes, rate=None, **fields):
  result = preflight.Result('birds', TOPOLOGY, 'bfloat16', outcomes, **fields)
  return report.text(result, VERSIONS, rate)


def row(page: str, name: str) -> list[str]:
  [line] = [x for x in page.splitlines() if x.startswith(name)]
  return line.removeprefix(name).split()


def test_it_says_what_it_is_and_by_which_compiler():
  page = text(STEP)
  assert 'compiled for, never run on, TPU' in page
  assert 'libtpu 0.0.21' in page
  assert '197 TFLOP/s' in page and '819 GB/s' in page and '16 GiB' in page
  assert '25,557,032' in page


def test_a_row_holds_memory_and_roofline():
  # 8.19 GB at 819 GB/s are 10 ms; 64 images in 10 ms are 6,400 a second.
  assert row(text(STEP), 'training step (retrained)') == [
    *('64', '3.50G', '1.00G', '2.00G', 'yes', '197.0', '8.19', '24.1'),
    *('10.000', 'memory', '6,400'),
  ]


def test_a_loop_has_memory_but_no_roofline():
  page = text(PLAN)
  assert row(page, 'attribution')[5:] == ['-'] * 4
  assert 'body of a loop once' in page
  assert 'body of a loop once' not in text(STEP)


def test_what_does_not_fit_says_how_much_it_needs():
  large = dataclasses.replace(
    STEP, program=None, roofline=None, fits=False, needed=20 << 30
  )
  assert 'does not fit' in text(large) and '20.00G needed' in text(large)


def test_the_largest_batch_tells_what_is_computed_twice():
  same = dataclasses.replace(PROGRAM, flops=2 * PROGRAM.flops)
  more = dataclasses.replace(PROGRAM, flops=3 * PROGRAM.flops)
  plain, again = (
    text(dataclasses.replace(STEP, largest_batch=128, largest_program=p))
    for p in (same, more)
  )
  assert 'fits a chip: 128.' in plain
  assert 'fits a chip: 128, with 1.50 times the operations' in again
  most = dataclasses.replace(STEP, largest_batch=65536, largest_program=same)
  assert 'fits a chip: 65536 or more.' in text(most)
  assert 'none' in text(dataclasses.replace(STEP, largest_batch=0))


def test_without_a_rate_it_says_how_to_get_host_cores():
  assert '--input_images_per_second_per_core' in text(STEP)
  assert 'per core: 3.2.' in text(STEP, rate=2000, cores=3.2)


def test_device_hours_are_of_a_study():
  assert 'give --study' in text(STEP)
  amount = Amount(
    runs=92, steps=28796, explained_images=6000, gradient_evaluations=120000
  )
  page = text(STEP, amount=amount, hours={'retraining': 1.5, 'all': 1.5})
  assert '92 trainings, 28,796 steps in all' in page
  assert '120,000 gradient evaluations of 6,000 images' in page
  assert 'At least 1.5 hours of one v5e chip' in page
  assert 'Device-hours: not told' in text(STEP, amount=amount)


def test_failures_are_named_with_their_operations():
  result = preflight.Result('birds', TOPOLOGY, 'float32', [STEP, BROKEN])
  assert 'FAILED ranking: operation AsString' in report.text(
    result, VERSIONS, None
  )
  sentence = report.failures([result])
  assert 'ranking on v5e:2x2' in sentence and 'AsString' in sentence
  assert report.failures([dataclasses.replace(result, outcomes=[STEP])]) == ''


def test_json_holds_the_same():
  result = preflight.Result('birds', TOPOLOGY, 'float32', [STEP, BROKEN])
  found = json.loads(json.dumps(report.as_json([result], VERSIONS)))
  assert found['status'] == report.NEVER_RUN
  [one] = found['results']
  assert one['topology']['name'] == 'v5e:2x2'
  step, broken = one['outcomes']
  assert step['program']['bytes_accessed'] == 819e7
  assert step['per_second'] == pytest.approx(6400)
  assert broken['error'].startswith('operation AsString')


def test_rates_are_of_all_chips_together(tmp_path):
  seconds = estimates.Seconds(0.5, 1.0, 0.01, 0.09)
  result = preflight.Result(
    'birds', TOPOLOGY, 'bfloat16', [STEP], seconds=seconds
  )
  (tmp_path / 'rates.json').write_text(json.dumps(report.rates([result])))
  machine, found = rates.read(str(tmp_path / 'rates.json'), ['birds'])
  assert (machine.devices, machine.parallel, machine.lower_bound) == (
    4,
    1,
    True,
  )
  assert 'roofline' in machine.text and report.NEVER_RUN in machine.text
  # Four chips share a batch: one step at a time, four images and gradients.
  assert found['birds'].step == 0.5 and found['birds'].explained_step == 1.0
  assert found['birds'].test_image == pytest.approx(0.01 / 4)
  assert found['birds'].gradient == pytest.approx(0.09 / 4)


def test_rates_need_every_step():
  result = preflight.Result('birds', TOPOLOGY, 'float32', [STEP])
  with pytest.raises(errors.UsageError, match='birds'):
    report.rates([result])
