"""What a newcomer adds: a stage is one file and one line, a result one key."""

import dataclasses
import json
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest

from roar_tf import engine, shards
from roar_tf.engine import files, markers
from roar_tf.study import forecast, gallery, stages, training
from roar_tf.study.dataset import DatasetStage

RANK = '    self.rank = Rank(context, self.source, self.model)\n'
LINE = '    self.rank = Inverted(self.rank)\n'


class Inverted(DatasetStage):
  """A stage between rank and shards: what was removed first goes last."""

  name = 'invert'

  def __init__(self, rank):
    super().__init__(rank.context)
    self._rank = rank

  def of(self, cell):
    ranking = self._rank.of(cell)
    name = f'inverted_{cell.ranking}'
    return self.dataset(name, ranking.layout, {}, {'ranking': ranking})

  def unit_name(self, shard):
    return f'{shard.config} {shard.split} {shard.index}'

  def write(self, artefacts):
    for shard in artefacts:
      ranking, part = shard.inputs['ranking'], (shard.split, shard.index)
      batches = self.context.batches(ranking.config, ranking.layout, *part, 64)
      path = self.context.shard_path(shard.config, *part)
      with shards.writing(path) as writer:
        for batch in batches:
          inverted = {'id': batch['id'], 'levels': 101 - batch['levels']}
          writer.write(shard.layout.serialize(inverted))
      yield engine.Made(shard, {'contents': writer.contents})


@pytest.fixture
def inverted(monkeypatch, tiny):
  """Function that returns a study that has the stage."""
  text = pathlib.Path(stages.__file__).read_text()
  assert text.count(RANK) == 1
  module = types.ModuleType('stages_with_another')
  monkeypatch.setitem(sys.modules, module.__name__, module)
  module.Inverted = Inverted
  exec(text.replace(RANK, RANK + LINE), vars(module))

  def pipeline(root, *bindings):
    plain = tiny.pipeline(root, *bindings)
    return module.Pipeline([each.context for each in plain.stages])

  return pipeline


FEW = (
  "Study.estimators = ('grad',)",
  'Study.thresholds = (70,)',
  'Study.seeds = 1',
  'Study.mask_only_seeds = 1',
  'Study.deletion = True',
)


def test_a_stage_is_one_file_and_one_line(
  inverted, tiny, damaged, make, states, shard_of
):
  for folder in ('runs', 'reports', 'tfds/roar_tiny/grad_pixel_remove_70'):
    shutil.rmtree(damaged / folder)
  pipeline = inverted(damaged, *FEW)
  assert pipeline.names == [
    *('source', 'model', 'rank', 'invert', 'shards', 'train', 'report')
  ]
  (goal,) = pipeline.goals('invert')
  assert pipeline.source_of(goal.stage) == 'tiny'
  graph = engine.Graph(pipeline.goals(), engine.Snapshot(str(damaged)))
  assert graph.stages == pipeline.names
  assert pipeline.first(pipeline.goals(), None)[0].stage is goal.stage
  left = {
    each.stage: each for each in forecast.left(pipeline, pipeline.goals(), None)
  }
  assert left['invert'].left == 6 and left['invert'].costs['tiny'].bytes > 0

  assert make(pipeline, 'invert').made == {'invert': 6}
  # Of `original` and of the cell: retrained, of masks alone, not retrained.
  assert make(pipeline).made == {'shards': 6, 'train': 2 + 1 + 2, 'report': 1}
  before = states(damaged)
  assert make(inverted(damaged, *FEW)).made == {}
  assert states(damaged) == before

  # What is removed up to 70 % is what was kept up to 30 %.
  cell = pipeline.runs[-1].cell
  kept = dataclasses.replace(cell, mode='keep', threshold=30)
  (plain,), (ours,) = tiny.pipeline(damaged, *FEW).stages, pipeline.stages
  make(pipeline, goals=[plain.shards.masked(kept)])
  for split, index in (('train', 2), ('test', 1)):
    one, other = (
      shard_of(damaged, each.name, split, index) for each in (cell, kept)
    )
    assert one.read_bytes() == other.read_bytes()
  # Whoever masks on the fly sees the same.
  stored = ours.data.examples(cell)['test'].images
  masked = ours.data.examples(cell, ours.rank.of(cell))
  np.testing.assert_array_equal(masked['test'].images, stored)
  (example, *_) = gallery.examples(ours.context, ours.data, ours.rank)
  assert (np.asarray(stored) == example.masked['grad', 70]).all((1, 2, 3)).any()


def test_a_result_with_another_key_disturbs_nobody(
  tiny, damaged, make, run_of, artefacts, monkeypatch
):
  write, facts = training.Training.write_outcome, training.Training.facts

  def with_margin(self, directory, *more):
    measured = write(self, directory, *more)
    result = files.read_json(f'{directory}/result.json')
    files.publish_json(f'{directory}/result.json', {**result, 'margin': 0.5})
    return measured

  monkeypatch.setattr(training.Training, 'write_outcome', with_margin)
  monkeypatch.setattr(
    training.Training,
    'facts',
    lambda self, *more: {**facts(self, *more), 'hottest': 71},
  )
  before = artefacts(damaged)
  run = run_of(damaged, 'original', 0)
  shutil.rmtree(run)
  shutil.rmtree(damaged / 'reports')
  assert make(tiny.pipeline(damaged)).made == {'train': 1, 'report': 1}
  assert json.loads((run / 'result.json').read_text())['margin'] == 0.5
  assert markers.read(f'{run}/DONE')['hottest'] == 71
  assert make(tiny.pipeline(damaged)).made == {}
  # Nothing else has changed, and of the report only what it was made from.
  after = artefacts(damaged)
  changed = {name for name in after if after[name] != before[name]}
  prefix = 'runs/small/tiny/original/seed_0'
  assert changed == {
    f'{prefix}/result.json',
    f'{prefix}/DONE',
    'reports/small/DONE',
  }
