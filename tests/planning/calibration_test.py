"""Tests of roar_tf.planning.calibration: what is measured, and when."""

import pytest

from roar_tf import errors
from roar_tf.estimators import registry
from roar_tf.planning import calibration


def test_sources_that_differ_in_counts_are_measured_once(tiny, tmp_path):
  (work,) = tiny.works(tmp_path)
  (more,) = tiny.works(
    tmp_path, 'Source.train_images = 999', 'Training.epochs = 3'
  )
  (wider,) = tiny.works(tmp_path, 'small_resnet.width = 5')
  (streamed,) = tiny.works(tmp_path, 'Source.train_images = 99999999')
  assert calibration.alike(work) == calibration.alike(more)
  assert calibration.alike(work) != calibration.alike(wider)
  assert calibration.alike(work) != calibration.alike(streamed)


def test_an_estimator_that_raises_is_named(tiny, tmp_path, monkeypatch):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))

  @registry.register('broken')
  def broken(model, images, targets, keys):
    raise KeyError('oh')

  works = tiny.works(tmp_path / 'w', "Study.estimators = ('broken',)")
  with pytest.raises(errors.UsageError, match='broken.*oh.*--rates=none') as e:
    calibration.measure(works, 1)
  assert '\n' not in str(e.value)
  assert not (tmp_path / 'w').exists()
