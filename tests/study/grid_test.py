"""Tests of a study's axes and the order of its runs."""

import collections
import dataclasses
import math
import re

import pytest

from roar_tf import cells, config, errors
from roar_tf.analysis import paper
from roar_tf.study import experiment, grid

THRESHOLDS = (10, 30, 50, 70, 90)


def _study(**axes):
  defaults = {'sources': ('a',), 'estimators': ('grad', 'random')}
  return grid.Study('s', **{**defaults, **axes})


SMALL = ('grad', 'sq_grad', 'sg_grad', 'sg_sq_grad', 'var_grad')
PAPER = ('imagenet2012', 'food101', 'birdsnap')
# Of every study that comes along: sources, estimators, modes, seeds, seeds of
# originals, retrainings on images.
COMING_ALONG = {
  'cifar10': (('cifar10',), 7, 2, 5, 5, 7 * 10 * 5 + 5),
  'paper': (PAPER, 18, 2, 5, 10, 2730),
  **{f'paper_{name}': ((name,), 18, 2, 5, 10, 910) for name in PAPER},
}
# And how many runs those of Fashion-MNIST have.
FASHION = {
  'fashion_mnist': 481,
  'fashion_mnist_fills': 25,
  'fashion_mnist_recursive': 25,
  'fashion_mnist_points': 21,
}


def _runs(loaded):
  return [r for e in loaded for r in e.study.runs(e.source.name, e.seed)]


def test_every_study_that_comes_along_is_tested():
  others = ('paper_sequential', 'planted_colour', 'quickstart')
  names = sorted([*COMING_ALONG, *FASHION, *others])
  assert config.available('studies') == names


@pytest.mark.parametrize('name', FASHION)
def test_studies_of_fashion_mnist_share_what_they_can(name):
  (loaded,) = experiment.load(study=name)
  (first,) = experiment.load(study='fashion_mnist')
  assert loaded.source == first.source
  assert loaded.source.count('train') == 10_000
  for one in ('explained', 'retrained'):
    factory = getattr(loaded, f'{one}_model')
    assert getattr(loaded, one).settings(factory) == getattr(
      first, one
    ).settings(getattr(first, f'{one}_model'))
  runs = _runs([loaded])
  assert len(runs) == FASHION[name]
  text = ' '.join(open(config.find('studies', name)).read().split('\n#'))
  assert f'{len(runs)} runs' in ' '.join(text.split())
  assert f'roar_study --study={name} ' in text


def test_the_sequential_study_of_the_paper_has_seeds_for_every_look():
  loaded = experiment.load(study='paper_sequential')
  seeds = collections.Counter(
    r.cell_name for r in _runs(loaded) if r.source == 'food101'
  )
  assert seeds['original'] == 10
  assert seeds['random_bernoulli_element_remove_30'] == 12
  assert seeds['sg_sq_grad_element_remove_70'] == 14
  assert len(seeds) == 1 + 18 * 2


def test_quickstart_is_small():
  runs = _runs(experiment.load(study='quickstart'))
  seeds = collections.Counter(r.cell_name for r in runs if r.input == 'image')
  assert seeds['random_pixel_remove_30'] == 8
  assert seeds['var_grad_pixel_remove_30'] == 5
  assert seeds['oracle_pixel_remove_30'] == 3
  assert seeds['oracle_pixel_remove_70'] == seeds['random_pixel_remove_10'] == 1
  assert sum(seeds.values()) == 2 + 8 + 5 * 5 + 3 + 3 * 3


def test_curves_have_single_runs_at_thresholds_of_their_own():
  study = grid.Study(
    'small',
    ('tiny',),
    ('random', 'grad'),
    (50,),
    curves=('grad',),
    curve_thresholds=(10, 90),
    mask_only_seeds=1,
  )
  runs = study.runs('tiny')
  beside = [str(r) for r in runs if r.cell and r.cell.threshold != 50]
  assert beside == [
    'tiny/grad_pixel_remove_10/seed_0',
    'tiny/grad_pixel_remove_90/seed_0',
  ]
  assert len({str(r) for r in runs}) == len(runs) == 5 + 2 * 5 + 2 + 2
  # Other files may ask for other estimators and thresholds.
  other = dataclasses.replace(study, estimators=('random', 'ig'))
  assert all(run.cell.threshold == 50 for run in other.runs('tiny')[5:])
  other = dataclasses.replace(study, thresholds=(10, 90))
  assert {cell.threshold for cell in other.cells()} == {10, 90}
  assert len(list(other.cells())) == 4
  for curves, thresholds, word in (
    (('gard',), (10,), 'gard'),
    (('grad',), (), 'curve_thresholds'),
    (('grad',), (110,), '110'),
  ):
    with pytest.raises(errors.UsageError, match=word):
      grid.Study(
        'small',
        ('tiny',),
        ('random', 'grad'),
        (50,),
        curves=curves,
        curve_thresholds=thresholds,
      )


@pytest.mark.parametrize('name', COMING_ALONG)
def test_studies_that_come_along_have_the_runs_they_say(name):
  sources, estimators, modes, seeds, original_seeds, count = COMING_ALONG[name]
  loaded = experiment.load(study=name)
  assert tuple(e.source.name for e in loaded) == sources
  for study in (e.study for e in loaded):
    assert study.name == name
    assert study.sources == sources
    assert len(study.estimators) == estimators
    assert study.modes == ('remove', 'keep')[:modes]
    assert study.thresholds == THRESHOLDS
    assert study.fills == ('mean',)
    assert study.seeds == seeds
    assert (study.original_seeds or seeds) == original_seeds
    if name == 'cifar10':
      assert study.estimators == ('random', 'sobel', *SMALL)
  runs = _runs(loaded)
  assert len(set(map(str, runs))) == len(runs)
  images = [
    r for r in runs if str(r) == f'{r.source}/{r.cell_name}/seed_{r.seed}'
  ]
  assert len(images) == count
  if name.startswith('paper'):
    assert images == runs
  text = open(config.find('studies', name)).read()
  assert text.startswith(f'# {name}: ')
  assert f'#   roar_study --study={name}' in text
  header = ' '.join(text.replace('\n#', ' ').split())
  assert re.search(rf'\b{count:,} (runs|retrainings)\b', header)


def test_the_papers_study_is_the_papers():
  loaded = experiment.load(study='paper')
  study = loaded[0].study
  bases, prefixes = ('grad', 'ig', 'gb'), ('', 'sg_', 'sg_sq_', 'var_', 'sq_')
  assert study.estimators == (
    'random_bernoulli',
    'sobel',
    *(prefix + base for prefix in prefixes for base in bases),
    'sq_sg_grad',
  )
  # All rows of its Table 2 stand first, in its order.
  assert study.estimators[1:14] == tuple(paper.estimators()[1:])
  assert study.granularities == ('element',)
  assert len(list(study.cells())) * len(loaded) == 540
  runs = _runs(loaded)
  assert sum(run.cell is None for run in runs) == 30
  for each in loaded:
    # What a ranking is made for; masked datasets would take 24 TB.
    assert each.ranking.cuts == THRESHOLDS
    assert each.study.masking == 'ranking'
    assert (each.attribution.samples, each.attribution.steps) == (15, 25)
    assert each.retrained_model.name == 'resnet50'


@pytest.mark.parametrize('source', PAPER)
def test_a_third_of_the_papers_study_is_as_in_the_whole(source):
  (part,) = experiment.load(study=f'paper_{source}')
  (whole,) = experiment.load(study='paper', dataset=source)
  same = {'name': 'paper', 'sources': PAPER}
  assert dataclasses.replace(part.study, **same) == whole.study
  for part_runs, whole_runs in zip(_runs([part]), _runs([whole]), strict=True):
    assert dataclasses.replace(part_runs, study='paper') == whole_runs
  for field in ('source', 'attribution', 'ranking', 'explained', 'retrained'):
    assert getattr(part, field) == getattr(whole, field)


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
    ({'modes': ()}, ['modes', 'empty']),
    ({'estimators': 'grad'}, ['estimators', "('grad',)"]),
    ({'modes': ('remove', 'kep')}, ['kep', '"keep"']),
    ({'fills': ('median',)}, ['median']),
    ({'thresholds': (0,)}, ['0', 'original']),
    ({'thresholds': (10, 55.5)}, ['55.5']),
    ({'thresholds': (101,)}, ['101']),
    ({'seeds': 0}, ['seeds', '0']),
    ({'masking': 'rankings'}, ['masking', 'rankings']),
    ({'random': 'sobel'}, ['Study.random', "'random_bernoulli'", 'sobel']),
    ({'margin': 1}, ['Study.margin', 'less than 1', 'found 1.']),
    ({'margin': -0.01}, ['Study.margin', 'at least 0', '-0.01']),
    ({'margin': math.nan}, ['Study.margin', 'nan']),
    ({'margin': True}, ['Study.margin', 'True']),
    ({'margin': '0.01'}, ['Study.margin', "'0.01'"]),
    ({'comparisons': 0}, ['Study.comparisons', '1 or more', 'found 0.']),
    ({'comparisons': True}, ['Study.comparisons', 'found True.']),
    ({'comparisons': 2.5}, ['Study.comparisons', 'found 2.5.']),
  ],
)
def test_impossible_axes_are_refused_and_named(axes, words):
  with pytest.raises(errors.UsageError) as caught:
    _study(**axes)
  for word in words:
    assert word in str(caught.value)


def test_a_family_has_all_comparisons_of_a_study_and_room_for_more():
  axes = {
    'sources': ('a', 'b'),
    'modes': ('remove', 'keep'),
    'estimators': ('random', 'grad', 'sobel', 'blur_grad', 'centre'),
    'fills': ('mean', 'zero'),
  }
  # 2 sources, 2 modes, grad and sobel; fills and controls are no members.
  for comparisons, family in ((None, 8), (7, 8), (8, 8), (100, 100)):
    assert _study(**axes, comparisons=comparisons).family == family


@pytest.mark.parametrize(
  'name', ['', '..', '.hidden', 'a/b', 'a*', 'a[1]', 'a\nb', '\udcff', '_a']
)
def test_a_study_whose_name_is_no_folder_is_refused(name):
  with pytest.raises(errors.UsageError, match='rename the file'):
    grid.Study(name, sources=('a',), estimators=('grad',))


def test_a_study_may_be_called_as_people_call_files():
  for name in ('My-Study.v2', 'größe 7', '90%', '2024_{a}'):
    assert grid.Study(name, sources=('a',), estimators=('grad',)).name == name


@pytest.mark.parametrize('name', ['größe', 'Grad', 'my-map', 'a b', '', 'x\n'])
def test_an_estimator_that_tfds_could_not_name_is_refused(name):
  with pytest.raises(errors.UsageError, match='lower-case identifier'):
    _study(estimators=('grad', name))
