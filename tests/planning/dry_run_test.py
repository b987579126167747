"""Tests of roar_study --dry_run, from flags to the screen."""

import json
import re

import pytest

from roar_tf.planning import rates


def _left(text: str) -> dict[str, int]:
  """Returns the column "to do" of the stages."""
  lines = text.splitlines()
  start = next(i for i, x in enumerate(lines) if x.startswith('stage'))
  rows = [line.split() for line in lines[start + 1 : start + 7]]
  return {row[0]: int(row[3].replace(',', '')) for row in rows}


def _rates(path, sources=('tiny',)):
  machine = rates.Machine('a toy', devices=4, lower_bound=True)
  one = rates.Rates(step=36.0, explained_step=0, test_image=0, gradient=0)
  path.write_text(
    json.dumps(rates.as_json(machine, dict.fromkeys(sources, one)))
  )
  return f'--rates={path}'


def test_rates_are_measured_and_nothing_is_written(tool, tiny, tmp_path):
  flags = [f'--study={tiny.study}', *tiny.flags(tmp_path / 'w'), '--dry_run']
  outcome = tool('roar_study', *flags, '--price_per_hour=10')
  assert outcome.status == 0, outcome.err
  assert not (tmp_path / 'w').exists()
  # As tests/tools/roar_study_test.py has them.
  assert _left(outcome.out) == {
    **{'source': 6, 'model': 1, 'rank': 7, 'shards': 14, 'train': 10},
    'report': 1,
  }
  assert 'measured here' in outcome.out
  assert re.search(r' device-hours, cost \d+\.\d\d\.$', outcome.out, re.M)
  times = [line for line in outcome.out.splitlines() if line.endswith(' s')]
  assert len(times) == 7  # Of six stages, and of all.
  assert not any(line.split()[-2:] == ['0.0', 's'] for line in times[4:])


def test_a_finished_study_has_nothing_left(tool, tiny, finished):
  flags = [f'--study={tiny.study}', *tiny.flags(finished), '--dry_run']
  outcome = tool('roar_study', *flags)
  assert outcome.status == 0, outcome.err
  assert set(_left(outcome.out).values()) == {0}
  assert 'measured' not in outcome.out  # There was no need to.


def test_counts_need_no_rates_and_a_file_is_multiplied(tool, tiny, tmp_path):
  flags = [f'--study={tiny.study}', *tiny.flags(tmp_path / 'w'), '--dry_run']
  counts = tool('roar_study', *flags, '--rates=none').out
  file = _rates(tmp_path / 'rates.json')
  priced = tool('roar_study', *flags, file, '--price_per_hour=2').out
  assert _left(counts) == _left(priced)
  assert 'device-hours' not in counts
  # Ten runs of 75 steps of 36 s are 7.5 hours of four devices.
  assert 'At least 7 h 30 min' in priced
  assert '30 device-hours, cost 60.00' in priced
  one = tool('roar_study', *flags, file, '--run=2').out
  assert _left(one)['train'] == 1 and 'report' not in one
  some = tool('roar_study', *flags, file, '--only=seed:1', '--stage=train').out
  assert 'At least 3 h 45 min' in some


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--dry_run', '--rates=no.json'], ['--rates=no.json', 'roar_preflight']),
    (['--rates=none'], ['--rates', '--dry_run']),
    (['--list', '--price_per_hour=3'], ['--price_per_hour', '--list']),
    (['--dry_run', '--price_per_hour=-1'], ['price_per_hour', '-1']),
    (['--dry_run', '--price_per_hour=3', '--rates=none'], ['--rates=none']),
    (['--dry_run', '--list'], ['--dry_run', '--list']),
    (['--dry_run', '--clean=shards'], ['--clean', '--dry_run']),
  ],
)
def test_a_mistake_is_one_sentence(flags, words, refused, tiny):
  refused('roar_study', [f'--study={tiny.study}', *flags], words)


def test_rates_of_another_study_are_refused(refused, tiny, tmp_path):
  file = _rates(tmp_path / 'rates.json', ('birds',))
  refused('roar_study', [f'--study={tiny.study}', '--dry_run', file], ['tiny'])
