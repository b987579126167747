"""Test images of a source under the cells of a study, for its report."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from roar_tf import errors, randomness, shards
from roar_tf.analysis.mosaics import Example
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.study.context import Context
from roar_tf.study.data import Data, plain_layout
from roar_tf.study.rank import Rank

COUNT = 3
"""How many images a report shows, each of another class."""
# How many are looked at for one of another class.
_SEARCHED = 256


def examples(context: Context, data: Data, rank: Rank) -> list[Example]:
  """Returns test images of different classes under the cells of a study.

  They are the first of their classes in the first shard that has images, all
  under the study's first granularity, mode and fill. None where the source or
  its rankings are gone: a report can be made from runs alone.

  Raises:
    DataError: they are damaged.
  """
  experiment = context.experiment
  study, source = experiment.study, experiment.source
  granularity, mode, fill = (
    axis[0] for axis in (study.granularities, study.modes, study.fills)
  )
  try:
    records = list(
      itertools.islice(
        _records(context, ORIGINAL, plain_layout(source)), _SEARCHED
      )
    )
    firsts = {int(r['label']): i for i, r in reversed([*enumerate(records)])}
    chosen = sorted(firsts.values())[:COUNT]
    images = np.stack([records[i]['image'] for i in chosen])
    keys = randomness.keys_of_ids([records[i]['id'] for i in chosen])
    masked = [{} for _ in chosen]
    for estimator in study.estimators:
      axes = granularity, mode, study.thresholds[0], fill
      ranking = rank.of(Cell(estimator, *axes))
      ranked = itertools.islice(
        _records(context, ranking.config, ranking.layout), chosen[-1] + 1
      )
      levels = [r['levels'] for i, r in enumerate(ranked) if i in chosen]
      for cell in study.cells():
        if cell == Cell(estimator, granularity, mode, cell.threshold, fill):
          batch = data.masked(cell, images, np.stack(levels), keys)
          for panels, image in zip(masked, batch.numpy(), strict=True):
            panels[estimator, cell.threshold] = image
  except (errors.MissingInputsError, errors.UsageError):
    return []
  return [
    Example(image, panels, mode, granularity, fill)
    for image, panels in zip(images, masked, strict=True)
  ]


def _records(
  context: Context, config: str, layout: shards.Layout
) -> Iterator[Mapping[str, np.ndarray]]:
  """Yields the records of the first shard of test images that has any."""
  parts = context.all_shards('test')
  part = next(part for part in parts if context.records(*part))
  for batch in context.batches(config, layout, *part, 32):
    arrays = {name: value.numpy() for name, value in batch.items()}
    for i in range(len(next(iter(arrays.values())))):
      yield {name: array[i] for name, array in arrays.items()}
