"""Tests of scores made elsewhere: files that become rankings, by the tools."""

import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import scipy.ndimage
import tensorflow_datasets as tfds

import roar_tf
from roar_tf import errors

DOCUMENT = (
  pathlib.Path(__file__).parents[2] / 'docs/guides/external_attributions.md'
)


@pytest.fixture
def place(finished, tmp_path):
  """A workspace that holds the tiny dataset and nothing else."""
  part = 'tfds/roar_tiny/original'
  shutil.copytree(finished / part, tmp_path / 'workspace' / part)
  return tmp_path / 'workspace'


def _originals(place):
  """Returns {id: image} of both splits."""
  data = tfds.load('roar_tiny/original', data_dir=place / 'tfds')
  return {
    example['id']: example['image']
    for split in ('train', 'test')
    for example in tfds.as_numpy(data[split])
  }


@pytest.fixture
def scores(place):
  """Scores [8, 8, 3] by id."""
  generator = np.random.default_rng(0)
  return {
    id_: generator.normal(size=(8, 8, 3)).astype(np.float32)
    for id_ in sorted(_originals(place))
  }


@pytest.fixture
def save(tmp_path):
  """Function that saves scores in files, in another order, and says where."""

  def write(scores, name='scores'):
    folder = tmp_path / name
    folder.mkdir()
    ids = np.random.default_rng(1).permutation(sorted(scores))
    for number, part in enumerate(np.array_split(ids, 4)):
      np.savez(
        folder / f'{number}.npz',
        ids=part,
        scores=np.stack([scores[id_] for id_ in part]),
      )
    return folder

  return write


@pytest.fixture
def rank(tool, tiny, place):
  """Function that runs roar_rank --scores."""

  def run(folder, *arguments, name='captum_ig'):
    return tool(
      'roar_rank',
      f'--dataset={tiny.dataset}',
      *tiny.flags(place),
      f'--scores={folder}',
      f'--estimators={name}',
      *arguments,
    )

  return run


def _levels(place, config):
  data = tfds.load(f'roar_tiny/{config}', data_dir=place / 'tfds')
  return {
    example['id']: example['levels']
    for split in ('train', 'test')
    for example in tfds.as_numpy(data[split])
  }


def _ranked(scores, **how):
  """Returns {id: levels} of {id: scores}, in one call of `roar_tf.rank`."""
  levels = roar_tf.rank(np.stack([*scores.values()]), ids=[*scores], **how)
  return dict(zip(scores, levels.numpy(), strict=True))


def test_scores_from_files_are_ranked_as_those_of_any_estimator(
  rank, save, scores, place
):
  outcome = rank(save(scores))
  assert outcome.status == 0, outcome.err
  # No model was there and none was made: it is elsewhere.
  assert 'model' not in outcome.counts()
  assert outcome.counts()['rank'] == (6, 0, 0)
  # The ranking is all that there is of them.
  assert sorted(os.listdir(place)) == ['tfds']
  found = _levels(place, 'ranking_captum_ig_pixel')
  assert found.keys() == scores.keys()
  for id_, expected in _ranked(scores).items():
    np.testing.assert_array_equal(found[id_], expected)


def test_scores_from_files_are_shuffled_once_they_are_ranked(
  rank, save, scores, place, tool, tiny
):
  flags = [f'--dataset={tiny.dataset}', *tiny.flags(place)]
  shuffle = [*flags, '--estimators=shuffle_captum_ig']
  early = tool('roar_rank', *shuffle)
  assert early.status == 2 and '"shuffle_captum_ig"' in early.err
  folder = save(scores)
  refused = rank(folder, name='shuffle_captum_ig')
  assert refused.status == 2 and 'choose another name' in refused.err
  assert rank(folder, name='captum_ig').status == 0
  assert tool('roar_rank', *shuffle).status == 0
  own, shuffled = (
    _levels(place, f'ranking_{name}_pixel')
    for name in ('captum_ig', 'shuffle_captum_ig')
  )
  assert own.keys() == shuffled.keys()
  maps = [{m.tobytes() for m in each.values()} for each in (own, shuffled)]
  assert maps[0] == maps[1]
  assert all((own[id_] != shuffled[id_]).any() for id_ in own)
  # What is made elsewhere has no initial weights here.
  wrong = tool('roar_rank', *flags, '--estimators=untrained_captum_ig')
  assert wrong.status == 2 and 'Unknown' in wrong.err


def test_other_tools_need_the_name_alone(rank, save, scores, place, tool, tiny):
  folder = save(scores)
  assert rank(folder).status == 0
  shutil.rmtree(folder)
  flags = [f'--dataset={tiny.dataset}', *tiny.flags(place)]
  cell = ['--estimator=captum_ig', '--threshold=30']
  outcome = tool('roar_shards', *flags, *cell)
  assert outcome.status == 0, outcome.err
  outcome = tool('roar_train', *flags, '--cell=captum_ig_pixel_remove_30')
  assert outcome.status == 0, outcome.err
  assert 'captum_ig_pixel_remove_30/seed_0: accuracy' in outcome.out
  assert not (place / 'models').exists()
  study = [f'--study={tiny.study}', *tiny.flags(place)]
  study += ["--gin_bindings=Study.estimators = ('captum_ig',)"]
  outcome = tool('roar_study', *study, '--gin_bindings=Study.seeds = 1')
  assert outcome.status == 0, outcome.err
  assert outcome.counts()['rank'] == (0, 6, 0)
  assert outcome.counts()['train'] == (3, 0, 0)
  assert 'captum_ig' in (place / 'reports/small/table.md').read_text()
  # Another workspace does not know it.
  outcome = tool('roar_study', *study, f'--workspace={place}/other')
  assert outcome.status == 2 and 'Unknown estimator "captum_ig"' in outcome.err


def test_scores_from_files_take_filters(rank, save, scores, place):
  folder = save({id_: values[..., 0] for id_, values in scores.items()})
  names = 'captum_ig,blur_captum_ig,max_captum_ig'
  outcome = rank(folder, name=names)
  assert outcome.status == 0, outcome.err
  # Shards of the three are written together.
  assert outcome.counts()['rank'] == (5 + 3, 0, 0)
  for kind, function in (
    ('blur', lambda x: scipy.ndimage.gaussian_filter(x, 1.0)),
    ('max', lambda x: scipy.ndimage.maximum_filter(x, 3)),
  ):
    levels = _levels(place, f'ranking_{kind}_captum_ig_pixel')
    values = {id_: function(scores[id_][..., 0])[..., None] for id_ in levels}
    for id_, expected in _ranked(values).items():
      found = levels[id_]
      # Sums of other roundings may exchange neighbours.
      assert np.abs(expected.astype(int) - found).max() <= 2
      assert (expected == found).mean() > 0.95


def test_one_score_per_pixel_ranks_elements(rank, save, scores, place):
  folder = save({id_: values[..., 0] for id_, values in scores.items()})
  outcome = rank(folder, '--granularity=element')
  assert outcome.status == 0, outcome.err
  found = _levels(place, 'ranking_captum_ig_element')
  values = {id_: np.repeat(scores[id_][..., :1], 3, axis=-1) for id_ in found}
  for id_, expected in _ranked(values, granularity='element').items():
    np.testing.assert_array_equal(found[id_], expected)


def test_other_scores_under_a_name_are_refused(
  rank, save, scores, place, artefacts
):
  assert rank(save(scores)).status == 0
  again = rank(save(scores, 'moved'))
  assert again.status == 0 and again.counts()['rank'] == (0, 6, 0)
  before = artefacts(place)
  other = save({id_: -values for id_, values in scores.items()}, 'other')
  outcome = rank(other)
  assert outcome.status == 2
  for word in ('ranking_captum_ig_pixel', 'made with other settings', 'scores'):
    assert word in outcome.err
  assert artefacts(place) == before
  assert rank(other, name='captum_other').status == 0


def test_what_is_lost_comes_back_from_the_files_alone(
  rank, save, scores, place, tool, tiny, artefacts, shard_of
):
  folder = save(scores)
  assert rank(folder).status == 0
  before = artefacts(place)
  shard = shard_of(place, 'ranking_captum_ig_pixel', 'train', 1)
  shard.unlink()
  shard.with_name(f'{shard.name}.DONE').unlink()
  flags = [f'--dataset={tiny.dataset}', *tiny.flags(place)]
  flags += ['--estimators=captum_ig']
  outcome = tool('roar_rank', *flags)
  assert outcome.status == 1
  for word in ('"captum_ig" was ranked from files', 'roar_rank --scores=DIR'):
    assert word in outcome.err
  # Nor is there a ranking of elements, which would make the name valid.
  outcome = tool('roar_rank', *flags, '--granularity=element')
  assert outcome.status == 2 and 'Unknown estimator' in outcome.err
  outcome = rank(folder)
  assert outcome.counts()['rank'] == (1, 5, 0)
  assert artefacts(place) == before


def test_ids_are_checked_before_anything_is_ranked(rank, save, scores, place):
  less = {id_: v for id_, v in scores.items() if id_ != b'train_007'}
  outcome = rank(save(less))
  assert outcome.status == 2
  assert 'ids without scores: 1 ("train_007") of 180' in outcome.err
  assert os.listdir(place / 'tfds/roar_tiny') == ['original']
  more = {**scores, b'another': scores[b'train_007']}
  outcome = rank(save(more, 'more'))
  assert outcome.status == 0
  assert '1 of 181 ids' in outcome.out + outcome.err


def test_scores_that_are_not_finite_are_named(rank, save, scores):
  scores[b'test_003'][1, 2, 0] = np.nan
  outcome = rank(save(scores))
  assert outcome.status == 1
  for word in ('captum_ig', "'test_003'", 'NaN'):
    assert word in outcome.err


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('grad', ["'grad'", 'another name']),
    ('sg_sq_ig', ["'sg_sq_ig'", 'another name']),
    ('Captum', ["'Captum'", 'lower-case']),
    ('original', ["'original'"]),
    ('a,b', ['one new name', 'a,b']),
  ],
)
def test_a_name_must_be_new(name, words, rank, save, scores, place):
  outcome = rank(save(scores), name=name)
  assert outcome.status == 2
  for word in words:
    assert word in outcome.err
  assert os.listdir(place / 'tfds/roar_tiny') == ['original']


def test_no_prefix_but_filters_applies(rank, save, scores, place, tool, tiny):
  assert rank(save(scores)).status == 0
  for name, hint in (
    ('sg_captum_ig', ''),
    ('blur_captum_ig', ''),  # Its own ranking would make it valid.
    ('gradd', 'Did you mean "grad"'),
  ):
    outcome = tool(
      'roar_rank',
      f'--dataset={tiny.dataset}',
      *tiny.flags(place),
      f'--estimators={name}',
    )
    assert outcome.status == 2
    assert f'Unknown estimator "{name}"' in outcome.err
    assert hint in outcome.err
  with pytest.raises(errors.UsageError, match='Unknown estimator "captum_ig"'):
    roar_tf.explain(None, np.zeros((1, 8, 8, 3), np.float32), 'captum_ig')


def test_the_documented_example(rank, place, tmp_path, monkeypatch):
  blocks = re.findall(r'```python\n(.*?)```', DOCUMENT.read_text(), re.S)
  captum, saving = blocks
  compile(captum, 'captum', 'exec')
  monkeypatch.chdir(tmp_path)
  code = saving.replace('fashion_mnist_10k', 'tiny')
  exec(code, {'attribute': lambda images: images.astype(np.float32)})
  outcome = rank(place / 'scores/tiny/captum_ig')
  assert outcome.status == 0, outcome.err
  images = _originals(place)
  found = _levels(place, 'ranking_captum_ig_pixel')
  values = {id_: images[id_].astype(np.float32) for id_ in found}
  for id_, expected in _ranked(values).items():
    np.testing.assert_array_equal(found[id_], expected)
