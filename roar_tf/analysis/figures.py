"""Figures: accuracy against threshold, and what the models were shown.

Only matplotlib's object interface is used (no pyplot, no global state), so
figures can be drawn in threads. The same data gives the same bytes.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize

from roar_tf.analysis import results

# Okabe and Ito's colours without yellow, which is too light for a line, and
# black, which is random's.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00')
# With 6 colours, 4 dashes and 9 markers the 37th look is the first again.
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>')
_DASHES = ('-', (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1.2)))
_INK, _QUIET, _RULE = '#1f2328', '#6b7280', '#d8dbe0'
_TITLES = {'remove': 'Remove and retrain', 'keep': 'Keep and retrain'}
_TEXT_SIZE = 9.5


def curves(
  summary: pd.DataFrame, source: str, mode: str, chance: float | None
) -> Figure:
  """Accuracy against threshold, one line per estimator, random in black.

  Lines start at the original. Bars are 95 % t intervals; a cell of two runs,
  which has none, shows the runs as faint dots.

  Args:
    summary: what `results.summarise` returns.
    source: the source drawn.
    mode: `remove` or `keep`. In `keep` the axis runs from all kept to little
      kept, so that both modes lose information from left to right.
    chance: accuracy of guessing, a dotted line; None leaves it out.
  """
  # A cell whose mean is not a number cannot be drawn; `check` has named it.
  rows = results.against_random(summary, source, mode).dropna(subset='mean')
  start = results.original(summary, source).dropna(subset='mean')
  looks = _looks(summary, source)
  labels = list(dict.fromkeys(rows['label']))
  # Inches. Every label needs a line of its own, and the longest one its width.
  height = max(5.0, 2.0 + 0.27 * len(labels))
  width = max(9.0, 7.7 + 0.085 * max(map(len, labels), default=0))
  figure = Figure(figsize=(width, height), dpi=160, facecolor='white')
  panel = (0.6 / width, 0.62 / height, 6.15 / width, 1 - 1.34 / height)
  axes = figure.add_axes(panel)
  _frame(axes, rows, start, mode, chance)
  for inches, text, style in (
    (0.2, f'{source}: {_TITLES[mode].lower()}', dict(size=13, weight='bold')),
    (0.46, 'Test accuracy (%)', dict(size=_TEXT_SIZE, color=_QUIET)),
  ):
    y = 1 - inches / height
    figure.text(0.11 / width, y, text, va='top', **{'color': _INK} | style)
  ends = {}
  for label in labels:
    cells = rows[rows['label'] == label]
    cells = cells.sort_values('threshold', ascending=mode == 'remove')
    ends[label] = (cells['threshold'].iloc[-1], 100 * cells['mean'].iloc[-1])
    if len(start):
      # The original, stored as threshold 0, keeps all of the image.
      first = start.assign(threshold=0 if mode == 'remove' else 100)
      cells = pd.concat([first, cells])
    _line(axes, cells, looks[label])
  _names(axes, ends, looks, height - 1.34)
  figure.set_label(_describe_curves(rows, start, source, mode, chance))
  return figure


def mosaic(
  original: np.ndarray,
  masked: Mapping[tuple[str, int], np.ndarray],
  estimators: Sequence[str],
  thresholds: Sequence[int],
) -> Figure:
  """One image as the retrained models see it, pixel for pixel.

  Args:
    original: uint8 [H, W, C], C 1 or 3.
    masked: the masked image of each (estimator, threshold); a pair that is
      left out stays blank.
    estimators: the rows.
    thresholds: the columns, whole percents.
  """
  height, width = original.shape[:2]
  # Whole steps and whole repeats only: a mask resampled by fractions would
  # show grey pixels that no model was given.
  step = math.ceil(max(height, width) / 128)
  repeat = max(1, 256 // math.ceil(max(height, width) / step))
  tall, wide = (repeat * math.ceil(n / step) for n in (height, width))
  gap, top, dpi = 12, 56, 200
  # A monospaced guess is wide enough for every proportional font.
  left = 28 + 18 * max([len(name) for name in estimators], default=0)
  columns = [None, *thresholds]
  size = (
    left + len(columns) * (wide + gap),
    top + len(estimators) * (tall + gap),
  )
  figure = Figure(figsize=[n / dpi for n in size], dpi=dpi, facecolor='white')

  def write(x: float, y: float, text: str, align: str) -> None:
    style = dict(size=_TEXT_SIZE - 0.5, color=_INK, va='center', ha=align)
    figure.text(x / size[0], 1 - y / size[1], text, **style)

  if step > 1:
    write(left - 16, top / 2, f'shown at 1/{step}', 'right')
  for i, estimator in enumerate(estimators):
    write(left - 16, top + i * (tall + gap) + tall / 2, estimator, 'right')
  for j, threshold in enumerate(columns):
    x = left + j * (wide + gap)
    name = 'original' if threshold is None else f'{threshold} %'
    write(x + wide / 2, top / 2, name, 'center')
    for i, estimator in enumerate(estimators):
      image = (
        original if threshold is None else masked.get((estimator, threshold))
      )
      if image is not None:
        y = size[1] - top - i * (tall + gap) - tall
        figure.figimage(_enlarge(image, step, repeat), x, y, origin='upper')
  figure.set_label(_describe_mosaic(estimators, thresholds))
  return figure


def toy(summary: pd.DataFrame) -> Figure:
  """The paper's Fig. 2: a model that stays as it was beside retrained ones.

  Lines are medians, bands hold the middle half of the draws.

  Args:
    summary: what `toy.summarise` returns.
  """
  width, height = 10.4, 4.9
  figure = Figure(figsize=(width, height), dpi=160, facecolor='white')
  panels = figure.subplots(1, 2, sharey=True)
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
  for axes, (retrained, title) in zip(panels, titles.items(), strict=True):
    _toy_panel(axes, summary[summary['retrained'] == retrained])
    axes.set_title(title, size=_TEXT_SIZE + 1, color=_INK, loc='left', pad=8)
  panels[0].annotate(
    'chance 50 %',
    (1, 50),
    xytext=(0, -11),
    textcoords='offset points',
    size=_TEXT_SIZE - 1,
    color=_QUIET,
  )
  handles, names = panels[0].get_legend_handles_labels()
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


def _describe_curves(
  rows: pd.DataFrame,
  start: pd.DataFrame,
  source: str,
  mode: str,
  chance: float | None,
) -> str:
  """What the lines show: their order and numbers at the right end."""
  verb, side = ('removed', 'max') if mode == 'remove' else ('kept', 'min')
  text = (
    f'Line chart for {source}: test accuracy against the share of each image'
    f' that is {verb}, for {rows["label"].nunique()} rankings.'
  )
  for mean in start['mean']:
    text += f' Original images: {100 * mean:.1f} %.'
  last = rows[rows['threshold'] == rows['threshold'].agg(side)]
  last = last.sort_values('mean')
  for threshold in last['threshold'].unique():
    listed = zip(last['label'], last['mean'], strict=True)
    listed = ', '.join(f'{label} {100 * mean:.1f} %' for label, mean in listed)
    text += f' With {threshold} % {verb}, lowest first: {listed}.'
  if chance is not None:
    text += f' Chance: {100 * chance:.4g} %.'
  return text


def _describe_mosaic(
  estimators: Sequence[str], thresholds: Sequence[int]
) -> str:
  return (
    'One test image, original and masked at '
    f'{", ".join(f"{t} %" for t in thresholds)}, one row for each of '
    f'{", ".join(estimators)}.'
  )


def _toy_panel(axes: Axes, rows: pd.DataFrame) -> None:
  """One line per ranking, in looks that also differ in grey."""
  looks = {
    'true': dict(color=_COLOURS[1], linestyle=_DASHES[1], marker='^'),
    'random': dict(color='black', linewidth=3, marker='o'),
    'inverted': dict(color=_COLOURS[0], linestyle=_DASHES[2], marker='s'),
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


def _enlarge(image: np.ndarray, step: int, repeat: int) -> np.ndarray:
  image = np.asarray(image)[::step, ::step]
  image = np.repeat(np.repeat(image, repeat, axis=0), repeat, axis=1)
  return np.broadcast_to(image, (*image.shape[:2], 3))


def _looks(summary: pd.DataFrame, source: str) -> dict[str, dict]:
  """The look of each label, the same in both modes of a source."""
  rows = pd.concat(
    [results.against_random(summary, source, mode) for mode in _TITLES]
  )
  looks, cycle = {}, itertools.count()
  for label in sorted(set(rows['label'])):
    row = rows[rows['label'] == label].iloc[0]
    if row['reference']:
      look = ('black', 3, '-', 'o', 6, 4)
    elif row['estimator'] in results.ORACLES:
      # Bounds to compare with, not contestants: they stay in the background.
      marker = 'v' if row['estimator'] == 'oracle' else '^'
      look = ('#8a8f98', 1.3, (0, (1, 1.4)), marker, 5, 2)
    else:
      i = next(cycle)
      look = (_COLOURS[i % 6], 1.7, _DASHES[i % 4], _MARKERS[i % 9], 5.5, 3)
    names = (
      'color',
      'linewidth',
      'linestyle',
      'marker',
      'markersize',
      'zorder',
    )
    looks[label] = dict(zip(names, look, strict=True))
    looks[label] |= dict(markeredgecolor='white', markeredgewidth=0.7)
  return looks


def _frame(
  axes: Axes,
  rows: pd.DataFrame,
  start: pd.DataFrame,
  mode: str,
  chance: float | None,
) -> None:
  """Axes that show every value, chance included, and nothing else."""
  cells = pd.concat([rows, start])
  values = 100 * cells[['mean', 'low', 'high']].to_numpy().ravel()
  values = [*values[np.isfinite(values)], 100 * (chance or 0)]
  margin = 0.04 * (max(values) - min(values) or 1)
  axes.set_ylim(min(values) - margin, max(values) + margin)
  ticks = sorted({*rows['threshold'], 0 if mode == 'remove' else 100})
  verb = 'removed' if mode == 'remove' else 'kept'
  _plain(axes, ticks, f'Image {verb}, most important first (%)')
  if mode == 'keep':
    axes.invert_xaxis()
  if chance is not None:
    axes.axhline(100 * chance, color=_INK, linewidth=1.1, linestyle=(0, (1, 2)))
    axes.annotate(
      f'chance {100 * chance:.4g} %',
      (0.005, 100 * chance),
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


def _line(axes: Axes, cells: pd.DataFrame, look: Mapping[str, Any]) -> None:
  """One estimator's means, their intervals, and the runs where only two."""
  at = cells['threshold'].to_numpy()
  means = 100 * cells['mean'].to_numpy()
  axes.plot(at, means, **look)
  half = 100 * (cells['high'] - cells['mean']).to_numpy()
  style = dict(ecolor=look['color'], elinewidth=1, capsize=2.5)
  axes.errorbar(at, means, half, fmt='none', zorder=look['zorder'], **style)
  # The mean and sd of two runs determine both: mean +- sd / sqrt(2).
  pairs = (cells['runs'] == 2).to_numpy()
  apart = 100 * cells['sd'].to_numpy()[pairs] / math.sqrt(2)
  style = dict(color=look['color'], markersize=3.5, markeredgewidth=0)
  for runs in (means[pairs] - apart, means[pairs] + apart):
    axes.plot(at[pairs], runs, 'o', alpha=0.35, zorder=2, **style)


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
  steps = gap * np.arange(len(order))
  # Least-squares positions whose neighbours are at least a gap apart, then
  # pushed inside the axes.
  wanted = np.array([ends[label][1] for label in order]) - steps
  placed = optimize.isotonic_regression(wanted).x if order else wanted
  placed = np.clip(placed, low, max(low, high - gap * len(order))) + steps
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
