"""Tests of roar_shards."""

import pytest


def test_one_cell_is_written_from_what_is_there(tool, tiny, finished, damaged):
  arguments = [
    f'--dataset={tiny.dataset}',
    '--estimator=grad',
    *tiny.flags(damaged),
  ]
  new = tool('roar_shards', *arguments, '--threshold=55', '--mode=keep')
  assert new.status == 0, new.err
  assert new.counts() == {
    'source': (0, 6, 0),
    'model': (0, 1, 0),
    'rank': (0, 6, 0),
    'shards': (6, 0, 0),
  }
  (info,) = damaged.glob(
    'tfds/roar_tiny/grad_pixel_keep_55/*/dataset_info.json'
  )
  assert '"train"' in info.read_text()
  known = tool('roar_shards', *arguments, '--threshold=70')
  assert known.counts()['shards'] == (0, 6, 0)


@pytest.mark.parametrize(
  'changes, words',
  [
    (['--threshold=0'], ['0', '100']),
    (['--threshold=101'], ['101', '100']),
    (['--threshold=-1'], ['-1', '100']),
    (['--threshold=55.5'], ['55.5', '100']),
    (['--threshold=ten'], ['ten', '100']),
    (['--threshold='], ['--threshold']),
    (['--estimator=gard'], ['gard', '"grad"']),
    (['--estimator=sg_random'], ['sg_random', 'cannot']),
    (['--mode=removed'], ['removed', '"remove"']),
    (['--granularity=pixels'], ['pixels', '"pixel"']),
    (['--fill=maen'], ['maen', '"mean"']),
    (['--dataset=planted'], ['--dataset=planted', '"planted_patch"']),
    (['--thresholds=30'], ['thresholds']),
  ],
)
def test_bad_usage_is_one_sentence(changes, words, tool, tmp_path):
  outcome = tool(
    'roar_shards',
    '--dataset=planted_patch',
    '--estimator=grad',
    '--threshold=50',
    f'--workspace={tmp_path}/w',
    *changes,
  )
  assert outcome.status == 2
  assert len(outcome.err.splitlines()) == 1
  for word in words:
    assert word in outcome.err
  assert not (tmp_path / 'w/tfds').exists()


@pytest.mark.parametrize('flag', ['dataset', 'estimator', 'threshold'])
def test_required_flags_are_named(flag, tool, tmp_path):
  given = {'dataset': 'planted_patch', 'estimator': 'grad', 'threshold': '50'}
  del given[flag]
  arguments = [f'--{name}={value}' for name, value in given.items()]
  outcome = tool('roar_shards', *arguments, f'--workspace={tmp_path}/w')
  assert outcome.status == 2
  assert len(outcome.err.splitlines()) == 1 and f'--{flag} ' in outcome.err
