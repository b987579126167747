"""Tests of what units take of a cluster, and of refusals, without a cluster."""

import sys

import pytest

from roar_tf import errors
from roar_tf.engine import ray_connection

STAGES = ('source', 'rank', 'train')


def test_units_take_a_core_per_thread_unless_told_otherwise():
  parse = ray_connection.parse_resources
  assert parse([], STAGES) == {stage: {'CPU': 1.0} for stage in STAGES}
  words = ['train:GPU=1', 'rank:TPU=4', 'rank:CPU=0.5']
  assert parse(words, STAGES, threads=2) == {
    'source': {'CPU': 2.0},
    'rank': {'CPU': 0.5, 'TPU': 4.0},
    'train': {'CPU': 2.0, 'GPU': 1.0},
  }


@pytest.mark.parametrize(
  'word',
  ['GPU=1', 'train', 'train:', 'train:GPU', 'train:GPU=', 'train:=1']
  + ['trian:GPU=1', 'train:GPU=one', 'train:GPU=-1', 'train:GPU=inf']
  + ['train:GPU=nan', 'train:GPU=1.5'],
)
def test_other_words_are_refused(word):
  with pytest.raises(errors.UsageError, match='of source, rank, train') as e:
    ray_connection.parse_resources([word], STAGES)
  assert f'--resources={word} must be' in str(e.value)


def _told(offers, resources, is_fixed=False):
  told = []
  ray_connection._check_offers(
    offers, resources, is_fixed, ['rank', 'train'], told.append
  )
  return told


def test_what_no_node_offers_is_waited_for():
  offers = [{'CPU': 8.0}, {'CPU': 1.0, 'GPU': 1.0}]
  resources = {'rank': {'CPU': 1.0}, 'train': {'CPU': 2.0, 'GPU': 1.0}}
  (sentence,) = _told(offers, resources)
  assert 'CPU=2, GPU=1, as stage train asks for: its units wait' in sentence
  with pytest.raises(errors.UsageError, match='--resources: no node of the'):
    _told(offers, resources, is_fixed=True)


def test_gpus_in_vain_are_named_with_the_words_that_use_them():
  offers = [{'CPU': 8.0, 'GPU': 2.0}, {'CPU': 8.0, 'GPU': 2.0}]
  (sentence,) = _told(offers, {'train': {'CPU': 1.0}})
  assert sentence.startswith('none of the 4 GPUs is used; ')
  assert sentence.endswith('--resources=rank:GPU=1,train:GPU=1 uses them')
  assert _told(offers, {'train': {'CPU': 1.0, 'GPU': 1.0}}) == []


def _connect(**how):
  with ray_connection.connected(None, None, {}, **how):
    pass


@pytest.mark.parametrize('address', ['127.0.0.1:1', 'localhost:99999', 'auto'])
def test_a_cluster_that_does_not_answer_is_refused(
  address, tmp_path, monkeypatch
):
  # A crash has left behind that a cluster runs here.
  (tmp_path / 'ray').mkdir()
  (tmp_path / 'ray/ray_current_cluster').write_text('127.0.0.1:1')
  monkeypatch.setenv('RAY_TMPDIR', str(tmp_path))
  with pytest.raises(errors.UsageError, match='ray start --head') as e:
    _connect(address=address)
  assert str(e.value).startswith(f'--ray_address={address}: there is no')
  monkeypatch.setenv('RAY_ADDRESS', address)
  with pytest.raises(errors.UsageError, match=f'--ray_address={address}'):
    _connect()


def test_without_ray_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'ray', None)
  for name in ('RAY_USAGE_STATS_ENABLED', 'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'):
    monkeypatch.setenv(name, '0')
  message = r"^--executor=ray needs Ray: pip install 'roar_tf\[ray\]'\.$"
  with pytest.raises(errors.UsageError, match=message):
    _connect(address='local')


def test_workers_reach_the_stores_that_the_command_reaches(monkeypatch):
  there = {
    'GOOGLE_APPLICATION_CREDENTIALS': '/keys/a.json',
    'CURL_CA_BUNDLE': '/certificates.pem',
    'NO_GCE_CHECK': 'true',
    'GCS_STAT_CACHE_MAX_AGE': '0',
    'https_proxy': 'http://127.0.0.1:1',
    'AWS_REGION': 'here',
  }
  for name, value in {**there, 'MY_OWN': 'word'}.items():
    monkeypatch.setenv(name, value)
  found = ray_connection._environment()
  assert there.items() <= found.items() and 'MY_OWN' not in found
