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
    (['--threshold=55.5'], ['55.5', '100']),
    (['--threshold='], ['--threshold']),
    (['--estimator=gard'], ['gard', '"grad"']),
    (['--estimator=sg_random'], ['sg_random', 'cannot']),
    (['--fill=maen'], ['maen', '"mean"']),
    (['--dataset=planted'], ['--dataset=planted', '"planted_patch"']),
    (['--thresholds=30'], ['thresholds']),
  ],
)
def test_bad_usage_is_one_sentence(changes, words, refused):
  usual = ['--dataset=planted_patch', '--estimator=grad', '--threshold=50']
  refused('roar_shards', [*usual, *changes], words)


@pytest.mark.parametrize('flag', ['dataset', 'estimator', 'threshold'])
def test_required_flags_are_named(flag, refused):
  given = {'dataset': 'planted_patch', 'estimator': 'grad', 'threshold': '50'}
  del given[flag]
  arguments = [f'--{name}={value}' for name, value in given.items()]
  refused('roar_shards', arguments, [f'--{flag} '])


# --- verify and repair -------------------------------------------------------


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 3] ^= 16
  path.write_bytes(bytes(data))


def _shard(root, config, split='train', index=1):
  (path,) = root.glob(
    f'tfds/roar_tiny/{config}/*/*-{split}.tfrecord-{index:05d}-of-0000?'
  )
  return path


def test_an_intact_workspace_is_said_to_be(tool, finished):
  outcome = tool('roar_shards', '--verify', f'--workspace={finished}')
  assert outcome.status == 0 and not outcome.err
  (line,) = outcome.out.splitlines()
  files = [
    path
    for pattern in (
      *('tfds/**/*', '**/*DONE', '**/result.json'),
      *('runs/**/*.npz', 'models/**/*.npz'),
    )
    for path in finished.glob(pattern)
    if path.is_file()
  ]
  size = sum(path.stat().st_size for path in set(files))
  assert line == f'{len(set(files))} files, {size:,} bytes: all intact'


def test_repair_without_a_configuration_says_which_command(
  tool, tiny, finished, damaged, artefacts
):
  ranking = _shard(damaged, 'ranking_grad_pixel')
  _flip(ranking)
  before = artefacts(damaged)
  outcome = tool('roar_shards', '--repair', f'--workspace={damaged}')
  assert outcome.status == 1
  assert str(ranking.relative_to(damaged)) in outcome.err
  wanted = '--dataset=tiny --estimator=grad --granularity=pixel'
  command = f'roar_shards --repair --workspace={damaged} {wanted}'
  assert command in outcome.err
  # An estimator that makes something else is no help either.
  flags = [f'--dataset={tiny.dataset}', *tiny.flags(damaged)]
  for estimator in ([], ['--estimator=random']):
    outcome = tool('roar_shards', '--repair', *flags, *estimator)
    assert outcome.status == 1 and command in outcome.err
    assert artefacts(damaged) == before
  outcome = tool('roar_shards', '--repair', *flags, '--estimator=grad')
  assert outcome.status == 0, outcome.err
  assert artefacts(damaged) == artefacts(finished)


def test_a_ranking_of_a_few_cuts_is_repaired_too(tool, tiny, damaged):
  flags = [f'--dataset={tiny.dataset}', *tiny.flags(damaged)]
  flags += ['--gin_bindings=Ranking.cuts = (10, 90)']
  # `gb` was not ranked yet: no threshold of 50 can name it.
  outcome = tool('roar_rank', *flags, '--estimators=gb')
  assert outcome.status == 0, outcome.err
  ranking = _shard(damaged, 'ranking_gb_pixel')
  before = ranking.read_bytes()
  _flip(ranking)
  outcome = tool('roar_shards', '--repair', *flags, '--estimator=gb')
  assert outcome.status == 0, outcome.err
  assert ranking.read_bytes() == before


@pytest.mark.parametrize(
  'arguments, words',
  [
    (['--verify', '--repair'], ['--verify', '--repair']),
    (['--verify', '--threshold=50'], ['--verify', '--threshold']),
    (['--repair', '--dataset=tiny', '--threshold=5'], ['--threshold']),
    (['--repair', '--study=x', '--estimator=grad'], ['--estimator']),
    (['--study=quickstart'], ['--study', '--repair']),
  ],
)
def test_bad_usage_of_verify_is_one_sentence(arguments, words, refused):
  refused('roar_shards', arguments, words)
