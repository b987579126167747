"""Tests of npz files with scores: what is read, what is refused."""

import numpy as np
import pytest

from roar_tf import errors, score_files

SHAPE = (4, 5, 3)


def _scores(count, shape=SHAPE, dtype=np.float32):
  return np.random.default_rng(0).normal(size=(count, *shape)).astype(dtype)


def _ids(count):
  return np.array([f'example_{i}' for i in range(count)])


def _files(folder):
  return score_files.ScoreFiles(str(folder), SHAPE)


@pytest.mark.parametrize(
  'save, dtype', [(np.savez, '>f4'), (np.savez_compressed, np.float16)]
)
def test_rows_are_found_in_any_file_and_order(save, dtype, tmp_path):
  scores, ids = _scores(30, dtype=dtype), _ids(30)
  order = np.random.default_rng(1).permutation(30)
  for number, rows in enumerate(np.split(order, [7, 8])):
    save(tmp_path / f'{number}.npz', scores=scores[rows], ids=ids[rows])
  files = _files(tmp_path)
  assert len(files) == 30
  for rows in ([0, 1, 2], [29, 3, 3, 12], range(30)):
    found = files.rows([ids[row].encode() for row in rows])
    np.testing.assert_array_equal(found, scores[list(rows)])
    assert found.dtype == np.dtype(dtype).newbyteorder('=')


@pytest.mark.parametrize('last', [(), (1,)], ids=str)
def test_one_score_per_pixel(last, tmp_path):
  scores = _scores(3, (4, 5, *last))
  np.savez(tmp_path / 'a.npz', ids=_ids(3), scores=scores)
  found = _files(tmp_path).rows([b'example_2', b'example_0'])
  expected = scores.reshape(3, 4, 5, 1)[[2, 0]]
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  ('ids', 'keys'),
  [
    (np.array([b'a', b'b']), [b'a', b'b']),
    (np.array(['é', 'b']), ['é'.encode(), b'b']),
    (np.array([7, -1]), [b'7', b'-1']),
  ],
)
def test_ids_are_strings_or_integers(ids, keys, tmp_path):
  scores = _scores(2)
  np.savez(tmp_path / 'a.npz', ids=ids, scores=scores)
  np.testing.assert_array_equal(_files(tmp_path).rows(keys), scores)


def test_missing_ids_are_counted_and_named_and_extra_ones_counted(tmp_path):
  np.savez(tmp_path / 'a.npz', ids=_ids(10), scores=_scores(10))
  files = _files(tmp_path)
  assert files.check_all(i.encode() for i in _ids(10)) == 0
  assert files.check_all(i.encode() for i in _ids(6)) == 4
  with pytest.raises(errors.UsageError, match='5 ."example_10".* of 15'):
    files.check_all(i.encode() for i in _ids(15))


def test_fewer_rows_than_images_since_these_share_ids_are_refused(tmp_path):
  np.savez(tmp_path / 'a.npz', ids=_ids(5), scores=_scores(5))
  ids = [i.encode() for i in _ids(5)]
  with pytest.raises(errors.UsageError, match='several images have: 2 ."exa'):
    _files(tmp_path).check_all([*ids, *ids[3:]])


def test_an_id_that_stands_twice_is_named(tmp_path):
  np.savez(tmp_path / 'a.npz', ids=_ids(4), scores=_scores(4))
  np.savez(tmp_path / 'b.npz', ids=_ids(2), scores=_scores(2))
  with pytest.raises(errors.UsageError, match='twice: 2 ."example_0"'):
    _files(tmp_path)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'scores': _scores(3)}, '4 ids'),
    ({'scores': _scores(4, (3, 4, 5))}, 'channels last'),
    ({'scores': _scores(4, (4, 5, 2))}, 'scores'),
    ({'scores': np.zeros((4, *SHAPE), int)}, 'int64'),
    ({'scores': np.asfortranarray(_scores(4))}, 'ascontiguousarray'),
    ({'ids': np.arange(4.0)}, 'float64'),
    ({'ids': np.array(['a', 1, 2, 3], object)}, 'object'),
    ({'ids': _ids(4)[:, None]}, 'ids'),
    ({'scores': None}, 'scores'),
  ],
)
def test_other_arrays_are_refused_with_the_name_of_the_file(
  changes, words, tmp_path
):
  arrays = {'ids': _ids(4), 'scores': _scores(4), **changes}
  arrays = {k: v for k, v in arrays.items() if v is not None}
  np.savez(tmp_path / 'odd.npz', **arrays)
  with pytest.raises(errors.UsageError, match=f'odd.npz.*{words}'):
    _files(tmp_path)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04'])
def test_other_files_are_refused(content, tmp_path):
  (tmp_path / 'odd.npz').write_bytes(content)
  with pytest.raises(errors.UsageError, match='odd.npz is no npz file'):
    _files(tmp_path)


def test_a_directory_without_files_is_refused(tmp_path):
  with pytest.raises(errors.UsageError, match='holds no .*npz files'):
    _files(tmp_path)
