"""Tests of the names of cells."""

import itertools

import pytest

from roar_tf import cells, errors
from roar_tf.estimators import registry


@pytest.fixture
def odd_names(monkeypatch):
  """Registered estimators whose names look like parts of a cell's."""
  names = ['my_map', 'a_pixel_remove_5', 'keep', 'pixel_keep', 'remove_10']
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  for name in names:
    registry.register(name)(lambda model, images, targets, keys: images)
  return names


def test_names_are_parsed_from_the_right(odd_names, monkeypatch):
  monkeypatch.setattr(cells, 'FILLS', ('mean', 'noisy_linear', 'zero'))
  estimators = ['random', 'sq_sg_grad', *odd_names, 'sg_my_map']
  seen = set()
  for axes in itertools.product(
    estimators,
    ('pixel', 'element'),
    ('remove', 'keep'),
    (1, 9, 10, 90, 100),
    ('mean', 'noisy_linear', 'zero'),
  ):
    cell = cells.Cell(*axes)
    assert cells.parse_cell(cell.name) == cell
    seen.add(cell.name)
  assert len(seen) == len(estimators) * 2 * 2 * 5 * 3


def test_every_fill_parses_back():
  for fill in cells.FILLS:
    cell = cells.Cell('sg_sq_grad', 'element', 'keep', 90, fill)
    assert cells.parse_cell(cell.name) == cell
    suffix = '' if fill == 'mean' else f'_{fill}'
    assert cell.name == f'sg_sq_grad_element_keep_90{suffix}'


def test_original_is_no_modified_cell():
  assert cells.parse_cell(cells.ORIGINAL) is None


def test_a_threshold_is_written_as_a_whole_number():
  # gin reads Study.thresholds = (30.0,) as floats.
  cell = cells.Cell('grad', 'pixel', 'remove', 30.0)
  assert cell.name == 'grad_pixel_remove_30'


@pytest.mark.parametrize('threshold', [0, 101, 55.5, 'ten', None, True])
def test_impossible_thresholds_are_refused(threshold):
  with pytest.raises(errors.UsageError, match=str(threshold)):
    cells.Cell('grad', 'pixel', 'remove', threshold)


@pytest.mark.parametrize(
  'name, words',
  [
    ('grad_pixels_remove_30', '--cell'),
    ('grad_pixel_drop_30', '--cell'),
    ('grad_pixel_remove_', '--cell'),
    ('grad_pixel_remove_5.5', '--cell'),
    ('_pixel_remove_5', '--cell'),
    ('originals', '--cell'),
    ('grad_pixel_remove_0', 'original'),
    ('grad_pixel_remove_30_maen', '"mean"'),
    ('sg-grad_pixel_remove_30', 'identifier'),
    ('Grad_pixel_remove_30', 'lower-case identifier'),
    ('original_pixel_remove_30', 'identifier'),
  ],
)
def test_impossible_names_are_refused(name, words):
  with pytest.raises(errors.UsageError, match=words):
    cells.parse_cell(name)


def test_unknown_parts_get_the_nearest_as_a_suggestion():
  for axes, suggestion in (
    (('grad', 'pixle', 'remove', 30), '"pixel"'),
    (('grad', 'pixel', 'remov', 30), '"remove"'),
  ):
    with pytest.raises(errors.UsageError, match=suggestion):
      cells.Cell(*axes)


def test_an_estimator_need_not_be_registered():
  # A workspace may hold rankings of that name.
  for name in ('captum_ig', '_', 'ranking_x', 'a_pixel_keep_5_zero'):
    for fill in cells.FILLS:
      cell = cells.Cell(name, 'pixel', 'remove', 30, fill)
      assert cells.parse_cell(cell.name) == cell


def test_no_estimator_can_take_the_name_of_the_unmodified_images(monkeypatch):
  # Its cells would be written over the dataset `original`.
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  with pytest.raises(errors.UsageError):
    registry.register(cells.ORIGINAL)(
      lambda model, images, targets, keys: images
    )
    cells.Cell(cells.ORIGINAL, 'pixel', 'remove', 30)
