"""What users get wrong by chance ends in one sentence, and never in silence.

Seeded draws stand for what nobody thought of: values of gin parameters, what
lies in a folder, and damage to files.
"""

import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import config, errors, score_files
from roar_tf.datasets.reader import Reader
from roar_tf.datasets.source import Source

GIN = {
  'tfds_name': "'tiny'",
  'image_shape': '(8, 8, 3)',
  'num_classes': '3',
  'train_images': '12',
  'test_images': '6',
  'images_per_shard': '4',
}
VALUES = (
  *('None', 'True', '0', '1', '-3', '2.5', '10 ** 9', "''", "'x'", "'train'"),
  *('()', '(8, 8)', '(8, 8, 3)', '[8, 8, 1]', "('a', 1, 2)", '(0, 8, 3)'),
  *('{}', "{'a': 1}", '[[]]', "'\\n'", "'a[:80%]'", "'none'", "'skip'"),
)
SHAPE = (3, 2, 1)


def _is_one_sentence(error) -> bool:
  """Whether a mistake, or each of several, is told in a sentence."""
  texts = getattr(error, 'messages', [str(error)])
  return all(len(t.splitlines()) == 1 and len(t) > 20 for t in texts)


def test_any_bindings_of_a_source_are_one_or_refused():
  generator = np.random.default_rng(0)
  fields = [name for name in Source.__dataclass_fields__ if name != 'name']
  taken = 0
  for _ in range(400):
    bindings = dict(GIN)
    for name in generator.choice(fields, generator.integers(1, 3)):
      bindings[str(name)] = str(generator.choice(VALUES))
    lines = [f'Source.{name} = {value}' for name, value in bindings.items()]
    try:
      config.parse([], lines)
      source = config.configured(Source, 'fuzzed')
    except errors.UsageError as e:
      assert _is_one_sentence(e), lines
      continue
    # What is taken can be described, divided and recorded.
    assert hash(source) and Source.from_settings(source.settings())
    assert source.shard_bounds('train')
    assert source.layout.image == source.image_shape
    taken += 1
  assert 20 < taken < 200


def _content(generator) -> bytes:
  """An image, intact or not, or something else."""
  size = tuple(generator.integers(1, 12, 2))
  image = generator.integers(0, 256, (*size, 3), np.uint8)
  encode = (tf.io.encode_png, tf.io.encode_jpeg)[generator.integers(2)]
  data = encode(image).numpy()
  what = generator.integers(6)
  if what == 0:
    return data[: generator.integers(len(data))]
  if what == 1:
    return bytes(generator.integers(0, 256, 40, np.uint8))
  if what == 2:
    return b'<html>404</html>'
  return data


@pytest.mark.parametrize('seed', range(12))
def test_any_folder_gives_all_its_images_or_names_what_it_does_not(
  seed, tmp_path
):
  generator = np.random.default_rng(seed)
  endings = ('.jpg', '.png', '.JPEG', '.gif', '.txt', '', '.webp')
  intact = dict.fromkeys(('train', 'test'), 0)
  for split in intact:
    for _ in range(8):
      place = tmp_path / split / str(generator.choice(['a', 'b', '.c', 'b/d']))
      place.mkdir(parents=True, exist_ok=True)
      name = f'{generator.integers(99)}{generator.choice(endings)}'
      (place / name).write_bytes(_content(generator))
    (tmp_path / split / 'a').mkdir(exist_ok=True)
    (tmp_path / split / 'b').mkdir(exist_ok=True)
    intact[split] = sum(
      path.suffix.lower() in ('.jpg', '.png', '.jpeg', '.webp')
      for name in 'ab'
      for path in (tmp_path / split / name).iterdir()
    )
  if not all(intact.values()):
    return
  source = Source(
    'fuzzed',
    folder=str(tmp_path),
    preprocessing='resize_crop',
    image_shape=(4, 4, 3),
    resize_short_side=4,
    num_classes=2,
    train_images=intact['train'],
    test_images=intact['test'],
    images_per_shard=4,
  )
  reader = Reader(source, None, '/nowhere')
  for split, count in intact.items():
    left_out: list[str] = []
    batches = list(reader.batches(split, 0, count, 3, left_out))
    assert sum(len(b['id']) for b in batches) + len(left_out) == count
    if left_out:
      with pytest.raises(errors.DataError, match=left_out[0]) as caught:
        list(reader.batches(split, 0, count, 3))
      assert _is_one_sentence(caught.value)
    for path in (tmp_path / split).rglob('*.txt'):
      assert path.parent.name in ('.c', 'd') or '.txt' in reader.ignored


def _npz(generator, save, **changes) -> bytes:
  arrays = {
    'ids': np.array(['a', 'b', 'c']),
    'scores': generator.normal(size=(3, *SHAPE)).astype(np.float32),
    **changes,
  }
  buffer = io.BytesIO()
  save(buffer, **arrays)
  return buffer.getvalue()


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_damaged_files_of_scores_are_named_or_give_the_same_scores(
  save, tmp_path
):
  generator = np.random.default_rng(0)
  data, refused = _npz(generator, save), 0
  path = tmp_path / 'a.npz'
  path.write_bytes(data)
  ids = [b'a', b'b', b'c']
  expected = score_files.ScoreFiles(str(tmp_path), SHAPE).rows(ids)
  places = generator.choice(len(data), 150, replace=False)
  cut = generator.integers(0, len(data), 30)
  for i, place in enumerate([*places, *cut]):
    damaged = bytearray(data)
    damaged[place] ^= 1 << generator.integers(8)
    path.write_bytes(damaged if i < len(places) else data[:place])
    try:
      found = score_files.ScoreFiles(str(tmp_path), SHAPE).rows(ids)
    except errors.UsageError as e:
      assert _is_one_sentence(e) and 'a.npz' in str(e)
      refused += 1
    else:  # Such as the time of a file inside.
      np.testing.assert_array_equal(found, expected)
  assert refused > 100


@pytest.mark.parametrize(
  'changes',
  [
    {'ids': np.array(['a', '\ud800', 'c'])},
    {'ids': np.array(['a', 'b', 'c'], object)},
    {'ids': np.array(3)},
    {'ids': np.array([1.0, 2.0, 3.0])},
    {'ids': np.array([True, False, True])},
    {'ids': np.zeros(3, 'V4')},
    {'ids': np.array(['a', 'b'])},
    {'ids': np.array(['a', 'b', 'a'])},
    {'scores': np.zeros((3, *SHAPE), object)},
    {'scores': np.zeros((3, *SHAPE), complex)},
    {'scores': np.zeros((3, *SHAPE), bool)},
    {'scores': np.zeros((3, *SHAPE), 'f4,f4')},
    {'scores': np.zeros((3, *SHAPE), np.longdouble)},
    {'scores': np.zeros(3, 'M8[s]')},
    {'scores': np.float32(1)},
  ],
  ids=str,
)
def test_arrays_of_any_other_kind_are_refused(changes, tmp_path):
  data = _npz(np.random.default_rng(0), np.savez, **changes)
  (tmp_path / 'a.npz').write_bytes(data)
  with pytest.raises(errors.UsageError) as caught:
    score_files.ScoreFiles(str(tmp_path), SHAPE)
  assert _is_one_sentence(caught.value)


@pytest.mark.parametrize('compression', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_read_as_well(compression, tmp_path):
  data = _npz(np.random.default_rng(0), np.savez)
  with (
    zipfile.ZipFile(io.BytesIO(data)) as old,
    zipfile.ZipFile(tmp_path / 'a.npz', 'w', compression) as new,
  ):
    for name in old.namelist():
      new.writestr(name, old.read(name))
  found = score_files.ScoreFiles(str(tmp_path), SHAPE).rows([b'b'])
  expected = np.load(io.BytesIO(data))['scores'][1:2]
  np.testing.assert_array_equal(found, expected)
