"""Tests of the figures."""

import concurrent.futures
import io
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import image as matplotlib_image

from roar_tf.analysis import figures, panels, results

MEANS = {'random': 0.7, 'grad': 0.8, 'sobel': 0.4, 'oracle': 0.1}


def summary(seeds=2, means=MEANS, original=0.9):
  rows = []
  cells = [('original', '', '', 0, original)] if original else []
  cells += [
    (name, 'pixel', mode, t, mean)
    for name, mean in means.items()
    for mode in ('remove', 'keep')
    for t in (10, 90)
  ]
  for *cell, mean in cells:
    for seed in range(seeds):
      numbers = (seed, mean + seed / 100, 0.95, 100, 1000, 1.0)
      rows.append(('study', 'digits', *cell, 'mean', 'image', *numbers))
  return results.summarise(pd.DataFrame(rows, columns=list(results.COLUMNS)))


def pixels(figure):
  return matplotlib_image.imread(io.BytesIO(figures.png(figure)))


def lines(figure):
  """The lines of data, by the label written at the end of each."""
  axes = figure.axes[0]
  labels = {text.get_text() for text in axes.texts}
  data = [
    line
    for line in axes.lines
    if line.get_linestyle() != 'None'
    and len(line.get_xdata()) == 3
    and line.get_transform() == axes.transData
  ]
  return labels, data


def test_same_data_same_bytes_in_any_thread():
  table = summary(5)

  def draw(_):
    return figures.png(figures.curves(table, 'digits', 'remove', 0.1))

  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    first, *others = pool.map(draw, range(3))
  assert all(other == first for other in others)
  assert b'Software' not in first and b'tIME' not in first


def test_lines_start_at_the_original_and_random_is_bold_black():
  labels, data = lines(figures.curves(summary(1), 'digits', 'remove', 0.1))
  assert set(MEANS) <= labels
  assert any('chance 10 %' in label for label in labels)
  assert len(data) == len(MEANS)
  for line in data:
    assert line.get_xdata().tolist() == [0, 10, 90]
    assert line.get_ydata()[0] == pytest.approx(90)
  (random,) = [line for line in data if line.get_color() == 'black']
  assert random.get_ydata()[1:].tolist() == pytest.approx([70, 70])
  assert random.get_linewidth() == max(line.get_linewidth() for line in data)


def test_keep_runs_from_the_whole_image_to_little_of_it():
  figure = figures.curves(summary(1), 'digits', 'keep', 0.1)
  assert figure.axes[0].xaxis_inverted()
  for line in lines(figure)[1]:
    assert line.get_xdata().tolist() == [100, 90, 10]


def test_looks_differ_without_colour():
  names = {f'estimator_{i}': 0.5 + i / 100 for i in range(20)}
  looks = panels.Curves(summary(1, names), 'digits', None).looks.values()
  assert len({(look.marker, look.dash) for look in looks}) == 20


def test_labels_never_overlap():
  names = {f'estimator_{i}': 0.5 + i / 10000 for i in range(20)}
  figure = figures.curves(summary(1, names), 'digits', 'remove', None)
  figures.png(figure)
  boxes = sorted(
    (text.get_window_extent() for text in figure.axes[0].texts),
    key=lambda box: box.y0,
  )
  assert len(boxes) == 20
  for lower, upper in itertools.pairwise(boxes):
    assert lower.y1 <= upper.y0 + 1
  assert boxes[0].y0 >= 0 and boxes[-1].y1 <= figure.bbox.height
  assert max(box.x1 for box in boxes) <= figure.bbox.width


@pytest.mark.parametrize('seeds', [2, 3])
def test_two_runs_are_dots_and_three_are_bars(seeds):
  axes = figures.curves(summary(seeds), 'digits', 'remove', 0.1).axes[0]
  dots = {
    round(float(y), 6)
    for line in axes.lines
    if line.get_alpha() == 0.35
    for y in line.get_ydata()
  }
  bars = [
    segment
    for collection in axes.collections
    for segment in collection.get_segments()
    if np.size(segment) and np.isfinite(segment).all()
  ]
  if seeds == 2:
    runs = {100 * m for m in (*MEANS.values(), 0.9)}
    assert dots == {round(r + i, 6) for r in runs for i in (0, 1)}
    assert not bars
  else:
    assert not dots
    assert len(bars) == 3 * len(MEANS)


def test_draws_without_an_original_or_with_a_lost_mean():
  table = summary(1, original=None)
  table.loc[table['estimator'] == 'grad', 'mean'] = np.nan
  figure = figures.curves(table, 'digits', 'remove', None)
  assert figures.png(figure)
  assert 'grad' not in figures.alt_text(figure)


def test_alt_text_of_curves_gives_the_order_and_the_numbers():
  text = figures.alt_text(figures.curves(summary(1), 'digits', 'remove', 0.1))
  assert 'Original images: 90.0 %' in text
  assert (
    'With 90 % removed, lowest first: oracle 10.0 %, sobel 40.0 %,'
    ' random 70.0 %, grad 80.0 %.' in text
  )
