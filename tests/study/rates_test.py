"""Tests of roar_tf.study.rates."""

import json

import pytest

from roar_tf import errors
from roar_tf.study import rates

RATES = rates.Rates(0.1, 0.2, 0.01, 0.001)
MACHINE = rates.Machine('a toy', devices=4, lower_bound=True)


@pytest.fixture
def file(tmp_path):
  """Function that writes a file after a change, and returns its path."""

  def write(change=lambda value: None) -> str:
    value = rates.as_json(MACHINE, {'birds': RATES, 'dogs': RATES})
    change(value)
    path = tmp_path / 'rates.json'
    path.write_text(json.dumps(value))
    return str(path)

  return write


def test_rates_come_back(file):
  machine, by_source = rates.read(file(), ['birds'])
  assert (machine, by_source['birds']) == (MACHINE, RATES)


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda v: v.update(format='x'), ["format is 'x'"]),
    (lambda v: v.pop('machine'), ['machine']),
    (lambda v: v['sources']['birds'].update(step=-1), ['step is -1']),
    (lambda v: v['sources']['birds'].update(step='1'), ["step is '1'"]),
    (
      lambda v: v['sources']['birds'].update(gradient=float('nan')),
      ['gradient is nan'],
    ),
    (lambda v: v['sources']['birds'].pop('step'), ['step']),
    (lambda v: v.update(sources=3), ['rates']),
    (lambda v: v['sources'].pop('birds'), ['no rates of birds']),
  ],
)
def test_other_files_are_refused(change, words, file):
  path = file(change)
  with pytest.raises(errors.UsageError) as refusal:
    rates.read(path, ['birds'])
  for word in (*words, f'--rates={path}'):
    assert word in str(refusal.value)
  assert '\n' not in str(refusal.value)


@pytest.mark.parametrize('content', [None, b'', b'[1, 2]', b'\xff\xfe'])
def test_no_such_file_or_no_json_is_refused(content, tmp_path):
  path = tmp_path / 'rates.json'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.UsageError, match='rates.json'):
    rates.read(str(path), ['birds'])
