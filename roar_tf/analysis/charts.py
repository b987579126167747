"""Panels as SVG inside the page.

Colours are CSS variables of the page, so that one drawing suits light, dark
and print; text is text, in the page's font. Every point carries its numbers as
a <title>, which browsers show under the pointer and readers aloud.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import markupsafe
from matplotlib import ticker

from roar_tf.analysis import families, panels
from roar_tf.analysis.verdicts import Verdict

_TEXT = 11.5
# A wide guess of a character's width in any sans serif font, in _TEXT.
_CHARACTER = 6.3
_TOP, _BOTTOM, _LEFT = 10, 38, 34
# A marker of radius 1 around the origin, as an SVG path.
_MARKERS = {
  'o': 'M-1,0A1,1 0 1 0 1,0A1,1 0 1 0 -1,0Z',
  's': 'M-.9,-.9H.9V.9H-.9Z',
  '^': 'M0,-1.1L1.05,.85H-1.05Z',
  'v': 'M0,1.1L1.05,-.85H-1.05Z',
  '<': 'M-1.1,0L.85,-1.05V1.05Z',
  '>': 'M1.1,0L-.85,-1.05V1.05Z',
  'D': 'M0,-1.25L1.25,0L0,1.25L-1.25,0Z',
  'P': 'M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z',
  'X': (
    'M-1.1,-.55L-.55,-1.1L0,-.55L.55,-1.1L1.1,-.55L.55,0L1.1,.55L.55,1.1'
    'L0,.55L-.55,1.1L-1.1,.55L-.55,0Z'
  ),
}


def svg(
  panel: panels.Panel, source: str, width: int = 340, height: int = 290
) -> markupsafe.Markup:
  """One panel as an <svg> element.

  Args:
    panel: what it shows.
    source: the source, for its description.
    width: of the drawing, in CSS pixels at its natural size.
    height: likewise.
  """
  names = [_shown(line.label, width) for line in panel.lines if line.named]
  right = 30 + _CHARACTER * max(map(len, names), default=0)
  plot = _Plot(panel, width - _LEFT - right, height - _TOP - _BOTTOM)
  parts = [
    f'<svg class="chart" viewBox="0 0 {width} {height}" role="img"'
    f' aria-label="{_escape(panels.describe(panel, source))}">',
    f'<g transform="translate({_LEFT},{_TOP})">',
    *_axes(panel, plot),
    *_names(panel, plot, width),
  ]
  if panel.start is not None:
    parts += ['<g class="line ink">', *_point(panel.start, None, panel, plot)]
    parts.append('</g>')
  # The widest last: random lies over all others.
  for line in sorted(panel.lines, key=lambda line: line.look.layer):
    parts += _line(line, panel, plot)
  return markupsafe.Markup(''.join([*parts, '</g></svg>']))


def scale(said: Sequence[Verdict]) -> tuple[float, float]:
  """The range of the areas and intervals of one table, with zero in it."""
  ends = [0.0]
  for one in said:
    ends += [end for end in one.area if not math.isnan(end)]
  low, high = min(ends), max(ends)
  margin = 0.05 * (high - low or 1)
  return low - margin, high + margin


def strip(one: Verdict, ends: tuple[float, float]) -> markupsafe.Markup:
  """A row's area and interval on the scale of its table, as an <svg>."""
  width, height = 130, 20

  def x(value: float) -> float:
    return round((value - ends[0]) / (ends[1] - ends[0]) * width, 1)

  parts = [
    f'<svg class="strip {one.tone}" viewBox="0 0 {width} {height}"'
    ' aria-hidden="true">',
    f'<path class="zero" d="M{x(0)},0V{height}"/>',
  ]
  if one.area.known:
    centre = x(one.area.value)
    parts.append(f'<path class="stem" d="M{x(0)},10H{centre}"/>')
    if one.area.bounded:
      low, high = x(one.area.low), x(one.area.high)
      parts.append(f'<path class="bar" d="M{low},10H{high}"/>')
    shape = '<circle class="dot" cx="{}" cy="10" r="4"/>'
    if one.kind == 'control':
      shape = '<path class="ring" d="M{0},6l4,4l-4,4l-4,-4Z"/>'
    parts.append(shape.format(centre))
  return markupsafe.Markup(''.join([*parts, '</svg>']))


class _Plot:
  """From thresholds and percents to places."""

  def __init__(self, panel: panels.Panel, width: float, height: float):
    self.width, self.height = width, height
    ticks = panel.ticks
    self.ends = ticks[0], max(ticks[-1], ticks[0] + 1)
    self.low, self.high = panel.span
    self.reversed = panel.mode == 'keep'

  def x(self, threshold: float) -> float:
    share = (threshold - self.ends[0]) / (self.ends[1] - self.ends[0])
    share = 1 - share if self.reversed else share
    return round(6 + share * (self.width - 12), 1)

  def y(self, percent: float) -> float:
    share = (percent - self.low) / (self.high - self.low)
    return round((1 - share) * self.height, 1)


def _axes(panel: panels.Panel, plot: _Plot) -> list[str]:
  parts = []
  steps = ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
  for value in steps.tick_values(plot.low, plot.high):
    if plot.low <= value <= plot.high and 0 <= value <= 100:
      y = plot.y(value)
      parts.append(
        f'<path class="rule" d="M0,{y}H{plot.width:.1f}"/>'
        f'<text x="-7" y="{y + 4}" class="tick end">{value:g}</text>'
      )
  last = -100.0
  for threshold in sorted(panel.ticks, key=plot.x):
    x = plot.x(threshold)
    if x - last >= 22:  # Where thresholds are close, not all are written.
      parts.append(
        f'<text x="{x}" y="{plot.height + 16}" class="tick mid">'
        f'{threshold}</text>'
      )
      last = x
  parts.append(
    f'<text x="{plot.width / 2:.1f}" y="{plot.height + 32}"'
    f' class="tick mid">{panel.axis}</text>'
  )
  if panel.chance is not None:
    y = plot.y(panel.chance) if panel.shows_chance else plot.height
    if panel.shows_chance:
      parts.append(f'<path class="chance" d="M0,{y}H{plot.width:.1f}"/>')
    parts.append(
      f'<text x="2" y="{y - 4:.1f}" class="tick halo">'
      f'{panel.chance_text}</text>'
    )
  return parts


def _line(line: panels.Line, panel: panels.Panel, plot: _Plot) -> list[str]:
  look = line.look
  style = f'class="line {_class(look)}"'
  path = ''.join(
    'M' + 'L'.join(f'{plot.x(p.threshold)},{plot.y(p.mean)}' for p in part)
    for part in panel.segments(line)
  )
  dash = ' '.join(f'{look.width * n:.1f}' for n in look.dash)
  dash = f' stroke-dasharray="{dash}"' if dash else ''
  parts = [
    f'<g {style}><path class="curve" d="{path}"'
    f' stroke-width="{look.width}"{dash}/>'
  ]
  for point in line.points:
    parts += _point(point, line, panel, plot)
  parts.append('</g>')
  return parts


def _point(point, line, panel, plot) -> list[str]:
  """A cell with its runs or interval; the original's where line is None."""
  x, y = plot.x(point.threshold), plot.y(point.mean)
  verb = 'removed' if panel.mode == 'remove' else 'kept'
  name = f'{line.label}, {point.threshold} % {verb}' if line else 'original'
  text = f'{name}: {point.mean:.1f} %'
  marks = []
  if math.isfinite(point.low):
    text += f' ({point.low:.1f} to {point.high:.1f})'
    low, high = plot.y(point.low), plot.y(point.high)
    marks.append(
      f'<path class="bar" d="M{x},{low}V{high}M{x - 2},{low}h4'
      f'M{x - 2},{high}h4"/>'
    )
  elif point.runs == 2:
    # The mean and sd of two runs determine both: mean +- sd / sqrt(2).
    apart = point.sd / math.sqrt(2)
    marks += [
      f'<circle class="run" cx="{x}" cy="{plot.y(value)}" r="1.8"/>'
      for value in (point.mean - apart, point.mean + apart)
    ]
  marker = line.look.marker if line else 'o'
  size = 3.1 if line and line.look.width < 2 else 3.4
  return [
    *marks,
    f'<g class="pt" transform="translate({x},{y})">'
    f'<title>{_escape(text)}</title><circle class="hit" r="8"/>'
    f'<path class="mark" transform="scale({size})"'
    f' d="{_MARKERS[marker]}"/></g>',
  ]


def _names(panel: panels.Panel, plot: _Plot, width: int) -> list[str]:
  """Writes each label beside the end of its line, none over another."""
  lines = [line for line in panel.lines if line.named]
  lines.sort(key=lambda line: -line.points[-1].mean)
  ends = [plot.y(line.points[-1].mean) for line in lines]
  gap = _TEXT * 1.25
  places = panels.place(ends, 4, plot.height + 14, gap)
  parts = []
  for line, end, y in zip(lines, ends, places, strict=True):
    x = plot.x(line.points[-1].threshold)
    right, look = plot.width, line.look
    bold = ' bold' if look.colour == families.INK else ''
    parts.append(
      f'<path class="leader" d="M{x + 5},{end}L{right + 4:.1f},{y:.1f}"/>'
      f'<path class="mark {_class(look)}" d="{_MARKERS[look.marker]}"'
      f' transform="translate({right + 10:.1f},{y:.1f})scale(3)"/>'
      f'<text class="name{bold}" x="{right + 18:.1f}" y="{y + 4:.1f}">'
      f'{_escape(_shown(line.label, width))}</text>'
    )
  return parts


def _class(look: families.Look) -> str:
  """The CSS class of a colour: k0..k5, ink, grey."""
  if look.colour in families.COLOURS:
    return f'k{families.COLOURS.index(look.colour)}'
  return 'ink' if look.colour == families.INK else 'grey'


def _shown(label: str, width: int) -> str:
  """A label as long as there is room for; the titles have it all."""
  room = int(0.36 * width / _CHARACTER)
  return label if len(label) <= room else f'{label[: room - 1]}…'


def _escape(text: str) -> str:
  return str(markupsafe.escape(text))
