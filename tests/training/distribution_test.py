"""Tests of several replicas: the results of one device, on any devices."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import types

import numpy as np
import pytest
import replica_program
import tensorflow as tf
from small_training import linear, make_split, make_trainer

from roar_tf import errors
from roar_tf.training import distribution, loop

PROGRAM = pathlib.Path(replica_program.__file__)
ROOT = PROGRAM.parents[2]


def _start(where, **variables):
  environment = {
    **os.environ,
    'PYTHONPATH': str(ROOT),
    'CUDA_VISIBLE_DEVICES': '',
    **variables,
  }
  return subprocess.Popen(
    [sys.executable, str(PROGRAM), where],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _result(process):
  output, error = process.communicate(timeout=240)
  assert process.returncode == 0, error[-3000:]
  return json.loads(output.splitlines()[-1])


def _free_ports(count):
  sockets = [socket.socket() for _ in range(count)]
  for one in sockets:
    one.bind(('localhost', 0))
  ports = [one.getsockname()[1] for one in sockets]
  for one in sockets:
    one.close()
  return ports


def _on_workers():
  hosts = [f'localhost:{port}' for port in _free_ports(2)]
  processes = [
    _start(
      'workers',
      TF_CONFIG=json.dumps(
        {'cluster': {'worker': hosts}, 'task': {'type': 'worker', 'index': i}}
      ),
    )
    for i in range(2)
  ]
  return [_result(process) for process in processes]


def _on_one_device():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, 'STEPS_PER_CALL', 1)
    return replica_program.outcomes(distribution.one_device())


@pytest.fixture(scope='module')
def found():
  """What one device, two mirrors and two processes give."""
  chief, other = _on_workers()
  assert (chief['chief'], other['chief']) == (True, False)
  return {
    'one device': _on_one_device(),
    'two mirrors': _result(_start('two')),
    'first process': chief,
    'second process': other,
  }


def _assert_same(found, expected):
  assert len(expected['losses']) == 50
  for name in ('losses', 'weights', 'moving'):
    np.testing.assert_allclose(found[name], expected[name], atol=1e-8)
  assert found['predictions'] == expected['predictions']


@pytest.mark.parametrize(
  'devices', ['two mirrors', 'first process', 'second process']
)
def test_several_replicas_give_the_results_of_one_device(found, devices):
  expected = found['one device']['plain']
  _assert_same(found[devices]['plain'], expected)
  assert expected['losses'][-1] < expected['losses'][0]


def test_batch_norm_is_per_replica_and_alike_on_mirrors_and_processes(found):
  mirrored = found['two mirrors']['network']
  for devices in ('first process', 'second process'):
    _assert_same(found[devices]['network'], mirrored)
  # Each replica normalises over its own half of the batch.
  expected = found['one device']['network']['losses']
  difference = np.abs(np.subtract(mirrored['losses'], expected)).max()
  assert 1e-6 < difference < 1


# --- what cannot be had -------------------------------------------------------


def test_the_default_is_one_device(monkeypatch):
  monkeypatch.delenv('TF_CONFIG', raising=False)
  devices = distribution.connect()
  assert (devices.replicas, devices.hosts, devices.is_chief) == (1, 1, True)
  assert devices.local_replicas == range(1)


@pytest.mark.skipif(
  len(tf.config.list_physical_devices('GPU')) > 0, reason='there are GPUs'
)
def test_mirrored_without_accelerators_is_refused():
  with pytest.raises(errors.UsageError, match='strategy=mirrored found no GPU'):
    distribution.connect('mirrored')


def test_an_unknown_tpu_is_refused_by_name():
  with pytest.raises(errors.UsageError, match='--tpu=no-such-tpu cannot be'):
    distribution.connect('auto', 'no-such-tpu')


def test_a_tpu_needs_its_strategy():
  with pytest.raises(errors.UsageError, match='--tpu=local goes with'):
    distribution.connect('mirrored', 'local')


@pytest.fixture
def tpus(monkeypatch):
  """Function that makes TPUs of so many hosts appear; they are CPUs."""

  class FakeTPUStrategy(tf.distribute.MirroredStrategy):
    def __init__(self, resolver):
      assert resolver == 'resolved local'
      super().__init__(['CPU:0'])

  def appear(hosts):
    topology = types.SimpleNamespace(num_tasks=hosts)
    for owner, name, value in (
      (tf.distribute, 'TPUStrategy', FakeTPUStrategy),
      (
        tf.distribute.cluster_resolver,
        'TPUClusterResolver',
        lambda tpu: f'resolved {tpu}',
      ),
      (tf.tpu.experimental, 'initialize_tpu_system', lambda _: topology),
    ):
      monkeypatch.setattr(owner, name, value)

  return appear


def test_a_tpu_trains_and_tests_as_one_device_does(tpus):
  tpus(hosts=1)
  devices = distribution.connect('auto', 'local')
  assert (devices.replicas, devices.hosts) == (1, 1)
  outcomes = []
  for each in (devices, distribution.one_device()):
    trainer = make_trainer(linear, devices=each)
    state, _ = trainer.train(make_split(50), 1)
    outcomes.append((state, trainer.evaluate(state, make_split(20, 1))))
  (state, found), (expected, one) = outcomes
  tf.nest.map_structure(np.testing.assert_array_equal, state, expected)
  np.testing.assert_array_equal(found.predictions, one.predictions)
  doubled = tf.function(lambda v: devices.strategy.run(lambda x: 2 * x, (v,)))
  parts = devices.split(tf.range(4))
  np.testing.assert_array_equal(devices.gathered(doubled(parts)), [0, 2, 4, 6])


def test_tpus_of_several_hosts_are_refused(tpus):
  tpus(hosts=2)
  with pytest.raises(errors.UsageError, match='2 hosts.*--tpu=local.*--worker'):
    distribution.connect('tpu', 'local')


@pytest.mark.parametrize(
  'text',
  [
    'nonsense',
    '{}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
  ],
)
def test_several_hosts_need_a_description(monkeypatch, text):
  monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(errors.UsageError, match='TF_CONFIG to be'):
    distribution.connect('multi_worker')


def test_replicas_must_divide_the_batch():
  class Two(distribution.Devices):
    replicas = 2

  devices = Two(tf.distribute.get_strategy())
  devices.check_divides(8, 'Training.batch_size')
  with pytest.raises(errors.UsageError, match='batch_size = 7 .* 2 replicas'):
    devices.check_divides(7, 'Training.batch_size')
