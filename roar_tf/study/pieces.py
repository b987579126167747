"""Pieces: finished runs without the workspace that they were made in.

A report's folder holds what any report needs of its runs: `results.csv`, which
test images each run had right (`predictions.npz`), and what was known beside
them (`about.json`). So a study may be made in pieces, on machines that share
nothing, and reported as a whole; and accuracies of models that were retrained
elsewhere may join those of a workspace, from a table alone.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.study.finished import Answers, FinishedRuns
from roar_tf.study.grid import Run

RESULTS = 'results.csv'
PREDICTIONS = 'predictions.npz'
ABOUT = 'about.json'


@dataclasses.dataclass(frozen=True)
class About:
  """What is known of runs beside their results.

  Attributes:
    chances: for each source the accuracy of guessing, a fraction.
    explained: for each source the test accuracy of the first explained model,
      where it was trained like `original`.
    facts: (label, text): versions, devices, images.
  """

  chances: Mapping[str, float] = dataclasses.field(default_factory=dict)
  explained: Mapping[str, float] = dataclasses.field(default_factory=dict)
  facts: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class Piece:
  """Finished runs, and what is known of them."""

  runs: FinishedRuns
  about: About


def written(piece: Piece) -> dict[str, bytes]:
  """Returns the files that hold a piece beside its results.csv, by name."""
  from roar_tf.analysis import results

  frame = results.tidy(piece.runs.frame)
  of_identity = {results.identity(r.columns): r for r in piece.runs.answers}
  runs = [of_identity.get(row) for row in results.identities(frame)]
  groups: dict[tuple[str, int], list[int]] = {}
  for number, run in enumerate(runs):
    if run is not None:
      answers = piece.runs.answers[run]
      groups.setdefault((answers.images, answers.count), []).append(number)
  arrays = {
    'images': np.array([images for images, _ in groups], 'S64'),
    'counts': np.array([count for _, count in groups], np.int64),
  }
  for number, rows in enumerate(groups.values()):
    arrays[f'rows_{number}'] = np.array(rows, np.int64)
    arrays[f'bits_{number}'] = np.stack(
      [piece.runs.answers[runs[row]].bits for row in rows]
    )
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  about = {
    **dataclasses.asdict(piece.about),
    'devices': [piece.runs.devices.get(run, 1) for run in runs],
  }
  return {
    PREDICTIONS: buffer.getvalue(),
    ABOUT: json.dumps(about, indent=1, sort_keys=True).encode(),
  }


def read(path: str, study: str, runs: Iterable[Run]) -> Piece:
  """Reads the runs of a folder, or of a table alone.

  Args:
    path: a folder that holds results.csv, or a csv file of such rows.
    study: the name of the study that they shall belong to.
    runs: the runs that the study lists.

  Raises:
    UsageError: there is no such file, or a row is no run of the study.
    DataError: a file is damaged.
  """
  from roar_tf.analysis import results

  folder = '' if path.endswith('.csv') else path.rstrip('/')
  table = f'{folder}/{RESULTS}' if folder else path
  if not files.exists(table):
    raise errors.UsageError(
      f'--results={path}: there is no {table}; name the folder of a report, or '
      'a table like its results.csv.'
    )
  frame = results.read_csv(table).assign(study=study)
  listed = {results.identity(run.columns): run for run in runs}
  rows = results.identities(frame)
  strangers = [row for row in rows if row not in listed]
  if strangers:
    names = zip(results.IDENTITY, strangers[0], strict=True)
    first = ', '.join(f'{name} {value}' for name, value in names if value != '')
    raise errors.UsageError(
      f'{table}: {len(strangers)} of its {len(rows)} rows are no runs of study '
      f'{study}, the first of {first}; give the --study that they belong to.'
    )
  frame['look'] = [listed[row].look for row in rows]
  found = [listed[row] for row in rows]
  about = _json(f'{folder}/{ABOUT}') if folder else {}
  devices = about.pop('devices', [1] * len(rows))
  try:
    known = About(**about)
    devices = dict(zip(found, map(float, devices), strict=True))
    facts = [(str(label), str(text)) for label, text in known.facts]
    chances = {str(s): float(v) for s, v in known.chances.items()}
    explained = {str(s): float(v) for s, v in known.explained.items()}
  except (AttributeError, TypeError, ValueError) as e:
    raise _damaged(f'{folder}/{ABOUT}', e) from e
  answers = _answers(f'{folder}/{PREDICTIONS}', found) if folder else {}
  for run, row in zip(found, frame.itertuples(), strict=True):
    own = answers.get(run)
    if own and own.correct.mean() != row.accuracy:
      raise _damaged(
        f'{folder}/{PREDICTIONS}', f'it does not fit the accuracy of {run}'
      )
  return Piece(
    FinishedRuns(frame, [], devices, answers), About(chances, explained, facts)
  )


def _json(path: str) -> dict:
  """Returns the content of about.json; empty if there is none."""
  if not files.exists(path):
    return {}
  try:
    return dict(json.loads(files.read(path)))
  except errors.MALFORMED as e:
    raise _damaged(path, e) from e


def _answers(path: str, runs: Sequence[Run]) -> dict[Run, Answers]:
  """Returns which test images the runs had right; none without the file."""
  if not files.exists(path):
    return {}
  answers = {}
  try:
    with np.load(io.BytesIO(files.read(path)), allow_pickle=False) as arrays:
      groups = zip(arrays['images'], arrays['counts'], strict=True)
      for number, (images, count) in enumerate(groups):
        bits = arrays[f'bits_{number}']
        if bits.shape[1] != (count + 7) // 8:
          raise ValueError('its bits are not as many as its images')
        for row, own in zip(arrays[f'rows_{number}'], bits, strict=True):
          answers[runs[row]] = Answers(images.decode(), int(count), own)
  except (*errors.MALFORMED, zipfile.BadZipFile, OSError) as e:
    raise _damaged(path, e) from e
  return answers


def _damaged(path: str, reason) -> errors.DataError:
  return errors.DataError(
    f'{path} is damaged ({reason}); write it again with roar_report.'
  )


def merged(pieces: Sequence[Piece]) -> Piece:
  """Returns all runs of some pieces; one that several have counts once.

  Raises:
    DataError: two pieces have different accuracies of one run.
  """
  import pandas as pd

  from roar_tf.analysis import results

  frames, seen = [], {}
  for number, piece in enumerate(pieces):
    keep = []
    frame = piece.runs.frame
    for identity, own in zip(
      results.identities(frame), frame['accuracy'], strict=True
    ):
      other, accuracy = seen.setdefault(identity, (number, own))
      if accuracy != own:
        raise errors.DataError(
          f'--results: two of the pieces have other accuracies, {accuracy} and '
          f'{own}, of {"/".join(map(str, identity))}: leave one of '
          'them out.'
        )
      keep.append(other == number)
    frames.append(frame[keep])
  texts: dict[str, dict[str, None]] = {}
  chances, explained, devices, answers = {}, {}, {}, {}
  for piece in reversed(pieces):  # The first one has the last word.
    chances |= piece.about.chances
    explained |= piece.about.explained
    devices |= piece.runs.devices
    answers |= piece.runs.answers
  for piece in pieces:
    for label, text in piece.about.facts:
      texts.setdefault(label, {})[text] = None
  frame = pd.concat([f for f in frames if len(f)] or frames, ignore_index=True)
  return Piece(
    FinishedRuns(
      frame, [e for p in pieces for e in p.runs.excluded], devices, answers
    ),
    About(
      chances,
      explained,
      [(label, '; '.join(own)) for label, own in texts.items()],
    ),
  )
