"""Tests of which runs a report believes, and what it says of the others."""

import shutil

import pytest

from roar_tf.engine import markers
from roar_tf.study import finished as finished_runs

RUN = 'grad_pixel_remove_30'


@pytest.fixture
def read(tiny, damaged):
  """Function that returns what a report of the workspace is made from."""

  def runs(*bindings):
    pipeline = tiny.pipeline(damaged, *bindings)
    artefacts = {r: pipeline.of(r).train.artefact(r) for r in pipeline.runs}
    return finished_runs.read(artefacts)

  return runs


def test_every_intact_run_has_one_row_that_says_what_its_result_says(
  read, damaged, check_rows
):
  runs = read()
  assert runs.excluded == [] and len(runs.frame) == 10
  assert set(runs.devices.values()) == {1}
  check_rows(runs.frame, damaged)


@pytest.mark.parametrize(
  'name, content, words',
  [
    ('DONE', '{"fingerprint": {}}', 'is damaged'),
    ('result.json', '{"accuracy": 1.0', 'checksum'),
    ('result.json', '{"accuracy": 0.5, "steps": 1}', 'checksum'),
    ('timing.json', '{}', "'seconds' is not in it"),
    ('timing.json', '{"seconds": NaN}', 'no number'),
    ('timing.json', '[1', 'is damaged'),
  ],
)
def test_a_damaged_file_of_a_run_is_named_and_the_run_left_out(
  name, content, words, read, damaged, run_of
):
  path = run_of(damaged, RUN, 1) / name
  path.write_text(content)
  runs = read()
  (sentence,) = runs.excluded
  for word in (f'tiny/{RUN}/seed_1 is left out', str(path), words):
    assert word in sentence
  assert 'and run the same command again' in sentence
  assert len(runs.frame) == 9


def test_an_unfinished_run_is_a_missing_one(read, damaged, run_of):
  # Killed between the result and the marker.
  (run_of(damaged, RUN) / 'DONE').unlink()
  runs = read()
  assert len(runs.frame) == 9 and not runs.excluded


def test_runs_of_other_settings_are_left_out(read):
  other = ('Training.momentum=0.5', 'explained/Training.momentum=0.9')
  runs = read(*other)
  assert runs.frame.empty
  assert len(runs.excluded) == 5  # One sentence a cell, with its seeds.
  for sentence in runs.excluded:
    assert '/seed_0, 1 was made with other settings' in sentence
    assert 'Training.momentum: 0.9 there, 0.5 asked for' in sentence


def test_runs_from_another_ranking_are_left_out(read, damaged, run_of):
  path = str(run_of(damaged, RUN, 1) / 'DONE')
  record = markers.read(path)
  fingerprint = record.pop('fingerprint')
  del record['seal']
  fingerprint['inputs']['ranking'] = 'f' * 64
  markers.write(path, fingerprint, record)
  runs = read()
  (sentence,) = runs.excluded
  assert len(runs.frame) == 9
  assert f'tiny/{RUN}/seed_1 was made from another ranking than ' in sentence
  # Where the ranking is gone, what most runs say of it holds.
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_grad_pixel')
  assert 'than most runs of it' in read().excluded[0]
