"""Tests of the recursive protocol: every retraining is explained anew."""

import json
import shutil

import numpy as np
import pytest
import scipy.stats
import tensorflow_datasets as tfds

import roar_tf
from roar_tf import errors, masking
from roar_tf.analysis import results
from roar_tf.cells import parse_cell
from roar_tf.engine import verify
from roar_tf.models import stateless
from roar_tf.study import cleaning, grid, paths, repairs, training

AXES = (
  "Study.protocol = 'recursive'",
  "Study.estimators = ('random', 'grad')",
  'Study.thresholds = (70, 30)',
  "Study.modes = ('remove', 'keep')",
  'Study.seeds = 2',
  'Study.original_seeds = 1',
  'Study.mask_only_seeds = 1',
  'Study.deletion = True',
  'Training.epochs = 1',
)
FIRST = {'remove': 30, 'keep': 70}
THEN = {'remove': 70, 'keep': 30}


@pytest.fixture(scope='module')
def whole(tiny, tmp_path_factory, work):
  """A workspace with a finished study; do not touch."""
  root = tmp_path_factory.mktemp('recursive') / 'workspace'
  pipeline = tiny.pipeline(root, *AXES)
  work(pipeline, pipeline.goals())
  return root


def _plain(root):
  return root / 'tfds/roar_tiny/ranking_grad_pixel/1.0.0'


def _own(run_of, root, mode, seed):
  """Returns the folder of the ranking of one run."""
  run = run_of(root, f'grad_pixel_{mode}_{THEN[mode]}', seed)
  return run / 'roar_tiny/ranking/1.0.0'


def _levels(folder, raw):
  """Returns the level maps of the test images, in the order of `raw`."""
  dataset = tfds.builder_from_directory(str(folder)).as_dataset('test')
  maps = {r['id']: r['levels'] for r in dataset.as_numpy_iterator()}
  return np.stack([maps[i.encode()] for i in raw['id']])


@pytest.mark.parametrize('mode', masking.MODES)
def test_each_retraining_says_what_else_goes_of_its_own_images(
  tiny, whole, raw, run_of, mode
):
  (stages,) = tiny.pipeline(whole, *AXES).stages
  mean, std = stages.context.statistics
  plain = _levels(_plain(whole), raw['test'])
  gone = np.asarray(masking.removed_by(plain, FIRST[mode], mode))
  maps = []
  for seed in (0, 1):
    own = _levels(_own(run_of, whole, mode, seed), raw['test'])
    more = np.asarray(masking.removed_by(own, THEN[mode], mode))
    assert (more >= gone).all()
    assert set(more.sum((1, 2, 3))) == {44 if mode == 'remove' else 45}
    # What is left is in the order of the gradients of that run's model.
    run = run_of(whole, f'grad_pixel_{mode}_{FIRST[mode]}', seed)
    model = stateless.assign(
      stages.train._training.trainer('retrained').build(),
      training.load_weights(str(run / 'weights.npz')),
    )
    images = roar_tf.mask(
      raw['test']['image'], plain, threshold=FIRST[mode], mode=mode, fill=mean
    )
    scaled = ((images.numpy() - mean) / std).astype(np.float32)
    scores = roar_tf.explain(model, scaled, 'grad')['grad'].numpy().sum(-1)
    agreement = [
      scipy.stats.spearmanr(-score[~mask], levels[~mask]).statistic
      for score, mask, levels in zip(
        scores, gone[..., 0], own[..., 0], strict=True
      )
    ]
    assert np.min(agreement) > 0.99
    maps.append(own)
  assert (maps[0] != maps[1]).any()


def test_artefacts_lie_where_the_workspace_says(whole, run_of):
  runs = whole / 'runs/small/tiny'
  rankings = runs.glob('*/*/roar_tiny/ranking/1.0.0/DONE')
  assert {str(path.relative_to(runs).parents[3]) for path in rankings} == {
    f'grad_pixel_{mode}_{THEN[mode]}/seed_{seed}'
    for mode in masking.MODES
    for seed in (0, 1)
  }
  # Only models that are explained keep their weights.
  weights = {path.parts[-3] for path in runs.glob('*/*/weights.npz')}
  assert weights == {f'grad_pixel_{m}_{FIRST[m]}' for m in masking.MODES}
  # No masked dataset is made for one run.
  cells = {path.name for path in (whole / 'tfds/roar_tiny').iterdir()}
  assert f'grad_pixel_remove_{FIRST["remove"]}' in cells
  assert f'grad_pixel_remove_{THEN["remove"]}' not in cells
  own = json.loads((_own(run_of, whole, 'remove', 0) / 'DONE').read_text())
  for input in ('', '_maskonly', '_deletion'):
    run = run_of(whole, f'grad_pixel_remove_70{input}')
    made = json.loads((run / 'DONE').read_text())['fingerprint']['inputs']
    assert made['ranking'] == own['seal']


def test_results_say_which_protocol_it_was(whole):
  frame = results.read_csv(str(whole / 'reports/small/results.csv'))
  assert list(frame.columns[-2:]) == ['protocol', 'look']
  assert set(frame['protocol']) == {'recursive'} and set(frame['look']) == {0}
  page = (whole / 'reports/small/index.html').read_text()
  assert 'every retrained model is explained anew' in page


def test_a_ranking_that_was_stopped_goes_on_to_the_same_bytes(
  tiny, whole, work, run_of, artefacts, tmp_path
):
  root = tmp_path / 'workspace'
  pipeline = tiny.pipeline(root, *AXES)
  own = _own(run_of, root, 'remove', 1)
  for lost in (False, True):
    if lost:  # A shard of it, and all that came after.
      for path in (
        own / 'DONE',
        *own.glob('*test*00001*'),
        *own.glob('*.json'),
      ):
        path.unlink()
      (run_of(root, 'grad_pixel_remove_70', 1) / 'DONE').unlink()
    chosen = [
      run
      for run in pipeline.runs
      if (run.cell_name, run.seed) == ('grad_pixel_remove_70', 1)
    ]
    train = pipeline.stages[0].train
    work(pipeline, [train.artefact(run) for run in chosen], parallel=2)
    found, expected = artefacts(root), artefacts(whole)
    assert any('roar_tiny/ranking' in name for name in found)
    assert found == {name: expected[name] for name in found}


def test_verify_and_remake_know_the_rankings_of_runs(
  tiny, whole, run_of, flip, tmp_path
):
  root = shutil.copytree(whole, tmp_path / 'mine')
  workspace = paths.Workspace(str(root))
  (shard,) = _own(run_of, root, 'keep', 1).glob(
    '*-test.tfrecord-00000-of-0000?'
  )
  flip(shard)
  folders = repairs.folders(workspace)
  damages = verify.verify(folders, layout=repairs.LAYOUT).damages
  assert [damage.path for damage in damages] == [str(shard)]
  assert '--study=small' in repairs.command(workspace, damages)
  pipeline = tiny.pipeline(root, *AXES)
  cleaning.remake(pipeline, ['rerank'])
  assert not list(root.glob('runs/**/ranking'))
  assert not (run_of(root, 'grad_pixel_remove_70') / 'DONE').exists()
  assert (run_of(root, 'grad_pixel_remove_30') / 'DONE').exists()


@pytest.mark.parametrize(
  'name, word',
  [
    ('shuffle_grad', '"shuffle_grad" does not ask it'),
    ('untrained_sg_grad', '"untrained_sg_grad" does not ask it'),
    ('from_files', 'Unknown estimator'),
  ],
)
def test_what_cannot_be_explained_anew_is_refused(name, word):
  with pytest.raises(errors.UsageError) as caught:
    grid.Study('s', ('a',), ('random', name), protocol='recursive')
  assert word in str(caught.value)


def test_only_estimators_that_ask_a_model_are_asked_again():
  study = grid.Study(
    's',
    ('a',),
    ('random', 'sobel', 'oracle', 'oracle_30', 'shuffle_oracle', 'max_sg_grad'),
    (90, 30, 50),
    modes=('remove', 'keep'),
    curves=('max_sg_grad', 'sobel'),
    curve_thresholds=(10, 70, 95),
    protocol='recursive',
  )
  before = {
    cell.name: study.before(cell).name
    for cell in study.cells()
    if study.before(cell)
  }
  name = 'max_sg_grad_pixel'
  assert before == {
    **{
      f'{name}_remove_{t}': f'{name}_remove_{b}'
      for t, b in ((50, 30), (90, 50), (70, 50), (95, 90))
    },
    **{
      f'{name}_keep_{t}': f'{name}_keep_{b}'
      for t, b in ((50, 90), (30, 50), (70, 90), (10, 30))
    },
  }
  assert parse_cell(f'{name}_remove_50').name in before
