"""Tests of what units take of a cluster, without one."""

import pytest

from roar_tf import errors
from roar_tf.cluster import connection
from roar_tf.study import STAGES


def test_units_take_a_core_per_thread_unless_told_otherwise():
  assert connection.parse_resources([]) == {s: {'CPU': 1.0} for s in STAGES}
  found = connection.parse_resources(
    ['train:GPU=1', 'rank:TPU=4', 'rank:CPU=0.5'], threads=2
  )
  assert found.pop('train') == {'CPU': 2.0, 'GPU': 1.0}
  assert found.pop('rank') == {'CPU': 0.5, 'TPU': 4.0}
  assert all(amounts == {'CPU': 2.0} for amounts in found.values())


@pytest.mark.parametrize(
  'word',
  ['GPU=1', 'train', 'train:', 'train:GPU', 'train:GPU=', 'train:=1']
  + ['trian:GPU=1', 'train:GPU=one', 'train:GPU=-1', 'train:GPU=inf']
  + ['train:GPU=nan', 'train:GPU=1.5'],
)
def test_other_words_are_refused(word):
  with pytest.raises(errors.UsageError, match='--resources') as caught:
    connection.parse_resources([word])
  assert f'={word} must be' in str(caught.value)


@pytest.mark.parametrize(
  'amounts, takes',
  [
    ({'CPU': 8.0}, False),
    ({'CPU': 1.0, 'memory': 1e9}, False),
    ({'CPU': 1.0, 'GPU': 0.0}, False),
    ({'CPU': 1.0, 'GPU': 0.5}, True),
    ({'TPU': 4.0}, True),
  ],
)
def test_what_a_process_keeps_until_it_ends(amounts, takes):
  cluster = connection.Cluster(None, {'train': amounts}, 0)
  assert cluster.accelerates('train') is takes
