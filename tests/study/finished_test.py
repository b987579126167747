"""Tests of which runs a report believes, and what it says of the others."""

import hashlib
import io
import shutil

import numpy as np
import pytest

from roar_tf.analysis import results
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
    ('test_predictions.npz', '', 'SHA-256'),
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


@pytest.fixture
def forge(damaged, run_of, predictions):
  """Function that rewrites a run's predictions as if it had written them."""

  def change(seed, **arrays):
    folder = run_of(damaged, RUN, seed)
    whole = predictions(folder) | arrays
    buffer = io.BytesIO()
    np.savez(buffer, **whole)
    path = folder / 'test_predictions.npz'
    path.write_bytes(buffer.getvalue())
    record = markers.read(str(folder / 'DONE'))
    fingerprint = record.pop('fingerprint')
    del record['seal']
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record['files'] = record['files'] | {path.name: digest}
    markers.write(str(folder / 'DONE'), fingerprint, record)
    return path

  return change


def answers(runs, seed):
  """The answers of a run, by `results.IDENTITY` as an analysis asks."""
  (run,) = (r for r in runs.answers if (r.cell_name, r.seed) == (RUN, seed))
  return finished_runs.correct(runs.answers)(results.identity(run.columns))


def test_a_flipped_bit_of_predictions_is_named_and_the_run_left_out(
  read, damaged, run_of, flip
):
  path = run_of(damaged, RUN, 1) / 'test_predictions.npz'
  flip(path)
  runs = read()
  (sentence,) = runs.excluded
  assert f'tiny/{RUN}/seed_1 is left out' in sentence and str(path) in sentence
  assert len(runs.frame) == len(runs.answers) == 9


def test_answers_are_those_of_the_images_whatever_their_order(
  read, damaged, run_of, predictions, forge
):
  before = answers(read(), 1)
  own = predictions(run_of(damaged, RUN, 1))
  order = np.argsort(own['ids'])
  np.testing.assert_array_equal(before, own['correct'][order])
  assert 0 < before.mean() < 1
  shuffled = np.random.default_rng(0).permutation(len(order))
  forge(1, **{name: values[shuffled] for name, values in own.items()})
  runs = read()
  assert not runs.excluded
  np.testing.assert_array_equal(answers(runs, 1), before)


def test_answers_that_do_not_fit_the_accuracy_are_those_of_another_run(
  read, forge, damaged, run_of, predictions
):
  own = predictions(run_of(damaged, RUN, 1))['correct']
  path = forge(1, correct=~own)
  (sentence,) = read().excluded
  assert str(path) in sentence and 'does not fit the result.json' in sentence


def test_a_run_on_other_images_has_no_answers_and_keeps_its_accuracy(
  read, forge, damaged, run_of, predictions
):
  ids = predictions(run_of(damaged, RUN, 1))['ids']
  forge(1, ids=np.char.add(ids, b'x'))
  runs = read()
  assert len(runs.frame) == 10 and not runs.excluded
  assert answers(runs, 1) is None and answers(runs, 0) is not None


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
