"""The results of a study as its report has written them, for notebooks.

`roar_tf.load_results` returns a `Results`. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from roar_tf import errors
from roar_tf.analysis import results, tables
from roar_tf.estimators.names import is_control

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_NUMBERS = ('lead', 'low', 'high')


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Results:
  """The runs of a study and what follows from them.

      found = roar_tf.load_results('workspace', 'quickstart')
      found                                 # In a notebook: its tables.
      found.table()                         # The same, as a DataFrame.
      found.runs.groupby('estimator')['accuracy'].mean()
      found.plot().savefig('curves.pdf')

  Attributes:
    study: its name.
    folder: where the files lie.
    runs: results.csv, a row per run; `accuracy` and `top5` are fractions.
    statistics: statistics.csv, a row per number of the report (WORKSPACE.md
      says what each means); without rows if there is no such file.
  """

  study: str
  folder: str
  runs: pd.DataFrame
  statistics: pd.DataFrame

  @property
  def sources(self) -> list[str]:
    """The datasets of the study."""
    return sorted(set(self.runs['source']))

  @property
  def modes(self) -> list[str]:
    """Of `remove` and `keep`, what was retrained, `remove` first."""
    rows = self._masked(self.runs)
    return sorted(set(rows['mode']), reverse=True)

  @property
  def estimators(self) -> list[str]:
    """Names of the estimators, controls included."""
    return sorted(set(self._masked(self.runs)['estimator']))

  def table(
    self,
    source: str | None = None,
    mode: str | None = None,
    estimators: Sequence[str] | None = None,
  ) -> pd.DataFrame:
    """Returns verdicts, leads and accuracies, the best estimator first.

    The index is the name of the estimator, after source and mode where the
    table holds several of these. Its columns are `verdict`, as in the report;
    `lead`, `low` and `high`, the lead over random and its interval, in
    percentage points; and, per threshold, the mean accuracy in percent of the
    models that were retrained on the masked images.

    Args:
      source: one of the datasets; all of them if None.
      mode: `remove` or `keep`; both if None.
      estimators: names; all of them if None.

    Raises:
      UsageError: the study has no such source, mode or estimator.
    """
    parts = [
      self._part(summary, *part).assign(source=part[0], mode=part[1])
      for summary, *part in self._parts(source, mode, estimators)
    ]
    table = pd.concat(parts)
    levels = [
      level
      for level, chosen in (('source', source), ('mode', mode))
      if chosen is None and table[level].nunique() > 1
    ]
    thresholds = sorted(c for c in table.columns if isinstance(c, int))
    table = table.set_index([*levels, 'estimator'])
    return table[['verdict', *_NUMBERS, *thresholds]]

  def plot(
    self,
    source: str | None = None,
    mode: str | None = None,
    estimators: Sequence[str] | None = None,
  ) -> Figure:
    """Returns the curves of one source as a matplotlib figure.

    It is the report's figure: one panel per family where there are many
    estimators, keep beside remove where the study has both.

    Args:
      source: one of the datasets; it may be left out if there is one.
      mode: `remove` or `keep`; both if None.
      estimators: names; all of them if None. Random is always drawn.

    Raises:
      UsageError: the study has no such source, mode or estimator, or several
        sources and none is named.
    """
    from roar_tf.analysis import figures, panels

    if source is None and len(self.sources) > 1:
      raise errors.UsageError(
        f'study "{self.study}" has several sources: give plot one of '
        f'{", ".join(self.sources)}, as in plot("{self.sources[0]}").'
      )
    parts = [*self._parts(source, mode, estimators)]
    modes = [mode for *_, mode in parts]
    summary, source, mode = parts[0]
    curves = panels.Curves(summary, source, None)
    if len(modes) > 1:
      return figures.draw(curves.both_modes(), f'{source}: keep and remove')
    title = panels.TITLES[mode].lower()
    return figures.draw(curves.by_family(mode), f'{source}: {title}')

  def __repr__(self) -> str:
    """Returns what it holds, in a line."""
    return (
      f'<Results of study "{self.study}": {len(self.runs)} runs, '
      f'{len(self.estimators)} estimators, {", ".join(self.sources)}; '
      f'{self.folder}>'
    )

  def __str__(self) -> str:
    """Returns the tables for a terminal."""
    tables_ = [
      f'{caption}\n{table.to_string()}' for caption, table in self._shown()
    ]
    return '\n\n'.join(tables_) or repr(self)

  def _repr_html_(self) -> str:
    """Returns the tables for a notebook."""
    text = [
      f'<p>{html.escape(caption)}</p>\n{table.to_html(border=0)}'
      for caption, table in self._shown()
    ]
    return '\n'.join(text) or html.escape(repr(self))

  def _shown(self) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields (caption, table of texts) of each source and mode."""
    if not self.modes:  # Nothing is retrained yet.
      return
    for summary, source, mode in self._parts():
      shown = self._part(summary, source, mode).set_index('estimator')
      for column in shown.columns.drop('verdict'):
        written = tables.points if column in _NUMBERS else tables.percent
        shown[column] = [written(value / 100) for value in shown[column]]
      shown = shown.rename(columns=lambda c: f'{c} %' if _is_count(c) else c)
      caption = tables.caption(summary, source)
      yield (
        f'{self.study}, {mode}, {caption} Leads over random, in points.',
        shown.rename_axis(None),
      )

  def _masked(self, frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of retrained models of masked images."""
    return frame[(frame['mode'] != '') & (frame['input'] == 'image')]

  def _parts(
    self,
    source: str | None = None,
    mode: str | None = None,
    estimators: Sequence[str] | None = None,
  ) -> Iterator[tuple[pd.DataFrame, str, str]]:
    """Yields (summary, source, mode) of what is asked for.

    The summary is that of `results.summarise`, of the estimators asked for and
    of what all are compared with.
    """
    if isinstance(estimators, str):
      estimators = [estimators]
    self._check('source', [source] if source else [], self.sources)
    self._check('mode', [mode] if mode else [], self.modes)
    self._check('estimator', estimators or [], self.estimators)
    runs = self.runs
    if estimators is not None:
      wanted = {*estimators, results.ORIGINAL, *results.RANDOM}
      runs = runs[runs['estimator'].isin(wanted)]
    summary = results.summarise(runs)
    masked = self._masked(summary)
    found = False
    for name in [source] if source else self.sources:
      for each in [mode] if mode else self.modes:
        if not results.where(masked, source=name, mode=each).empty:
          found = True
          yield summary, name, each
    if not found:
      raise errors.UsageError(
        f'study "{self.study}" has no retrained model of '
        f'{source or "masked images"} yet: run more of it, and "roar_report '
        f'--study={self.study}".'
      )

  def _check(self, noun: str, given: Sequence, known: Sequence[str]) -> None:
    """Raises UsageError for what the study does not have."""
    for name in given:
      if name not in known:
        raise errors.UsageError(
          f'study "{self.study}" has no {noun} "{name}".'
          f'{errors.nearest(str(name), known)} It has: '
          f'{", ".join(known) or "none"}.'
        )

  def _part(
    self, summary: pd.DataFrame, source: str, mode: str
  ) -> pd.DataFrame:
    """Returns the table of one source and mode, its estimators a column."""
    rows = results.against_random(summary, source, mode)
    stated = results.where(
      self.statistics, source=source, mode=mode, input='image', quantity='lead'
    )
    key = ['estimator', 'granularity', 'fill']
    leads = {
      tuple(getattr(row, name) for name in key): row
      for row in stated.itertuples()
    }
    lines = []
    for label, cells in rows.groupby('label', sort=False):
      first = cells.iloc[0]
      lead = leads.get(tuple(first[name] for name in key))
      decision = lead.decision if lead else ''
      if is_control(first['estimator']) and not first['reference']:
        decision = '(control)'
      numbers = [math.nan] * 3
      if lead:
        numbers = [lead.value, lead.low, lead.high]
      elif not first['reference']:
        numbers[0] = first['lead']
      lines.append(
        {
          'estimator': label,
          'verdict': decision,
          **dict(zip(_NUMBERS, (100 * n for n in numbers), strict=True)),
          **{
            int(cell.threshold): 100 * cell.mean for cell in cells.itertuples()
          },
        }
      )
    table = pd.DataFrame(lines)
    thresholds = sorted(filter(_is_count, table.columns))
    # Random's own lead, which is no number, is the zero of the others.
    table = table.sort_values(
      'lead', ascending=False, key=lambda x: x.fillna(0.0), kind='stable'
    )
    return table[['estimator', 'verdict', *_NUMBERS, *thresholds]]


def _is_count(column) -> bool:
  """Whether a column of a table is that of a threshold."""
  return isinstance(column, int)
