"""Tests of paths, publication and commitment."""

import errno
import hashlib
import json
import os
import threading

import pytest
import tensorflow as tf

from roar_tf import errors, workspace


def _files(folder):
  return sorted(p.name for p in folder.rglob('*') if p.is_file())


def _fingerprint(version=1, inputs=None, **settings):
  return workspace.fingerprint('rank', version, settings, inputs or {})


def test_paths_are_those_of_the_design():
  place = workspace.Workspace('/data/w/')
  version = workspace.VERSION
  assert place.tfds == '/data/w/tfds'
  assert place.dataset('food101', 'original') == (
    f'/data/w/tfds/roar_food101/original/{version}'
  )
  assert place.shard('food101', 'grad_pixel_keep_5', 'test', 2, 10) == (
    f'/data/w/tfds/roar_food101/grad_pixel_keep_5/{version}'
    '/roar_food101-test.tfrecord-00002-of-00010'
  )
  assert place.model('food101') == '/data/w/models/food101'
  assert place.run('paper', 'food101', 'original', 3) == (
    '/data/w/runs/paper/food101/original/seed_3'
  )
  assert place.report('paper') == '/data/w/reports/paper'


@pytest.mark.parametrize('root', ['/data/w', 'w', '.', 'gs://bucket/w'])
def test_a_workspace_is_found_by_the_folder_that_tfds_reads(root):
  place = workspace.Workspace(root)
  for directory in (place.tfds, f'{place.tfds}/'):
    assert workspace.Workspace.of_tfds(directory).root == place.root
  with pytest.raises(errors.UsageError, match=f'data_dir={root} .*WORKSPACE'):
    workspace.Workspace.of_tfds(root)


@pytest.mark.parametrize('kind', ['local', 'remote'])
def test_artefacts_are_found_where_they_are_made(kind, tmp_path):
  root = tmp_path if kind == 'local' else f'ram://{tmp_path}'
  place = workspace.Workspace(str(root))
  assert not list(place.artefacts()) and not list(place.aside())
  made = {
    place.dataset('x', 'original'): 'x',
    place.dataset('y_z', 'grad_pixel_keep_5'): 'y_z',
    place.model('x'): 'x',
    place.run('paper', 'x', 'original', 3): 'x',
    place.report('paper'): None,
  }
  aside = f'{place.model("x")}/weights.npz.tmp-{"0a" * 16}'
  beats = [place.heartbeat('paper', 'node-1'), place.heartbeat('y', 'node-2')]
  for folder in made:
    workspace.write_json(f'{folder}/DONE', {})
  for path in beats:
    workspace.write_json(path, {})
  # What TFDS keeps beside them, and files where folders belong.
  for name in ('tfds/mnist/3.0.1/x', 'tfds/notes', 'models/notes', 'x/y/DONE'):
    workspace.write_json(f'{place.root}/{name}', {})
  with tf.io.gfile.GFile(aside, 'w') as f:
    f.write('half')
  found = {path: place.source_of(path) for path in place.artefacts()}
  assert found == made
  assert list(place.aside()) == [aside]
  workspace.remove(f'{place.root}/models/x')
  assert not list(place.aside())
  assert place.all_heartbeats() == beats
  assert place.heartbeats('paper') == beats[:1]
  assert place.heartbeats('z') == []
  half = f'{beats[0]}.tmp-{"0a" * 16}'
  workspace.write_json(half, {})
  assert list(place.aside()) == [half]
  assert place.heartbeats('paper') == beats[:1]


@pytest.mark.parametrize('kind', ['local', 'remote'])
def test_listings_say_what_is_there(kind, tmp_path):
  root = tmp_path if kind == 'local' else f'ram://{tmp_path}'
  there = [f'{root}/a/DONE', f'{root}/b/c/x.DONE', f'{root}/b/c/DONE']
  missing = [f'{root}/a/x', f'{root}/b/DONE', f'{root}/none/of/DONE']
  for path in there:
    workspace.write_json(path, {})
  for looked in ([], [*there, *missing]):
    listings = workspace.Listings()
    listings.look(looked)
    assert [path in listings for path in there] == [True] * 3
    assert [path in listings for path in missing] == [False] * 3


def test_listings_ask_once_per_directory(tmp_path, monkeypatch):
  asked, listdir = [], tf.io.gfile.listdir
  monkeypatch.setattr(
    tf.io.gfile, 'listdir', lambda path: asked.append(path) or listdir(path)
  )
  listings = workspace.Listings()
  paths = [f'{tmp_path}/{n % 3}/{n}.DONE' for n in range(60)]
  for _ in range(2):
    listings.look(paths)
    assert not any(path in listings for path in paths)
  assert len(asked) == 3


def test_many_files_are_read_in_their_order(tmp_path):
  paths = [f'{tmp_path}/{n}' for n in range(40)]
  for n, path in enumerate(paths):
    if n != 7:
      workspace.write_atomic(path, str(n).encode())
  expected = [None if n == 7 else str(n).encode() for n in range(40)]
  assert workspace.read_many(paths) == expected


@pytest.mark.parametrize('kind', ['local', 'remote'])
def test_a_published_file_can_be_read_back(kind, tmp_path):
  root = tmp_path if kind == 'local' else f'ram://{tmp_path}'
  path = f'{root}/a/b/value.json'
  workspace.write_json(path, {'b': [1, 2], 'a': None})
  assert workspace.read_json(path) == {'a': None, 'b': [1, 2]}
  data = workspace.read_bytes(path)
  assert workspace.sha256(path) == hashlib.sha256(data).hexdigest()
  workspace.remove(f'{root}/a')
  workspace.remove(f'{root}/a')
  assert not tf.io.gfile.exists(path)


def test_a_file_appears_only_when_it_is_complete(tmp_path):
  path = tmp_path / 'folder' / 'file'
  with workspace.publishing(str(path)) as name:
    with open(name, 'w') as f:
      f.write('half')
    assert not path.exists()
  assert path.read_text() == 'half'
  with workspace.publishing(str(path)) as name:
    with open(name, 'w') as f:
      f.write('whole')
    assert path.read_text() == 'half'
  assert path.read_text() == 'whole'
  assert _files(tmp_path) == ['file']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_an_exception_while_publishing_leaves_nothing(error, tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(error):
    with workspace.publishing(str(path)) as name:
      with open(name, 'w') as f:
        f.write('half')
      raise error
  assert path.read_text() == 'old'
  assert _files(tmp_path) == ['file']


def test_publishers_of_one_path_do_not_disturb_each_other(tmp_path):
  path = str(tmp_path / 'file')
  contents = [bytes([n]) * 100_000 for n in range(8)]
  barrier = threading.Barrier(len(contents))
  failures = []

  def publish(data):
    barrier.wait()
    try:
      for _ in range(20):
        workspace.write_atomic(path, data)
        assert workspace.read_bytes(path) in contents
    except Exception as e:  # A thread's assertion would be lost.
      failures.append(e)

  threads = [threading.Thread(target=publish, args=[c]) for c in contents]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not failures
  assert _files(tmp_path) == ['file']


def test_json_does_not_depend_on_the_order_of_keys(tmp_path):
  one, two = str(tmp_path / '1'), str(tmp_path / '2')
  workspace.write_json(one, {'a': 1, 'b': {'d': (1, 2), 'c': 0.1}})
  workspace.write_json(two, {'b': {'c': 0.1, 'd': [1, 2]}, 'a': 1})
  assert workspace.read_bytes(one) == workspace.read_bytes(two)
  assert workspace.read_bytes(one).endswith(b'}\n')


@pytest.mark.parametrize('content', ['', '{"a": 1', '\xff\xfe'])
def test_a_damaged_json_file_is_named(content, tmp_path):
  path = tmp_path / 'DONE'
  path.write_bytes(content.encode('latin1'))
  with pytest.raises(errors.DataError, match=str(path)):
    workspace.read_json(str(path))


def test_a_digest_is_that_of_canonical_json():
  # DONE markers hold digests: they must be the same in years to come.
  text = (
    '{"inputs":{},"settings":{"a":[1,2.5],"b":"x"},"stage":"s","version":2}'
  )
  value = workspace.fingerprint('s', 2, {'b': 'x', 'a': (1, 2.5)}, {})
  assert workspace.digest(value) == hashlib.sha256(text.encode()).hexdigest()


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
    workspace.fingerprint('train', 1, {'a': 1}, {}),
  ]
  assert len({workspace.digest(value) for value in values}) == len(values)


def test_what_is_done_is_done_under_the_same_fingerprint_only(tmp_path):
  path = str(tmp_path / 'DONE')
  value = _fingerprint(a=(1, 2), b=None)
  assert not workspace.is_done(path, value)
  workspace.write_done(path, value, contents={'records': 3})
  assert workspace.is_done(path, _fingerprint(b=None, a=[1, 2]))
  done = workspace.require(path)
  assert done['contents'] == {'records': 3}
  assert done['digest'] == workspace.digest(value)


@pytest.mark.parametrize('bit', [0, 5])  # 5 makes capitals, as in \u00E9.
def test_a_flipped_bit_in_any_byte_of_a_marker_is_noticed(bit, tmp_path):
  path = tmp_path / 'DONE'
  workspace.write_done(str(path), _fingerprint(a=0.1, b='é'), files={})
  data = path.read_bytes()
  for place in range(len(data)):
    flipped = bytearray(data)
    flipped[place] ^= 1 << bit
    path.write_bytes(flipped)
    with pytest.raises(errors.DataError, match=str(path)):
      workspace.read_done(str(path))
  path.write_bytes(data)
  assert workspace.read_done(str(path))['files'] == {}


@pytest.mark.parametrize(
  'asked, words',
  [
    (_fingerprint(steps=25, noise=0.1), ['steps', '10', '25']),
    (_fingerprint(steps=10, noise=0.2), ['noise', '0.1', '0.2']),
    (_fingerprint(steps=10), ['noise', '0.1', 'None']),
    (_fingerprint(steps=10, noise=0.1, x='y'), ['x', 'None', "'y'"]),
    (_fingerprint(7, steps=10, noise=0.1), ['version 1', 'version 7', 'rank']),
    (
      _fingerprint(1, {'explained model': 'z'}, steps=10, noise=0.1),
      ['explained model'],
    ),
  ],
)
def test_other_settings_are_refused_and_named(asked, words, tmp_path):
  path = str(tmp_path / 'DONE')
  workspace.write_done(path, _fingerprint(steps=10, noise=0.1))
  with pytest.raises(errors.UsageError) as caught:
    workspace.is_done(path, asked)
  for word in [path, *words]:
    assert word in str(caught.value)
  equal = {'steps': 10, 'noise': 0.1}.items() & asked['settings'].items()
  for name, _ in equal:
    assert name not in str(caught.value).removeprefix(path)


def test_a_missing_marker_is_named(tmp_path):
  path = str(tmp_path / 'DONE')
  assert workspace.read_done(path) is None
  with pytest.raises(errors.MissingInputsError, match=path):
    workspace.require(path)


@pytest.mark.parametrize(
  'error, full',
  [
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
    (OSError(errno.EACCES, os.strerror(errno.EACCES)), False),
    (
      tf.errors.ResourceExhaustedError(
        None, None, '/x; No space left on device'
      ),
      True,
    ),
    (tf.errors.ResourceExhaustedError(None, None, 'OOM'), False),
    (ValueError('x'), False),
  ],
)
def test_a_full_disk_is_told_from_other_faults(error, full):
  assert workspace.is_full(error) == full


def test_a_workspace_is_made_empty(tmp_path):
  root = tmp_path / 'a' / 'b'
  workspace.Workspace(str(root)).make()
  assert root.is_dir() and not list(root.iterdir())


@pytest.mark.parametrize('below', ['', '/deeper'])
def test_a_file_in_its_place_is_no_workspace(below, tmp_path):
  (tmp_path / 'file').write_text('mine')
  root = f'{tmp_path}/file{below}'
  with pytest.raises(errors.UsageError, match=f'--workspace={root}'):
    workspace.Workspace(root).make()
  assert (tmp_path / 'file').read_text() == 'mine'


def test_an_empty_workspace_flag_is_not_the_root_of_the_disk():
  # --workspace=$UNSET
  try:
    root = workspace.Workspace('').root
  except errors.UsageError:
    return
  assert root != '/'


def test_manifests_are_readable(tmp_path):
  path = tmp_path / 'x.json'
  workspace.write_json(str(path), {'mean': [1.0], 'std': [2.0]})
  assert json.loads(path.read_text()) == {'mean': [1.0], 'std': [2.0]}
  assert len(path.read_text().splitlines()) > 2


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, 'No space left on device', '/w/a'),
    tf.errors.ResourceExhaustedError(
      None, None, '/w/a; No space left on device'
    ),
    tf.errors.ResourceExhaustedError(None, None, '/w/a; Disk quota exceeded'),
  ],
)
def test_a_full_disk_is_named_by_the_file_that_found_no_room(error):
  assert 'the disk is full: no room for /w/a; ' in workspace.describe_full(
    error
  )
  nameless = OSError(errno.ENOSPC, 'No space left on device')
  assert workspace.describe_full(nameless).startswith('the disk is full; ')


def test_a_workspace_keeps_its_identity(tmp_path):
  place = workspace.Workspace(f'{tmp_path}/w')
  assert place.identity() is None
  word = place.identity(make=True)
  assert word and place.identity(make=True) == word
  assert workspace.Workspace(f'{tmp_path}/w').identity() == word
  assert workspace.Workspace(f'{tmp_path}/v').identity(make=True) != word
