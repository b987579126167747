"""Tests of files: published whole or not at all, read, listed, removed."""

import errno
import hashlib
import os
import threading

import pytest

from roar_tf import errors
from roar_tf.engine import files, markers


def _names(folder):
  return sorted(path.name for path in folder.rglob('*') if path.is_file())


def test_a_file_appears_only_when_it_is_complete(tmp_path):
  path = tmp_path / 'folder' / 'file'
  for content, before in (('half', None), ('whole', 'half')):
    with files.publishing(str(path)) as name:
      with open(name, 'w') as file:
        file.write(content)
      assert (path.read_text() if path.exists() else None) == before
      assert files.ASIDE.fullmatch(os.path.basename(name))
    assert path.read_text() == content
  assert _names(tmp_path) == ['file']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_an_exception_while_publishing_leaves_nothing(error, tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(error), files.publishing(str(path)) as name:
    with open(name, 'w') as file:
      file.write('half')
    raise error
  assert path.read_text() == 'old'
  assert _names(tmp_path) == ['file']


def test_publishers_of_one_path_do_not_disturb_each_other(tmp_path):
  path = str(tmp_path / 'file')
  contents = [bytes([n]) * 100_000 for n in range(8)]
  barrier = threading.Barrier(len(contents))

  def publish(data):
    barrier.wait()
    for _ in range(20):
      files.publish(path, data)
      assert files.read(path) in contents
    return True

  assert files.in_parallel(publish, contents) == [True] * 8
  assert _names(tmp_path) == ['file']


def test_what_is_there_is_listed_and_removed(tmp_path):
  for name in ('a/x', 'a/b/y', 'z'):
    files.publish(f'{tmp_path}/{name}', name.encode())
  assert files.names_in(str(tmp_path)) == ['a', 'z']
  assert files.names_in(f'{tmp_path}/none') == []
  assert files.names_in(f'{tmp_path}/z') == []  # It is no directory.
  assert sorted(files.walk(str(tmp_path))) == [
    f'{tmp_path}/{name}' for name in ('a/b/y', 'a/x', 'z')
  ]
  assert not list(files.walk(f'{tmp_path}/none'))
  assert files.exists(f'{tmp_path}/z') and files.is_directory(f'{tmp_path}/a')
  assert not files.is_directory(f'{tmp_path}/z')
  assert files.size(f'{tmp_path}/a/b/y') == 5
  assert files.modified(f'{tmp_path}/z') == os.stat(tmp_path / 'z').st_mtime
  for _ in range(2):
    files.remove(f'{tmp_path}/a')
    files.remove(f'{tmp_path}/z')
  assert not files.names_in(str(tmp_path))


def test_many_files_are_read_in_their_order(tmp_path):
  paths = [f'{tmp_path}/{n}' for n in range(40)]
  for n, path in enumerate(paths):
    if n != 7:
      files.publish(path, str(n).encode())
  contents = [None if n == 7 else str(n).encode() for n in range(40)]
  assert files.read_many(paths) == contents


def test_checksums_are_those_of_the_content(tmp_path):
  data = os.urandom(3 << 20)
  files.publish(f'{tmp_path}/x', data)
  digest = hashlib.sha256(data).hexdigest()
  assert files.checksums(str(tmp_path), ['x']) == {'x': digest}


def test_json_does_not_depend_on_the_order_of_keys(tmp_path):
  path = f'{tmp_path}/a/value.json'
  files.publish_json(path, {'b': {'d': (1, 2), 'c': 0.1}, 'a': None})
  assert files.read_json(path) == {'a': None, 'b': {'c': 0.1, 'd': [1, 2]}}
  data = files.as_json({'a': None, 'b': {'c': 0.1, 'd': [1, 2]}})
  assert files.read(path) == data
  assert data.endswith(b'}\n') and len(data.splitlines()) > 2


@pytest.mark.parametrize('content', [b'', b'{"a": 1', b'\xff\xfe'])
def test_a_damaged_json_file_is_named(content, tmp_path):
  path = tmp_path / 'value.json'
  path.write_bytes(content)
  with pytest.raises(errors.DataError, match=str(path)):
    files.read_json(str(path))


def test_a_full_disk_is_told_from_other_faults():
  full = OSError(errno.ENOSPC, 'No space left on device', '/w/a')
  of_tensorflow = ValueError('/w/a; No space left on device')
  quota = ValueError('/w/a; Disk quota exceeded')
  for error in (full, of_tensorflow, quota):
    assert files.is_full(error)
    words = files.describe_full(error)
    assert 'the disk is full: no room for /w/a; ' in words
  nameless = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
  assert files.is_full(nameless)
  assert files.describe_full(nameless).startswith('the disk is full; ')
  for error in (OSError(errno.EACCES, 'Permission denied'), ValueError('x')):
    assert not files.is_full(error)
  assert files.reason(full) == 'No space left on device'
  assert files.reason(ValueError('one\ntwo')) == 'one'
  assert files.reason(ValueError()) == 'ValueError'


def test_a_url_without_tensorflow_is_refused(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'tensorflow', None)
  with pytest.raises(errors.UsageError, match=r'gs://b/x is a URL.*\[cpu\]'):
    files.exists('gs://b/x')


@pytest.mark.parametrize(
  'url', ['file:///w', 'http://b/w', 'ram://w', 'x+y://']
)
def test_a_url_of_no_object_store_is_never_written(url, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(errors.UsageError, match='no URL of an object store'):
    files.publish(f'{url}/x', b'')
  assert not list(tmp_path.iterdir())
  files.publish(f'{tmp_path}/a://b', b'')  # It is a folder called "a:".
  assert files.exists(f'{tmp_path}/a:/b')


def test_what_a_marker_commits_is_on_the_disk_before_it(tmp_path, monkeypatch):
  done = []

  def note(name):
    function = getattr(os, name)

    def noted(first, *more):
      path = (
        os.readlink(f'/proc/self/fd/{first}') if name == 'fsync' else more[0]
      )
      done.append((name, os.path.basename(path.partition('.tmp-')[0])))
      return function(first, *more)

    monkeypatch.setattr(os, name, noted)

  note('fsync')
  note('replace')
  files.publish(f'{tmp_path}/run/text', b'text')
  markers.write(f'{tmp_path}/run/DONE', {})
  assert done == [
    *(('fsync', 'text'), ('replace', 'text')),
    *(('fsync', 'DONE'), ('fsync', 'run'), ('replace', 'DONE')),
    ('fsync', 'run'),
  ]


def test_a_file_system_that_cannot_sync_is_used_all_the_same(
  tmp_path, monkeypatch
):
  def fsync(_):
    raise OSError(errno.EINVAL, 'Invalid argument')

  monkeypatch.setattr(os, 'fsync', fsync)
  files.publish(f'{tmp_path}/DONE', b'x', commits=True)
  assert files.read(f'{tmp_path}/DONE') == b'x'


@pytest.mark.parametrize('links', [True, False])
def test_who_publishes_first_is_told_to_all(links, tmp_path, monkeypatch):
  path = str(tmp_path / 'file')
  if not links:  # As on some network file systems.
    monkeypatch.delattr(os, 'link')
    monkeypatch.setattr(os, 'link', _no_link, raising=False)
    assert files.publish_first(path, b'a') == b'a'
  barrier = threading.Barrier(8)

  def publish(n):
    barrier.wait()
    return files.publish_first(path, b'%d' % n * 1000)

  words = files.in_parallel(publish, range(8))
  assert set(words) == {files.read(path)} and _names(tmp_path) == ['file']


def _no_link(*_):
  raise OSError(errno.EPERM, 'Operation not permitted')
