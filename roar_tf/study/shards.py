"""Stage shards: `original` and a ranking to masked datasets, the cells."""

import contextlib
from collections.abc import Iterator, Sequence

from roar_tf import engine, fills, randomness
from roar_tf import shards as shard_files
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.study.context import Context
from roar_tf.study.data import Data, check_same_ids, plain_layout
from roar_tf.study.dataset import Dataset, DatasetStage, Shard
from roar_tf.study.rank import Rank
from roar_tf.study.source import Source

BATCH = 1024
"""Images that are masked at once."""


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


class Shards(DatasetStage):
  """Masks every image of a source: a cache of what training reads."""

  name = 'shards'
  version = 1

  def __init__(self, context: Context, source: Source, rank: Rank, data: Data):
    super().__init__(context)
    self._source, self._rank, self._data = source, rank, data
    self._cells: dict[str, Cell] = {}

  def masked(self, cell: Cell) -> Dataset:
    """Returns the masked dataset of a cell.

    It is an intermediate artefact: it may be deleted, and is made again only
    for a run that is unfinished.
    """
    self._cells[cell.name] = cell
    return self.dataset(
      cell.name,
      plain_layout(self.context.source),
      settings(cell),
      {
        'original': self._source.original,
        'ranking': self._rank.of(cell),
      },
      intermediate=True,
    )

  def shard(self, whole: Dataset, split: str, index: int, number: int) -> Shard:
    """Returns a shard; it is made from the same shard of the ranking."""
    ranking = whole.inputs['ranking']
    return Shard(
      self.context.shard_marker(whole.config, split, index),
      self,
      whole.settings,
      {
        **whole.inputs,
        'ranking': ranking.stage.shard(ranking, split, index, number),
      },
      config=whole.config,
      layout=whole.layout,
      split=split,
      index=index,
      number=number,
    )

  def unit_name(self, shard: Shard) -> str:
    """Returns a name: one unit makes a shard of all cells of a ranking."""
    cell = self._cells[shard.config]
    source = self.context.source.name
    return f'{source} {cell.ranking} cells {shard.split} {shard.index}'

  def write(self, artefacts: Sequence[Shard]) -> Iterator[engine.Made]:
    """Writes the same shard of some cells of one ranking, from one read."""
    context, first = self.context, artefacts[0]
    part = first.split, first.index
    source, layout = context.source, first.layout
    cells = [self._cells[shard.config] for shard in artefacts]
    ranking = first.inputs['ranking']
    with contextlib.ExitStack() as stack:
      writers = [
        stack.enter_context(
          shard_files.writing(context.shard_path(shard.config, *part))
        )
        for shard in artefacts
      ]
      for batch, ranked in zip(
        context.batches(ORIGINAL, layout, *part, BATCH),
        context.batches(ranking.config, ranking.layout, *part, BATCH),
        strict=True,
      ):
        check_same_ids(source, cells[0].ranking, batch, ranked)
        keys = randomness.keys_of_ids(batch['id'])
        for cell, writer in zip(cells, writers, strict=True):
          images = self._data.masked(
            cell, batch['image'], ranked['levels'], keys
          )
          writer.write(layout.serialize({**batch, 'image': images}))
    for shard, writer in zip(artefacts, writers, strict=True):
      yield engine.Made(shard, {'contents': writer.contents})
