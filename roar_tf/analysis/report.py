"""The report of a study: is an estimator better than random, how surely?

`write` fills one folder: results.csv, statistics.csv, table.md, the figures,
and an index.html that needs nothing else, neither the network nor the other
files. Every number of the page is in one of the two csv files.
"""

from __future__ import annotations

import dataclasses
import math
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from roar_tf import errors
from roar_tf.analysis import (
  beside_paper,
  charts,
  costs,
  drawing,
  figures,
  latex,
  mosaics,
  page,
  panels,
  results,
  soundness,
  statistics,
  tables,
  verdicts,
)

TITLES = {
  'remove': 'Remove and retrain (ROAR)',
  'keep': 'Keep and retrain (KAR)',
}
# Bytes of images that a page may hold, of all its sources together.
_IMAGES = 3_000_000


@dataclasses.dataclass(frozen=True)
class Origin:
  """How a run was made.

  Attributes:
    command: the command line that makes it.
    devices: how many devices shared its batches.
  """

  command: str = ''
  devices: int = 1


def write(
  folder: str,
  frame: pd.DataFrame,
  *,
  study: str,
  chances: Mapping[str, float],
  expected: Iterable[Mapping[str, Any]] | None = None,
  excluded: Sequence[str] = (),
  examples: Mapping[str, Sequence[mosaics.Example]] | None = None,
  explained: Mapping[str, float] | None = None,
  facts: Sequence[tuple[str, str]] = (),
  commands: Mapping[str, str] | None = None,
  origins: Mapping[tuple, Origin] | None = None,
  operative_config: str = '',
  price_per_hour: float | None = None,
) -> str:
  """Writes the report and returns the path of its index.html.

  Args:
    folder: where to write; any URL that `tf.io.gfile` knows.
    frame: the runs of one study, see `results.COLUMNS`.
    study: its name, the title.
    chances: for each source the accuracy of guessing, a fraction.
    expected: the runs that the study lists, as for `results.check`.
    excluded: sentences about runs that are there and left out of `frame`.
    examples: for each source test images under its cells.
    explained: for each source the explained model's test accuracy, where it
      was trained like `original`.
    facts: (label, value) pairs about versions, devices and settings.
    commands: for each purpose the command line that serves it.
    origins: how each run was made, by its `results.IDENTITY`.
    operative_config: the gin configuration that really ran.
    price_per_hour: of one device; None leaves costs in money out.

  Raises:
    MissingInputsError: the frame has no row.
  """
  from roar_tf import workspace

  frame = results.tidy(frame)
  if frame.empty:
    raise errors.MissingInputsError(
      f'Study {study} has no finished run to report; run roar_study first.'
    )
  expected = None if expected is None else list(expected)
  origins, examples = origins or {}, examples or {}
  summary = results.summarise(frame)
  table = statistics.compute(frame, chances, expected)
  checks = statistics.checks(frame, table, chances, expected, explained)
  devices = {run: origin.devices for run, origin in origins.items()}
  spent = costs.rows(frame, devices, price_per_hour)
  more = [spent]
  budget = _IMAGES // max(1, len(examples))
  sections, files = [], {}
  for source in sorted(frame['source'].unique()):
    curves = panels.Curves(summary, source, chances.get(source))
    pictures = _panels(curves)
    section = _section(summary, table, checks, curves, pictures)
    for name, (title, drawn) in pictures.items():
      if drawn:
        figure = figures.draw(drawn, title)
        files[f'{name}.png'] = figures.png(figure)
    images = examples.get(source, ())
    for i, example in enumerate(images):
      figure = mosaics.figure(example, _accuracies(summary, source, example))
      files[f'mosaic_{source}_{i + 1}.png'] = figures.png(figure)
    shown = mosaics.fitting(images, budget)
    section['mosaics'] = [
      {'mosaic': mosaic, 'means': _accuracies(summary, source, mosaic.example)}
      for mosaic in shown
    ]
    section['more_images'] = len(images) - len(shown)
    more.append(beside_paper.rows(summary, source))
    sections.append(section)
  problems = [*excluded, *(check.text for check in checks if not check.holds)]
  files['table.tex'] = latex.table(summary).encode()
  files['table.md'] = _markdown(study, summary, sections, problems).encode()
  retrained = summary[summary['input'] == 'image']
  html = page.render(
    study=study,
    sections=sections,
    problems=problems,
    passed=[check.text for check in checks if check.holds],
    facts=facts,
    commands=commands or {},
    operative_config=operative_config,
    runs=_runs(frame, origins),
    listed=len(frame) if expected is None else len(expected),
    spent=_spent(spent),
    papers={
      section['source']: section['papers']
      for section in sections
      if section['papers']
    },
    seeds=sorted((retrained if len(retrained) else summary)['runs'].unique()),
    modes=set(summary['mode']),
    few=results.RUNS_FOR_INTERVAL,
  )
  # The page comes last: whoever sees it finds the files beside it.
  files['index.html'] = html.encode()
  results.write_csv(frame, posixpath.join(folder, 'results.csv'))
  said = statistics.with_alarms(table, checks)
  statistics.write_csv(
    pd.concat([said.astype(object), *(m.astype(object) for m in more)]),
    posixpath.join(folder, 'statistics.csv'),
  )
  for name, data in files.items():
    workspace.write_atomic(posixpath.join(folder, name), data)
  return posixpath.join(folder, 'index.html')


def _section(
  summary: pd.DataFrame,
  table: pd.DataFrame,
  checks: Sequence[statistics.Alarm],
  curves: panels.Curves,
  pictures: Mapping[str, tuple[str, list[panels.Panel]]],
) -> dict[str, Any]:
  """What the page says about one source."""
  source = curves.source
  drawn = {
    name: _charts(drawn, source) for name, (_, drawn) in pictures.items()
  }
  leaks = [check for check in checks if check.kind == 'leak']
  parts = []
  for mode, title in TITLES.items():
    rows = curves.rows(mode)
    if rows.empty:
      continue
    said = verdicts.verdicts(table, rows, leaks)
    thresholds, grid = tables.grid(rows)
    parts.append(
      {
        'mode': mode,
        'title': title,
        'sentences': verdicts.sentences(said, mode),
        'said': said,
        'scale': charts.scale(said),
        'power': _power(said),
        'charts': drawn[f'curves_{source}_{mode}'],
        'deletion': drawn[f'deletion_{source}_{mode}'],
        'tables': {
          'deletion': soundness.deletion(table, source, mode),
          'smoothed': soundness.smoothed(said),
          'fills': soundness.fills(table, source, mode),
          'sureness': soundness.sureness(table, said, source, mode),
        },
        'thresholds': thresholds,
        'rows': grid,
      }
    )
  return {
    'source': source,
    'papers': beside_paper.compare(summary, source),
    'caption': tables.caption(summary, source),
    'chance': None if curves.chance is None else f'{curves.chance:.4g} %',
    'modes': parts,
    'both': drawn[f'both_{source}'],
    'leaks': soundness.leaks(summary, source, curves.chance, checks),
  }


def _panels(curves: panels.Curves) -> dict[str, tuple[str, list[panels.Panel]]]:
  """Title and panels of each figure of a source, by the name of its file."""
  source = curves.source
  figures_of = {
    f'both_{source}': (f'{source}: keep and remove', curves.both_modes())
  }
  for mode in TITLES:
    figures_of[f'curves_{source}_{mode}'] = (
      f'{source}: {panels.TITLES[mode].lower()}',
      curves.by_family(mode),
    )
    figures_of[f'deletion_{source}_{mode}'] = (
      f'{source}: without and with retraining, {mode}',
      curves.deletion(mode),
    )
  return figures_of


def _charts(drawn: Sequence[panels.Panel], source: str) -> list[dict]:
  """Panels as SVG; one that stands alone also in the shape of a telephone."""
  if not drawn:
    return []
  width, height = drawing.size(drawn)
  letters = drawing.longest_label(drawn)
  narrow = ''
  if len(drawn) == 1:
    narrow = charts.svg(drawn[0], source, 350, height, letters)
  return [
    {
      'title': panel.title if len(drawn) > 1 else '',
      'svg': charts.svg(panel, source, width, height, letters),
      'narrow': narrow,
    }
    for panel in drawn
  ]


def _accuracies(
  summary: pd.DataFrame, source: str, example: mosaics.Example
) -> dict[tuple[str, int], float]:
  """The mean accuracy of models trained on each cell of a mosaic."""
  rows = summary[
    (summary['source'] == source)
    & (summary['input'] == 'image')
    & (summary['mode'] == example.mode)
    & (summary['granularity'] == example.granularity)
    & (summary['fill'] == example.fill)
  ].dropna(subset='mean')
  keys = zip(rows['estimator'], rows['threshold'], strict=True)
  return dict(zip(keys, rows['mean'], strict=True))


def _power(said: Sequence[verdicts.Verdict]) -> str:
  """How sure the study could have been, in a sentence; may be empty."""
  powers = [one.power for one in said if not math.isnan(one.power)]
  least = [one.detectable for one in said if not math.isnan(one.detectable)]
  if not powers:
    return ''
  shown = dict.fromkeys(
    f'{100 * end:.0f} %' for end in (min(powers), max(powers))
  )
  text = (
    'A true lead of 2 points over random would be found, after correction, with'
    f' a chance of {" to ".join(shown)}'
  )
  if least:
    shown = dict.fromkeys(tables.percent(n) for n in (min(least), max(least)))
    text += (
      '; the smallest found with a chance of 80 % is '
      f'{" to ".join(shown)} points'
    )
  return f'{text}.'


def _runs(
  frame: pd.DataFrame, origins: Mapping[tuple, Origin]
) -> list[dict[str, Any]]:
  """What the table of all runs says of each."""
  runs = []
  for row in frame.itertuples(index=False):
    run = tuple(getattr(row, name) for name in results.IDENTITY)
    cell = results.cell_name(*run[1:7])
    runs.append(
      {
        'source': row.source,
        'cell': cell,
        'seed': row.seed,
        'accuracy': f'{row.accuracy:.4f}',
        'top5': f'{row.top5:.4f}',
        'steps': row.steps,
        'test_images': row.test_images,
        'seconds': f'{row.seconds:.1f}',
        'command': origins.get(run, Origin()).command,
      }
    )
  return runs


def _spent(rows: pd.DataFrame) -> list[dict[str, Any]]:
  """What the table of costs says of each source and input."""
  return [
    {'source': source, 'input': input, 'runs': int(some['runs'].iloc[0])}
    | {
      quantity: f'{value:,.2f}'
      for quantity, value in zip(some['quantity'], some['value'], strict=True)
    }
    for (source, input), some in rows.groupby(['source', 'input'])
  ]


def _markdown(
  study: str,
  summary: pd.DataFrame,
  sections: Sequence[Mapping[str, Any]],
  problems: Sequence[str],
) -> str:
  text = [f'# {study}', '']
  for section in sections:
    for part in section['modes']:
      text += [f'## {section["source"]}: {part["title"]}', '']
      text += [' '.join(part['sentences']), '']
      text += [tables.table(summary, section['source'], part['mode'])]
  if problems:
    text += ['## Problems', '', *(f'* {problem}' for problem in problems), '']
  return '\n'.join(text)
