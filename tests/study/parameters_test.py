"""Tests of the index of gin parameters."""

import dataclasses

import pytest

from roar_tf import errors
from roar_tf.study import grid, parameters
from roar_tf.training.settings import Training


def test_every_parameter_has_a_type_a_default_and_a_meaning():
  found = parameters.parameters()
  assert len({each.name for each in found}) == len(found) >= 71
  for each in found:
    assert each.doc and each.type and each.default, each.name
    assert 'likewise' not in each.doc.lower(), each.name
    assert len(each.text(whole=False).splitlines()) == 2
    assert max(map(len, each.text(whole=True).splitlines())) <= 80
    # What `roar_tf params` prints first tells them apart.
    assert each.text(whole=False).startswith(f'{each.name}: ')


def test_the_index_is_what_the_code_says():
  by_name = {each.name: each for each in parameters.parameters()}
  seeds = by_name['Study.seeds']
  assert (seeds.type, seeds.default) == ('int', '5')
  assert seeds.doc == 'retrainings of every cell in the fixed design.'
  assert by_name['Study.estimators'].default == 'required'
  assert by_name['Study.modes'].type == 'tuple[str, ...]'
  assert by_name['resnet.depth'].type == 'int'  # It has no annotation.
  for label, cls in (('Study', grid.Study), ('Training', Training)):
    names = {field.name for field in dataclasses.fields(cls)} - {'name'}
    assert {n for n in by_name if n.startswith(f'{label}.')} == {
      f'{label}.{name}' for name in names
    }
  assert 'Study.name' not in by_name  # The name of a file.
  assert not any(name.startswith('gin.') for name in by_name)


def test_parameters_are_found_by_name_part_or_owner():
  def names(*wanted):
    return [each.name for each in parameters.find(wanted)]

  assert names() == [each.name for each in parameters.parameters()]
  assert names('Study.seeds') == names('study.SEEDS') == ['Study.seeds']
  assert names('depth', 'Study.seeds') == ['resnet.depth', 'Study.seeds']
  assert set(names('Ranking')) == {'Ranking.ties', 'Ranking.cuts'}
  with pytest.raises(
    errors.UsageError, match=r'no gin parameter sedes.*"seeds'
  ):
    names('sedes')
