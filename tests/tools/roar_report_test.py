"""Tests of roar_report."""

import csv
import shutil

import pytest


def test_a_report_of_some_runs_names_the_others(tool, tiny, damaged):
  shutil.rmtree(damaged / 'runs/small/tiny/grad_pixel_remove_70')
  outcome = tool('roar_report', f'--study={tiny.study}', *tiny.flags(damaged))
  assert outcome.status == 1
  assert '2 runs have not finished' in outcome.err
  assert 'tiny/grad_pixel_remove_70/seed_0, 1' in outcome.err
  assert 'Traceback' not in outcome.err
  assert outcome.counts() == {'report': (1, 0, 0)}
  page = (damaged / 'reports/small/index.html').read_text()
  assert 'grad_pixel_remove_70 lacks seeds 0, 1' in page
  assert f'Report: {damaged}/reports/small/index.html' in outcome.out
  # It makes no run.
  assert not (damaged / 'runs/small/tiny/grad_pixel_remove_70').exists()


def test_a_price_makes_the_report_anew_with_costs(tool, tiny, damaged):
  command = [f'--study={tiny.study}', *tiny.flags(damaged)]
  folder = damaged / 'reports/small'

  def cost(*flags) -> dict[str, float]:
    assert tool('roar_report', *command, *flags).status == 0
    with (folder / 'statistics.csv').open() as file:
      rows = list(csv.DictReader(file))
    return {
      row['quantity']: float(row['value'])
      for row in rows
      if row['quantity'] in ('seconds', 'cost')
    }

  assert 'cost' not in cost()
  found = cost('--price_per_hour=7.5')
  assert found['cost'] == pytest.approx(found['seconds'] / 3600 * 7.5)
  assert 'cost' not in cost()


def test_a_study_without_runs_is_a_failure_in_one_sentence(
  tool, tiny, tmp_path
):
  outcome = tool('roar_report', f'--study={tiny.study}', *tiny.flags(tmp_path))
  assert outcome.status == 1
  assert 'no finished run' in outcome.err
  assert 'Traceback' not in outcome.err


def test_bad_usage_is_one_sentence(tool, tmp_path):
  for argument, word in (
    ('--study=quikstart', '"quickstart"'),
    ('--seeds=3', 'seeds'),
    ('quickstart', '"quickstart"'),
  ):
    outcome = tool('roar_report', argument, f'--workspace={tmp_path}/w')
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1 and word in outcome.err
