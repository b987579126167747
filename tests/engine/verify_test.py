"""Tests that any change is found and named, and mended to the bit."""

import os
import pathlib
import random
import re
import shutil

import pytest

from roar_tf import engine, errors
from roar_tf.engine import files, verify

LAYOUT = verify.Layout(re.compile(r'\d+'))


@pytest.fixture
def made(bench):
  """A finished study: two caches of three parts, a run of each, a report."""
  bench.add('origin', 'first')
  for name in ('cell', 'other'):
    parts = [f'{name}/{n}' for n in range(3)]
    for part in parts:
      bench.add(part, 'cache', ['origin'], intermediate=True)
    bench.add(name, 'cache', ['origin'], parts, intermediate=True)
    bench.add(f'run {name}', 'runs', [name])
  bench.add('sum', 'sum', soft=['run cell', 'run other'])
  bench.make()
  bench.worked.clear()
  return bench


GOALS = ('run cell', 'run other', 'sum')


def _findings(bench, *folders, **more):
  names = folders or files.names_in(bench.root)
  paths = [f'{bench.root}/{name}' for name in names]
  return verify.verify(paths, layout=LAYOUT, **more)


def _damages(bench, *folders):
  """Returns {path below the root: reason}."""
  return {
    os.path.relpath(damage.path, bench.root): damage.reason
    for damage in _findings(bench, *folders).damages
  }


def _repair(bench, *goals, folders=(), **more):
  return verify.repair(
    bench.some(goals or GOALS).values(),
    _findings(bench, *folders).damages,
    bench.root,
    engine.ThreadPool,
    layout=LAYOUT,
    **more,
  )


def _flip(path, bit):
  data = bytearray(files.read(path))
  data[bit // 8] ^= 1 << bit % 8
  pathlib.Path(path).write_bytes(data)


# --- what is found ------------------------------------------------------------


def test_flipped_bits_are_found_and_named_wherever_they_are(made):
  rng = random.Random(7)
  assert not _damages(made)
  paths = sorted(made.contents())
  markers = [path for path in paths if path.endswith('DONE')]
  for group in 5 * [markers, sorted({*paths} - {*markers})]:
    bits = {path: rng.randrange(8 * files.size(path)) for path in group}
    for path, bit in bits.items():
      _flip(path, bit)
    damaged = {damage.path for damage in _findings(made).damages}
    assert damaged == bits.keys(), bits
    for path, bit in bits.items():
      _flip(path, bit)
  findings = _findings(made)
  size = sum(map(files.size, paths))
  assert str(findings) == f'{len(paths)} files, {size:,} bytes: all intact'


def _swap(one, two):
  data = one.read_bytes()
  one.write_bytes(two.read_bytes())
  two.write_bytes(data)


def _marker(path):
  return path.with_name(f'{path.name}.DONE')


def _exchange(one, two):
  _swap(one, two)
  _swap(_marker(one), _marker(two))


def _lose(one, two):
  one.unlink()
  _marker(one).unlink()


def _copy(one, two):
  shutil.copy(one, one.with_name('x'))
  shutil.copy(_marker(one), one.with_name('x.DONE'))


NO_PART = 'it is no part of what DONE names'
FAULTS = [
  (lambda a, b: a.write_bytes(a.read_bytes() + b'-'), {'0': 'its .DONE'}),
  (lambda a, b: a.write_bytes(b''), {'0': 'not that in its .DONE'}),
  (lambda a, b: a.unlink(), {'0': 'it is missing'}),
  (_swap, {'0': 'not that in its', '1': 'not that in its'}),
  (_exchange, {'0': 'not that in DONE', '1': 'not that in DONE'}),
  (_lose, {'0': 'it is missing', '0.DONE': 'it is missing'}),
  (lambda a, b: _marker(a).unlink(), {'0.DONE': 'it is missing'}),
  (lambda a, b: _marker(a).write_text('no json'), {'0.DONE': 'no marker'}),
  (lambda a, b: _marker(a).write_text('[]'), {'0.DONE': 'no marker'}),
  (
    lambda a, b: shutil.copy(a.with_name('DONE'), _marker(a)),
    {'0.DONE': 'the marker of something else'},
  ),
  (lambda a, b: shutil.copy(a, a.with_name('9')), {'9': NO_PART}),
  (_copy, {'x': NO_PART, 'x.DONE': NO_PART}),
  (lambda a, b: a.with_name('text').unlink(), {'text': 'it is missing'}),
  (lambda a, b: a.with_name('text').write_text('x'), {'text': 'in DONE'}),
]


@pytest.mark.parametrize('change, expected', FAULTS)
def test_faults_are_found_named_and_mended(change, expected, made):
  before = made.contents()
  one, two = (pathlib.Path(made.text(f'cell/{n}')) for n in range(2))
  change(one, two)
  damages = _damages(made)
  assert damages.keys() == {f'cell/{name}' for name in expected}
  for name, words in expected.items():
    assert words in damages[f'cell/{name}']
  assert _repair(made) == []
  assert made.contents() == before
  assert all(name.startswith('cell') for name in made.worked)


def test_what_is_unfinished_is_not_damaged(made):
  files.remove(made.marker('cell'))  # Killed before it was committed,
  files.remove(made.marker('cell/0'))  # or while it was deleted.
  files.publish(f'{made.text("cell/0")}.tmp-{"0" * 32}', b'half')
  made.delete('run cell')
  files.publish(f'{made.root}/run cell/checkpoint', b'state')
  findings = _findings(made)
  assert not findings.damages and findings.unfinished == 2
  assert str(findings).endswith(': all intact (not finished: 2 artefacts)')
  files.remove(made.text('cell/1'))
  assert _damages(made) == {'cell/1': 'it is missing'}


def test_without_a_layout_markers_alone_tell(made):
  files.remove(made.marker('cell/0'))
  folders = [f'{made.root}/cell']
  assert not verify.verify(folders).damages
  assert len(verify.verify(folders, layout=LAYOUT).damages) == 1


def test_a_file_that_cannot_be_read_is_damaged(made, monkeypatch):
  broken, sha256 = made.text('cell/1'), files.sha256

  def read(path):
    if path == broken:
      raise OSError(5, 'Input/output error')
    return sha256(path)

  monkeypatch.setattr(files, 'sha256', read)
  assert _damages(made) == {'cell/1': 'it cannot be read (Input/output error)'}


def test_many_threads_find_what_one_finds_and_stop_when_asked(made):
  for name in ('origin', 'cell/1', 'other', 'run other'):
    _flip(made.text(name), 3)
  one, many = (_findings(made, parallel=n) for n in (1, 8))
  assert one == many and len(one.damages) == 4
  with pytest.raises(errors.PreemptedError):
    _findings(made, stop=lambda: True)


# --- what is mended -----------------------------------------------------------


def test_damage_of_every_sort_at_once_is_mended_to_the_bit(made):
  before = made.contents()
  for name in ('cell/1', 'other', 'run other', 'sum'):
    _flip(made.text(name), 3)
  for name in ('cell/0', 'cell', 'run cell', 'origin'):
    _flip(made.marker(name), 99)
  kept = pathlib.Path(made.text('other/2')).stat().st_mtime_ns
  assert len(_damages(made)) == 8
  assert _repair(made) == []
  assert made.contents() == before
  assert sorted(made.worked) == [
    *('cell', 'cell/0', 'cell/1', 'origin', 'other'),
    *('run cell', 'run other', 'sum'),
  ]
  assert pathlib.Path(made.text('other/2')).stat().st_mtime_ns == kept


def test_mending_brings_back_only_what_it_reads(made):
  before = made.contents()
  made.delete('cell', 'other')
  files.remove(made.text('run cell'))
  assert _repair(made) == []
  assert made.contents() == {
    path: data for path, data in before.items() if '/other/' not in path
  }


def test_only_what_the_goals_make_is_touched(made):
  for name in ('cell/1', 'other/1'):
    _flip(made.text(name), 3)
  (left,) = _repair(made, 'run cell')
  assert left.path == made.text('other/1')
  assert left.marker == made.marker('other/1')
  assert _damages(made) == {'other/1': left.reason}
  assert _repair(made, 'run cell') == [left]
  text = verify.describe(made.root, [left], 'mend it:')
  assert text == f'1 file is damaged; mend it:\n  other/1: {left.reason}'


@pytest.mark.parametrize(
  'names, settings',
  [
    (['cell/1', 'cell'], ['cell']),  # Of what is damaged, as far as it tells.
    (['run cell'], ['cell']),  # Of what it is made from, ...
    (['run cell'], ['origin']),  # ... however many steps before.
  ],
)
def test_other_settings_are_refused_before_anything_is_removed(
  names, settings, made
):
  for name in names:
    _flip(made.text(name), 3)
  before = made.contents()
  for name in settings:
    artefact = made.artefacts[name]
    artefact.settings['words'] = 7
  with pytest.raises(errors.UsageError, match='words: None there, 7 asked'):
    _repair(made)
  assert made.contents() == before and not made.worked


@pytest.mark.parametrize('name', ['cell/1', 'cell', 'run cell'])
def test_other_bytes_than_before_are_told(name, made):
  _flip(made.text(name), 3)
  made.salt = 'of another device'
  with pytest.raises(errors.DataError, match='other bytes than before') as e:
    _repair(made)
  marker = made.marker(name).removeprefix(f'{made.root}/')
  part = f'{name}: its SHA-256 is not that in DONE'
  whole = f'{marker}: it does not record the checksums of before'
  assert (part if '/' in name else whole) in str(e.value)


def test_a_unit_that_fails_leaves_what_is_not_done(made):
  _flip(made.text('cell/1'), 3)
  made.errors['cell/1'] = ValueError('no luck')
  with pytest.raises(errors.UnitsFailedError, match='cell/1: ValueError'):
    _repair(made)
  assert _damages(made) == {
    **{'cell/1': 'it is missing', 'cell/1.DONE': 'it is missing'}
  }
  made.errors.clear()
  assert _repair(made) == [] and not _damages(made)
