"""Stage shards: `original` and a ranking to masked datasets, the cells."""

import contextlib
import functools
import itertools

from roar_tf import fills, randomness, shards
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.study import datasets_stage, rank_stage, trainings
from roar_tf.study.context import Context
from roar_tf.study.units import Target, Unit

VERSION = 1
BATCH = 1024


def units(context: Context, cells: list[Cell]) -> list[Unit]:
  """Returns one unit per ranking and source shard, for all its cells."""
  source = context.experiment.source
  layout = trainings.plain_layout(source)
  made = []
  for ranking, group in itertools.groupby(cells, lambda cell: cell.ranking):
    group = list(group)
    made += [
      Unit(
        f'{source.name} {ranking} cells {split} {index}',
        tuple(_shard_target(context, c, split, index) for c in group),
        functools.partial(_work, context, group, split, index),
      )
      for split, index in context.all_shards()
    ]
  last = [
    datasets_stage.finalise_unit(
      context,
      _target(
        context,
        cell,
        context.dataset_done(cell.name),
        _ranking_done(context, cell),
      ),
      cell.name,
      layout,
    )
    for cell in cells
  ]
  return [*made, *last]


def settings(cell: Cell) -> dict:
  """Returns what a fingerprint records of a cell, beside its ranking.

  The seed of what a fill draws is that of the ranking.
  """
  return {
    'mode': cell.mode,
    'threshold': cell.threshold,
    'fill': cell.fill,
    **fills.settings(cell.fill),
  }


def _ranking_done(context, cell):
  return context.dataset_done(
    rank_stage.config_name(cell.estimator, cell.granularity)
  )


def _shard_target(context, cell, split, index) -> Target:
  name = rank_stage.config_name(cell.estimator, cell.granularity)
  return _target(
    context,
    cell,
    context.shard_done(cell.name, split, index),
    context.shard_done(name, split, index),
  )


def _target(context, cell, done, ranking_done) -> Target:
  return Target(
    done,
    'shards',
    VERSION,
    settings(cell),
    {'original': context.dataset_done(ORIGINAL), 'ranking': ranking_done},
  )


def _work(context: Context, cells, split: str, index: int, pending):
  """Writes all unfinished cells of one ranking from one read."""
  done = {target.done for target, _ in pending}
  cells = [c for c in cells if context.shard_done(c.name, split, index) in done]
  source = context.experiment.source
  layout = trainings.plain_layout(source)
  name = rank_stage.config_name(cells[0].estimator, cells[0].granularity)
  ranking_layout = trainings.ranking_layout(source, cells[0].granularity)
  with contextlib.ExitStack() as stack:
    writers = [
      stack.enter_context(
        shards.writing(context.shard_path(cell.name, split, index))
      )
      for cell in cells
    ]
    for batch, ranking in zip(
      context.batches(ORIGINAL, layout, split, index, BATCH),
      context.batches(name, ranking_layout, split, index, BATCH),
      strict=True,
    ):
      trainings.check_same_ids(context, cells[0].ranking, batch, ranking)
      keys = randomness.keys_of_ids(batch['id'])
      for cell, writer in zip(cells, writers, strict=True):
        images = trainings.masked(
          context, cell, batch['image'], ranking['levels'], keys
        )
        writer.write(layout.serialize({**batch, 'image': images}))
  for (target, fingerprint), writer in zip(pending, writers, strict=True):
    target.commit(fingerprint, contents=writer.contents)
