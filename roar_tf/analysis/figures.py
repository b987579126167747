"""Figures as PNG files: accuracy against what is removed.

Only matplotlib's object interface is used (no pyplot, no global state), so
figures can be drawn in threads. The same data gives the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roar_tf.analysis import families, panels

_INK, _QUIET, _RULE = '#1f2328', '#6b7280', '#d8dbe0'
_TEXT_SIZE = 9.5
# Inches: of one panel that stands alone, and of several.
_ALONE, _SMALL = 6.15, 3.0
_PER_ROW = 3


def curves(
  summary: pd.DataFrame, source: str, mode: str, chance: float | None
) -> Figure:
  """Accuracy against threshold, one line per estimator, random in black.

  Lines start at the original. Bars are 95 % t intervals; a cell of two runs,
  which has none, shows the runs as faint dots. Where one pair of axes would
  hold more lines than can be told apart, each family has its own.

  Args:
    summary: what `results.summarise` returns.
    source: the source drawn.
    mode: `remove` or `keep`. In `keep` the axis runs from all kept to little
      kept, so that both modes lose information from left to right.
    chance: accuracy of guessing, a dotted line; None leaves it out.
  """
  drawn = panels.Curves(summary, source, chance).by_family(mode)
  return draw(drawn, source, f'{source}: {panels.TITLES[mode].lower()}')


def draw(drawn: Sequence[panels.Panel], source: str, title: str) -> Figure:
  """Panels of one source side by side, each line named where it ends.

  Args:
    drawn: the panels.
    source: the source, for the description.
    title: stands above them.
  """
  labels = [line.label for panel in drawn for line in panel.lines if line.named]
  most = max((len(panel.lines) for panel in drawn), default=0)
  alone = len(drawn) < 2
  across = _ALONE if alone else _SMALL
  # Inches. Every label needs a line of its own, and the longest one its width.
  tall = max(3.66 if alone else 2.7, 0.66 + 0.27 * most)
  names = 0.95 + 0.085 * max(map(len, labels), default=0)
  names = max(names, 9.0 - 6.75) if alone else names
  columns = max(1, min(len(drawn), _PER_ROW))
  rows = max(1, math.ceil(len(drawn) / columns))
  above, below, left = (0.1 if alone else 0.34), 0.62, 0.6
  width = columns * (left + across + names)
  height = 0.62 + rows * (above + tall + below)
  figure = Figure(figsize=(width, height), dpi=160, facecolor='white')
  for inches, text, style in (
    (0.2, title, dict(size=13, weight='bold')),
    (0.46, 'Test accuracy (%)', dict(size=_TEXT_SIZE, color=_QUIET)),
  ):
    y = 1 - inches / height
    figure.text(0.11 / width, y, text, va='top', **{'color': _INK} | style)
  for i, panel in enumerate(drawn):
    x = (i % columns) * (left + across + names) + left
    top = 0.62 + (i // columns) * (above + tall + below) + above
    box = (x / width, 1 - (top + tall) / height, across / width, tall / height)
    axes = figure.add_axes(box)
    _draw(axes, panel, tall)
    if not alone:
      axes.set_title(
        panel.title, loc='left', size=_TEXT_SIZE + 1, color=_INK, pad=8
      )
  described = [panels.describe(panel, source) for panel in drawn]
  figure.set_label(' '.join(described))
  return figure


def _draw(axes: Axes, panel: panels.Panel, inches: float) -> None:
  _frame(axes, panel)
  ends, looks = {}, {}
  for line in panel.lines:
    _line(axes, line, panel)
    if line.named:
      last = line.points[-1]
      ends[line.label] = (last.threshold, last.mean)
      looks[line.label] = _style(line.look)
  _names(axes, ends, looks, inches)


def toy(summary: pd.DataFrame) -> Figure:
  """The paper's Fig. 2: a model that stays as it was beside retrained ones.

  Lines are medians, bands hold the middle half of the draws.

  Args:
    summary: what `toy.summarise` returns.
  """
  width, height = 10.4, 4.9
  figure = Figure(figsize=(width, height), dpi=160, facecolor='white')
  pair = figure.subplots(1, 2, sharey=True)
  figure.subplots_adjust(0.055, 0.125, 0.985, 0.765, wspace=0.05)
  style = dict(size=13, weight='bold', color=_INK, va='top')
  figure.text(0.018, 0.97, 'Toy data: what is lost by removing?', **style)
  style = dict(size=_TEXT_SIZE, color=_QUIET, va='top')
  figure.text(
    0.018,
    0.9,
    'Test accuracy (%): medians and middle half of the draws',
    **style,
  )
  titles = {False: 'Not retrained', True: 'ROAR: retrained'}
  for axes, (retrained, title) in zip(pair, titles.items(), strict=True):
    _toy_panel(axes, summary[summary['retrained'] == retrained])
    axes.set_title(title, size=_TEXT_SIZE + 1, color=_INK, loc='left', pad=8)
  pair[0].annotate(
    'chance 50 %',
    (1, 50),
    xytext=(0, -11),
    textcoords='offset points',
    size=_TEXT_SIZE - 1,
    color=_QUIET,
  )
  handles, names = pair[0].get_legend_handles_labels()
  figure.legend(
    handles,
    names,
    loc='upper right',
    bbox_to_anchor=(0.985, 0.985),
    ncols=3,
    frameon=False,
    fontsize=_TEXT_SIZE,
    labelcolor=_INK,
    handlelength=4,
  )
  figure.set_label(_describe_toy(summary))
  return figure


def png(figure: Figure) -> bytes:
  """The figure as PNG, without the metadata that changes between machines."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', metadata={'Software': None})
  return buffer.getvalue()


def alt_text(figure: Figure) -> str:
  """What a figure of this module shows, for who cannot see it."""
  return figure.get_label()


def _style(look: families.Look) -> dict[str, Any]:
  return dict(
    color=look.colour,
    linewidth=look.width,
    linestyle=(0, look.dash) if look.dash else '-',
    marker=look.marker,
    markersize=6 if look.width > 2 else 5.5,
    zorder=look.layer,
    markeredgecolor='white',
    markeredgewidth=0.7,
  )


def _frame(axes: Axes, panel: panels.Panel) -> None:
  """Axes that show every value and nothing else."""
  axes.set_ylim(*panel.span)
  _plain(axes, panel.ticks, panel.axis)
  if panel.mode == 'keep':
    axes.invert_xaxis()
  if panel.chance is not None:
    y = panel.chance if panel.shows_chance else panel.span[0]
    if panel.shows_chance:
      axes.axhline(y, color=_INK, linewidth=1.1, linestyle=(0, (1, 2)))
    axes.annotate(
      panel.chance_text,
      (0.005, y),
      xycoords=axes.get_yaxis_transform(),
      xytext=(0, 4),
      textcoords='offset points',
      size=_TEXT_SIZE - 1,
      color=_QUIET,
    )


def _plain(axes: Axes, ticks: Sequence[int], label: str) -> None:
  """Axes of a figure about shares: nothing but a grid and quiet numbers."""
  axes.set_xlim(ticks[0] - 2.5, ticks[-1] + 2.5)
  axes.set_xticks(ticks)
  axes.set_xlabel(label, size=_TEXT_SIZE, color=_QUIET, labelpad=8)
  axes.tick_params(length=0, labelsize=_TEXT_SIZE, labelcolor=_QUIET)
  axes.grid(axis='y', color=_RULE, linewidth=0.7)
  axes.set_axisbelow(True)
  axes.spines[['top', 'left', 'right']].set_visible(False)
  axes.spines['bottom'].set_color(_RULE)


def _line(axes: Axes, line: panels.Line, panel: panels.Panel) -> None:
  """One estimator's means, their intervals, and the runs where only two."""
  look = _style(line.look)
  points = [panel.start] if panel.start else []
  points += line.points
  at = [point.threshold for point in points]
  means = np.array([point.mean for point in points])
  for part in panel.segments(line):
    axes.plot([p.threshold for p in part], [p.mean for p in part], **look)
  half = np.array([point.high - point.mean for point in points])
  style = dict(ecolor=look['color'], elinewidth=1, capsize=2.5)
  axes.errorbar(at, means, half, fmt='none', zorder=look['zorder'], **style)
  # The mean and sd of two runs determine both: mean +- sd / sqrt(2).
  style = dict(color=look['color'], markersize=3.5, markeredgewidth=0)
  for sign in (-1, 1):
    runs = [
      (p.threshold, p.mean + sign * p.sd / math.sqrt(2))
      for p in points
      if p.runs == 2
    ]
    axes.plot(*np.reshape(runs, (-1, 2)).T, 'o', alpha=0.35, zorder=2, **style)


def _names(
  axes: Axes,
  ends: Mapping[str, tuple[float, float]],
  looks: Mapping[str, dict],
  inches: float,
) -> None:
  """Writes each label beside the end of its line, none over another."""
  order = sorted(ends, key=lambda label: ends[label][1])
  low, high = axes.get_ylim()
  gap = 1.4 * _TEXT_SIZE / 72 / inches * (high - low)
  placed = panels.place([ends[label][1] for label in order], low, high, gap)
  left, right = axes.get_xlim()
  for label, y in zip(order, placed, strict=True):
    x, end = (ends[label][0] - left) / (right - left), ends[label][1]
    look = looks[label]
    style = dict(transform=axes.get_yaxis_transform(), clip_on=False)
    leader = dict(color=_RULE, linewidth=0.8, zorder=1)
    axes.plot([x + 0.012, 1.03], [end, y], **leader, **style)
    axes.plot([1.035, 1.065, 1.095], [y] * 3, markevery=[1], **look, **style)
    weight = 'bold' if look['color'] == 'black' else 'normal'
    style |= dict(size=_TEXT_SIZE, color=_INK, weight=weight)
    axes.text(1.11, y, label, va='center_baseline', **style)


def _toy_panel(axes: Axes, rows: pd.DataFrame) -> None:
  """One line per ranking, in looks that also differ in grey."""
  looks = {
    'true': dict(
      color=families.COLOURS[1], linestyle=(0, families.DASHES[1]), marker='^'
    ),
    'random': dict(color='black', linewidth=3, marker='o'),
    'inverted': dict(
      color=families.COLOURS[0], linestyle=(0, families.DASHES[2]), marker='s'
    ),
  }
  common = dict(linewidth=1.7, markersize=5.5)
  common |= dict(markeredgecolor='white', markeredgewidth=0.7)
  ticks = [0, 25, 50, 75, 100]
  _plain(axes, ticks, 'Features removed, most important first (%)')
  # Right of it the inverted ranking removes what is informative.
  axes.axvline(75, color=_RULE, linewidth=1.1, zorder=1)
  axes.axhline(50, color=_INK, linewidth=1.1, linestyle=(0, (1, 2)))
  for ranking, look in looks.items():
    line = rows[rows['ranking'] == ranking]
    at = line['removed'].to_numpy()
    low, median, high = (
      100 * line[name].to_numpy() for name in ('low', 'median', 'high')
    )
    axes.fill_between(at, low, high, color=look['color'], alpha=0.13, lw=0)
    axes.plot(at, median, label=f'{ranking} ranking', **common | look)


def _describe_toy(summary: pd.DataFrame) -> str:
  parts = [
    'Two line charts of toy data: test accuracy against features removed.'
  ]
  for retrained, name in ((False, 'Not retrained'), (True, 'Retrained')):
    rows = summary[summary['retrained'] == retrained]
    for share in (25, 50, 75):
      here = rows[rows['removed'] == share]
      listed = ', '.join(
        f'{ranking} {100 * median:.1f} %'
        for ranking, median in zip(here['ranking'], here['median'], strict=True)
      )
      parts.append(f'{name}, {share} % removed: {listed}.')
  return ' '.join(parts)
