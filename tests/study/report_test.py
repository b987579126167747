"""Tests of the report as a stage: from which runs, and when made anew."""

import shlex
import shutil

import pandas as pd
import pytest

from roar_tf.analysis import results
from roar_tf.study import context, experiment, gallery, paths
from roar_tf.study import report as report_module


@pytest.fixture(name='report')
def report_fixture(tiny, damaged, make):
  """Function that makes the report on the damaged workspace.

  It takes words of the failures that must occur, and returns the results, the
  page and the stage.
  """

  def run(fails=(), anew=False):
    if anew:  # As if no report had been made before the damage.
      shutil.rmtree(damaged / 'reports')
    pipeline = tiny.pipeline(damaged)
    make(pipeline, 'report', fails=fails)
    folder = damaged / 'reports/small'
    page = (folder / 'index.html').read_text()
    frame = results.read_csv(str(folder / 'results.csv'))
    return frame, page, pipeline.report

  return run


def test_the_report_of_a_whole_study_has_no_complaint(finished):
  page = (finished / 'reports/small/index.html').read_text()
  for text in ('lacks seed', 'is damaged'):
    assert text not in page
  assert 'Training.momentum = 0.9' in page  # The configuration that ran.
  assert 'roar_study --study=' in page


def test_a_report_names_the_missing_runs_and_is_remade_when_more_finish(
  finished, damaged, report, run_of
):
  gone = [('grad_pixel_remove_70', 0), ('original', 1)]
  for run in gone:
    shutil.rmtree(run_of(damaged, *run))
  frame, page, stage = report()
  assert len(frame) == 8
  assert 'grad_pixel_remove_70 lacks seed 0' in page
  assert 'original lacks seed 1' in page
  assert 'random_pixel_remove_30 lacks' not in page
  assert 'grad' in stage.summary()
  for run in gone:
    directory = run_of(damaged, *run)
    shutil.copytree(run_of(finished, *run), directory)
    frame, page, _ = report()
    assert f'{run[0]} lacks' not in page
  assert len(frame) == 10 and 'lacks seed' not in page


@pytest.mark.parametrize(
  'finished_cells, rows',
  [
    (['original'], 2),
    (['grad_pixel_remove_30', 'random_pixel_remove_70'], 4),
  ],
)
def test_any_cells_that_have_finished_make_a_report(
  finished_cells, rows, damaged, report
):
  for path in damaged.glob('runs/small/tiny/*'):
    if path.name not in finished_cells:
      shutil.rmtree(path)
  frame, page, stage = report()
  assert len(frame) == rows
  assert page.count('lacks seeds 0, 1') >= 5 - len(finished_cells)
  assert 'Report: ' in stage.summary()


def test_a_damaged_result_is_named_and_its_advice_helps(
  tiny, finished, damaged, report, run_of, make
):
  result = run_of(damaged, 'original', 0) / 'result.json'
  result.write_text('{"accuracy": 1.0')
  frame, page, _ = report('original/seed_0', anew=True)
  assert len(frame) == 9
  assert 'original/seed_0' in page and str(result) in page
  assert 'delete its directory and run the same command again' in page
  shutil.rmtree(result.parent)
  assert make(tiny.pipeline(damaged)).made == {'train': 1, 'report': 1}
  expected = run_of(finished, 'original', 0) / 'result.json'
  assert result.read_bytes() == expected.read_bytes()
  frame, page, _ = report()
  assert len(frame) == 10 and 'is damaged' not in page


def test_a_finished_report_is_not_made_anew_for_what_was_damaged_since(
  damaged, report, run_of, states
):
  (run_of(damaged, 'original', 0) / 'result.json').write_text('{')
  before = states(damaged / 'reports')
  report()
  assert states(damaged / 'reports') == before


def test_errors_of_test_images_are_in_the_statistics(finished):
  table = pd.read_csv(finished / 'reports/small/statistics.csv')
  rows = table[table['quantity'] == 'images_error']
  assert rows['estimator'].tolist() == ['grad']
  # 60 images that an arm has right or wrong.
  assert 0 < rows['value'].item() < (2 / 60) ** 0.5


def test_another_margin_makes_the_report_anew_and_nothing_else(
  tiny, damaged, make
):
  page = damaged / 'reports/small/index.html'
  assert 'the margin of 1.0 points' in page.read_text()
  for binding, words in (
    ('Study.margin = 0.2', 'the margin of 20.0 points'),
    ('Study.comparisons = 7', '7 comparisons'),
  ):
    assert words not in page.read_text()
    assert make(tiny.pipeline(damaged, binding)).made == {'report': 1}
    assert words in page.read_text()


def test_mosaics_show_images_of_several_classes(tiny, finished):
  stages = tiny.pipeline(finished).stages[0]
  examples = gallery.examples(stages.context, stages.data, stages.rank)
  assert len(examples) == 3
  assert len({example.original.tobytes() for example in examples}) == 3
  for example in examples:
    assert example.estimators == ['random', 'grad']
    assert example.thresholds == [30, 70]
    for (_, threshold), image in example.masked.items():
      changed = (image != example.original).any(axis=-1).mean()
      assert changed == pytest.approx(threshold / 100, abs=0.02)
  names = {path.name for path in (finished / 'reports/small').iterdir()}
  assert {'mosaic_tiny_1.png', 'mosaic_tiny_3.png'} <= names


def test_a_report_needs_runs_only(finished, damaged, report):
  # Sources, rankings and shards may have been deleted to save space.
  for path in (damaged / 'tfds/roar_tiny').glob('*_remove_*'):
    shutil.rmtree(path)
  frame, page, _ = report(anew=True)
  assert len(frame) == 10 and 'lacks seed' not in page
  table = (damaged / 'reports/small/table.md').read_text()
  assert table == (finished / 'reports/small/table.md').read_text()


def test_the_terminal_shows_a_table_per_source_and_mode(tiny, finished):
  text = tiny.pipeline(finished).report.summary()
  assert 'tiny, remove' in text
  assert text.splitlines()[-1].endswith('reports/small/index.html')
  for word in ('random', 'grad', '30 %', '70 %'):
    assert word in text


def test_the_command_of_a_study_keeps_every_binding(tmp_path):
  binding = "Source.tfds_name = 'my_dataset'"
  (loaded,) = experiment.load(study='quickstart', gin_bindings=[binding])
  one = context.Context(paths.Workspace(str(tmp_path)), loaded)
  assert shlex.split(report_module.study_command(one)) == [
    'roar_study',
    '--study=quickstart',
    f'--gin_bindings={binding}',
  ]
