"""Tests of DONE markers: what they hold, and what they refuse."""

import hashlib

import pytest

from roar_tf import errors
from roar_tf.engine import files, markers


def _fingerprint(version=1, inputs=None, **settings):
  return markers.fingerprint('rank', version, settings, inputs or {})


def test_a_digest_is_that_of_canonical_json():
  # Markers hold digests: they must be the same in years to come.
  text = (
    '{"inputs":{},"settings":{"a":[1,2.5],"b":"x"},"stage":"s","version":2}'
  )
  value = markers.fingerprint('s', 2, {'b': 'x', 'a': (1, 2.5)}, {})
  assert markers.digest(value) == hashlib.sha256(text.encode()).hexdigest()


def test_a_digest_tells_all_differences():
  values = [
    _fingerprint(a=1),
    _fingerprint(a=2),
    _fingerprint(a='1'),
    _fingerprint(a=None),
    _fingerprint(b=1),
    _fingerprint(a=1, b=1),
    _fingerprint(2, a=1),
    _fingerprint(1, {'model': 'x'}, a=1),
    markers.fingerprint('train', 1, {'a': 1}, {}),
  ]
  assert len({markers.digest(value) for value in values}) == len(values)


def test_a_marker_is_read_as_it_was_written(tmp_path):
  path = str(tmp_path / 'x' / 'DONE')
  assert markers.read(path) is None
  with pytest.raises(errors.MissingInputsError, match=path):
    markers.require(path)
  value = _fingerprint(a=(1, 2), b=None)
  markers.write(path, value, {'contents': {'records': 3}})
  marker = markers.require(path)
  assert marker['fingerprint'] == _fingerprint(b=None, a=[1, 2])
  assert marker['contents'] == {'records': 3}


def test_what_is_made_again_with_other_content_has_another_seal(tmp_path):
  path, seals = str(tmp_path / 'DONE'), []
  for facts in (
    {'files': {'a': '1'}, 'environment': 'here'},
    {'files': {'a': '1'}, 'environment': 'there'},
    {'files': {'a': '2'}},
    {'contents': {'sha256': '1'}},
  ):
    markers.write(path, _fingerprint(a=1), facts)
    seals.append(markers.read(path)['seal'])
  assert seals[0] == seals[1] and len({*seals}) == 3


def test_a_marker_of_an_older_version_is_refused(tmp_path):
  path = tmp_path / 'DONE'
  value = {'fingerprint': _fingerprint(a=1), 'digest': 'f' * 64}
  value['checksum'] = markers.digest(value)
  path.write_bytes(files.as_json(value))
  with pytest.raises(errors.UsageError, match='before the one that seals'):
    markers.read(str(path))


@pytest.mark.parametrize('bit', [0, 5])  # 5 makes capitals, as in \u00E9.
def test_a_flipped_bit_in_any_byte_is_noticed(bit, tmp_path):
  path = tmp_path / 'DONE'
  markers.write(str(path), _fingerprint(a=0.1, b='é'), {'files': {}})
  data = path.read_bytes()
  for position in range(len(data)):
    flipped = bytearray(data)
    flipped[position] ^= 1 << bit
    with pytest.raises(errors.DataError, match=str(path)):
      markers.parse(str(path), bytes(flipped))
  assert markers.parse(str(path), data)['files'] == {}


@pytest.mark.parametrize(
  'text', ['', '[]', '3', '{}', '{"checksum": 1}', '{"fingerprint": {}}']
)
def test_what_is_no_marker_is_refused(text, tmp_path):
  path = tmp_path / 'DONE'
  path.write_text(text)
  with pytest.raises(errors.DataError, match=f'{path} is damaged') as caught:
    markers.read(str(path))
  assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
  'asked, words',
  [
    (_fingerprint(steps=25, noise=0.1), ['steps: 10 there, 25 asked for']),
    (_fingerprint(steps=10, noise=0.2), ['noise: 0.1 there, 0.2 asked for']),
    (_fingerprint(steps=10), ['noise: 0.1 there, None asked for']),
    (_fingerprint(steps=10, noise=0.1, x='y'), ["x: None there, 'y' asked"]),
    (_fingerprint(steps=10, noise=0.1, x=None), ['x: None there, None asked']),
    (
      _fingerprint(7, steps=10, noise=0.1),
      ['version 1 of stage rank', 'version 7 of stage rank'],
    ),
    (
      markers.fingerprint('train', 1, {'steps': 10, 'noise': 0.1}, {}),
      ['version 1 of stage rank', 'version 1 of stage train'],
    ),
    (
      _fingerprint(1, {'the model': 'z'}, steps=10, noise=0.1),
      ['its input the model has changed'],
    ),
  ],
)
def test_other_settings_are_refused_and_named(asked, words):
  was = _fingerprint(steps=10, noise=0.1)
  with pytest.raises(errors.UsageError) as caught:
    markers.check('/w/DONE', was, asked, 'delete it')
  for word in ['/w/DONE', *words]:
    assert word in str(caught.value)
  equal = {'steps': 10, 'noise': 0.1}.items() & asked['settings'].items()
  for name, _ in equal:
    assert name not in str(caught.value)
  markers.check('/w/DONE', was, was, 'delete it')
