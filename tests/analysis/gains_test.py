"""Tests of the small charts of gains over random."""

import numpy as np
import pytest
import synthetic

from roar_tf.analysis import drawing, gains, results, verdict


@pytest.fixture(scope='module')
def study():
  """A study of both modes with masks, and its charts of each mode."""
  frame = synthetic.frame(modes=('remove', 'keep'), maskonly=3)
  evidence, judged = synthetic.judged(frame, {'digits': 0.01})
  charts = {
    mode: gains.charts(evidence, verdict.of(judged, 'digits', mode))
    for mode in ('remove', 'keep')
  }
  return frame, charts


def _mean(frame, estimator, mode, threshold, input='image'):
  rows = results.where(
    *(frame,),
    estimator=estimator,
    mode=mode,
    threshold=threshold,
    input=input,
  )
  return rows['accuracy'].mean()


@pytest.mark.parametrize('mode, sign', [('remove', 1), ('keep', -1)])
def test_above_the_line_is_better_in_both_modes(study, mode, sign):
  frame, charts = study
  by_name = {chart.label: chart for chart in charts[mode]}
  assert set(by_name) == {'sobel', 'grad', 'sg_sq_grad'}
  order = sorted(synthetic.THRESHOLDS, reverse=mode == 'keep')
  for name, chart in by_name.items():
    assert [gain.threshold for gain in chart.gains] == order
    for gain in chart.gains:
      random, own = (
        _mean(frame, one, mode, gain.threshold) for one in ('random', name)
      )
      assert gain.value == pytest.approx(100 * sign * (random - own))
      assert gain.low < gain.value < gain.high


def test_masks_tell_the_most_that_can_be_gained(study):
  frame, charts = study
  (chart,) = [c for c in charts['remove'] if c.label == 'grad']
  for gain in chart.gains:
    random = _mean(frame, 'random', 'remove', gain.threshold)
    masks = [
      _mean(frame, name, 'remove', gain.threshold, 'maskonly')
      for name in ('random', 'grad')
    ]
    assert gain.most == pytest.approx(100 * (random - max(masks)))
  assert all(np.isnan(g.most) for c in charts['keep'] for g in c.gains)


def test_charts_of_a_mode_share_one_scale_and_stay_inside(study):
  _, charts = study
  for some in charts.values():
    assert len({chart.span for chart in some}) == 1
    for chart in some:
      shapes = list(gains.shapes(chart))
      points = [
        p for s in shapes if isinstance(s, drawing.Path) for p in s.points
      ]
      points += [(s.x, s.y) for s in shapes if isinstance(s, drawing.Mark)]
      x, y = np.array(points).T
      assert (x >= 0).all() and (x <= gains.WIDTH).all()
      assert (y >= 0).all() and (y <= gains.HEIGHT).all()
      assert sum(isinstance(s, drawing.Mark) for s in shapes) == 5
      roles = {s.role for s in shapes if isinstance(s, drawing.Path)}
      assert roles >= {'zero', 'band', 'curve'}
      assert ('beyond' in roles) == (chart.mode == 'remove')


def test_a_single_point_makes_no_chart():
  frame = synthetic.frame()
  frame = frame[frame['threshold'].isin([0, 50])]
  evidence, judged = synthetic.judged(frame)
  assert gains.charts(evidence, judged) == []
