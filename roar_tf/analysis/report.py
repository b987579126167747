"""The report of a study, which answers whether estimators beat random.

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
  checks,
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
  """How a run came to be.

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
    chances: for each source the accuracy of guessing, a fraction: the share of
      the most frequent class of its test images.
    expected: the runs that the study lists, as for `results.faults`.
    excluded: sentences about runs that are there and left out of `frame`.
    examples: for each source test images under its cells.
    explained: for each source the explained model's test accuracy, where it
      was trained like `original`.
    facts: (label, value) pairs about versions, devices and settings.
    commands: for each purpose the command line that serves it.
    origins: how each run came to be, by its `results.IDENTITY`.
    operative_config: the gin configuration that really ran.
    price_per_hour: of one device; None leaves costs in money out.

  Raises:
    MissingInputsError: the frame has no row.
  """
  from roar_tf.engine.files import publish

  frame = results.tidy(frame)
  if frame.empty:
    raise errors.MissingInputsError(
      f'Study {study} has no finished run to report; run roar_study first.'
    )
  expected = None if expected is None else list(expected)
  origins, examples = origins or {}, examples or {}
  summary = results.summarise(frame)
  table = statistics.compute(frame, chances, expected)
  performed = checks.perform(frame, table, chances, expected, explained)
  devices = {run: origin.devices for run, origin in origins.items()}
  spent = costs.rows(frame, devices, price_per_hour)
  tables_of_numbers = [statistics.with_checks(table, performed), spent]
  budget = _IMAGES // max(1, len(examples))
  sections, files = [], {}
  for source in sorted(frame['source'].unique()):
    curves = panels.Curves(summary, source, chances.get(source))
    drawn, images = _figures(curves), examples.get(source, ())
    files |= _pictures(summary, source, drawn, images)
    section = _section(summary, table, performed, curves, drawn)
    sections.append(section | _mosaics(summary, source, images, budget))
    tables_of_numbers.append(beside_paper.statistics_of(summary, source))
  alarms = [check.text for check in performed if not check.holds]
  problems = [*excluded, *alarms]
  files['table.tex'] = latex.table(summary).encode()
  files['table.md'] = _markdown(study, summary, sections, problems).encode()
  retrained = summary[summary['input'] == 'image']
  html = page.render(
    study=study,
    sections=sections,
    problems=problems,
    passed=[check.text for check in performed if check.holds],
    facts=facts,
    commands=commands or {},
    operative_config=operative_config,
    runs=_runs(frame, origins),
    listed=len(frame) if expected is None else len(expected),
    spent=costs.records(spent),
    seeds=sorted((retrained if len(retrained) else summary)['runs'].unique()),
    modes=set(summary['mode']),
    few=results.RUNS_FOR_INTERVAL,
  )
  # The page comes last: whoever sees it finds the files beside it.
  files['index.html'] = html.encode()
  results.write_csv(frame, posixpath.join(folder, 'results.csv'))
  statistics.write_csv(
    pd.concat([rows.astype(object) for rows in tables_of_numbers]),
    posixpath.join(folder, 'statistics.csv'),
  )
  for name, data in files.items():
    publish(posixpath.join(folder, name), data)
  return posixpath.join(folder, 'index.html')


def _section(
  summary: pd.DataFrame,
  table: pd.DataFrame,
  performed: Sequence[results.Check],
  curves: panels.Curves,
  drawn: Mapping[str, tuple[str, list[panels.Panel]]],
) -> dict[str, Any]:
  """Returns what the page says about one source, but for its images."""
  source = curves.source
  leaks = [check for check in performed if check.name == 'leak']
  svg = {name: _charts(parts, source) for name, (_, parts) in drawn.items()}
  modes = []
  for mode, title in TITLES.items():
    rows = curves.rows(mode)
    if rows.empty:
      continue
    judged = verdicts.of_curves(table, rows, leaks)
    thresholds, grid = tables.grid(rows)
    modes.append(
      {
        'mode': mode,
        'title': title,
        'sentences': verdicts.sentences(judged, mode),
        'verdicts': judged,
        'scale': charts.scale(judged),
        'power': _power(judged),
        'charts': svg.get(f'curves_{source}_{mode}', []),
        'deletion': svg.get(f'deletion_{source}_{mode}', []),
        'tables': {
          'deletion': soundness.deletion(table, source, mode),
          'smoothed': soundness.smoothed(judged),
          'fills': soundness.fills(table, source, mode),
          'sureness': soundness.sureness(table, judged, source, mode),
        },
        'thresholds': thresholds,
        'rows': grid,
      }
    )
  return {
    'source': source,
    'papers': beside_paper.tables_of(summary, source),
    'caption': tables.caption(summary, source),
    'chance': None if curves.chance is None else f'{curves.chance:.4g} %',
    'modes': modes,
    'both': svg.get(f'both_{source}', []),
    'leaks': soundness.leaks(summary, source, curves.chance, leaks),
  }


def _figures(
  curves: panels.Curves,
) -> dict[str, tuple[str, list[panels.Panel]]]:
  """Returns each figure of a source by the name of its file.

  A figure is its title and its panels; one without panels is left out.
  """
  source = curves.source
  drawn = {
    f'both_{source}': (f'{source}: keep and remove', curves.both_modes())
  }
  for mode, title in panels.TITLES.items():
    drawn[f'curves_{source}_{mode}'] = (
      f'{source}: {title.lower()}',
      curves.by_family(mode),
    )
    drawn[f'deletion_{source}_{mode}'] = (
      f'{source}: without and with retraining, {mode}',
      curves.deletion(mode),
    )
  return {name: figure for name, figure in drawn.items() if figure[1]}


def _pictures(
  summary: pd.DataFrame,
  source: str,
  drawn: Mapping[str, tuple[str, list[panels.Panel]]],
  examples: Sequence[mosaics.Example],
) -> dict[str, bytes]:
  """Returns the PNG files of one source: its figures and its mosaics."""
  pictures = {
    f'{name}.png': figures.draw(parts, title)
    for name, (title, parts) in drawn.items()
  }
  for i, example in enumerate(examples):
    means = _accuracies(summary, source, example)
    pictures[f'mosaic_{source}_{i + 1}.png'] = mosaics.figure(example, means)
  return {name: figures.png(figure) for name, figure in pictures.items()}


def _charts(figure: Sequence[panels.Panel], source: str) -> list[dict]:
  """Returns panels as SVG; a single one also in the shape of a telephone."""
  width, height, letters = drawing.size(figure)
  single = len(figure) == 1
  return [
    {
      'title': '' if single else panel.title,
      'svg': charts.svg(panel, source, width, height, letters),
      'narrow': single and charts.svg(panel, source, 350, height, letters),
    }
    for panel in figure
  ]


def _mosaics(
  summary: pd.DataFrame,
  source: str,
  examples: Sequence[mosaics.Example],
  budget: int,
) -> dict[str, Any]:
  """Returns the images that the page shows, as many as fit."""
  fitting = mosaics.fitting(examples, budget)
  return {
    'mosaics': [
      {'mosaic': mosaic, 'means': _accuracies(summary, source, mosaic.example)}
      for mosaic in fitting
    ],
    'more_images': len(examples) - len(fitting),
  }


def _accuracies(
  summary: pd.DataFrame, source: str, example: mosaics.Example
) -> dict[tuple[str, int], float]:
  """Returns mean accuracies of models trained on each cell of a mosaic."""
  rows = results.where(
    summary,
    source=source,
    input='image',
    mode=example.mode,
    granularity=example.granularity,
    fill=example.fill,
  ).dropna(subset='mean')
  keys = zip(rows['estimator'], rows['threshold'], strict=True)
  return dict(zip(keys, rows['mean'], strict=True))


def _power(judged: Sequence[verdicts.Verdict]) -> str:
  """Says in a sentence how sure the study could have been; may be empty."""
  powers = [v.power for v in judged if not math.isnan(v.power)]
  least = [v.detectable for v in judged if not math.isnan(v.detectable)]
  if not powers:
    return ''
  text = (
    'A true lead of 2 points over random would be found, after correction, with'
    f' a chance of {_range(powers, "{:.0f} %")}'
  )
  if least:
    text += (
      '; the smallest found with a chance of 80 % is '
      f'{_range(least, "{:.1f}")} points'
    )
  return f'{text}.'


def _range(fractions: Sequence[float], form: str) -> str:
  """Returns the least and the largest, or one where both look alike."""
  ends = (form.format(100 * end) for end in (min(fractions), max(fractions)))
  return ' to '.join(dict.fromkeys(ends))


def _runs(
  frame: pd.DataFrame, origins: Mapping[tuple, Origin]
) -> list[dict[str, Any]]:
  """Returns the rows of the page's table of all runs."""
  runs = frame.to_dict('records')
  for run in runs:
    identity = results.identity(run)
    run['cell'] = results.cell_name(*identity[1:7])
    run['command'] = origins.get(identity, Origin()).command
  return runs


def _markdown(
  study: str,
  summary: pd.DataFrame,
  sections: Sequence[Mapping[str, Any]],
  problems: Sequence[str],
) -> str:
  """Returns table.md: the answers, the tables of accuracies, the problems."""
  text = [f'# {study}', '']
  for section in sections:
    for mode in section['modes']:
      text += [f'## {section["source"]}: {mode["title"]}', '']
      text += [' '.join(mode['sentences']), '']
      text += [tables.table(summary, section['source'], mode['mode'])]
  if problems:
    text += ['## Problems', '', *(f'* {problem}' for problem in problems), '']
  return '\n'.join(text)
