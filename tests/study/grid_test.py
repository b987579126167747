"""Tests of a study's axes and the order of its runs."""

import dataclasses

import pytest

from roar_tf import cells, errors
from roar_tf.estimators import registry
from roar_tf.study import grid

THRESHOLDS = (10, 30, 50, 70, 90)


@pytest.fixture
def paper_estimators(monkeypatch):
  """18 names, with stand-ins for bases that are not written yet."""
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  bases = ('grad', 'gb', 'ig')
  for base in bases:
    if base not in registry.registered():
      registry.register(base)(lambda model, images, targets, keys: images)
  prefixes = ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
  ensembles = [prefix + base for base in bases for prefix in prefixes]
  return (*ensembles, 'random', 'sobel', 'sq_sg_grad')


def _study(**axes):
  defaults = {'sources': ('a',), 'estimators': ('grad', 'random')}
  return grid.Study('s', **{**defaults, **axes})


def test_the_papers_grid_has_540_cells_and_2730_runs(paper_estimators):
  study = _study(
    sources=('birdsnap', 'food101', 'imagenet2012'),
    estimators=paper_estimators,
    modes=('remove', 'keep'),
    thresholds=THRESHOLDS,
    seeds=5,
    original_seeds=10,
  )
  assert len(paper_estimators) == 18
  assert len(list(study.cells())) * len(study.sources) == 540
  runs = [run for source in study.sources for run in study.runs(source)]
  assert len(runs) == 540 * 5 + 3 * 10 == 2730
  assert len(set(map(str, runs))) == len(runs)


def test_cells_are_the_product_of_the_axes():
  study = _study(
    modes=('remove', 'keep'), granularities=('pixel', 'element'), seeds=3
  )
  found = list(study.cells())
  assert len(found) == len(set(found)) == 2 * 2 * 2 * 5
  assert len(study.runs('a')) == 3 * (40 + 1)
  for cell in found:
    assert cells.parse_cell(cell.name) == cell


def test_runs_come_cell_by_cell_original_first():
  runs = _study(thresholds=(30, 70), seeds=2).runs('a')
  assert [str(run) for run in runs] == [
    f'a/{cell}/seed_{seed}'
    for cell in (
      'original',
      'grad_pixel_remove_30',
      'grad_pixel_remove_70',
      'random_pixel_remove_30',
      'random_pixel_remove_70',
    )
    for seed in (0, 1)
  ]


def test_masks_alone_are_trained_on_once_however_many_modes_and_fills():
  study = _study(
    thresholds=(30, 70),
    modes=('keep', 'remove'),
    fills=('imagenet_mean', 'mean'),
    seeds=2,
    mask_only_seeds=3,
  )
  runs = [run for run in study.runs('a', 5) if run.input == 'maskonly']
  assert [str(run) for run in runs] == [
    f'a/{estimator}_pixel_keep_{t}_imagenet_mean_maskonly/seed_{seed}'
    for estimator in ('grad', 'random')
    for t in (30, 70)
    for seed in (5, 6, 7)
  ]
  assert all(run.trains and not run.reads_cell for run in runs)


def test_without_retraining_every_cell_is_tested_once():
  study = _study(modes=('remove', 'keep'), thresholds=(30,), deletion=True)
  runs = study.runs('a', 3)
  tests = [run for run in runs if run.input == 'deletion']
  assert [str(run) for run in tests] == [
    f'a/{cell}_deletion/seed_3'
    for cell in (
      'original',
      *(
        f'{e}_pixel_{m}_30'
        for e in ('grad', 'random')
        for m in ('remove', 'keep')
      ),
    )
  ]
  assert not any(run.trains for run in tests)
  # The numbers of the retrainings are those of the study without.
  assert runs[: -len(tests)] == _study(
    modes=('remove', 'keep'), thresholds=(30,)
  ).runs('a', 3)


@pytest.mark.parametrize(
  'axes, message',
  [
    ({'mask_only_seeds': -1}, 'mask_only_seeds must be 0 or more, found -1'),
    ({'mask_only_seeds': '2'}, "mask_only_seeds must be 0 or more, found '2'"),
    ({'deletion': 1}, 'deletion must be True or False, found 1'),
  ],
)
def test_controls_that_cannot_be_are_refused(axes, message):
  with pytest.raises(errors.UsageError, match=message):
    _study(**axes)


def test_original_may_have_more_seeds_and_seeds_an_offset():
  runs = _study(thresholds=(30,), seeds=1, original_seeds=3).runs('a', 10)
  seeds = [(run.cell_name, run.seed) for run in runs]
  assert seeds == [
    ('original', 10),
    ('original', 11),
    ('original', 12),
    ('grad_pixel_remove_30', 10),
    ('random_pixel_remove_30', 10),
  ]


def test_a_studys_random_may_be_another_control():
  axes = {'thresholds': (30,), 'estimators': ('sobel', 'random', 'grad')}
  assert _study(**axes).estimators == ('sobel', 'random', 'grad')
  study = _study(**axes, random='random_bernoulli')
  assert [cell.name for cell in study.cells()] == [
    'sobel_pixel_remove_30',
    'random_bernoulli_pixel_remove_30',
    'grad_pixel_remove_30',
  ]
  # It takes a place, it takes none that is not there, and stands there once.
  axes['estimators'] = ('sobel', 'grad')
  assert _study(**axes, random='random_bernoulli').estimators == (
    'sobel',
    'grad',
  )
  axes['estimators'] = ('random_bernoulli', 'grad', 'random')
  assert _study(**axes).estimators == axes['estimators']
  assert _study(**axes, random='random_bernoulli').estimators == (
    'random_bernoulli',
    'grad',
  )


def test_cells_of_a_ranking_stand_together():
  # The stage shards reads a ranking once for all its cells.
  study = _study(
    modes=('remove', 'keep'), granularities=('pixel', 'element'), seeds=1
  )
  rankings = [cell.ranking for cell in study.cells()]
  changes = sum(a != b for a, b in zip(rankings, rankings[1:], strict=False))
  assert changes + 1 == len(set(rankings)) == 4


@pytest.mark.parametrize(
  'axes, words',
  [
    ({'estimators': ('grad', 'random', 'grad')}, ['estimators', 'twice']),
    ({'thresholds': (30, 30)}, ['thresholds', 'twice']),
    ({'sources': ('a', 'a')}, ['sources', 'twice']),
    ({'modes': ()}, ['modes', 'empty']),
    ({'estimators': 'grad'}, ['estimators', "('grad',)"]),
    ({'thresholds': 30}, ['thresholds', '(30,)']),
    ({'estimators': ('gard',)}, ['gard', '"grad"']),
    ({'modes': ('remove', 'kep')}, ['kep', '"keep"']),
    ({'granularities': ('pixels',)}, ['pixels', '"pixel"']),
    ({'fills': ('median',)}, ['median']),
    ({'thresholds': (0,)}, ['0', 'original']),
    ({'thresholds': (10, 55.5)}, ['55.5']),
    ({'thresholds': (-1,)}, ['-1']),
    ({'thresholds': (101,)}, ['101']),
    ({'seeds': 0}, ['seeds', '0']),
    ({'seeds': 2.5}, ['seeds', '2.5']),
    ({'original_seeds': 0}, ['original_seeds', '0']),
    ({'input': 'rankings'}, ['input', 'rankings']),
    ({'random': 'sobel'}, ['Study.random', "'random_bernoulli'", 'sobel']),
  ],
)
def test_impossible_axes_are_refused_and_named(axes, words):
  with pytest.raises(errors.UsageError) as caught:
    _study(**axes)
  for word in words:
    assert word in str(caught.value)


def test_runs_of_other_seeds_and_cells_have_other_places():
  # A repetition that is found finished under another's name repeats nothing.
  study = _study(modes=('remove', 'keep'), seeds=2)
  runs = [*study.runs('a'), *study.runs('b')]
  assert len({str(run) for run in runs}) == len(runs)
  assert len({dataclasses.astuple(run) for run in runs}) == len(runs)
