"""Tests of studies over several explained models."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from roar_tf import cells, errors
from roar_tf.analysis import results
from roar_tf.engine import verify
from roar_tf.study import (
  cleaning,
  grid,
  masked_on_demand,
  paths,
  rank,
  repairs,
  report,
)

SOME = ('random', 'sobel', 'grad', 'untrained_grad', 'shuffle_grad')


def _axes(names, models, seeds=3):
  return (
    f'Study.estimators = {tuple(names)!r}',
    'Study.thresholds = (30,)',
    f'Study.seeds = {seeds}',
    f'Study.explained_models = {models}',
  )


TWO = (
  *_axes(('random', 'grad'), 2),
  'Study.mask_only_seeds = 2',
  'Study.deletion = True',
  'Training.epochs = 1',
)


@pytest.fixture(scope='module')
def whole(tiny, tmp_path_factory, work):
  """A workspace with a finished study over two models; do not touch."""
  root = tmp_path_factory.mktemp('models') / 'workspace'
  pipeline = tiny.pipeline(root, *TWO)
  work(pipeline, pipeline.goals())
  return root


@pytest.fixture
def mine(whole, tmp_path):
  """A copy of the finished workspace."""
  return shutil.copytree(
    whole, tmp_path / 'mine', ignore=shutil.ignore_patterns('status')
  )


def _done(folder):
  return json.loads((folder / 'DONE').read_text())


def _weights(folder):
  with np.load(folder / 'weights.npz') as arrays:
    return dict(arrays)


# --- which run is made from what ---------------------------------------------


def test_one_model_has_the_names_and_settings_that_it_always_had(
  tiny, finished
):
  pipeline = tiny.pipeline(finished, *_axes(SOME, 1))
  (stages,) = pipeline.stages
  model = stages.model.explained()
  assert model.marker == f'{finished}/models/tiny/DONE'
  explained = stages.context.experiment.explained
  factory = stages.context.experiment.explained_model
  assert model.settings == {**explained.settings(factory), 'seed': 0}
  for run in pipeline.runs:
    assert '_model' not in str(run)
    if run.cell:
      ranking = stages.train.artefact(run).inputs['ranking']
      assert ranking.config == f'ranking_{run.cell.estimator}_pixel'
      assert not {'model', 'explained seed'} & set(ranking.settings)
  assert not [p for p in finished.rglob('*') if '_model' in p.name]


@pytest.mark.parametrize('models', [1, 2, 3, 5])
def test_seed_j_explains_with_model_j_mod_k(models):
  study = grid.Study(
    's',
    ('a',),
    (*SOME, 'blur_sg_grad', 'oracle_30', 'centre', 'from_files'),
    (30,),
    fills=('mean', 'zero'),
    curves=('grad',),
    curve_thresholds=(10,),
    seeds=3,
    explained_models=models,
    mask_only_seeds=2,
    deletion=True,
  )
  runs = study.runs('a', 7)
  asking = {'grad', 'untrained_grad', 'shuffle_grad', 'blur_sg_grad'}
  for run in runs:
    asks = run.cell is not None and run.cell.estimator in asking
    trained = run.input != 'deletion'
    number = (run.seed - 7) % models if asks and trained else 0
    assert run.columns['explained_seed'] == 7 + number
    assert run.cell_name.endswith(f'_model{number}') == bool(number)
  alone = dataclasses.replace(study, explained_models=1).runs('a', 7)
  assert [(r.input, r.seed) for r in runs] == [(r.input, r.seed) for r in alone]
  names = {str(run) for run in runs}
  assert ('a/grad_pixel_remove_30_zero_model1/seed_8' in names) == (models > 1)
  last = 'a/shuffle_grad_pixel_remove_30_model2/seed_9'
  assert (last in names) == (models > 2)
  assert 'a/grad_pixel_remove_10/seed_7' in names


def test_rankings_of_a_model_are_made_from_it_alone(tiny, tmp_path):
  pipeline = tiny.pipeline(tmp_path, *_axes(SOME, 2))
  (stages,) = pipeline.stages
  rankings = {
    (run.cell.estimator, run.seed): stages.train.artefact(run).inputs['ranking']
    for run in pipeline.runs
    if run.cell
  }
  configs = {key: ranking.config for key, ranking in rankings.items()}
  for name in SOME:
    other = '' if name in ('random', 'sobel') else '_model1'
    assert [configs[name, seed] for seed in range(3)] == [
      f'ranking_{name}_pixel{suffix}' for suffix in ('', other, '')
    ]
  model = rankings['grad', 1].inputs['explained model']
  assert model.marker == f'{tmp_path}/models/tiny_model1/DONE'
  shuffled = rankings['shuffle_grad', 1].inputs['ranking']
  assert shuffled is rankings['grad', 1]
  first, second = (rankings['untrained_grad', n].settings for n in (0, 1))
  assert dict(second) == {**first, 'explained seed': 1}
  # Model k of a study is that with which a study of seed k begins.
  (later,) = tiny.pipeline(tmp_path, *_axes(SOME, 1), seed=1).stages
  assert later.model.explained().settings == model.settings


def test_another_model_starts_from_other_weights(tiny, whole):
  model = tiny.pipeline(whole, *TWO).stages[0].model
  loaded = [model.load(0), model.load(1)]  # Both stay what they are.
  loaded += [model.load_untrained(0), model.load_untrained(1)]
  kernels = [np.asarray(one.trainable_variables[0]) for one in loaded]
  for folder, kernel in zip(('tiny', 'tiny_model1'), kernels, strict=False):
    saved = _weights(whole / 'models' / folder)['trainable_00000']
    np.testing.assert_array_equal(kernel, saved)
  for i, kernel in enumerate(kernels):
    assert all(np.abs(kernel - other).max() > 0 for other in kernels[:i])


# --- a finished study --------------------------------------------------------


def test_artefacts_lie_where_the_workspace_says(whole, run_of):
  names = {path.name for path in (whole / 'models').iterdir()}
  assert names == {'tiny', 'tiny_model1'}
  grad = ('grad_pixel_remove_30', 'grad_pixel_remove_30_model1')
  datasets = {path.name for path in (whole / 'tfds/roar_tiny').iterdir()}
  assert datasets == {
    *('original', 'random_pixel_remove_30', *grad),
    *('ranking_random_pixel', 'ranking_grad_pixel'),
    'ranking_grad_pixel_model1',
  }
  seeds = {
    path.name: sorted(seed.name for seed in path.iterdir())
    for path in (whole / 'runs/small/tiny').iterdir()
  }
  assert seeds == {
    'original': ['seed_0', 'seed_1', 'seed_2'],
    'random_pixel_remove_30': ['seed_0', 'seed_1', 'seed_2'],
    'random_pixel_remove_30_maskonly': ['seed_0', 'seed_1'],
    grad[0]: ['seed_0', 'seed_2'],
    grad[1]: ['seed_1'],
    f'{grad[0]}_maskonly': ['seed_0'],
    f'{grad[1]}_maskonly': ['seed_1'],
    'original_deletion': ['seed_0'],
    'random_pixel_remove_30_deletion': ['seed_0'],
    f'{grad[0]}_deletion': ['seed_0'],
  }
  for cell, seed, config in (
    (grad[0], 2, 'ranking_grad_pixel'),
    (grad[1], 1, 'ranking_grad_pixel_model1'),
  ):
    ranking = _done(whole / 'tfds/roar_tiny' / config / '1.0.0')
    run = _done(run_of(whole, cell, seed))
    assert run['fingerprint']['inputs']['ranking'] == ranking['seal']


def test_results_and_report_tell_the_model_of_each_run(whole):
  folder = whole / 'reports/small'
  frame = results.read_csv(str(folder / 'results.csv'))
  told = frame.groupby(['estimator', 'input'])['explained_seed'].apply(list)
  assert told['grad', 'image'] == [0, 1, 0]
  assert told['grad', 'maskonly'] == [0, 1] and told['grad', 'deletion'] == [0]
  assert set(frame[frame['estimator'] != 'grad']['explained_seed']) == {0}
  # One curve, whatever its models, and no interval of two.
  table = pd.read_csv(folder / 'statistics.csv', keep_default_na=False)
  leads = table[(table['quantity'] == 'lead') & (table['input'] == 'image')]
  assert list(leads['runs']) == ['3'] and list(leads['low']) == ['']
  page = (folder / 'index.html').read_text()
  assert 'tiny: explained model 1' in page
  assert 'over 2 explained models' in page
  assert 'share 2 explained models' in page


def test_what_was_lost_of_one_model_is_made_again_alone(
  tiny, whole, mine, make, artefacts, assert_same
):
  lost = mine / 'models/tiny_model1/DONE'
  lost.unlink()
  for path in (mine / 'tfds/roar_tiny').glob('ranking_grad_pixel_model1/*/*'):
    if path.name.endswith('DONE'):
      path.unlink()
  shutil.rmtree(mine / 'runs/small/tiny/grad_pixel_remove_30_model1')
  made = make(tiny.pipeline(mine, *TWO)).made
  assert made['model'] == 1 and made['train'] == 1 and 'source' not in made
  assert_same(artefacts(mine), artefacts(whole))


def test_remaking_an_estimator_deletes_its_rankings_of_all_models(tiny, mine):
  text = cleaning.remake(tiny.pipeline(mine, *TWO), ['grad'])
  for name in ('ranking_grad_pixel', 'ranking_grad_pixel_model1'):
    assert f'tfds/roar_tiny/{name}/' in text
    assert not (mine / 'tfds/roar_tiny' / name / '1.0.0').exists()
  assert (mine / 'tfds/roar_tiny/ranking_random_pixel/1.0.0/DONE').exists()


def test_a_damaged_model_is_repaired_by_its_number(tool, tiny, mine, flip):
  path = mine / 'models/tiny_model1/weights.npz'
  before = path.read_bytes()
  flip(path)
  workspace = paths.Workspace(str(mine))
  folders = repairs.folders(workspace, 'tiny')
  damages = verify.verify(folders, layout=repairs.LAYOUT).damages
  assert [damage.path for damage in damages] == [str(path)]
  assert '--dataset=tiny --model=1' in repairs.command(workspace, damages)
  # What the flags of a dataset alone configure are other epochs.
  again = tool(
    'roar_shards',
    '--repair',
    f'--dataset={tiny.dataset}',
    '--model=1',
    '--gin_bindings=Training.epochs=1',
    *tiny.flags(mine),
  )
  assert again.status == 0, again.err
  assert path.read_bytes() == before


def test_commands_name_the_model_of_a_run(tool, tiny, mine):
  pipeline = tiny.pipeline(mine, *TWO)
  (run,) = [r for r in pipeline.runs if str(r).endswith('_model1/seed_1')]
  command = report.run_command(pipeline.context, run)
  assert '--cell=grad_pixel_remove_30_model1' in command
  made = tool('roar_train', *_flags(tiny, mine, run))
  assert made.status == 0, made.err
  assert made.counts()['train'] == (0, 1, 0)
  listed = tool('roar_study', *_study_flags(tiny, mine), '--list')
  assert '--cell=grad_pixel_remove_30_model1' in listed.out


def _study_flags(tiny, root):
  bindings = [f'--gin_bindings={binding}' for binding in TWO]
  return [f'--study={tiny.study}', *bindings, *tiny.flags(root)]


def _flags(tiny, root, run):
  return [
    *_study_flags(tiny, root),
    f'--dataset={tiny.dataset}',
    f'--cell={run.cell_name}',
    f'--seed={run.seed}',
  ]


def test_a_dry_run_counts_every_model(tool, tiny, tmp_path):
  dry = tool('roar_study', *_study_flags(tiny, tmp_path / 'w'), '--dry_run')
  assert dry.status == 0, dry.err
  numbers = {
    line.rsplit(None, 1)[0].strip(): line.split()[-1]
    for line in dry.out.splitlines()
    if line.split()
  }
  assert numbers['trainings'] == str(3 + 3 + 3 + 2 * 2 + 2)
  assert numbers['gradient evaluations'] == str(2 * 180)


# --- cells of another model --------------------------------------------------


def test_tfds_makes_a_cell_of_another_model(mine, whole):
  import tensorflow_datasets as tfds

  import roar_tf.datasets  # noqa: F401

  name = 'grad_pixel_remove_30_model1'
  folder = mine / 'tfds/roar_tiny' / name
  shutil.rmtree(folder)
  found = tfds.load(
    f'roar_tiny/{name}', split='test', data_dir=str(mine / 'tfds')
  )
  assert len(found) == 60
  for path in (whole / 'tfds/roar_tiny' / name).rglob('*.tfrecord-*-of-*'):
    if not path.name.endswith('DONE'):
      again = folder / path.relative_to(whole / 'tfds/roar_tiny' / name)
      assert again.read_bytes() == path.read_bytes()
  ranking = tfds.builder(
    'roar_tiny/ranking_grad_pixel_model2', data_dir=str(mine / 'tfds')
  )
  with pytest.raises(errors.MissingInputsError, match='roar_rank .*--model=2'):
    ranking.download_and_prepare()


def test_a_ranking_that_is_missing_is_named_with_its_model(whole):
  workspace = paths.Workspace(str(whole))
  with pytest.raises(errors.MissingInputsError) as caught:
    masked_on_demand.make(workspace, 'tiny', 'grad_pixel_remove_50_model2')
  command = '--estimators=grad --granularity=pixel --model=2'
  assert command in str(caught.value)
  with pytest.raises(errors.MissingInputsError, match='--model=2'):
    config = rank.config_name('grad', 'pixel', 2)
    masked_on_demand.require(workspace, 'tiny', config)


def test_tools_make_rankings_and_cells_of_one_model(tool, tiny, mine):
  for name in ('roar_rank', 'roar_shards'):
    flag = 'estimators' if name == 'roar_rank' else 'estimator'
    more = [] if name == 'roar_rank' else ['--threshold=50']
    outcome = tool(
      name,
      f'--dataset={tiny.dataset}',
      f'--{flag}=grad',
      '--model=1',
      '--gin_bindings=Training.epochs=1',
      *(*more, *tiny.flags(mine)),
    )
    assert outcome.status == 0, outcome.err
  made = mine / 'tfds/roar_tiny/grad_pixel_remove_50_model1/1.0.0/DONE'
  assert made.exists()


# --- refusals ----------------------------------------------------------------


def test_a_given_model_is_the_only_one(tiny, tmp_path, refused):
  given = (
    "ExplainedModel.file = 'm.keras'",
    "ExplainedModel.input = '0..1'",
  )
  with pytest.raises(errors.UsageError, match='explained_models = 2.*m.keras'):
    tiny.pipeline(tmp_path / 'w', *TWO, *given)
  flags = [f'--gin_bindings={binding}' for binding in given]
  refused(
    'roar_rank',
    [f'--dataset={tiny.dataset}', '--estimators=grad', '--model=1', *flags],
    ['m.keras', 'no model 1'],
  )


@pytest.mark.parametrize('value', [0, -1, 1.5, "'2'"])
def test_a_number_of_models_that_cannot_be_is_refused(value, tiny, tmp_path):
  with pytest.raises(errors.UsageError, match='Study.explained_models'):
    tiny.pipeline(tmp_path, f'Study.explained_models = {value}')


@pytest.mark.parametrize(
  'name', ['random', 'sobel', 'centre', 'shuffle_centre']
)
def test_what_asks_no_model_has_no_ranking_of_another(name, tiny, refused):
  dataset = f'--dataset={tiny.dataset}'
  words = [f'"{name}" asks no model', 'model 1']
  for tool, flags in (
    ('roar_rank', [f'--estimators={name}', '--model=1']),
    ('roar_shards', [f'--estimator={name}', '--threshold=30', '--model=1']),
    ('roar_train', [f'--cell={name}_pixel_remove_30_model1']),
  ):
    refused(tool, [dataset, *flags], words)


def test_scores_made_elsewhere_have_no_model_here(tiny, tmp_path, refused):
  flags = [f'--dataset={tiny.dataset}', '--estimators=theirs']
  flags += [f'--scores={tmp_path}', '--model=1']
  refused('roar_rank', flags, ['--model=1', 'scores made elsewhere'])


def test_a_look_is_bound_to_the_number_of_models(tiny, tmp_path):
  axes = ("Study.design = 'sequential'", 'Study.looks = (3, 4)')
  axes += ('Study.spending = (0.5, 0.5)', 'Study.masking = "ranking"')
  first, other = (
    tiny.pipeline(tmp_path, *axes, f'Study.explained_models = {models}')
    for models in (1, 4)
  )
  key = 'Study.explained_models'
  assert key not in first.looks.artefact(1).settings
  assert other.looks.artefact(1).settings[key] == 4
  # A look adds a model; a comparison is over all of them.
  due = set(other.looks.due())
  new = {str(run) for run in other.runs if run not in due}
  assert new == {f'tiny/grad_pixel_remove_{t}_model3/seed_3' for t in (30, 70)}
  families = [p.study.family for p in (other, first)]
  assert families == [1, 1]


def test_a_source_cannot_be_called_like_a_model_of_another(tiny, tmp_path):
  path = tmp_path / 'tiny_model1.gin'
  shutil.copy(tiny.dataset, path)
  with pytest.raises(errors.UsageError, match='"tiny_model1"'):
    tiny.pipeline(tmp_path / 'w', f"Study.sources = ('{path}',)")


@pytest.mark.parametrize('fill', cells.FILLS)
@pytest.mark.parametrize('model', [0, 1, 12])
def test_names_of_cells_parse_back(fill, model):
  for estimator in ('grad', 'model1', 'my_model2', 'x_pixel_keep_5_model3'):
    cell = cells.Cell(estimator, 'element', 'keep', 30, fill, model)
    assert cells.parse_cell(cell.name) == cell
    name = f'ranking_{cell.ranking}'
    assert name == rank.config_name(estimator, 'element', model)


@pytest.mark.parametrize('end', ['model0', 'model01', 'model', 'model1_zero'])
def test_a_model_is_numbered_in_one_way(end):
  with pytest.raises(errors.UsageError, match=f'"{end}"'):
    cells.parse_cell(f'grad_pixel_remove_30_{end}')
