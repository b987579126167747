"""Tests of roar_tf.planning.screen."""

import pytest

from roar_tf.planning import screen
from roar_tf.planning.amounts import Amount, Tally
from roar_tf.planning.rates import Machine, Rates

TALLIES = [Tally('train', done=1000, left=2730), Tally('report', left=1)]
AMOUNT = Amount(
  runs=2730,
  steps=1_234_567,
  explained_steps=100,
  evaluations=2731,
  test_images=50,
  explained_images=1000,
  gradient_evaluations=416_000,
)
RATES = Rates(1.0, 0.0, 0.0, 0.0)


def page(**options):
  return screen.text(
    'toy in ./w', TALLIES, {'birds': AMOUNT}, {'train': 5_000_000}, **options
  )


def row(text: str, name: str) -> list[str]:
  [line] = [x for x in text.splitlines() if x.startswith(name)]
  return line.removeprefix(name).split()


def test_counts_are_exact():
  text = page()
  assert 'nothing was written' in text
  assert row(text, 'train ') == ['3,730', '1,000', '2,730', '5,000,000']
  assert row(text, 'report') == ['1', '0', '1', '0']
  assert row(text, 'all') == ['3,731', '1,000', '2,731', '5,000,000']
  assert row(text, 'gradient evaluations') == ['416,000']
  assert row(text, 'trainings') == ['2,731']
  assert row(text, '  training steps') == ['1,234,667']
  assert row(text, 'models tested') == ['2,731']
  assert row(text, '  test images') == ['136,550']
  assert 'device-hours' not in text and 'time' not in text


def test_sources_have_columns_and_a_sum():
  text = screen.text('toy', TALLIES, {'birds': AMOUNT, 'dogs': AMOUNT}, {})
  assert row(text, 'to compute') == ['birds', 'dogs', 'all']
  assert row(text, 'gradient evaluations') == ['416,000', '416,000', '832,000']


def test_time_and_cost_follow_from_rates():
  machine = Machine('measured', devices=4, report=10.0)
  text = page(machine=machine, rates={'birds': RATES}, price=2.5)
  hours = (1_234_567 + 10) / 3600
  assert row(text, 'train ')[-4:] == ['14', 'd', '6', 'h']
  assert f'{hours * 4:,.0f} device-hours' in text
  assert f'cost {hours * 4 * 2.5:,.2f}' in text
  assert 'About 14 d 6 h' in text and 'Rates: measured.' in text
  shared = page(machine=machine, rates={'birds': RATES}, workers=2)
  assert '7 d 3 h wall time, 2 workers' in shared and 'cost' not in shared


def test_a_roofline_is_called_a_lower_bound():
  machine = Machine('the roofline', lower_bound=True)
  text = page(machine=machine, rates={'birds': RATES})
  assert 'At least 14 d 6 h' in text and 'lower bound' in text


@pytest.mark.parametrize(
  'seconds, words',
  [
    (0, '0.0 s'),
    (9.94, '9.9 s'),
    (59.4, '59 s'),
    (60, '1 min 0 s'),
    (200, '3 min 20 s'),
    (3599.6, '1 h 0 min'),
    (90_000, '1 d 1 h'),
    (86_400 * 1234, '1,234 d 0 h'),
  ],
)
def test_durations_have_two_units(seconds, words):
  assert screen.duration(seconds) == words
