"""Tests of panels, of their layout, and of both that draw it."""

import concurrent.futures
import itertools
import xml.etree.ElementTree

import numpy as np
import pytest
import synthetic

from roar_tf.analysis import charts, drawing, families, figures, panels, results
from roar_tf.estimators.names import is_control

MEANS = {'random': 0.7, 'grad': 0.8, 'sobel': 0.4, 'oracle': 0.1}


def summary(seeds=2, means=MEANS, original=0.9):
  cells = [('original', '', 0, original)] if original else []
  cells += [
    (name, mode, t, mean)
    for name, mean in means.items()
    for mode in ('remove', 'keep')
    for t in (10, 50, 90)
  ]
  return results.summarise(synthetic.runs(cells, seeds, 0.01))


def panel(table, mode='remove', chance=0.1):
  (only,) = panels.Curves(table, 'digits', chance).by_family(mode)
  return only


def shapes(shown, role):
  drawn = drawing.shapes(shown, *drawing.size([shown]))
  return [shape for shape in drawn if shape.role == role]


@pytest.mark.parametrize(
  ('family', 'names'),
  [
    ('base', ('sobel', 'grad', 'centred', 'oracle_x', 'my_shuffle_x')),
    ('smoothed', ('blur_random', 'max_grad', 'blur_untrained_grad')),
    (
      'controls',
      (
        *('random', 'random_bernoulli', 'centre', 'oracle', 'inverse_oracle'),
        *('oracle_30', 'shuffle_sobel', 'shuffle_same_sg_grad'),
        *('untrained_grad', 'shuffle_oracle_30', 'shuffle_blur_grad'),
      ),
    ),
  ],
)
def test_who_competes_is_drawn_with_the_estimators(family, names):
  assert {families.family(name) for name in names} == {family}
  competes = {not is_control(name) for name in names}
  assert competes == {family == 'base'}


def test_same_data_same_bytes_in_any_thread():
  shown = panel(summary(5))

  def draw(_):
    return figures.png(figures.draw([shown], 'title'))

  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    first, *others = pool.map(draw, range(3))
  assert all(other == first for other in others)
  assert b'Software' not in first and b'tIME' not in first


def test_curves_start_at_the_original_and_random_is_bold_in_front():
  shown = panel(summary(1))
  curves = [c for c in shapes(shown, 'curve') if len(c.points) > 2]
  assert len(curves) == len(MEANS)
  assert {curve.points[0] for curve in curves} == {curves[0].points[0]}
  for curve in curves:
    assert (np.diff(curve.points, axis=0)[:, 0] > 0).all()
  *others, random = curves
  assert random.look.colour == families.INK
  assert random.look.width > max(curve.look.width for curve in others)
  titles = [mark.title for mark in shapes(shown, 'mark')]
  assert 'original: 90.0 %' in titles
  assert 'sobel, 50 % removed: 40.0 %' in titles


@pytest.mark.parametrize(
  'mode, ticks',
  [('remove', ['0', '10', '50', '90']), ('keep', ['100', '90', '50', '10'])],
)
def test_both_modes_lose_information_from_left_to_right(mode, ticks):
  shown = panel(summary(1), mode)
  at_the_bottom = [t for t in shapes(shown, 'tick') if t.anchor == 'middle']
  assert [text.text for text in at_the_bottom[:-1]] == ticks
  assert all(a.x < b.x for a, b in itertools.pairwise(at_the_bottom[:-1]))


def test_looks_differ_without_colour():
  names = {f'estimator_{i}': 0.5 + i / 100 for i in range(20)}
  looks = panels.Curves(summary(1, names), 'digits', None).looks.values()
  assert len({(look.marker, look.dash) for look in looks}) == 20


def test_labels_never_overlap_and_a_file_has_room_for_them():
  names = {f'an_estimator_of_many_{i}': 0.5 + i / 10000 for i in range(20)}
  shown = panel(summary(1, names), chance=None)
  figure = figures.draw([shown], 'title')
  figures.png(figure)
  boxes = [
    text.get_window_extent()
    for text in figure.axes[0].texts
    if text.get_text() in names
  ]
  boxes.sort(key=lambda box: box.y0)
  assert len(boxes) == 20
  for lower, upper in itertools.pairwise(boxes):
    assert lower.y1 <= upper.y0 + 1
  assert boxes[0].y0 >= 0 and boxes[-1].y1 <= figure.bbox.height
  assert max(box.x1 for box in boxes) <= figure.bbox.width
  narrow = charts.svg(shown, 'digits', 200, 400, 23)
  assert 'an_estimat…</text>' in narrow and 'an_estimator_of_many_3,' in narrow


@pytest.mark.parametrize('seeds', [2, 3])
def test_two_runs_are_dots_and_three_are_bars(seeds):
  shown = panel(summary(seeds))
  cells = 3 * len(MEANS) + 1
  assert len(shapes(shown, 'run')) == (2 * cells if seeds == 2 else 0)
  assert len(shapes(shown, 'bar')) == (3 * cells if seeds == 3 else 0)


def test_a_missing_cell_parts_the_curve_and_a_lost_mean_is_not_drawn():
  table = summary(1, original=None)
  lost = (table['estimator'] == 'sobel') & (table['threshold'] == 50)
  table.loc[table['estimator'] == 'grad', 'mean'] = np.nan
  shown = panel(table[~lost], chance=None)
  assert 'grad' not in [curve.label for curve in shown.curves]
  (sobel,) = [curve for curve in shown.curves if curve.label == 'sobel']
  parts = [[p.threshold for p in part] for part in shown.segments(sobel)]
  assert parts == [[10], [90]]
  assert figures.png(figures.draw([shown], 'title'))


def test_of_many_curves_a_panel_names_no_more_than_can_be_told_apart():
  frame = synthetic.frame(('food101',), ('remove', 'keep'), synthetic.PAPER, 1)
  curves = panels.Curves(results.summarise(frame), 'food101', 0.01)
  families_of = curves.by_family('remove')
  assert [p.title for p in families_of] == [
    title
    for key, title in families.FAMILIES.items()
    if key not in ('smoothed', 'controls')  # The paper's sobel competes.
  ]
  assert sum(len(p.curves) - 1 for p in families_of) == 17
  for shown in (*families_of, *curves.both_modes()):
    named = [curve.label for curve in shown.curves if curve.named]
    assert 'random' in named and len(named) <= 9


def test_page_and_file_show_the_same_shapes():
  curves = panels.Curves(summary(2), 'digits', 0.1)
  points = tuple(panels.Point(t, 50, 40, 60) for t in (0, 100))
  band = panels.Curve('<band>', families.Look('k3'), points, band=True)
  shown = panels.Panel('', 'remove', (band,), None, 50, (30, 70))
  for one in (*curves.both_modes(), shown):
    drawn = list(drawing.shapes(one, *drawing.size([one])))
    root = xml.etree.ElementTree.fromstring(
      charts.svg(one, 'digits', *drawing.size([one]))
    )
    paths = [x for x in root.iter() if x.tag in ('path', 'text')]
    assert [x.get('class').split()[0] for x in paths] == [
      shape.role.split()[0] for shape in drawn
    ]
    axes = figures.draw([one], 'title').axes[0]
    artists = len(axes.lines) + len(axes.patches) + len(axes.texts)
    assert artists == len(drawn) + 2  # The title and what is below it.
    texts = [s.text for s in drawn if isinstance(s, drawing.Text)]
    assert [x.text for x in paths if x.tag == 'text'] == texts
    assert [t.get_text() for t in axes.texts[2:]] == texts


def test_description_gives_the_order_and_the_numbers():
  text = panels.describe(panel(summary(1)), 'digits')
  assert 'Original images: 90.0 %' in text
  assert (
    'With 90 % removed, lowest first: oracle 10.0 %, sobel 40.0 %,'
    ' random 70.0 %, grad 80.0 %.' in text
  )
