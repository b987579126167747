"""Panels, and the leads of a table of verdicts, as SVG inside the page.

Colours are CSS variables of the page, so that one drawing suits light, dark
and print; text is text, in the page's font. Every point carries its numbers as
a <title>, which browsers show under the pointer and readers aloud.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import markupsafe

from roar_tf.analysis import drawing, panels
from roar_tf.analysis.verdict import Verdict

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
  panel: panels.Panel, source: str, width: int, height: int, letters: int
) -> markupsafe.Markup:
  """Returns one panel as an <svg> element.

  Args:
    panel: what it shows.
    source: the source, for the description that readers hear.
    width: of the drawing, in CSS pixels at its natural size.
    height: of the drawing.
    letters: of the longest label, see `drawing.shapes`.
  """
  return drawn(
    drawing.shapes(panel, width, height, letters),
    panels.describe(panel, source),
    width,
    height,
  )


def drawn(
  shapes: Iterable[drawing.Path | drawing.Mark | drawing.Text],
  description: str,
  width: int,
  height: int,
) -> markupsafe.Markup:
  """Returns shapes as an <svg> element, with what readers hear of it."""
  label = markupsafe.escape(description)
  parts = map(_element, shapes)
  return markupsafe.Markup(
    f'<svg class="chart" viewBox="0 0 {width} {height}" role="img"'
    f' aria-label="{label}">{"".join(parts)}</svg>'
  )


def _element(shape: drawing.Path | drawing.Mark | drawing.Text) -> str:
  """Returns a shape as an element; the page's style sheet knows its classes."""
  if isinstance(shape, drawing.Text):
    return (
      f'<text class="{shape.role}" x="{shape.x:.1f}" y="{shape.y:.1f}"'
      f' text-anchor="{shape.anchor}">{markupsafe.escape(shape.text)}</text>'
    )
  look = shape.look
  classes = f'class="{shape.role} {look.colour if look else ""}"'
  if isinstance(shape, drawing.Path):
    corners = 'L'.join(f'{x:.1f},{y:.1f}' for x, y in shape.points)
    stroke = ''
    if shape.role == 'curve':
      dash = ' '.join(f'{look.width * length:.1f}' for length in look.dash)
      stroke = f' stroke-width="{look.width}" stroke-dasharray="{dash}"'
    return f'<path {classes} d="M{corners}"{stroke}/>'
  move = f'translate({shape.x:.1f},{shape.y:.1f})'
  size = f'scale({shape.radius})'
  outline = _MARKERS[shape.marker]
  if not shape.title:
    return f'<path {classes} transform="{move}{size}" d="{outline}"/>'
  return (
    f'<g class="pt" transform="{move}">'
    f'<title>{markupsafe.escape(shape.title)}</title>'
    f'<circle class="hit" r="8"/>'
    f'<path {classes} transform="{size}" d="{outline}"/></g>'
  )


def scale(verdicts: Sequence[Verdict]) -> tuple[float, float]:
  """Returns the range of the leads and intervals of a table, zero included."""
  ends = [0.0]
  for verdict in verdicts:
    ends += [end for end in verdict.lead if not math.isnan(end)]
  low, high = min(ends), max(ends)
  margin = 0.05 * (high - low or 1)
  return low - margin, high + margin


def strip(verdict: Verdict, ends: tuple[float, float]) -> markupsafe.Markup:
  """Returns a row's lead and interval on the scale of its table, as <svg>."""
  width, height = 130, 20
  lead = verdict.lead

  def x(value: float) -> float:
    return round((value - ends[0]) / (ends[1] - ends[0]) * width, 1)

  parts = [
    f'<svg class="strip {verdict.tone}" viewBox="0 0 {width} {height}"'
    ' aria-hidden="true">',
    f'<path class="zero" d="M{x(0)},0V{height}"/>',
  ]
  if lead.known:
    parts.append(f'<path class="stem" d="M{x(0)},10H{x(lead.value)}"/>')
    if lead.bounded:
      parts.append(f'<path class="bar" d="M{x(lead.low)},10H{x(lead.high)}"/>')
    marker = '<circle class="dot" cx="{}" cy="10" r="4"/>'
    if verdict.role == 'control':
      marker = '<path class="ring" d="M{},6l4,4l-4,4l-4,-4Z"/>'
    parts.append(marker.format(x(lead.value)))
  return markupsafe.Markup(''.join([*parts, '</svg>']))
