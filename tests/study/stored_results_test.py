"""Tests of `roar_tf.load_results`."""

import shutil

import numpy as np
import pandas as pd
import pytest

import roar_tf
from roar_tf import errors
from roar_tf.analysis import results


@pytest.fixture(scope='module')
def loaded(finished):
  return roar_tf.load_results(finished, 'small')


def test_tables_are_those_of_the_report(loaded, finished):
  folder = finished / 'reports/small'
  assert loaded.study == 'small' and loaded.folder == str(folder)
  assert loaded.sources == ['tiny'] and loaded.modes == ['remove']
  assert loaded.estimators == ['grad', 'random']
  assert len(loaded.runs) == 10
  pd.testing.assert_frame_equal(
    loaded.runs, results.read_csv(str(folder / 'results.csv'))
  )
  plain = pd.read_csv(folder / 'statistics.csv')
  for column in ('value', 'low', 'threshold'):
    np.testing.assert_array_equal(
      loaded.statistics[column].astype(float), plain[column]
    )
  assert not loaded.statistics['quantity'].eq('').any()


def test_the_table_has_verdicts_leads_and_accuracies(loaded):
  table = loaded.table()
  assert [*table.columns] == ['verdict', 'lead', 'low', 'high', 30, 70]
  assert sorted(table.index) == ['grad', 'random']
  rows = loaded.runs.query('estimator == "grad" and threshold == 30')
  assert table.loc['grad', 30] == pytest.approx(100 * rows['accuracy'].mean())
  lead = loaded.statistics.query(
    'estimator == "grad" and quantity == "lead" and input == "image"'
  )
  assert table.loc['grad', 'lead'] == pytest.approx(100 * lead['value'].item())
  assert table.loc['grad', 'verdict'] == lead['decision'].item()
  assert np.isnan(table.loc['random', 'lead'])
  pd.testing.assert_frame_equal(table, loaded.table('tiny', 'remove'))
  for text in (loaded._repr_html_(), str(loaded)):
    assert 'grad' in text and f'{table.loc["grad", 30]:.1f}' in text
  assert '10 runs' in repr(loaded)


def test_several_sources_and_modes_share_a_table(loaded, tmp_path):
  """The lead of a table without statistics is the area between curves."""
  rows = loaded.runs
  masked = rows['mode'] == 'remove'
  both = pd.concat([rows, rows[masked].assign(mode='keep')])
  both = pd.concat([both, both.assign(source='other')])
  results.write_csv(both, str(tmp_path / 'mine.csv'))
  found = roar_tf.load_results(tmp_path / 'mine.csv')
  assert found.statistics.empty and found.modes == ['remove', 'keep']
  table = found.table()
  assert table.index.names == ['source', 'mode', 'estimator']
  assert len(table) == 2 * 2 * 2
  one = found.table('other', 'remove', 'grad')
  assert [*one.index] == [*loaded.table().index]
  assert np.isfinite(one.loc['grad', 'lead'])
  assert len(found.plot('other').axes) == 1
  assert found.plot('other', 'keep', ['grad'])._repr_png_()[0][1:4] == b'PNG'
  with pytest.raises(errors.UsageError, match=r'plot\("other"\)'):
    found.plot()


def test_a_folder_and_the_only_study_need_no_name(loaded, finished, tmp_path):
  folder = shutil.copytree(finished / 'reports/small', tmp_path / 'sent')
  for place in (finished, folder, f'{folder}/results.csv'):
    found = roar_tf.load_results(place)
    pd.testing.assert_frame_equal(found.table(), loaded.table())
  assert roar_tf.load_results(finished, 'somewhere/small.gin').study == 'small'


def test_mistakes_are_told_in_a_sentence(loaded, finished, damaged, tmp_path):
  shutil.copytree(damaged / 'reports/small', damaged / 'reports/large')
  shutil.rmtree(damaged / 'reports/small')
  (tmp_path / 'empty').mkdir()
  statistics = finished / 'reports/small/statistics.csv'
  for call, words in (
    (lambda: roar_tf.load_results(tmp_path / 'nowhere'), 'no workspace'),
    (lambda: roar_tf.load_results(tmp_path / 'empty'), 'no report of any'),
    (lambda: roar_tf.load_results(finished, 'smal'), 'mean "small"'),
    (lambda: roar_tf.load_results(damaged, 'small'), 'roar_report --study=sma'),
    (lambda: roar_tf.load_results(tmp_path / 'a.csv'), 'no file'),
    (lambda: roar_tf.load_results(statistics), 'no table of results'),
    (lambda: loaded.table('tiney'), 'no source "tiney". Did you mean "tiny"'),
    (lambda: loaded.table(mode='keep'), 'no mode "keep"'),
    (lambda: loaded.plot(estimators=['gard']), 'Did you mean "grad"'),
  ):
    with pytest.raises(errors.RoarError, match=words.replace('(', r'\(')) as e:
      call()
    assert '\n' not in str(e.value)
  shutil.copytree(damaged / 'reports/large', damaged / 'reports/small')
  with pytest.raises(errors.UsageError, match='name one of large, small'):
    roar_tf.load_results(damaged)
