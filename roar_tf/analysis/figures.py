"""Figures as files, which `report` and `roar_toy` write.

Only matplotlib's object interface is used (no pyplot), so figures can be drawn
in threads. The same data gives the same bytes.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterable, Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roar_tf.analysis import drawing, families, gains, panels

INK, QUIET, _RULE = '#1f2328', '#6b7280', '#d8dbe0'
_PER_ROW = 3
# Pixels of the drawing: the figure's title, and the title of one panel.
_HEAD, _TITLE = 52, 26
# How each role of `drawing` looks, beside the look of its curve.
_PATHS = {
  'rule': dict(color=_RULE, linewidth=0.8),
  'leader': dict(color=_RULE, linewidth=0.8),
  'zero': dict(color=INK, linewidth=1),
  'chance': dict(color=INK, linewidth=1.1, linestyle=(0, (1, 2))),
  'bar': dict(linewidth=1.1),
  'curve': dict(solid_capstyle='butt'),
}
_FILLS = {'band': 0.16, 'beyond': 0.18}
_MARKS = {
  'mark': dict(markeredgecolor='white', markeredgewidth=0.7),
  'run': dict(markeredgewidth=0, alpha=0.4),
}
_TEXTS = {
  'tick': dict(size=11, color=QUIET),
  'note': dict(size=11, color=QUIET),
  'name': dict(size=11.5, color=INK),
  'name bold': dict(size=11.5, color=INK, weight='bold'),
}
_STYLE = threading.Lock()  # Matplotlib's style is that of the process.
_METADATA = {
  'png': {'Software': None},
  'svg': {'Date': None, 'Creator': None},
  'pdf': {'CreationDate': None, 'Creator': None, 'Producer': None},
}
_ALIGNMENTS = {'start': 'left', 'middle': 'center', 'end': 'right'}


class Picture(Figure):
  """A figure that notebooks show, whether pyplot was imported or not."""

  def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
    """Returns the figure as PNG, and how large a notebook shows it."""
    width, height = (round(72 * inches) for inches in self.get_size_inches())
    return png(self), {'width': width, 'height': height}


def draw(
  drawn: Sequence[panels.Panel], title: str, subtitle: str = 'Test accuracy (%)'
) -> Figure:
  """Returns panels side by side, each curve named where it ends.

  Args:
    drawn: the panels.
    title: stands above them.
    subtitle: stands below the title and says what the numbers are.
  """
  wide, high, letters = drawing.size(drawn)
  # A file has room for labels that the page would cut.
  wide = max(wide, math.ceil(drawing.CHARACTER * letters / drawing.LABELS))
  parts = [
    (panel.title, drawing.shapes(panel, wide, high, letters)) for panel in drawn
  ]
  return _laid_out(parts, wide, high, title, subtitle)


def of_gains(charts: Sequence[gains.Chart], title: str) -> Figure:
  """Returns gains over random, a small chart per estimator."""
  parts = [(chart.title, gains.shapes(chart)) for chart in charts]
  subtitle = (
    'Points over random; bands: 95 % intervals; shaded: beyond the masks'
  )
  return _laid_out(parts, gains.WIDTH, gains.HEIGHT, title, subtitle)


def _laid_out(
  parts: Sequence[tuple[str, Iterable]],
  wide: int,
  high: int,
  title: str,
  subtitle: str,
) -> Figure:
  """Returns a figure of (title, shapes) parts of one size, side by side."""
  title_of_panel = _TITLE if len(parts) > 1 else 0
  columns = min(len(parts), _PER_ROW)
  width = columns * wide
  height = _HEAD + math.ceil(len(parts) / columns) * (high + title_of_panel)
  # One pixel of the drawing is a point of the figure.
  size = (width / 72, height / 72)
  figure = Picture(figsize=size, dpi=144, facecolor='white')
  axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
  axes.axis('off')
  axes.text(10, 22, title, size=15, weight='bold', color=INK)
  axes.text(10, 42, subtitle, **_TEXTS['tick'])
  for i, (name, shapes) in enumerate(parts):
    left = (i % columns) * wide
    top = _HEAD + (i // columns) * (high + title_of_panel)
    if title_of_panel:
      style = dict(size=12.5, color=INK)
      axes.text(left + 10, top + 18, name, **style)
    for order, shape in enumerate(shapes):
      _paint(axes, shape, left, top + title_of_panel, order)
  return figure


def _paint(
  axes: Axes,
  shape: drawing.Path | drawing.Mark | drawing.Text,
  left: float,
  top: float,
  order: int,
) -> None:
  """Adds one shape of a panel whose corner lies at `left` and `top`.

  Shapes of a higher order lie in front.
  """
  common = dict(zorder=order, clip_on=False)
  if isinstance(shape, drawing.Text):
    style = dict(ha=_ALIGNMENTS[shape.anchor], **_TEXTS[shape.role])
    axes.text(left + shape.x, top + shape.y, shape.text, **style, **common)
    return
  look = shape.look
  colour = families.PALETTE[look.colour] if look else None
  if isinstance(shape, drawing.Mark):
    style = dict(color=colour, markersize=2 * shape.radius, **common)
    style |= dict(marker=shape.marker, **_MARKS[shape.role])
    axes.plot([left + shape.x], [top + shape.y], **style)
    return
  x = [left + x for x, _ in shape.points]
  y = [top + y for _, y in shape.points]
  if shape.role in _FILLS:
    axes.fill(x, y, color=colour, alpha=_FILLS[shape.role], lw=0, **common)
    return
  style = dict(color=colour) | _PATHS[shape.role]
  if shape.role == 'curve':
    dash = (0, look.dash) if look.dash else '-'
    style |= dict(linewidth=look.width, linestyle=dash)
  axes.plot(x, y, **style, **common)


def toy(summary: pd.DataFrame) -> Figure:
  """Returns the paper's Fig. 2: models that stay as they were, and retrained.

  `roar_toy` writes it. Curves are medians, bands hold the middle half of the
  draws.

  Args:
    summary: what `toy.summarise` returns.
  """
  looks = {
    'true': families.Look('k1', dash=families.DASHES[1], marker='^'),
    'random': families.Look(families.INK, 3, layer=4),
    'inverted': families.Look('k0', dash=families.DASHES[2], marker='s'),
  }
  curves = {False: [], True: []}
  for (retrained, ranking), rows in summary.groupby(['retrained', 'ranking']):
    curve = _banded(ranking, looks[ranking], rows, 'median')
    curves[retrained].append(curve)
  limits = panels.span([*curves[False], *curves[True]], None)
  drawn = [
    panels.Panel(
      title, 'remove', tuple(curves[retrained]), None, None, limits, 'Features'
    )
    for retrained, title in {
      False: 'Not retrained',
      True: 'ROAR: retrained',
    }.items()
  ]
  return draw(
    drawn,
    'Toy data: what is lost by removing?',
    'Test accuracy (%), 50 by chance: medians, middle half of the draws',
  )


def stump(summary: pd.DataFrame) -> Figure:
  """Returns what plain and recursive removal leave of a redundant feature.

  `roar_toy` writes it. Curves are means, bands hold the middle half of the
  draws.

  Args:
    summary: what `stump.summarise` returns.
  """
  looks = {
    'plain': families.Look('k0', dash=families.DASHES[2], marker='s'),
    'recursive': families.Look('k1', dash=families.DASHES[1], marker='^'),
    'random': families.Look(families.INK, 3, layer=4),
  }
  curves = [
    _banded(protocol, looks[protocol], rows, 'mean')
    for protocol, rows in summary.groupby('protocol')
  ]
  limits = panels.span(curves, None)
  panel = panels.Panel(
    'Retrained', 'remove', tuple(curves), None, None, limits, 'Features'
  )
  return draw(
    [panel],
    'Toy data: two features that say the same',
    'Test accuracy (%), 50 by chance: means, middle half of the draws',
  )


def _banded(
  name: str, look: families.Look, rows: pd.DataFrame, middle: str
) -> panels.Curve:
  """Returns a curve of toy data with its band.

  Args:
    name: what it is called.
    look: how it is drawn.
    rows: `removed` in percent; `low`, `high` and the middle as fractions.
    middle: the column that the curve goes through.
  """
  numbers = ['removed', middle, 'low', 'high']
  rows = rows[numbers].assign(**100 * rows[numbers[1:]])
  points = tuple(panels.Point(*row) for row in rows.itertuples(index=False))
  return panels.Curve(name, look, points, band=True)


def png(figure: Figure) -> bytes:
  """Returns the figure as PNG; see `encoded`."""
  return encoded(figure, 'png')


def encoded(figure: Figure, kind: str) -> bytes:
  """Returns a figure as a file, without metadata that tell of the machine.

  Args:
    figure: the figure.
    kind: `png`, or `svg` or `pdf`, whose text stays text.
  """
  buffer = io.BytesIO()
  style = {'svg.hashsalt': 'roar_tf', 'svg.fonttype': 'none'}
  with _STYLE, matplotlib.rc_context(style):
    figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
  return buffer.getvalue()


def files(figure: Figure, name: str) -> dict[str, bytes]:
  """Returns a figure as PNG for screens, and as SVG and PDF for papers."""
  return {f'{name}.{kind}': encoded(figure, kind) for kind in _METADATA}
