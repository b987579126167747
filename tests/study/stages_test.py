"""Tests of whole studies: what is committed, kept, made anew, refused."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from roar_tf import engine, errors
from roar_tf.analysis import results
from roar_tf.datasets.reader import Reader
from roar_tf.study import paths, stages

UNITS = {
  'source': 6,
  'model': 1,
  'rank': 7,
  'shards': 14,
  'train': 10,
  'report': 1,
}
"""Of the study `small`: five shards and what completes a dataset; the shards of
all rankings, and of all cells of a ranking, are written from one read."""
CELLS = [f'{e}_pixel_remove_{t}' for e in ('random', 'grad') for t in (30, 70)]


# --- what is there, and what is made of it -----------------------------------


def test_every_artefact_is_committed(finished):
  done = {str(p.parent.relative_to(finished)) for p in finished.rglob('DONE')}
  configs = ['original', 'ranking_random_pixel', 'ranking_grad_pixel', *CELLS]
  assert done == {
    *(f'tfds/roar_tiny/{c}/{paths.VERSION}' for c in configs),
    *('models/tiny', 'reports/small'),
    *(
      f'runs/small/tiny/{c}/seed_{s}'
      for c in ['original', *CELLS]
      for s in '01'
    ),
  }
  assert len(list(finished.rglob('*.DONE'))) == 7 * 5  # One a shard.
  assert not list(finished.rglob('*.tmp-*'))
  assert not list(finished.rglob('checkpoint*'))


def test_running_again_recomputes_nothing(tiny, finished, make, states):
  before = states(finished)
  counts = make(tiny.pipeline(finished))
  assert states(finished) == before
  assert (counts.made, counts.kept) == ({}, UNITS)


def test_only_what_is_missing_is_made_and_is_made_alike(
  tiny,
  finished,
  damaged,
  make,
  states,
  artefacts,
  assert_same,
  shard_of,
  run_of,
):
  run = run_of(damaged, 'grad_pixel_remove_70', 1)
  shutil.rmtree(run)
  for shard in (
    shard_of(damaged, 'ranking_grad_pixel', 'train', 1),
    shard_of(damaged, 'grad_pixel_remove_70', 'test', 0),
  ):
    shard.unlink()
    pathlib.Path(f'{shard}.DONE').unlink()
  before = states(damaged)
  counts = make(tiny.pipeline(damaged))
  assert counts.made == {'rank': 1, 'shards': 1, 'train': 1}
  assert_same(artefacts(damaged), artefacts(finished))
  after = states(damaged)
  assert {path: after[path] for path in before} == before


def test_shards_are_a_cache_that_finished_runs_do_not_need(
  tiny, finished, damaged, make, artefacts, assert_same, run_of
):
  for cell in CELLS:
    shutil.rmtree(damaged / 'tfds/roar_tiny' / cell)
  assert make(tiny.pipeline(damaged)).made == {}
  assert make(tiny.pipeline(damaged), 'train').made == {}
  # A run brings back the shards of its cell.
  shutil.rmtree(run_of(damaged, CELLS[3], 1))
  assert make(tiny.pipeline(damaged)).made == {'shards': 6, 'train': 1}
  there = {p.name for p in damaged.glob('tfds/roar_tiny/*_remove_*')}
  assert there == {CELLS[3]}
  # Who asks for the stage wants all of them: five units a ranking write them.
  assert make(tiny.pipeline(damaged), 'shards').made == {'shards': 2 * 5 + 3}
  assert_same(artefacts(damaged), artefacts(finished))


def test_another_estimator_is_added_to_what_is_there(
  tiny, finished, damaged, make, states, shard_of
):
  before = states(damaged)
  names = ('sobel', 'grad', 'sg_sq_grad', 'random')
  bindings = [f'Study.estimators = {names}', 'Attribution.samples = 2']
  pipeline = tiny.pipeline(damaged, *bindings)
  counts = make(pipeline, 'shards', upstream=True)
  assert counts.made == {'rank': 5 + 2, 'shards': 2 * (5 + 2)}
  after = states(damaged)
  assert {path: after[path] for path in before} == before
  # The same ranking, whatever others are asked for in the same pass.
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_grad_pixel')
  shutil.rmtree(damaged / 'tfds/roar_tiny/ranking_sg_sq_grad_pixel')
  make(tiny.pipeline(damaged, *bindings), 'rank')
  for split, index in (('train', 2), ('test', 0)):
    one, two = (
      shard_of(root, 'ranking_grad_pixel', split, index).read_bytes()
      for root in (damaged, finished)
    )
    assert one == two


def test_a_worker_without_inputs_names_them_and_does_the_rest(
  tiny, damaged, make
):
  # As if the other worker had not ranked by `grad` yet.
  for config in ('ranking_grad_pixel', 'grad_pixel_remove_30'):
    shutil.rmtree(damaged / 'tfds/roar_tiny' / config)
  shutil.rmtree(damaged / 'runs')
  pipeline = tiny.pipeline(damaged)
  pipeline.choose(['threshold:30'])  # Two seeds of `random`, two of `grad`.
  counts = make(
    pipeline,
    'train',
    share=engine.Share(0, 2),
    fails='tfds/roar_tiny/ranking_grad_pixel',
  )
  assert counts.made == {'train': 1}
  (failure,) = counts.failures
  assert failure.startswith('tiny/grad_pixel_remove_30/seed_0: ')
  assert failure in counts.error


def test_sources_of_other_image_sizes_share_a_study(
  tiny, damaged, make, store_dataset, tmp_path
):
  images = np.random.default_rng(0).integers(0, 256, (20, 6, 10, 1), np.uint8)
  values = {'image': images, 'label': np.arange(20) % 2}
  features = {
    'image': tfds.features.Image(shape=(6, 10, 1), encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=2),
  }
  splits = {'train': values, 'test': values}
  store_dataset(tmp_path / 'data', 'other', '1.0.0', splits, features)
  (tmp_path / 'other.gin').write_text(
    f"include '{tiny.dataset}'\nSource.tfds_name = 'other'\n"
    'Source.image_shape = (6, 10, 1)\nSource.num_classes = 2\n'
    'Source.train_images = 20\nSource.test_images = 20\n'
    'Source.truth = False\nTraining.epochs = 1\n'
  )
  sources = (f'{tmp_path}/other.gin', tiny.dataset)
  # `tiny` is there and need not be read.
  pipeline = dataclasses.replace(tiny, data_dir=tmp_path / 'data').pipeline(
    damaged,
    f'Study.sources = {sources!r}',
    "Study.estimators = ('random',)",
    'Study.thresholds = (70,)',
  )
  # Units of a stage are numbered through, so that workers share them evenly.
  graph = engine.Graph(pipeline.goals(), engine.Snapshot(str(damaged)))
  numbers = [n.unit.number for n in graph.nodes if n.unit.stage == 'train']
  assert numbers == list(range(2 * 4))
  assert make(pipeline).kept['train'] == 4
  frame = results.read_csv(f'{damaged}/reports/small/results.csv')
  assert frame['source'].value_counts().to_dict() == {'other': 4, 'tiny': 4}
  assert set(frame['test_images']) == {20, 60}
  cell = next(run.cell for run in pipeline.runs if run.cell)
  ranking = pipeline.stages[0].rank.ranking(cell.estimator, cell.granularity)
  context = pipeline.context
  (batch,) = context.batches(ranking.config, ranking.layout, 'test', 0, 100)
  assert ((batch['levels'].numpy() <= 50).sum((1, 2, 3)) == 30).all()


def test_a_study_runs_on_the_images_that_can_be_decoded(
  photographs, make, tmp_path, predictions
):
  root = tmp_path / 'w'
  pipeline = photographs.tiny.pipeline(
    root,
    "Source.unreadable = 'skip'",
    'Source.images_per_shard = 4',
    "Study.estimators = ('random', 'grad')",
    'Study.thresholds = (50,)',
    'Study.seeds = 1',
  )
  # A shard of test images without any, and a train image.
  context = pipeline.context
  reader = Reader(context.source, None, '/nowhere')
  empty = [e['id'].numpy().decode() for e in reader.encoded('test', 0, 4)]
  photographs.damage(*empty, 'train/class_1/03.jpg')
  make(pipeline)
  assert (context.records('test', 0), context.images('test')) == (0, 4)
  found = [json.loads(p.read_text()) for p in root.rglob('result.json')]
  assert {result['test_images'] for result in found} == {4}
  # Two epochs in batches of two images.
  assert [result['steps'] for result in found] == [19] * 4
  ids = predictions(root / 'models/photographs')['ids'].astype(str)
  assert len(ids) == 4 and not set(ids) & set(empty)
  report = root / 'reports/small'
  assert (report / 'mosaic_photographs_1.png').exists()
  page = (report / 'index.html').read_text()
  assert '19 train, 4 test' in page
  assert '1 train, 4 test (ids in manifest.json of original)' in page
  name = 'roar_photographs/random_pixel_remove_50'
  assert len(tfds.load(name, split='test', data_dir=root / 'tfds')) == 4


# --- other settings ----------------------------------------------------------


EXPLAINED = ['explained/Training.epochs = 9']
# Without its own binding the explained model would train like the runs.
RETRAINED = ['Training.l2 = 0.5', 'explained/Training.l2 = 0.0001']
SUBSET = ['Source.train_subset = 60']


@pytest.mark.parametrize(
  'bindings, stage, words',
  [
    (SUBSET, 'source', ['Source.train_subset', 'None', '60']),
    (EXPLAINED, 'model', ['Training.epochs', '10', '9', 'models/tiny']),
    (RETRAINED, 'train', ['Training.l2', '0.0001', '0.5', 'runs/small']),
    (['Ranking.cuts = (30, 70)'], 'rank', ['Ranking.cuts: None', '[30, 70]']),
    # Earlier artefacts of other settings, though only a later stage is asked.
    (EXPLAINED, 'shards', ['Training.epochs', 'models/tiny']),
    (RETRAINED, None, ['Training.l2', 'runs/small']),
  ],
)
def test_other_settings_are_refused_by_name_and_nothing_is_touched(
  bindings, stage, words, tiny, finished, make, states
):
  before = states(finished)
  with pytest.raises(errors.UsageError) as caught:
    make(tiny.pipeline(finished, *bindings), stage)
  for word in ['DONE', *words]:
    assert word in str(caught.value)
  assert states(finished) == before


def test_settings_that_change_no_value_are_no_obstacle(tiny, finished, make):
  # grad takes no samples, the explained model trains as it did, and no image
  # is left out.
  same = [
    'Attribution.samples = 3',
    'explained/Training.epochs = 10',
    "Source.unreadable = 'skip'",
  ]
  assert make(tiny.pipeline(finished, *same)).made == {}


@pytest.mark.parametrize(
  'bindings, words',
  [
    (['Ranking.cuts = (30, 50)'], 'Threshold 70 .*Ranking.cuts'),
    (
      ["Study.estimators = ('oracle',)", 'Source.truth = False'],
      'oracle.*tiny',
    ),
    (
      ["Study.fills = ('imagenet_mean',)", 'Source.image_shape = (8, 8, 1)'],
      '"imagenet_mean".*3.*tiny.*1;',
    ),
    (["Study.estimators = ('of_mine',)"], 'Unknown estimator "of_mine"'),
  ],
)
def test_what_a_source_cannot_give_is_refused_before_any_work(
  bindings, words, tiny, tmp_path
):
  with pytest.raises(errors.UsageError, match=words):
    tiny.pipeline(tmp_path / 'w', *bindings)
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  'device, parallel, size',
  [
    ('GPU', None, 1),
    ('TPU', None, 1),
    ('CPU', None, 7),
    ('GPU', 3, 3),
    ('CPU', 3, 3),
  ],
)
def test_an_accelerator_does_one_unit_at_a_time_unless_asked(
  device, parallel, size, tiny, tmp_path, monkeypatch
):
  monkeypatch.setattr(stages, 'environment', lambda: {'device': device})
  monkeypatch.setattr(engine, 'cores', lambda: 7)
  pool = stages.local_pool(tiny.pipeline(tmp_path).context, parallel)
  running = [pool.has_room('train', {'train': n}) for n in range(9)]
  assert running.count(True) == size
