"""The report of a study, which answers whether estimators beat random.

`write` fills one folder: results.csv, statistics.csv, table.md, the figures,
and an index.html that needs nothing else, neither the network nor the other
files. Every number of the page is in one of the two csv files.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from roar_tf import errors
from roar_tf.analysis import (
  beside_paper,
  charts,
  checks,
  contrasts,
  costs,
  drawing,
  figures,
  gains,
  judging,
  latex,
  mosaics,
  page,
  panels,
  results,
  sentences,
  soundness,
  statistics,
  tables,
  verdict,
)
from roar_tf.analysis.arms import Correct
from roar_tf.analysis.evidence import RULES, Evidence, Rules

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
  rules: Rules = RULES,
  expected: Iterable[Mapping[str, Any]] | None = None,
  correct: Correct | None = None,
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
    rules: the margin and the family of its verdicts.
    expected: the runs that the study lists, as for `faults.of_runs`.
    correct: which test images each run had right; without it intervals are
      over seeds alone.
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
  evidence = Evidence(frame, chances, rules, expected, correct)
  judged = judging.judge(evidence)
  planned = contrasts.planned(evidence, judged)
  parts = contrasts.decomposed(evidence, judged)
  agreements = contrasts.consistency(evidence)
  table = statistics.compute(evidence, judged, [*planned, *parts], agreements)
  performed = checks.perform(evidence, judged, chances, expected, explained)
  devices = {run: origin.devices for run, origin in origins.items()}
  spent = costs.rows(frame, devices, price_per_hour)
  tables_of_numbers = [statistics.with_checks(table, performed), spent]
  budget = _IMAGES // max(1, len(examples))
  scale = charts.scale(judged)
  sections, files = [], {}
  for source in sorted(frame['source'].unique()):
    curves = panels.Curves(
      summary, source, chances.get(source), evidence.of_leads
    )
    drawn, images = _figures(curves), examples.get(source, ())
    files |= _pictures(summary, source, drawn, images)
    of_gains = {
      mode: gains.charts(evidence, verdict.of(judged, source, mode))
      for mode in TITLES
    }
    for mode, found in of_gains.items():
      if found:
        title = f'{source}, {mode}: gains over random'
        figure = figures.of_gains(found, title)
        files |= figures.files(figure, f'gains_{source}_{mode}')
    found = {
      'consistency': soundness.consistency(agreements, source),
      'leaks': soundness.leaks(
        summary,
        source,
        curves.chance,
        [check for check in performed if check.name == 'leak'],
      ),
      'modes': [
        _mode(
          *(table, planned, parts, curves, drawn, scale),
          verdict.of(judged, source, mode),
          of_gains[mode],
        )
        for mode in TITLES
        if not curves.rows(mode).empty
      ],
    }
    section = _section(summary, curves, drawn) | found
    section['sentences'] = sentences.of_source(section['modes'])
    sections.append(section | _mosaics(summary, source, images, budget))
    tables_of_numbers.append(beside_paper.statistics_of(summary, source))
  failed = [check for check in performed if not check.holds]
  alarms = sentences.alarms(
    check for check in failed if check.name not in checks.CAUTIONS
  )
  problems = [*excluded, *alarms]
  cautions = sentences.alarms(
    check for check in failed if check.name in checks.CAUTIONS
  )
  files['config.gin'] = operative_config.encode()
  files['table.tex'] = latex.table(summary).encode()
  files['verdicts.tex'] = latex.verdicts(judged).encode()
  files['table.md'] = _markdown(
    *(study, summary, sections, problems, cautions), evidence.of_leads
  ).encode()
  retrained = summary[summary['input'] == 'image']
  html = page.render(
    study=study,
    sections=sections,
    matrix=sentences.matrix(judged),
    problems=problems,
    cautions=cautions,
    failed=[*excluded, *(check.text for check in failed)],
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
    recursive='recursive' in set(frame['protocol']),
    margin=tables.percent(rules.margin),
    comparisons=evidence.comparisons,
    images=any(v.images_error == v.images_error for v in judged),
    models=any(v.models >= results.RUNS_FOR_INTERVAL for v in judged),
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
  curves: panels.Curves,
  drawn: Mapping[str, tuple[str, list[panels.Panel]]],
) -> dict[str, Any]:
  """Returns what the page says about one source whatever the mode."""
  source = curves.source
  _, both = drawn.get(f'both_{source}', ('', []))
  return {
    'source': source,
    'papers': beside_paper.tables_of(summary, source),
    'caption': tables.caption(summary, source),
    'chance': None if curves.chance is None else f'{curves.chance:.3g} %',
    'both': _charts(both, source) if both else [],
  }


def _mode(
  table: pd.DataFrame,
  planned: Sequence[contrasts.Contrast],
  parts: Sequence[contrasts.Contrast],
  curves: panels.Curves,
  drawn: Mapping[str, tuple[str, list[panels.Panel]]],
  scale: tuple[float, float],
  judged: Sequence[verdict.Verdict],
  of_gains: Sequence[gains.Chart],
) -> dict[str, Any]:
  """Returns what the page says about one source and mode."""
  source, mode = judged[0].curve[:2]
  thresholds, grid = tables.grid(curves.rows(mode))
  svg = {
    kind: _charts(drawn[name][1], source) if name in drawn else []
    for kind in ('curves', 'deletion')
    for name in [f'{kind}_{source}_{mode}']
  }
  return {
    'mode': mode,
    'title': TITLES[mode],
    'sentences': sentences.of_mode(judged),
    'verdicts': judged,
    'scale': scale,
    'charts': svg['curves'],
    'gains': [_gains(chart) for chart in of_gains],
    'deletion': svg['deletion'],
    'tables': {
      'decomposition': soundness.decomposition(judged, parts),
      'planned': soundness.planned(planned, source, mode),
      'deletion': soundness.deletion(table, source, mode),
      'smoothed': soundness.smoothed(judged),
      'fills': soundness.fills(table, source, mode),
      'sureness': soundness.sureness(judged),
    },
    'thresholds': thresholds,
    'rows': grid,
  }


def _gains(chart: gains.Chart) -> dict[str, Any]:
  """Returns a chart of gains as SVG, as `_charts` returns panels."""
  svg = charts.drawn(
    gains.shapes(chart), chart.description, gains.WIDTH, gains.HEIGHT
  )
  return {'title': chart.title, 'svg': svg, 'narrow': False}


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
  """Returns the files of one source's figures and mosaics."""
  pictures = {}
  for name, (title, parts) in drawn.items():
    pictures |= figures.files(figures.draw(parts, title), name)
  for i, example in enumerate(examples):
    figure = mosaics.figure(example, _accuracies(summary, source, example))
    pictures[f'mosaic_{source}_{i + 1}.png'] = figures.png(figure)
  return pictures


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
  cautions: Sequence[str],
  weights: Mapping[tuple[str, str, str], Mapping[int, float]],
) -> str:
  """Returns table.md: the answers, the tables of accuracies, the problems."""
  text = [f'# {study}', '']
  for section in sections:
    for part in section['modes']:
      source, mode = section['source'], part['mode']
      text += [f'## {source}: {part["title"]}', '']
      text += [' '.join(part['sentences']), '']
      text += [
        tables.table(
          summary, source, mode, weights.get((source, mode, 'image'))
        )
      ]
  for title, found in (('Problems', problems), ('Cautions', cautions)):
    if found:
      text += [f'## {title}', '', *(f'* {line}' for line in found), '']
  return '\n'.join(text)
