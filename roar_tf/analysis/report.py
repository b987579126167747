"""The report of a study: what was found, in words, tables and figures.

`write` fills one folder: results.csv, statistics.csv, table.md, the figures,
and an index.html that needs nothing else, neither the network nor the other
files.
"""

from __future__ import annotations

import base64
import importlib.resources
import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from roar_tf import errors
from roar_tf.analysis import figures, results, statistics

TITLES = {
  'remove': 'Remove and retrain (ROAR)',
  'keep': 'Keep and retrain (KAR)',
}
# The gain at which a table cell has its full tint: twenty points.
_FULL_TINT = 0.2


def write(
  folder: str,
  frame: pd.DataFrame,
  *,
  study: str,
  chances: Mapping[str, float],
  problems: Sequence[str] = (),
  mosaics: Mapping[str, Figure] | None = None,
  facts: Sequence[tuple[str, str]] = (),
  commands: Mapping[str, str] | None = None,
  operative_config: str = '',
  tables: Sequence[tuple[str, str, pd.DataFrame]] = (),
  expected: Sequence[Mapping[str, Any]] | None = None,
  explained: Mapping[str, float] | None = None,
) -> str:
  """Writes the report and returns the path of its index.html.

  Args:
    folder: where to write; any URL that `tf.io.gfile` knows.
    frame: the runs of one study, see `results.COLUMNS`.
    study: its name, the title.
    chances: for each source the accuracy of guessing, a fraction.
    problems: sentences about runs that the rows do not show. Faults that they
      show, such as duplicates, are added.
    mosaics: for each source a figure of masked images.
    facts: (label, value) pairs about versions, devices and settings.
    commands: for each purpose the command line that serves it.
    operative_config: the gin configuration that really ran.
    tables: further tables as (title, explanation, frame).
    expected: the runs that the study lists, see `results.faults`.
    explained: for sources whose explained model was trained like `original`,
      its test accuracy.
  """
  from roar_tf import workspace

  frame = results.tidy(frame)
  if frame.empty:
    raise errors.MissingInputsError(
      f'Study {study} has no finished run to report; run roar_study first.'
    )
  summary = results.summarise(frame)
  numbers = statistics.compute(frame, chances, expected)
  found = statistics.checks(frame, numbers, chances, expected, explained)
  checks = [check for check in found if check.kind in statistics.STANDING]
  faults = [check.text for check in found if check not in checks]
  problems = list(dict.fromkeys([*faults, *problems]))
  numbers = statistics.with_alarms(
    numbers, [check for check in found if not check.holds]
  )
  sections, files = [], {}
  for source in sorted(frame['source'].unique()):
    chance = chances.get(source)
    section = _section(summary, source, chance)
    section['checks'] = [
      (check.holds, check.text) for check in checks if check.source == source
    ]
    for part in section['modes']:
      figure = figures.curves(summary, source, part['mode'], chance)
      part['alt'] = figures.alt_text(figure)
      part['figure'] = files[f'curves_{source}_{part["mode"]}.png'] = (
        figures.png(figure)
      )
    if figure := (mosaics or {}).get(source):
      section['mosaic'] = files[f'mosaic_{source}.png'] = figures.png(figure)
      section['mosaic_alt'] = figures.alt_text(figure)
      # Two image pixels to one of the page keep masks crisp on any screen.
      section['mosaic_width'] = round(figure.get_figwidth() * figure.dpi / 2)
    sections.append(section)
  files['table.md'] = _markdown(study, summary, sections, problems).encode()
  failed = [text for s in sections for holds, text in s['checks'] if not holds]
  page = _template().render(
    study=study,
    alarms=len(problems) + len(failed),
    sections=sections,
    problems=problems,
    tables=tables,
    facts=facts,
    commands=commands or {},
    operative_config=operative_config,
    columns=[column for column in frame.columns if column != 'study'],
    runs=frame.to_dict('records'),
    seeds=sorted(summary['runs'].unique()),
    modes=set(summary['mode']),
    few=results.RUNS_FOR_INTERVAL,
  )
  # The page comes last: whoever sees it finds the files beside it.
  files['index.html'] = page.encode()
  results.write_csv(frame, posixpath.join(folder, 'results.csv'))
  statistics.write_csv(numbers, posixpath.join(folder, 'statistics.csv'))
  for name, data in files.items():
    workspace.write_atomic(posixpath.join(folder, name), data)
  return posixpath.join(folder, 'index.html')


def table(summary: pd.DataFrame, source: str, mode: str) -> str:
  """The result table as Markdown that is also aligned for a terminal."""
  thresholds, rows = _grid(results.against_random(summary, source, mode))
  lines = [['estimator', 'lead', *(f'{t} %' for t in thresholds)]]
  for row in rows:
    name = re.sub(r'([|<*`])', r'\\\1', row['label'])
    name = f'**{name}**' if row['reference'] else name
    cells = (
      f'{cell["mean"]} {cell["half"]} {cell["note"]}' for cell in row['cells']
    )
    lines.append([name, row['lead'], *(' '.join(c.split()) for c in cells)])
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  lines.insert(1, [f'{"-" * (width - 1)}:' for width in widths])
  lines[1][0] = ':' + '-' * (widths[0] - 1)
  text = [f'{_caption(summary, source)} Lead: points over random.', '']
  for first, *others in lines:
    cells = map(str.rjust, others, widths[1:])
    text.append(f'| {" | ".join([first.ljust(widths[0]), *cells])} |')
  return '\n'.join(text) + '\n'


def verdict(summary: pd.DataFrame, source: str, mode: str) -> str:
  """Says in plain words which estimators beat random, and how surely.

  Estimators are judged by their lead, the area between the curves: at a single
  threshold, random itself may stand at chance or at the original's accuracy.
  """
  rows = results.against_random(summary, source, mode)
  if not rows['reference'].any():
    return 'Without a random baseline nothing can be said about an estimator.'
  side = 'below' if mode == 'remove' else 'above'
  controls = rows['estimator'].map(results.is_control)
  judged = rows[~controls & rows['lead'].notna()]
  if judged.empty:
    return 'Only controls were run, no estimator to judge.'
  rivals = judged.groupby('label', sort=False).agg(
    lead=('lead', 'first'), clear=('clear', 'mean')
  )
  better = rivals[rivals['lead'] > 0]
  text = (
    f'Averaged over the thresholds, {len(better) or "none"} of {len(rivals)}'
    f' estimators {"beats" if len(better) < 2 else "beat"} random'
  )
  text += (
    f': {_listed(better)}.'
    if len(better)
    else f'; the closest is {_listed(rivals[:1])}.'
  )
  fewest, most = rows['runs'].min(), rows['runs'].max()
  if fewest < results.RUNS_FOR_INTERVAL:
    few = '' if fewest == most else 'as few as '
    return (
      f'{text} With {few}{fewest} seed{"s" if fewest > 1 else ""} per cell'
      ' these are points without intervals: no significance is claimed.'
    )
  if len(better):
    clear = int((better['clear'] > 0.5).sum())
    have = 'has' if clear == 1 else 'have'
    text += (
      f' {clear or "None"} of these {have} a 95 % interval wholly {side}'
      ' that of random at most thresholds.'
    )
  return text


def _section(
  summary: pd.DataFrame, source: str, chance: float | None
) -> dict[str, Any]:
  """What the page says about one source."""
  parts, leaks = [], []
  masks = summary[summary['input'] == 'maskonly'].assign(input='image')
  for mode, title in TITLES.items():
    rows = results.against_random(summary, source, mode)
    if len(rows):
      thresholds, grid = _grid(rows)
      parts.append(
        {
          'mode': mode,
          'title': title,
          'verdict': verdict(summary, source, mode),
          'thresholds': thresholds,
          'rows': grid,
        }
      )
    rows = results.against_random(masks, source, mode)
    if len(rows):
      thresholds, grid = _grid(rows)
      leaks.append({'mode': mode, 'thresholds': thresholds, 'rows': grid})
  return {
    'source': source,
    'caption': _caption(summary, source),
    'chance': None if chance is None else f'{100 * chance:.4g} %',
    'modes': parts,
    'leaks': leaks,
  }


def _grid(rows: pd.DataFrame) -> tuple[list[int], list[dict[str, Any]]]:
  """The thresholds and, in the rows' order, formatted cells per label."""
  thresholds = sorted(rows['threshold'].unique())
  usual = rows['runs'].max()
  grid = []
  for label, group in rows.groupby('label', sort=False):
    cells = {row.threshold: row for row in group.itertuples()}
    reference, lead = group[['reference', 'lead']].iloc[0]
    unknown = reference or math.isnan(lead)
    grid.append(
      {
        'label': label,
        'reference': bool(reference),
        'lead': '–' if unknown else f'{100 * lead:+.1f}'.replace('-', '−'),
        'cells': [_cell(cells.get(t), usual) for t in thresholds],
      }
    )
  return thresholds, grid


def _cell(row: Any, usual: int) -> dict[str, Any]:
  if row is None:
    return {'mean': '–', 'half': '', 'note': '', 'tint': 0.0}
  half = row.high - row.mean
  tint = 0.0 if math.isnan(row.gain) else row.gain / _FULL_TINT
  return {
    'mean': _percent(row.mean),
    'half': '' if math.isnan(half) else f'± {_percent(half)}',
    # A mean of fewer runs than the others' must not look like theirs.
    'note': '' if row.runs == usual else f'(n={row.runs})',
    'tint': round(max(-1.0, min(1.0, tint)), 2),
  }


def _caption(summary: pd.DataFrame, source: str) -> str:
  original = results.original(summary, source)
  text = f'{source}: test accuracy in %, best first. Original: '
  if original.empty:
    return text + 'not run.'
  row = next(original.assign(gain=0.0).itertuples())
  cell = _cell(row, row.runs)
  return text + f'{cell["mean"]} {cell["half"]}'.strip() + '.'


def _markdown(
  study: str,
  summary: pd.DataFrame,
  sections: Sequence[Mapping[str, Any]],
  problems: Sequence[str],
) -> str:
  text = [f'# {study}', '']
  for section in sections:
    for part in section['modes']:
      text += [f'## {section["source"]}: {part["title"]}', '', part['verdict']]
      text += ['', table(summary, section['source'], part['mode'])]
  if problems:
    text += ['## Problems', '', *(f'* {problem}' for problem in problems), '']
  return '\n'.join(text)


def _listed(rivals: pd.DataFrame, most: int = 4) -> str:
  names = [
    f'{label} ({100 * lead:+.1f} points)'
    for label, lead in zip(rivals.index, rivals['lead'], strict=True)
  ]
  more = [f'and {len(names) - most} more'] if len(names) > most else []
  return ', '.join(names[:most] + more)


def _percent(fraction: float) -> str:
  return f'{100 * fraction:.1f}'


def _points(fraction: float) -> str:
  return f'{100 * fraction:.1f} points'


def _template() -> jinja2.Template:
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['base64'] = lambda data: base64.b64encode(data).decode()
  # A percent sign stays on the line of its number.
  environment.filters['joined'] = lambda text: text.replace(' %', '\u00a0%')
  files = importlib.resources.files('roar_tf.analysis')
  return environment.from_string(
    files.joinpath('report.html.j2').read_text(encoding='utf-8')
  )
