"""Tests of removing artefacts with all that was made from them."""

import pathlib

import pytest

from roar_tf import engine, errors
from roar_tf.engine import remake

READS = {
  'a': (),
  'b': (),
  'from_a': ('a',),
  'from_b': ('b',),
  'of_both': ('from_a', 'from_b'),
}


class Texts(engine.Stage):
  """Writes its content, a text, into a file of each artefact's directory."""

  name = 'texts'
  content = 'text'

  def run(self, artefacts):
    for artefact in artefacts:
      folder = artefact.marker.removesuffix('/DONE')
      engine.files.publish(f'{folder}/text', self.content.encode())
      files = engine.files.checksums(folder, ['text'])
      yield engine.Made(artefact, {'files': files})


@pytest.fixture
def program(tmp_path):
  """Returns the artefacts of a program, which reads as `READS` says."""

  def describe(root='w', stage=None):
    stage, artefacts = stage or Texts(), {}
    for name, inputs in READS.items():
      artefacts[name] = engine.Artefact(
        f'{tmp_path}/{root}/{name}/DONE',
        stage,
        {'name': name},
        {i: artefacts[i] for i in inputs},
      )
    return artefacts

  return describe


def _make(goals, tmp_path):
  engine.make(goals, engine.Snapshot(str(tmp_path)), engine.ThreadPool)


def test_what_was_made_from_it_goes_too_and_comes_back(program, tmp_path):
  artefacts = program()
  _make(artefacts.values(), tmp_path)
  removed = remake.remove(
    [artefacts['of_both']], lambda a: a.settings['name'] == 'from_b', []
  )
  names = [pathlib.Path(folder).name for folder in removed]
  assert names == ['of_both', 'from_b']  # What reads goes before it.
  assert not any(pathlib.Path(folder).exists() for folder in removed)
  _make(artefacts.values(), tmp_path)
  assert all(pathlib.Path(a.marker).exists() for a in artefacts.values())


def test_another_programs_readers_are_known_by_the_seal(program, tmp_path):
  artefacts = program()
  reader = engine.Artefact(
    f'{tmp_path}/w/other/DONE', Texts(), {}, {'it': artefacts['a']}
  )
  _make([*artefacts.values(), reader], tmp_path)
  folders = [str(path) for path in (tmp_path / 'w').iterdir()]
  removed = remake.remove(
    [artefacts['a']], lambda a: a is artefacts['a'], folders
  )
  names = {pathlib.Path(folder).name for folder in removed}
  assert names == {'a', 'from_a', 'of_both', 'other'}


def test_what_was_made_from_other_content_is_refused(program, tmp_path):
  _make(program().values(), tmp_path)
  changed = Texts()
  changed.content = 'another text'
  artefacts = program(stage=changed)
  engine.files.remove(f'{tmp_path}/w/a')
  _make([artefacts['a']], tmp_path)
  for name in ('from_a', 'of_both'):
    with pytest.raises(
      errors.UsageError, match='/from_a/.*input a has changed'
    ):
      _make([artefacts[name]], tmp_path)
  _make([artefacts['from_b']], tmp_path)


def test_parts_of_another_configuration_complete_no_whole(tmp_path):
  """Two workers begin at once; the code of one is older."""

  def whole(word):
    stage = Texts()
    parts = {
      str(i): engine.Artefact(f'{tmp_path}/{i}/DONE', stage, {'word': word})
      for i in range(2)
    }
    return engine.Artefact(
      f'{tmp_path}/whole/DONE', stage, {'word': word}, parts=lambda: parts
    )

  old, new = whole('old'), whole('new')
  _make([new.parts()['0']], tmp_path)
  _make([old.parts()['1']], tmp_path)
  (unit,) = new.stage.units([new])
  with pytest.raises(errors.UsageError, match="word: 'old' there, 'new' asked"):
    engine.attempt(unit)
  assert not (tmp_path / 'whole').exists()
