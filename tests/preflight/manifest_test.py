"""Tests of what an export holds, and of the numbers that are drawn for it."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from roar_tf import errors
from roar_tf.preflight import manifest

PROGRAM = manifest.Program(
  name='a step',
  file='programs/00.mlirbc',
  sha256=hashlib.sha256(b'artifact').hexdigest(),
  source='',
  function='a step',
  precision='float32',
  batch=2,
  work=2,
  unit='images',
  loops=False,
  chips=1,
  arguments=(manifest.Array('state/x', (2, 3), 'float32', (0, 1)),),
  results=(manifest.Array('state/x', (2, 3), 'float32'),),
  example=manifest.Example('examples/00.npz', 1, 1e-9),
)
MANIFEST = manifest.Manifest('1.0.0', {'tensorflow': '2'}, (PROGRAM,), {})


@pytest.fixture
def export(tmp_path):
  """A function that writes a manifest, changed by a function of its JSON."""

  def write(change=lambda value: None):
    value = manifest.as_json(MANIFEST)
    value = json.loads(json.dumps(value))
    change(value)
    (tmp_path / manifest.FILE).write_text(json.dumps(value))
    return str(tmp_path)

  return write


def test_what_is_written_is_read(export):
  assert manifest.read(export()) == MANIFEST


@pytest.mark.parametrize(
  'change',
  [
    lambda value: value.update(format='roar_tf export 9'),
    lambda value: value.pop('programs'),
    lambda value: value['programs'][0].pop('arguments'),
    lambda value: value['programs'][0]['arguments'][0].update(shape=3),
    lambda value: value.update(programs=[3]),
  ],
)
def test_another_manifest_is_refused_in_one_sentence(export, change):
  with pytest.raises(errors.UsageError) as refusal:
    manifest.read(export(change))
  assert manifest.FILE in str(refusal.value)
  assert '\n' not in str(refusal.value)


def test_text_that_is_no_json_is_refused(tmp_path):
  (tmp_path / manifest.FILE).write_text('{')
  with pytest.raises(errors.UsageError, match='cannot be read'):
    manifest.read(str(tmp_path))


@pytest.mark.parametrize('name', ['nowhere', '.', 'a_file'])
def test_a_folder_that_is_no_export_is_refused(tmp_path, name):
  (tmp_path / 'a_file').write_text('')
  with pytest.raises(errors.UsageError, match='is no export'):
    manifest.read(str(tmp_path / name))


def test_an_artifact_with_other_bytes_is_damaged(tmp_path):
  path = tmp_path / PROGRAM.file
  path.parent.mkdir()
  path.write_bytes(b'artifact')
  assert manifest.artifact(str(tmp_path), PROGRAM) == b'artifact'
  path.write_bytes(b'artefact')
  with pytest.raises(errors.DataError, match='damaged'):
    manifest.artifact(str(tmp_path), PROGRAM)
  path.unlink()
  with pytest.raises(errors.DataError, match='cannot be read'):
    manifest.artifact(str(tmp_path), PROGRAM)


def test_examples_with_objects_in_them_are_refused(tmp_path):
  path = tmp_path / PROGRAM.example.file
  path.parent.mkdir()
  np.savez(path, values=np.array([print], object))
  with pytest.raises(errors.DataError, match='damaged'):
    manifest.example(str(tmp_path), PROGRAM)


def test_drawn_numbers_fill_their_ranges_and_never_change():
  arrays = [
    manifest.Array('a', (1000,), 'float64', (-2, 3)),
    manifest.Array('b', (1000,), 'uint8', (0, 256)),
    manifest.Array('c', (), 'int64', (100, 100)),
    manifest.Array('d', (1000,), 'float64', (-2, 3)),
  ]
  floats, integers, constant, others = manifest.draw(arrays)
  for values in (floats, others):
    assert -2 <= values.min() < -1.9 and 2.9 < values.max() < 3
  assert not np.array_equal(floats, others)
  assert (integers.min(), integers.max()) == (0, 255)
  assert constant == 100 and constant.dtype == np.int64
  # Of another machine, NumPy and year: PCG64 is fixed.
  np.testing.assert_allclose(floats[:2], FIRST, rtol=1e-15)
  some = [dataclasses.replace(a, shape=(2,)) for a in arrays[:1]]
  np.testing.assert_array_equal(manifest.draw(some)[0], floats[:2])


FIRST = [1.1848084366072715, -0.6510664311806484]
