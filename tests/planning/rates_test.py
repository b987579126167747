"""Tests of roar_tf.planning.rates."""

import json

import pytest

from roar_tf import errors
from roar_tf.planning import rates

RATES = rates.Rates(0.1, 0.2, 0.01, 0.001, once={'rank': 2.0})
MACHINE = rates.Machine('a toy', devices=4, lower_bound=True)


def test_rates_come_back(tmp_path):
  file = tmp_path / 'rates.json'
  file.write_text(json.dumps(rates.as_json(MACHINE, {'birds': RATES})))
  assert rates.read(str(file), ['birds']) == (MACHINE, {'birds': RATES})


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda v: v.update(format='x'), ["format is 'x'"]),
    (lambda v: v.pop('machine'), ['machine']),
    (lambda v: v['sources']['birds'].update(step=-1), ['step is -1']),
    (lambda v: v['sources']['birds'].update(step='1'), ["step is '1'"]),
    (lambda v: v['sources']['birds'].update(run=float('nan')), ['run is nan']),
    (lambda v: v['sources']['birds'].pop('step'), ['step']),
    (lambda v: v['sources']['birds'].update(stpe=1), ['stpe']),
    (lambda v: v['sources']['birds']['once'].update(rank=None), ['once rank']),
    (lambda v: v.update(sources=3), ['rates']),
    (lambda v: v['sources'].pop('birds'), ['no rates of birds']),
  ],
)
def test_other_files_are_refused(change, words, tmp_path):
  value = rates.as_json(MACHINE, {'birds': RATES, 'dogs': RATES})
  change(value)
  file = tmp_path / 'rates.json'
  file.write_text(json.dumps(value))
  with pytest.raises(errors.UsageError) as e:
    rates.read(str(file), ['birds'])
  for word in (*words, f'--rates={file}'):
    assert word in str(e.value)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('content', [None, b'', b'[1, 2]', b'\xff\xfe'])
def test_no_such_file_or_no_json_is_refused(content, tmp_path):
  file = tmp_path / 'rates.json'
  if content is not None:
    file.write_bytes(content)
  with pytest.raises(errors.UsageError, match='rates.json'):
    rates.read(str(file), ['birds'])
