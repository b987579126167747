"""Tests of files, shards and units on gs://, through TensorFlow's client."""

import hashlib
import threading
import time

import fake_gcs
import numpy as np
import pytest

from roar_tf import engine, errors, shards
from roar_tf.engine import files, locations, markers, verify
from roar_tf.study import paths, recipe

SHARD = 'gs://b/w/shard'


def test_what_is_there_is_listed_read_and_removed(gcs):
  for name in ('a/x', 'a/b/y', 'z', 'a [1]*?#% ü'):
    files.publish(f'gs://b/w/{name}', name.encode())
  files.publish('gs://b/w/empty', b'')
  assert files.names_in('gs://b/w') == ['a', 'a [1]*?#% ü', 'empty', 'z']
  assert files.names_in('gs://b/none') == []
  assert sorted(files.walk('gs://b/w/a')) == ['gs://b/w/a/b/y', 'gs://b/w/a/x']
  assert files.is_directory('gs://b/w/a') and files.exists('gs://b/w/z')
  assert not files.is_directory('gs://b/w/z')
  assert files.size('gs://b/w/a/b/y') == 5
  assert abs(files.modified('gs://b/w/z') - time.time()) < 100
  names = [f'gs://b/w/{name}' for name in ('z', 'none', 'empty', 'a [1]*?#% ü')]
  contents = [b'z', None, b'', 'a [1]*?#% ü'.encode()]
  assert files.read_many(names) == contents
  for _ in range(2):
    files.remove('gs://b/w/a')
    files.remove('gs://b/w/z')
  assert sorted(gcs.files('w')) == ['a [1]*?#% ü', 'empty']


def test_a_folder_of_thousands_is_listed_to_its_end(gcs):
  names = [f'{n:04d}' for n in range(2100)]
  for name in names:
    gcs.put(f'w/{name}/DONE', b'')
  assert files.names_in('gs://b/w') == names


def test_what_another_worker_has_just_rewritten_is_read_whole(gcs):
  for size in (3000, 5000, 1000):
    gcs.put('w/DONE', b'x' * size)
    assert files.size('gs://b/w/DONE') == size
    assert files.read('gs://b/w/DONE') == b'x' * size


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_an_exception_while_writing_leaves_the_committed_shard(error, gcs):
  records = [b'record %d' % n for n in range(10)]
  with shards.writing(SHARD) as writer:
    writer.write(records)
  whole = gcs.blobs['w/shard']
  digest = hashlib.sha256(whole.data).hexdigest()
  assert writer.contents['sha256'] == digest and not gcs.requests['read']
  assert shards.read(SHARD, 10).numpy().tolist() == records
  with pytest.raises(error), shards.writing(SHARD) as writer:
    writer.write(records[:5])
    raise error
  with shards.writing(SHARD) as writer:
    writer.write(records[:5])
    writer.abandoned = True
  with pytest.raises(error), files.publishing('gs://b/w/new') as name:
    with open(name, 'w') as file:
      file.write('half')
    raise error
  assert gcs.blobs == {'w/shard': whole}


def test_storage_that_stumbles_is_asked_again(gcs):
  data = np.random.default_rng(0).bytes(300_000)
  gcs.faults['upload'] += [fake_gcs.CUT]
  files.publish('gs://b/w/x', data)
  gcs.faults['list'] += [429]
  assert files.names_in('gs://b/w') == ['x']
  assert files.read('gs://b/w/x') == data
  assert not any(gcs.faults.values())


class Lengths(engine.Stage):
  """Each artefact is a text, and a number that says how often it was made."""

  name, trusts_parts = 'lengths', False

  def __init__(self):
    self.worked = []

  def run(self, artefacts):
    for artefact in artefacts:
      folder = artefact.marker.rpartition('/')[0]
      self.worked.append(folder)
      files.publish(f'{folder}/text', b'x' * artefact.settings['length'])
      sums = files.checksums(folder, ['text'])
      yield engine.Made(artefact, {'files': sums})


def _goals(stage, root):
  return [
    engine.Artefact(f'{root}/{n}/DONE', stage, {'length': n}) for n in range(6)
  ]


def _make(root):
  stage = Lengths()
  engine.make(
    _goals(stage, root),
    engine.Snapshot(root),
    lambda: engine.ThreadPool(2),
  )
  return stage.worked


def test_two_workers_at_once_make_what_one_makes_on_a_disk(gcs, tmp_path):
  _make(str(tmp_path))
  threads = [threading.Thread(target=_make, args=['gs://b/w']) for _ in 'ab']
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  local = {
    str(path.relative_to(tmp_path)): path.read_bytes()
    for path in tmp_path.rglob('*')
    if path.is_file()
  }
  assert gcs.files('w') == local
  folders = [f'gs://b/w/{n}' for n in range(6)]
  assert not verify.verify(folders).damages
  gcs.put('w/3/text', b'yyy')
  (damage,) = verify.verify(folders).damages
  assert damage.path == 'gs://b/w/3/text'


def test_a_listing_that_comes_late_makes_nothing_again(gcs):
  gcs.listed_after = 60
  assert len(_make('gs://b/w')) == 6
  before = dict(gcs.blobs)
  assert not _make('gs://b/w')  # Each unit has looked itself.
  assert gcs.blobs == before
  gcs.listed_after = 0
  gcs.requests.clear()
  assert not _make('gs://b/w')
  assert gcs.requests['read'] == 6 and gcs.requests['list'] <= 2 * 7


def test_processes_that_share_a_bucket_end_with_one_word(gcs):
  workspace = paths.Workspace('gs://b/w')
  words = files.in_parallel(lambda _: recipe.share_identity(workspace), [0] * 8)
  assert len(set(words)) == 1 and words[0]
  gcs.put('w/.identity', b'another')
  assert recipe.share_identity(workspace) == 'another'


def test_artefacts_are_found_where_they_are_made(gcs):
  workspace = paths.Workspace('gs://b/w/')
  assert not list(workspace.artefacts())
  workspace.create()
  folders = [workspace.dataset('x', 'original'), workspace.report('paper')]
  for folder in folders:
    markers.write(f'{folder}/DONE', markers.fingerprint('x', 1, {}, {}))
  assert sorted(workspace.artefacts()) == sorted(folders)
  assert not list(workspace.aside())
  workspace.check_there()


@pytest.mark.parametrize(
  'status, words', [(401, 'response code 401'), (403, 'response code 403')]
)
def test_a_bucket_that_refuses_is_told_in_one_sentence(status, words, gcs):
  gcs.faults['stat'] += [status] * 9
  with pytest.raises(errors.UsageError) as e:
    paths.Workspace('gs://refuses/w').create()
  for word in ('--workspace=gs://refuses/w', words, 'credentials'):
    assert word in str(e.value)
  assert '\n' not in str(e.value)


def test_a_bucket_that_does_not_answer_is_not_waited_for(gcs, monkeypatch):
  monkeypatch.setattr(locations, 'PATIENCE', 0.2)
  gcs.faults['stat'] += [3.0]
  start = time.monotonic()
  with pytest.raises(errors.UsageError, match='--scores=gs://slow/x.*network'):
    locations.check_reachable('gs://slow/x', '--scores')
  assert time.monotonic() - start < 2


def test_a_slow_import_of_tensorflow_is_no_silence_of_the_bucket(
  gcs, monkeypatch
):
  gfile, first = files.gfile, []

  def slow(path):
    if not first:
      first.append(path)
      time.sleep(1)
    return gfile(path)

  monkeypatch.setattr(files, 'gfile', slow)
  monkeypatch.setattr(locations, 'PATIENCE', 0.5)
  locations.check_reachable('gs://patient/x', '--workspace')
  assert first
