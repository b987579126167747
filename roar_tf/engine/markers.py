"""DONE markers: what commits an artefact, and says what it was made from.

A marker is a JSON file, written last. It holds

* the *fingerprint*: the stage, the version of the stage's code, every setting
  that changes what is made, and the seals of the inputs;
* facts: checksums of the content, and the environment, which nobody compares;
* the *seal* of fingerprint and content, which the markers of later artefacts
  hold: what is made again with other content is another input;
* a *checksum* of all the rest.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping

from roar_tf import errors
from roar_tf.engine import files

CONTENT = ('files', 'contents')
"""Facts that hold the checksums of all that an artefact is."""
DONE = 'DONE'
"""Name of an artefact's marker; that of a file by itself is `<file>.DONE`."""


def digest(value: Mapping) -> str:
  """Returns the SHA-256 of a value's canonical JSON."""
  text = json.dumps(value, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(
  stage: str, version: int, settings: Mapping, inputs: Mapping[str, str]
) -> dict:
  """Returns what makes an artefact what it is, as a JSON value.

  Args:
    stage: name of the stage.
    version: raised when the stage's code changes what it writes.
    settings: every setting that changes values, by the name the user knows.
    inputs: the seal of every input, by name.
  """
  value = {
    'stage': stage,
    'version': version,
    'settings': dict(settings),
    'inputs': dict(inputs),
  }
  return json.loads(json.dumps(value))  # Tuples become lists, as when read.


def write(path: str, fingerprint_: Mapping, facts: Mapping = {}) -> None:
  """Commits an artefact: writes its marker.

  Args:
    path: the marker's path.
    fingerprint_: as `fingerprint` makes it.
    facts: JSON values to record, which are not compared.
  """
  value = {'fingerprint': fingerprint_, **facts}
  content = {name: value[name] for name in CONTENT if name in value}
  seal = digest({'fingerprint': fingerprint_, **content})
  files.publish(path, _checked({**value, 'seal': seal}), commits=True)


def _checked(value: Mapping) -> bytes:
  """Returns a marker as it is written: with the checksum of all the rest."""
  return files.as_json({**value, 'checksum': digest(value)})


def parse(path: str, data: bytes) -> dict:
  """Returns the content of a marker.

  Args:
    path: where it was read, for the message.
    data: what the file holds.

  Raises:
    DataError: any bit of it is not as it was written.
    UsageError: an older roar_tf wrote it.
  """
  try:
    value = json.loads(data)
    del value['checksum']
    intact = _checked(value) == data
  except errors.MALFORMED:
    intact = False
  if not intact:
    raise errors.DataError(
      f'{path} is damaged, or older than the checksums of markers; delete it '
      'and run the same command again.'
    )
  if 'seal' not in value:
    raise errors.UsageError(
      f'{path} was written by a version of roar_tf before the one that seals '
      'the content of what it makes: finish that workspace with that version, '
      'or use another --workspace.'
    )
  return value


def read(path: str) -> dict | None:
  """Returns a marker's content, or None where there is none.

  Raises:
    DataError: it is damaged.
  """
  try:
    data = files.read(path)
  except files.missing_errors():
    return None
  return parse(path, data)


def intact(path: str) -> dict | None:
  """Returns a marker's content; None if there is none that can be read.

  Raises:
    UsageError: an older roar_tf wrote it.
  """
  try:
    return read(path)
  except (errors.DataError, *files.storage_errors()):
    return None


def require(path: str) -> dict:
  """Returns a marker's content; raises MissingInputsError without one."""
  marker = read(path)
  if marker is None:
    raise errors.MissingInputsError(
      f'{path} is not there yet: run the stages before this one first, or wait '
      'for the workers that do.'
    )
  return marker


def content(path: str) -> bytes:
  """Returns what a file holds that the DONE beside it names.

  Raises:
    MissingInputsError: there is no DONE.
    DataError: it is not as it was when DONE was written.
  """
  folder, name = os.path.split(path)
  recorded = require(f'{folder}/{DONE}').get('files', {}).get(name)
  try:
    data = files.read(path)
    reason = 'its SHA-256 is not that in DONE'
  except files.missing_errors():
    data, reason = b'', 'it is missing'
  if hashlib.sha256(data).hexdigest() != recorded:
    raise errors.DataError(
      f'{path} is damaged ({reason}); delete its directory and run the same '
      'command again.'
    )
  return data


def content_json(path: str):
  """Returns the value of a JSON file; see `content`."""
  return json.loads(content(path))


def check(path: str, was: Mapping, wanted: Mapping, remedy: str) -> None:
  """Refuses an artefact that another configuration made.

  Args:
    path: its marker.
    was: the fingerprint in the marker.
    wanted: the fingerprint that is asked for.
    remedy: what makes it anew, as the end of a sentence.

  Raises:
    OtherSettingsError: they differ; the message names each difference.
  """
  if was != wanted:
    changes = '; '.join(differences(was, wanted))
    raise errors.OtherSettingsError(
      f'{path} was made with other settings ({changes}): ask for those '
      f'settings, use another --workspace, or {remedy}.',
      changes,
    )


def differences(was: Mapping, wanted: Mapping) -> Iterator[str]:
  """Yields phrases such as 'steps: 10 there, 20 asked for'.

  Settings that are checksums, {'sha256': ...}, are said to have changed.
  """
  before, after = (
    f'version {value.get("version")} of stage {value.get("stage")}'
    for value in (was, wanted)
  )
  if before != after:
    yield f'made by {before}, this is {after}'
  changed: list[str] = []
  for part in ('settings', 'inputs'):
    before, after = was.get(part, {}), wanted.get(part, {})
    for name in sorted({*before, *after}):
      if name not in before or name not in after or before[name] != after[name]:
        old, new = before.get(name), after.get(name)
        if part == 'inputs':
          changed.append(name)
        elif all(isinstance(v, Mapping) and 'sha256' in v for v in (old, new)):
          yield f'{name} has changed'
        else:
          yield f'{name}: {old!r} there, {new!r} asked for'
  if len(changed) == 1:
    yield f'its input {changed[0]} has changed'
  elif changed:
    yield f'{len(changed)} of its inputs have changed: {errors.few(changed)}'
