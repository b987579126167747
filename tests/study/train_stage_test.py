"""Tests of runs that are no retrainings on masked images."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from roar_tf import cells, errors, masking
from roar_tf.analysis import results
from roar_tf.estimators import registry
from roar_tf.study import grid, model_stage, pipeline, trainings
from roar_tf.training import order

CONTROLS = ('Study.mask_only_seeds = 1', 'Study.deletion = True')


def _directory(root, folder, seed=0):
  return root / f'runs/small/tiny/{folder}/seed_{seed}'


def _predictions(directory):
  with np.load(directory / 'test_predictions.npz') as data:
    return dict(data)


@pytest.fixture(scope='module')
def controlled(tiny, finished, tmp_path_factory):
  """The finished workspace with masks alone and deletion in the study."""
  root = tmp_path_factory.mktemp('controlled') / 'workspace'
  shutil.copytree(finished, root)
  pipeline.run(tiny.works(root, *CONTROLS), pipeline.STAGES)
  return root


def test_controls_leave_retrainings_alone(finished, controlled, artefacts):
  before, after = artefacts(finished), artefacts(controlled)
  runs = [n for n in before if n.startswith(('runs/', 'tfds/', 'models/'))]
  assert [n for n in runs if after[n] != before[n]] == []
  added = {n.split('/')[3] for n in after if n.startswith('runs/')}
  added -= {n.split('/')[3] for n in before if n.startswith('runs/')}
  names = [
    f'{e}_pixel_remove_{t}' for e in ('random', 'grad') for t in (30, 70)
  ]
  assert added == {
    'original_deletion',
    *(f'{name}_{kind}' for name in names for kind in ('maskonly', 'deletion')),
  }


def test_controls_are_rows_of_the_results(controlled):
  frame = results.read_csv(str(controlled / 'reports/small/results.csv'))
  assert frame['input'].value_counts().to_dict() == {
    'image': 10,
    'deletion': 5,
    'maskonly': 4,
  }
  assert set(frame[frame['input'] == 'deletion']['steps']) == {0}
  masks = frame[frame['input'] == 'maskonly']
  trained = frame[frame['input'] == 'image']
  assert set(masks['steps']) == set(trained['steps'])
  page = (controlled / 'reports/small/index.html').read_text()
  assert 'lacks seed' not in page and 'not listed by the study' not in page


def test_without_masks_deletion_is_the_explained_models_test(controlled):
  model = json.loads((controlled / 'models/tiny/result.json').read_text())
  result = json.loads(
    (_directory(controlled, 'original_deletion') / 'result.json').read_text()
  )
  assert result == {**model, 'steps': 0}


@pytest.mark.parametrize(
  'name', ['grad_pixel_remove_70', 'random_pixel_remove_30']
)
def test_deletion_is_the_explained_model_on_masked_images(
  tiny, controlled, name
):
  (work,) = tiny.works(controlled)
  cell = cells.parse_cell(name)
  data = trainings.examples_of(work.context, cell, 'ranking')['test']
  model = model_stage.explained_model(work.context)
  images = tf.cast(np.asarray(data.images), tf.float32)
  logits = model(model_stage.scaling(work.context)(images), training=False)
  found = _predictions(_directory(controlled, f'{name}_deletion'))
  # Up to rounding: two classes may be nearly as likely.
  predicted = tf.gather(logits, found['predictions'], batch_dims=1)
  np.testing.assert_allclose(predicted, np.max(logits, -1), atol=1e-4)
  np.testing.assert_array_equal(found['ids'].astype(str), data.ids.astype(str))


@pytest.mark.parametrize('bound', [1 << 32, 0])
def test_masks_alone_show_where_but_not_what(
  tiny, controlled, monkeypatch, bound
):
  """From memory and from files: 255 where the image stays, 0 elsewhere."""
  monkeypatch.setattr(trainings.examples, 'MEMORY_BOUND', bound)
  (work,) = tiny.works(controlled)
  cell = cells.parse_cell('grad_pixel_keep_30')
  found = trainings.examples_of(work.context, cell, 'shards', 'maskonly')[
    'test'
  ]
  batch = next(iter(found.test_batches(order.Share(60))))
  ranked = np.concatenate(
    [
      b['levels']
      for part in work.context.all_shards('test')
      for b in work.context.batches(
        'ranking_grad_pixel',
        trainings.ranking_layout(work.context.experiment.source, 'pixel'),
        *part,
        64,
      )
    ]
  )
  expected = np.broadcast_to(np.where(ranked <= 30, 255, 0), (60, 8, 8, 3))
  np.testing.assert_array_equal(np.asarray(batch['image'])[:60], expected)


def test_the_mask_as_a_picture_depends_on_the_mask_alone():
  levels = tf.constant(np.arange(1, 17, dtype=np.uint8).reshape([1, 4, 4, 1]))
  images = tf.random.stateless_uniform([1, 4, 4, 3], [0, 1], 0, 256, tf.int32)
  images = tf.cast(images, tf.uint8)
  removed = masking.picture(images, levels, threshold=5)
  kept = masking.picture(images, levels, threshold=5, mode='keep')
  assert removed.dtype == tf.uint8 and removed.shape == images.shape
  assert np.sum(removed.numpy() == 0) == 5 * 3
  np.testing.assert_array_equal(removed + kept, np.full([1, 4, 4, 3], 255))


def test_masks_alone_need_no_masked_datasets(tiny, controlled, tmp_path):
  root = shutil.copytree(controlled, tmp_path / 'workspace')
  shutil.rmtree(_directory(root, 'grad_pixel_remove_30_maskonly'))
  shutil.rmtree(root / 'tfds/roar_tiny/grad_pixel_remove_30')
  before = _directory(controlled, 'grad_pixel_remove_30_maskonly')
  pipeline.run(tiny.works(root, *CONTROLS), pipeline.STAGES)
  made = _directory(root, 'grad_pixel_remove_30_maskonly')
  for name in ('result.json', 'test_predictions.npz'):
    assert (made / name).read_bytes() == (before / name).read_bytes()
  assert not (root / 'tfds/roar_tiny/grad_pixel_remove_30').exists()


def test_the_model_behind_scores_from_files_cannot_be_tested(
  tiny, tmp_path, monkeypatch
):
  monkeypatch.setattr(registry, '_external', {})
  (work,) = tiny.works(tmp_path)
  registry.set_external(['elsewhere'])
  cell = cells.parse_cell('elsewhere_pixel_remove_30')
  run = grid.Run('small', 'tiny', cell, 0, 'deletion')
  one = pipeline.Work(work.context, [cell], [run])
  with pytest.raises(errors.UsageError, match='"elsewhere" explains is elsewh'):
    one.units('train')
